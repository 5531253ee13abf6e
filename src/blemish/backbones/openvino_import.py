"""The one place that imports OpenVINO.

OpenVINO's Python package reports each import to an analytics service and writes an identity
into the home directory, without asking, if the package `openvino_telemetry` can be imported.
A tool that inspects parts on a closed network must not do that, so the package is hidden
while OpenVINO is imported: OpenVINO then falls back on its own do-nothing stub.

OpenVINO's binding looks up NumPy's types when the first array is handed over. Two threads that do
this at the same time can wait for each other for ever (seen with 2026.4: one holds the lock of the
look-up and waits for the interpreter, the other the reverse). So it is done here, once.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np

_TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()
_ready = False


def import_openvino() -> Any:
    """Import OpenVINO (0.1 to 0.4 s the first time) without its telemetry.

    Returns
    -------
    module
        `openvino`.
    """
    global _ready  # noqa: PLW0603 - once per process
    with _lock:
        openvino = _import_without_telemetry()
        if not _ready:
            tensor = openvino.Tensor(np.zeros(1, np.float32))
            tensor.element_type.to_dtype(), tensor.data
            _ready = True
    return openvino


def _import_without_telemetry() -> Any:
    missing = object()
    hidden: ModuleType | object | None = sys.modules.get(_TELEMETRY, missing)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # makes its import fail
    try:
        return importlib.import_module("openvino")
    finally:
        if isinstance(hidden, ModuleType):
            sys.modules[_TELEMETRY] = hidden
        else:
            del sys.modules[_TELEMETRY]
