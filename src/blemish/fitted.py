"""What a fit finds: everything that a model is, as data."""

from __future__ import annotations

from dataclasses import dataclass

from blemish.arrays import BoolArray
from blemish.backbones import Backbone
from blemish.calibration import Calibration
from blemish.embedding import Embedding
from blemish.gaussian import Regularisation
from blemish.moments import Moments
from blemish.preprocessing import Preprocessing
from blemish.scorer import ScoreStatistics
from blemish.settings import FitSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Result of a fit; what a model file holds.

    Attributes
    ----------
    settings : FitSettings
    backbone : Backbone
    preprocessing : Preprocessing
    embedding : Embedding
    moments : Moments
    regularisation : Regularisation
    statistics : ScoreStatistics
    calibration : Calibration
    ignored : bool (H, W) or None
        Pixels of the network's input that neither score nor calibrate.
    bf16_drift : float or None
        How far bf16 moved the image scores of some good images, in standard deviations of good
        images; None if it could not be tried.
    """

    settings: FitSettings
    backbone: Backbone
    preprocessing: Preprocessing
    embedding: Embedding
    moments: Moments
    regularisation: Regularisation
    statistics: ScoreStatistics
    calibration: Calibration
    ignored: BoolArray | None = None
    bf16_drift: float | None = None
