"""Surgery on ONNX graphs: cut after the layers used, normalise in front, find the shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.backbones.backbone import INPUT_NAME, Layer
from blemish.backbones.openvino_import import import_openvino
from blemish.errors import BackboneError

if TYPE_CHECKING:
    import onnx

PROBE_SIZE = (256, 512)
"""Image height and width for which shapes are inferred: not square, so that swaps show."""
_INNER_INPUT = "blemish.normalised"


def cut_graph(
    model: onnx.ModelProto,
    wanted: Sequence[str],
    mean_std: tuple[Sequence[float], Sequence[float]] | None,
    path: Path,
) -> None:
    """Change the graph in place: input "image" of any size in 0..1, and the wanted outputs.

    Parameters
    ----------
    model : onnx.ModelProto
    wanted : sequence of str
        Names of values, outputs of the graph or not.
    mean_std : (sequence of 3 float, sequence of 3 float) or None
        Normalisation to put in front.
    path : Path
        For errors.

    Raises
    ------
    BackboneError
        The graph has several inputs, an input that is no float32 image, or lacks a value.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415 - slow to import

    graph = model.graph
    _check_names(graph, wanted, path)
    old_input = _image_input(graph, path).name
    _keep_needed(graph, wanted)
    _rename(graph, old_input, INPUT_NAME if mean_std is None else _INNER_INPUT)
    if mean_std is not None:
        _normalise_in_front(graph, *mean_std)
    del graph.input[:], graph.output[:], graph.value_info[:], model.metadata_props[:]
    image = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", 3, "H", "W"])
    graph.input.append(image)
    for name in wanted:
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def probe_layers(model: onnx.ModelProto, names: Sequence[str], path: Path) -> tuple[Layer, ...]:
    """Channels and stride of each output, by shape inference on an image of `PROBE_SIZE`.

    Returns
    -------
    tuple of Layer
        From fine to coarse.

    Raises
    ------
    BackboneError
        The graph does not run on images of any size, or an output is no feature map.
    """
    openvino = import_openvino()
    height, width = PROBE_SIZE
    try:
        network = openvino.Core().read_model(model=model.SerializeToString())
        network.reshape({INPUT_NAME: openvino.PartialShape([1, 3, height, width])})
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1].strip()
        raise BackboneError(
            f"An ONNX backbone must run on images of any size, but {path} does not on "
            f"{height}x{width} ({reason}). Export it with dynamic height and width."
        ) from error
    layers = []
    for name in names:
        output = network.output(name)
        shape = output.get_partial_shape()
        sizes = tuple(shape.to_shape()) if shape.is_static else ()
        if len(sizes) != 4 or output.get_element_type() != openvino.Type.f32:
            raise _no_feature_map(path, name, f"has shape {shape} of {output.get_element_type()}")
        stride = height // sizes[2] if sizes[2] else 0
        if stride == 0 or (sizes[2] * stride, sizes[3] * stride) != PROBE_SIZE or sizes[0] != 1:
            raise _no_feature_map(path, name, f"has shape {sizes} for a {height}x{width} image")
        layers.append(Layer(name, int(sizes[1]), stride))
    return tuple(sorted(layers, key=lambda layer: layer.stride))


def serialise(model: onnx.ModelProto, layers: Sequence[Layer]) -> bytes:
    """Serialise with the outputs in the order and with the channels of `layers`."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - slow to import

    outputs = [
        helper.make_tensor_value_info(
            layer.name,
            TensorProto.FLOAT,
            ["N", layer.channels, f"{layer.name}_h", f"{layer.name}_w"],
        )
        for layer in layers
    ]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return bytes(model.SerializeToString(deterministic=True))


def _no_feature_map(path: Path, name: str, found: str) -> BackboneError:
    return BackboneError(
        "A layer must be a float32 feature map (N, C, H / stride, W / stride) with a whole "
        f"stride, but {name} of {path} {found}. Choose other layers."
    )


def _check_names(graph: onnx.GraphProto, wanted: Sequence[str], path: Path) -> None:
    known = {output for node in graph.node for output in node.output}
    for name in wanted:
        if name not in known:
            outputs = ", ".join(output.name for output in graph.output)
            raise BackboneError(
                f"Every layer must be a value of the graph, but {path} has no {name}. "
                f"Its outputs are {outputs}; the values inside it count too."
            )


def _image_input(graph: onnx.GraphProto, path: Path) -> onnx.ValueInfoProto:
    from onnx import TensorProto  # noqa: PLC0415 - slow to import

    constants = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise BackboneError(
            f"An ONNX backbone must have one input, the image, but {path} has {len(inputs)}. "
            "Export it without the others."
        )
    tensor = inputs[0].type.tensor_type
    channels = tensor.shape.dim[1].dim_value if len(tensor.shape.dim) == 4 else -1
    if tensor.elem_type != TensorProto.FLOAT or channels not in (0, 3):
        kind = TensorProto.DataType.Name(tensor.elem_type)
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        raise BackboneError(
            "The input of an ONNX backbone must be a float32 image (N, 3, H, W), but that of "
            f"{path} is {kind} {shape}. Export it for such images."
        )
    image: onnx.ValueInfoProto = inputs[0]
    return image


def _used_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values a node reads, those of its branches and loops included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _used_by(inner)
            for output in graph.output:
                yield output.name


def _keep_needed(graph: onnx.GraphProto, wanted: Sequence[str]) -> None:
    """Drop nodes and constants that the wanted values do not depend on."""
    needed = set(wanted)
    kept = []
    for node in reversed(graph.node):  # ONNX lists nodes in order of execution
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_used_by(node))
    constants = [constant for constant in graph.initializer if constant.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept[::-1])
    graph.initializer.extend(constants)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Read `new` wherever `old` was read."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, old, new)


def _normalise_in_front(
    graph: onnx.GraphProto, mean: Sequence[float], std: Sequence[float]
) -> None:
    from onnx import helper, numpy_helper  # noqa: PLC0415 - slow to import

    for name, values in (("blemish.mean", mean), ("blemish.std", std)):
        array = np.array(values, np.float32).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, name))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend(
        [
            helper.make_node("Sub", [INPUT_NAME, "blemish.mean"], ["blemish.centred"]),
            helper.make_node("Div", ["blemish.centred", "blemish.std"], [_INNER_INPUT]),
            *rest,
        ]
    )
