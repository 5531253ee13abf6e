"""The one place that imports OpenVINO.

OpenVINO's Python package reports each import to an analytics service and writes an identity
into the home directory, without asking, if the package `openvino_telemetry` can be imported.
A tool that inspects parts on a closed network must not do that, so the package is hidden
while OpenVINO is imported: OpenVINO then falls back on its own do-nothing stub.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Import OpenVINO (0.1 to 0.4 s the first time) without its telemetry.

    Returns
    -------
    module
        `openvino`.
    """
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
