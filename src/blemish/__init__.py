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
    "Decision": "blemish.decision",
    "EngineSettings": "blemish.engines.engine",
    "Evaluation": "blemish.evaluation",
    "Explanation": "blemish.explanation.explanation",
    "FitSettings": "blemish.settings",
    "Model": "blemish.model",
    "OperatingPoint": "blemish.operating_points",
    "Region": "blemish.regions",
    "RegionSettings": "blemish.regions",
    "RdMvtec": "blemish.datasets",
    "Sample": "blemish.datasets",
    "Score": "blemish.decision",
    "Threshold": "blemish.threshold",
    "Watch": "blemish.drift.watch",
    "TrainingCheck": "blemish.training_check.check",
    "calibrate": "blemish.lifecycle.steps",
    "check_training": "blemish.training_check.check",
    "evaluate": "blemish.evaluation",
    "explain": "blemish.explanation.explaining",
    "fit": "blemish.fitting",
    "fit_like": "blemish.lifecycle.steps",
    "forget": "blemish.lifecycle.steps",
    "merge": "blemish.lifecycle.steps",
    "read_dataset": "blemish.datasets",
    "update": "blemish.lifecycle.steps",
    "watch_of": "blemish.drift.images",
}

if TYPE_CHECKING:
    from blemish.datasets import RdMvtec, Sample, read_dataset
    from blemish.decision import Decision, Score
    from blemish.drift.images import watch_of
    from blemish.drift.watch import Watch
    from blemish.engines.engine import EngineSettings
    from blemish.errors import BlemishError
    from blemish.evaluation import Evaluation, evaluate
    from blemish.explanation.explaining import explain
    from blemish.explanation.explanation import Explanation
    from blemish.fitting import fit
    from blemish.lifecycle.steps import calibrate, fit_like, forget, merge, update
    from blemish.model import Model
    from blemish.model import load_model as load
    from blemish.operating_points import OperatingPoint
    from blemish.regions import Region, RegionSettings
    from blemish.settings import FitSettings
    from blemish.threshold import Threshold
    from blemish.training_check.check import TrainingCheck, check_training

__all__ = [
    "BlemishError",
    "Decision",
    "EngineSettings",
    "Evaluation",
    "Explanation",
    "FitSettings",
    "Model",
    "OperatingPoint",
    "RdMvtec",
    "Region",
    "RegionSettings",
    "Sample",
    "Score",
    "Threshold",
    "TrainingCheck",
    "Watch",
    "calibrate",
    "check_training",
    "evaluate",
    "explain",
    "fit",
    "fit_like",
    "forget",
    "load",
    "merge",
    "read_dataset",
    "update",
    "watch_of",
]


def __getattr__(name: str) -> object:
    if name == "load":
        return importlib.import_module("blemish.model").load_model
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'blemish' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
