"""The backbone's convolutions in 8 bits, by the quantiser of ONNX Runtime.

Weights and inputs of the convolutions are rounded to 8 bits, with scales found on good images; all
else (first convolution, activations between, the Gaussian part, the map) stays in floats. The
graph says so by QuantizeLinear and DequantizeLinear nodes, which OpenVINO runs in 8 bits, too.
Weights use 7 of the 8 bits: CPUs without VNNI would overflow otherwise, silently.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.arrays import Float32Array
from blemish.backbones.backbone import INPUT_NAME
from blemish.errors import InputError
from blemish.export.onnxruntime_import import import_onnxruntime

if TYPE_CHECKING:
    import onnx

_OURS = "blemish."  # how the values start that `graph.fuse` adds to a backbone
_PREPROCESSED = ("onnx.quant.pre_process", "onnxruntime.quant")


class _Images:
    """Good images one by one, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, batches: Iterable[Float32Array]) -> None:
        self._images: Iterator[Float32Array] = (
            batch[k : k + 1] for batch in batches for k in range(len(batch))
        )

    def get_next(self) -> dict[str, Float32Array] | None:
        """One image as a batch; None after the last."""
        image = next(self._images, None)
        return None if image is None else {INPUT_NAME: np.ascontiguousarray(image)}


def quantise(graph: onnx.ModelProto, batches: Iterable[Float32Array]) -> onnx.ModelProto:
    """Quantise the backbone of a graph.

    Parameters
    ----------
    graph : onnx.ModelProto
        From `export_graph`; its nodes get names.
    batches : iterable of float32 (N, 3, H, W)
        Good images: the largest and smallest values they give set the scales.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    InputError
        ONNX Runtime is not installed, or the backbone has no convolution.
    """
    import onnx  # noqa: PLC0415 - slow to import

    quantiser = import_onnxruntime("onnxruntime.quantization")
    quantised = _convolutions(graph)
    # Says that batch norm is folded, as it is in every backbone here; else the quantiser warns.
    graph.metadata_props.add(key=_PREPROCESSED[0], value=_PREPROCESSED[1])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "int8.onnx"
        quantiser.quantize_static(
            graph,
            str(path),
            _Images(batches),
            quant_format=quantiser.QuantFormat.QDQ,
            calibrate_method=quantiser.CalibrationMethod.MinMax,
            activation_type=quantiser.QuantType.QUInt8,
            weight_type=quantiser.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=quantised,
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
        )
        found = onnx.load(path)
    _leave_others_whole(found, set(quantised))
    del found.metadata_props[:]
    used = {node.domain for node in found.graph.node} | {""}
    opsets = [opset for opset in found.opset_import if opset.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(opsets)
    return found


def _leave_others_whole(graph: onnx.ModelProto, quantised: set[str]) -> None:
    """Let all but the quantised nodes read what was not rounded: feature maps go into distances."""
    rounded_from = {
        node.output[0]: node.input[0]
        for node in graph.graph.node
        if node.op_type == "QuantizeLinear"
    }
    whole = {
        node.output[0]: rounded_from[node.input[0]]
        for node in graph.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded_from
    }
    for node in graph.graph.node:
        if node.name not in quantised:
            for k, name in enumerate(node.input):
                node.input[k] = whole.get(name, name)


def _convolutions(graph: onnx.ModelProto) -> list[str]:
    """Names of the backbone's convolutions but the first, which sees few and large values."""
    names = []
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"{_OURS}node{number}"
        if node.op_type == "Conv" and not node.output[0].startswith(_OURS):
            names.append(node.name)
    if not names:
        raise InputError(
            "INT8 needs a backbone with convolutions, but this one has none. Use fp16."
        )
    return names[1:] or names
