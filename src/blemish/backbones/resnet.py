"""ResNets as ONNX graphs, built from a state dict without torch.

The architectures are those of He et al., "Deep Residual Learning for Image Recognition"
(arXiv:1512.03385) as torchvision and timm run them: in a bottleneck block the stride sits on
the 3x3 convolution ("v1.5"). wide_resnet50_2 is Zagoruyko & Komodakis, arXiv:1605.07146.
Batch norm is folded into the convolutions. The normalisation stays in front of the first
convolution, because its zero padding is zero *after* normalising.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import Float32Array, Float64Array
from blemish.backbones.backbone import INPUT_NAME, Layer
from blemish.backbones.layer_numbers import check_layers
from blemish.backbones.state_dict import StateDict
from blemish.errors import BackboneError

if TYPE_CHECKING:
    import onnx

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OPSET = 17
IR_VERSION = 8
_BATCH_NORM_EPSILON = 1e-5
_STEM_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class ResNet:
    """One member of the family.

    Attributes
    ----------
    name : str
        "resnet18" and the like.
    blocks : tuple of 4 int
        Residual blocks in layer1 to layer4.
    bottleneck : bool
        Three convolutions per block (1x1, 3x3, 1x1) in place of two 3x3.
    width : int
        Channels inside a block of layer1; doubled from layer to layer.
    default_dims : int
        Embedding dimensions the PaDiM paper keeps of layer1 to layer3.
    """

    name: str
    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int
    default_dims: int

    def layer(self, number: int) -> Layer:
        """Describe layer 1, 2, 3 or 4.

        Examples
        --------
        >>> RESNETS["resnet50"].layer(3)
        Layer(name='layer3', channels=1024, stride=16)
        """
        channels = _STEM_CHANNELS * 2 ** (number - 1) * (4 if self.bottleneck else 1)
        return Layer(f"layer{number}", channels, 2 ** (number + 1))


RESNETS = {
    net.name: net
    for net in (
        ResNet("resnet18", (2, 2, 2, 2), False, 64, 100),
        ResNet("resnet34", (3, 4, 6, 3), False, 64, 100),
        ResNet("resnet50", (3, 4, 6, 3), True, 64, 550),
        ResNet("wide_resnet50_2", (3, 4, 6, 3), True, 128, 550),
    )
}


def build_resnet(
    name: str, weights: StateDict, *, layers: Sequence[int] | None = None, origin: str = "weights"
) -> tuple[bytes, tuple[Layer, ...]]:
    """Build the ONNX graph of a ResNet from its weights.

    Parameters
    ----------
    name : str
        A key of `RESNETS`.
    weights : mapping of str to array
        State dict with the names of torchvision and timm; a prefix such as "module." is
        allowed if all names share it. What comes after the last layer used may be absent.
    layers : sequence of int in 1..4, default 1, 2, 3
    origin : str
        What to call the weights in errors, usually their file.

    Returns
    -------
    bytes, tuple of Layer
        The serialised ONNX model (the same weights give the same bytes), and its outputs.

    Raises
    ------
    BackboneError
        A weight is missing, has another shape, or is not finite, or the weights are those
        of another network.
    """
    net = RESNETS[name]
    numbers = check_layers(layers, len(net.blocks))
    reader = _WeightReader(weights, net, origin)
    reader.check_depth(numbers[-1])
    graph = _GraphBuilder(reader)
    graph.add_stem()
    for number in range(1, numbers[-1] + 1):
        _add_layer(graph, net, number, is_output=number in numbers)
    outputs = tuple(net.layer(number) for number in numbers)
    return graph.serialise(name, outputs), outputs


def _add_layer(graph: _GraphBuilder, net: ResNet, number: int, *, is_output: bool) -> None:
    """Add the residual blocks of one layer; its last value is named as the layer."""
    layer = net.layer(number)
    width = net.width * 2 ** (number - 1)
    for block in range(net.blocks[number - 1]):
        stride = 2 if block == 0 and number > 1 else 1
        name = f"layer{number}.{block}"
        shortcut, channels_in = graph.value, graph.channels
        if net.bottleneck:
            graph.add_conv(f"{name}.conv1", f"{name}.bn1", width, 1)
            graph.add_relu(f"{name}.relu1")
            graph.add_conv(f"{name}.conv2", f"{name}.bn2", width, 3, stride)
            graph.add_relu(f"{name}.relu2")
            graph.add_conv(f"{name}.conv3", f"{name}.bn3", layer.channels, 1)
        else:
            graph.add_conv(f"{name}.conv1", f"{name}.bn1", width, 3, stride)
            graph.add_relu(f"{name}.relu1")
            graph.add_conv(f"{name}.conv2", f"{name}.bn2", layer.channels, 3)
        is_last = block == net.blocks[number - 1] - 1
        graph.add_shortcut(name, shortcut, stride, channels_in)
        graph.add_relu(layer.name if is_output and is_last else f"{name}.out")


class _WeightReader:
    """Takes checked arrays out of a state dict and folds batch norm."""

    def __init__(self, weights: StateDict, net: ResNet, origin: str) -> None:
        self.net = net
        self.origin = origin
        self.weights = weights
        self.prefix = self._find_prefix()

    def _find_prefix(self) -> str:
        anchor = "layer1.0.conv1.weight"
        found = sorted(name[: -len(anchor)] for name in self.weights if name.endswith(anchor))
        if len(found) == 1:
            return found[0]
        if not found:
            raise BackboneError(
                f"The weights of {self.net.name} must hold {anchor}, but {self.origin} has no such "
                f"name among its {len(self.weights)}. Give a state dict with the names that "
                "torchvision and timm use."
            )
        raise BackboneError(
            f"The weights must be those of one network, but {self.origin} holds several, with the "
            f"prefixes {', '.join(map(repr, found))}. Save the state dict of one of them."
        )

    def check_depth(self, last: int) -> None:
        """Refuse a network with more blocks than ours: the rest would be ignored silently."""
        for number in range(1, last + 1):
            expected = self.net.blocks[number - 1]
            extra = f"layer{number}.{expected}.conv1.weight"
            if self.prefix + extra in self.weights:
                raise BackboneError(
                    f"layer{number} of {self.net.name} must have {expected} blocks, but "
                    f"{self.origin} has more ({extra}). Name the network the weights belong to."
                )

    def array(self, name: str, shape: tuple[int, ...]) -> Float64Array:
        """Take one array by its name, with the shape it must have."""
        found = self.weights.get(self.prefix + name)
        if found is None:
            raise BackboneError(
                f"The weights of {self.net.name} must hold {name}, but {self.origin} lacks it. "
                + self._advice(name)
            )
        if found.shape != shape:
            raise BackboneError(
                f"{name} of {self.net.name} must have shape {shape}, but in {self.origin} it has "
                f"shape {found.shape}. Name the network the weights belong to."
            )
        array = found.astype(np.float64)
        if not np.isfinite(array).all():
            raise BackboneError(
                f"Weights must be finite numbers, but {name} in {self.origin} holds NaN or "
                "infinity. Get the file again, or save the weights again."
            )
        return array

    def _advice(self, name: str) -> str:
        present = [
            number
            for number in range(1, 5)
            if f"{self.prefix}layer{number}.0.conv1.weight" in self.weights
        ]
        layer = name.split(".", maxsplit=1)[0]
        if layer.startswith("layer") and int(layer[5:]) not in present:
            has = ", ".join(f"layer{number}" for number in present)
            return f"It has {has}: choose layers among these, or give a file with all layers."
        return "Give a complete state dict with the names that torchvision and timm use."

    def folded(
        self, conv: str, norm: str, shape: tuple[int, ...]
    ) -> tuple[Float32Array, Float32Array]:
        """Weight and bias of a convolution with the batch norm after it folded in (float64)."""
        weight = self.array(f"{conv}.weight", shape)
        gamma, beta, mean, variance = (
            self.array(f"{norm}.{part}", shape[:1])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise BackboneError(
                f"A variance must be at least 0, but {norm}.running_var in {self.origin} has "
                f"{variance.min()}. Get the file again, or save the weights again."
            )
        scale = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
        folded = weight * scale[:, None, None, None]
        return folded.astype(np.float32), (beta - mean * scale).astype(np.float32)


class _GraphBuilder:
    """Grows a chain of ONNX nodes; `value` is the name of the last value."""

    def __init__(self, reader: _WeightReader) -> None:
        self.reader = reader
        self.value = INPUT_NAME
        self.channels = 3
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: list[int]) -> None:
        from onnx import helper  # noqa: PLC0415 - slow to import

        node = helper.make_node(
            kind, inputs, [output], f"{output}:{kind}", None, None, None, **attributes
        )
        self.nodes.append(node)
        self.value = output

    def _constant(self, name: str, array: Float32Array) -> str:
        from onnx import numpy_helper  # noqa: PLC0415 - slow to import

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add_stem(self) -> None:
        """Normalise, 7x7 convolution, ReLU, 3x3 max pooling: stride 4."""
        shape = (1, 3, 1, 1)
        mean = self._constant("mean", np.array(IMAGENET_MEAN, np.float32).reshape(shape))
        std = self._constant("std", np.array(IMAGENET_STD, np.float32).reshape(shape))
        self._node("Sub", [self.value, mean], "centred")
        self._node("Div", [self.value, std], "normalised")
        self.add_conv("conv1", "bn1", _STEM_CHANNELS, 7, 2)
        self.add_relu("relu")
        self._node(
            "MaxPool",
            [self.value],
            "maxpool",
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        )

    def add_conv(self, conv: str, norm: str, channels: int, kernel: int, stride: int = 1) -> None:
        """Convolution with zero padding that keeps the grid, and its batch norm."""
        shape = (channels, self.channels, kernel, kernel)
        weight, bias = self.reader.folded(conv, norm, shape)
        inputs = [
            self.value,
            self._constant(f"{conv}.weight", weight),
            self._constant(f"{conv}.bias", bias),
        ]
        self._node(
            "Conv",
            inputs,
            conv,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        self.channels = channels

    def add_relu(self, name: str) -> None:
        """Rectify the last value."""
        self._node("Relu", [self.value], name)

    def add_shortcut(self, block: str, shortcut: str, stride: int, channels_in: int) -> None:
        """Add the block's input to its output, through a 1x1 convolution where they differ."""
        residual = self.value
        channels = self.channels
        if stride != 1 or channels_in != channels:
            self.value, self.channels = shortcut, channels_in
            self.add_conv(f"{block}.downsample.0", f"{block}.downsample.1", channels, 1, stride)
            shortcut = self.value
        self._node("Add", [residual, shortcut], f"{block}.sum")

    def serialise(self, name: str, layers: Sequence[Layer]) -> bytes:
        """Close the graph: the same weights always give the same bytes."""
        from onnx import TensorProto, helper  # noqa: PLC0415 - slow to import

        def value_info(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            self.nodes,
            name,
            [value_info(INPUT_NAME, ["N", 3, "H", "W"])],
            [
                value_info(layer.name, ["N", layer.channels, f"{layer.name}_h", f"{layer.name}_w"])
                for layer in layers
            ],
            self.initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, producer_name="blemish", opset_imports=[opset], ir_version=IR_VERSION
        )
        return bytes(model.SerializeToString(deterministic=True))
