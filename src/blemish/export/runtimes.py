"""Runs exported files with the runtime they are made for, in 32 bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blemish.arrays import Float32Array
from blemish.backbones.backbone import INPUT_NAME
from blemish.backbones.openvino_import import import_openvino
from blemish.errors import ModelFileError
from blemish.export.onnxruntime_import import has_onnxruntime, import_onnxruntime

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Runtime:
    """A loaded file.

    Attributes
    ----------
    name : str
        Of the program that runs it, with its version.
    run : function
        float32 (N, 3, H, W) to a dict of output name to float32 array; from any thread.
    """

    name: str
    run: Callable[[Float32Array], dict[str, Float32Array]]


def open_onnx(path: Path, outputs: Sequence[str]) -> Runtime:
    """Load an ONNX file: by ONNX Runtime if it is installed, else by OpenVINO.

    Raises
    ------
    ModelFileError
        The file cannot be run, or lacks an output.
    """
    if not has_onnxruntime():
        return open_openvino(path, outputs)
    onnxruntime = import_onnxruntime()
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base class of their own
        raise _cannot_run(path, "ONNX Runtime", error) from error
    _check_outputs(path, outputs, [output.name for output in session.get_outputs()])
    wanted = list(outputs)

    def run(images: Float32Array) -> dict[str, Float32Array]:
        found = session.run(wanted, {INPUT_NAME: images})
        return dict(zip(wanted, found, strict=True))

    return Runtime(f"onnxruntime {version('onnxruntime')}", run)


def open_openvino(path: Path, outputs: Sequence[str]) -> Runtime:
    """Load a file of OpenVINO, or an ONNX file, with OpenVINO on the CPU.

    Raises
    ------
    ModelFileError
        The file cannot be run, or lacks an output.
    """
    openvino = import_openvino()
    core = openvino.Core()
    try:
        network = core.read_model(str(path))
        named = [name for output in network.outputs for name in output.get_names()]
        _check_outputs(path, outputs, named)
        compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise _cannot_run(path, "OpenVINO", error) from error

    one_at_a_time = threading.Lock()  # there is one request, which several threads may want

    def run(images: Float32Array) -> dict[str, Float32Array]:
        with one_at_a_time:
            found: Any = compiled({INPUT_NAME: images})
            return {name: found[name].copy() for name in outputs}

    return Runtime(f"openvino {version('openvino')}", run)


def _check_outputs(path: Path, needed: Sequence[str], found: Sequence[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise ModelFileError(
            f"{path} must put out {', '.join(needed)}, but lacks {', '.join(missing)}; it puts out "
            f"{', '.join(sorted(found)[:_SHOWN])}. "
            "Export the model again: blemish export."
        )


def _cannot_run(path: Path, runtime: str, error: Exception) -> ModelFileError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ModelFileError(
        f"{path} must be a model that {runtime} can run, but it cannot "
        f"({(lines or [type(error).__name__])[-1]}). Export the model again, or install a newer "
        f"{runtime}."
    )
