"""An ONNX graph as a function of PyTorch tensors.

The graph stays the one description of a network: its nodes are run in order, each by the
operator of `torch_ops`. On a GPU the calls from Python are recorded once (see `torch_device`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemish.backbones.backbone import INPUT_NAME, Backbone
from blemish.engines.torch_ops import OPERATORS
from blemish.engines.torch_shape_ops import Attributes, Operator
from blemish.errors import BackboneError

OLDEST_OPSET = 13
_MULTIPLY = {"Conv", "Gemm", "MatMul"}


@dataclass(frozen=True, slots=True)
class _Node:
    """One operator of the graph, and which values can be forgotten once it has run."""

    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    forgotten: tuple[str, ...]


class TorchGraph:
    """The graph of a backbone, its weights on a device.

    Parameters
    ----------
    torch : module
    backbone : Backbone
    device : torch.device
    dtype : torch.dtype
        Of convolutions and matrix products; what comes before the first is float32.
    channels_last : bool
        Memory layout of images and kernels; on a GPU the faster one.

    Raises
    ------
    BackboneError
        The graph is too old or has an operator that is not known.
    """

    def __init__(
        self, torch: Any, backbone: Backbone, *, device: Any, dtype: Any, channels_last: bool
    ) -> None:
        import onnx  # noqa: PLC0415 - slow to import

        self._torch, self._device = torch, device
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._outputs = [layer.name for layer in backbone.layers]
        model = onnx.load_model_from_string(backbone.onnx)
        _check(model, backbone)
        self._constants = {each.name: self._constant(each) for each in model.graph.initializer}
        self._nodes = self._prepared(model.graph.node, dtype)
        used = {*self._outputs, *(name for node in self._nodes for name in node.inputs)}
        self._constants = {name: v for name, v in self._constants.items() if name in used}

    def __call__(self, images: Any) -> list[Any]:
        """Run the graph.

        Parameters
        ----------
        images : float32 tensor (N, 3, H, W), RGB in 0..1, on the device

        Returns
        -------
        list of tensor (N, C, h, w), one per layer, fine to coarse
        """
        values = dict(self._constants)
        values[INPUT_NAME] = images.contiguous(memory_format=self._layout)
        for node in self._nodes:
            inputs = [values[name] if name else None for name in node.inputs]
            values.update(_named(node.outputs, node.operator(self._torch, inputs, node.attributes)))
            for name in node.forgotten:
                values.pop(name, None)
        return [values[name] for name in self._outputs]

    def _lowered(self, name: str, dtype: Any) -> str:
        """Name of a product's weights in the precision it is computed in.

        They are a constant of their own: another operator may read the same one.
        """
        value = self._constants.get(name)
        if value is None or not value.is_floating_point() or value.dtype == dtype:
            return name
        lowered = f"{name} as {dtype}"
        if lowered not in self._constants:
            self._constants[lowered] = value.to(dtype)
        return lowered

    def _constant(self, tensor: Any) -> Any:
        """A constant: floating-point arrays on the device, single numbers and integers not."""
        from onnx import numpy_helper  # noqa: PLC0415 - slow to import

        array = np.array(numpy_helper.to_array(tensor))
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        value = self._torch.from_numpy(array)
        if array.dtype.kind != "f" or array.ndim == 0:
            return value
        value = value.to(self._device)
        return value.contiguous(memory_format=self._layout) if value.ndim == 4 else value

    def _prepared(self, nodes: Sequence[Any], dtype: Any) -> list[_Node]:
        """Nodes in order; constants among them become values at once."""
        last_use = {name: k for k, node in enumerate(nodes) for name in node.input}
        kept = {*self._outputs, ""}
        prepared = []
        for k, node in enumerate(nodes):
            stated = Attributes({a.name: self._attribute(a, node) for a in node.attribute})
            operator, inputs = OPERATORS[node.op_type], tuple(node.input)
            if all(name in self._constants for name in inputs):
                values = [self._constants[name] for name in inputs]
                self._constants.update(_named(node.output, operator(self._torch, values, stated)))
                continue
            forgotten = {name for name in inputs if last_use[name] == k} - kept
            if node.op_type in _MULTIPLY:
                inputs = tuple(self._lowered(name, dtype) for name in inputs)
            prepared.append(
                _Node(
                    operator,
                    inputs,
                    tuple(node.output),
                    stated,
                    tuple(forgotten - self._constants.keys()),
                )
            )
        return prepared

    def _attribute(self, attribute: Any, node: Any) -> Any:
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - slow to import

        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode()
        if not isinstance(value, TensorProto):
            return value
        if node.op_type == "Constant":
            return self._constant(value)
        return self._torch.from_numpy(np.array(numpy_helper.to_array(value)))


def _named(names: Sequence[str], found: Any) -> dict[str, Any]:
    """What an operator has found, one or several, by the names of the node's outputs."""
    several = found if isinstance(found, tuple) else (found,)
    return {name: value for name, value in zip(names, several, strict=False) if name}


def _check(model: Any, backbone: Backbone) -> None:
    """Refuse graphs that could be run only wrongly."""
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise BackboneError(
            f"The torch engine runs graphs of opset {OLDEST_OPSET} or newer, but {backbone.name} "
            f"has opset {opset}. Export it anew, or use the engine openvino."
        )
    unknown = sorted({node.op_type for node in model.graph.node} - OPERATORS.keys())
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in model.graph.node
            if node.domain not in ("", "ai.onnx")
        }
    )
    if unknown or foreign:
        raise BackboneError(
            "The torch engine must know every operator of a backbone's graph, but "
            f"{backbone.name} uses {', '.join(foreign or unknown)}, which it does not. Use the "
            "engine openvino, or export the network without it."
        )
