"""Finds blemishes: defects on parts and surfaces, from images of good parts only.

>>> import blemish
>>> model = blemish.fit("bottle/train/good")            # doctest: +SKIP
>>> model.save("bottle.blemish")                        # doctest: +SKIP
>>> blemish.load("bottle.blemish").classify("new.png")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Loaded on first use: the command line must answer --help without waiting for NumPy and OpenVINO.
_HOMES = {
    "BlemishError": "blemish.errors",
    "Decision": "blemish.model",
    "EngineSettings": "blemish.engines.engine",
    "Evaluation": "blemish.evaluation",
    "FitSettings": "blemish.settings",
    "Model": "blemish.model",
    "Sample": "blemish.datasets",
    "Score": "blemish.model",
    "Threshold": "blemish.threshold",
    "evaluate": "blemish.evaluation",
    "fit": "blemish.fitting",
    "read_dataset": "blemish.datasets",
}

if TYPE_CHECKING:
    from blemish.datasets import Sample, read_dataset
    from blemish.engines.engine import EngineSettings
    from blemish.errors import BlemishError
    from blemish.evaluation import Evaluation, evaluate
    from blemish.fitting import fit
    from blemish.model import Decision, Model, Score
    from blemish.model import load_model as load
    from blemish.settings import FitSettings
    from blemish.threshold import Threshold

__all__ = [
    "BlemishError",
    "Decision",
    "EngineSettings",
    "Evaluation",
    "FitSettings",
    "Model",
    "Sample",
    "Score",
    "Threshold",
    "evaluate",
    "fit",
    "load",
    "read_dataset",
]


def __getattr__(name: str) -> object:
    if name == "load":
        return importlib.import_module("blemish.model").load_model
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'blemish' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
