"""What a fit finds: everything that a model is, as data."""

from __future__ import annotations

from dataclasses import dataclass

from blemish.arrays import BoolArray
from blemish.backbones import Backbone
from blemish.calibration import Calibration
from blemish.combination import PartWeights
from blemish.embedding import Embedding
from blemish.gaussian import Regularisation
from blemish.moments import Moments
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.scorer import ScoreStatistics
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Levels that form one Gaussian per position: all of them, or one.

    Attributes
    ----------
    moments : Moments
    regularisation : Regularisation
    statistics : ScoreStatistics
    standardisation : Standardisation or None
        Of the position scores, where the settings ask for it.
    """

    moments: Moments
    regularisation: Regularisation
    statistics: ScoreStatistics
    standardisation: Standardisation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Result of a fit; what a model file holds.

    Attributes
    ----------
    settings : FitSettings
    backbone : Backbone
    preprocessing : Preprocessing
    embedding : Embedding
    parts : tuple of Part
        One, or one per level, coarse to fine, if the settings say `separate`.
    weights : PartWeights or None
        How the parts' scores are put together; None with one part.
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
    parts: tuple[Part, ...]
    weights: PartWeights | None = None
    calibration: Calibration
    ignored: BoolArray | None = None
    bf16_drift: float | None = None

    @property
    def pyramid(self) -> Pyramid:
        """Grids and dimensions of all levels, coarse to fine."""
        pyramids = [part.moments.pyramid for part in self.parts]
        return Pyramid(
            tuple(grid for pyramid in pyramids for grid in pyramid.grids),
            tuple(dims for pyramid in pyramids for dims in pyramid.dims),
        )

    @property
    def whitening_numbers(self) -> int:
        """How many numbers the whitening rows of all parts have, zeros included."""
        return sum(rows.size for part in self.parts for rows in part.moments.scatters)

    @property
    def count(self) -> int:
        """Number of images fitted."""
        return self.parts[0].moments.count
