"""A model as one ONNX file, in 32 bits or with its constants stored in 16.

Stored in 16 bits means: a constant is a float16 tensor and a Cast to float32 behind it. That says
the same in every runtime, runtimes fold it when they load the file, and all arithmetic and all
inputs and outputs stay float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BackboneError, InputError
from blemish.graph import FUSED_SCORES
from blemish.judge import require_own_gaussians
from blemish.model import Model
from blemish.writing import write_bytes

if TYPE_CHECKING:
    import onnx

MODEL_FILE = "model.onnx"
LARGEST_FILE = 1_500_000_000
"""Bytes above which no graph is made: ONNX keeps a graph in one message of less than 2 GB."""

_WHOLE = frozenset({"QuantizeLinear", "DequantizeLinear", "Add", "Sub"})
_SMALLEST_HALVED = 32  # numbers; less is not worth a node
_LARGEST_FLOAT16 = 65504.0
_WORST_ROUNDING = 2.0**-10  # of the norm; a rounding to nearest is four times better


def export_graph(model: Model) -> onnx.ModelProto:
    """Graph of a model for one image size and any number of images; see `graph.fuse`.

    Raises
    ------
    InputError
        The score has no graph, positions are judged by a neighbourhood of Gaussians, or the graph
        would be too large for an ONNX file.
    """
    import onnx  # noqa: PLC0415 - slow to import

    score = model.settings.score
    if score not in FUSED_SCORES:
        raise InputError(
            f"A model can be exported if its score is one of {', '.join(sorted(FUSED_SCORES))}, "
            f"but it is {score}, which sorts channels and has no graph. Fit with another score."
        )
    require_own_gaussians(model.settings, "An export")
    size = len(model.backbone.onnx) + 4 * model.fitted.whitening_numbers
    if size > LARGEST_FILE:
        raise InputError(
            f"An exported graph must have at most {LARGEST_FILE / 1e9:.1f} GB, but this one would "
            f"have {size / 1e9:.1f} GB. Fit with fewer dimensions or a smaller size."
        )
    graph = onnx.load_model_from_string(model.graph())
    shape = graph.graph.input[0].type.tensor_type.shape
    for axis, length in zip((2, 3), model.size, strict=True):
        shape.dim[axis].dim_value = length
    return graph


def halve_constants(graph: onnx.ModelProto) -> list[str]:
    """Store the float32 constants of a graph in 16 bits, in place.

    Left in 32 bits are constants of fewer than 32 numbers, those that 16 bits cannot hold (a
    number above 65504, or so small ones that more than a thousandth of the norm would be lost),
    the scales of quantised tensors, and what is added or subtracted: of a mean that is large
    beside the deviations from it, 11 binary digits would not do, and means are few numbers.

    Returns
    -------
    list of str
        Names of the constants that 16 bits cannot hold.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - slow to import

    kept_whole = {
        name for node in graph.graph.node if node.op_type in _WHOLE for name in node.input
    } | {value.name for value in graph.graph.input}
    casts, cannot = [], []
    for constant in graph.graph.initializer:
        if constant.data_type != TensorProto.FLOAT or constant.name in kept_whole:
            continue
        whole = numpy_helper.to_array(constant)
        if whole.size < _SMALLEST_HALVED:
            continue
        if not _fits_16_bits(whole):
            cannot.append(constant.name)
            continue
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(whole.astype(np.float16), f"{name}.f16"))
        casts.append(helper.make_node("Cast", [constant.name], [name], to=TensorProto.FLOAT))
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*casts, *rest])
    return cannot


def _fits_16_bits(values: NDArray[Any]) -> bool:
    if not np.isfinite(values).all() or np.abs(values).max() > _LARGEST_FLOAT16:
        return False
    exact = values.astype(np.float64)
    lost = np.linalg.norm(values.astype(np.float16).astype(np.float64) - exact)
    return bool(lost <= _WORST_ROUNDING * np.linalg.norm(exact))


def write_onnx(graph: onnx.ModelProto, folder: Path) -> list[str]:
    """Write `model.onnx`.

    Returns
    -------
    list of str
        Names of the files written.

    Raises
    ------
    BackboneError
        The graph is not valid ONNX.
    OutputError
        The file cannot be written.
    """
    import onnx  # noqa: PLC0415 - slow to import

    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise BackboneError(
            "The graph must be valid ONNX, but is not "
            f"({str(error).strip().splitlines()[0]}). Export the backbone anew."
        ) from error
    write_bytes(folder / MODEL_FILE, graph.SerializeToString(deterministic=True))
    return [MODEL_FILE]
