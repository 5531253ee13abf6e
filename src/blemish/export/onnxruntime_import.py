"""The one place that imports ONNX Runtime, which comes with the extra `blemish[export]`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from blemish.errors import InputError

INSTALL = "pip install 'blemish[export]'"
_NAME = "onnxruntime"


def has_onnxruntime() -> bool:
    """Whether ONNX Runtime could be imported; imports nothing."""
    try:
        return importlib.util.find_spec(_NAME) is not None
    except ValueError:  # something else took its place in sys.modules
        return False


def import_onnxruntime(module: str = _NAME) -> Any:
    """Import ONNX Runtime, or a part of it.

    Parameters
    ----------
    module : str, default "onnxruntime"
        Or "onnxruntime.quantization".

    Returns
    -------
    module

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        importlib.import_module(_NAME).disable_telemetry_events()  # of its builds for Windows
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != _NAME:
            raise  # installed, but broken: its own message says more
        raise InputError(
            f"INT8 needs ONNX Runtime, which is not installed. Run: {INSTALL}"
        ) from error
