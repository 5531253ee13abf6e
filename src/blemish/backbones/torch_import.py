"""The one place that imports PyTorch and timm, which come with the extra `blemish[torch]`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from blemish.errors import InputError

INSTALL = "pip install 'blemish[torch]'"


def import_torch() -> Any:
    """Import PyTorch (1 to 3 s the first time).

    Returns
    -------
    module
        `torch`.

    Raises
    ------
    InputError
        It is not installed.
    """
    return _imported("torch", "The torch engine needs PyTorch")


def import_timm() -> Any:
    """Import timm, and PyTorch with it.

    Returns
    -------
    module
        `timm`.

    Raises
    ------
    InputError
        It is not installed.
    """
    return _imported("timm", "Backbones of timm need timm and PyTorch")


def has_timm() -> bool:
    """Whether timm could be imported; imports nothing."""
    try:
        return importlib.util.find_spec("timm") is not None
    except ValueError:  # something else took its place in sys.modules
        return False


def _imported(name: str, need: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "timm"):
            raise  # installed, but broken: its own message says more
        verb = "are" if name == "timm" else "is"
        raise InputError(f"{need}, which {verb} not installed. Run: {INSTALL}") from error
