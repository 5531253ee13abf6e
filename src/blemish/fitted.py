"""What a fit finds: everything that a model is, as data."""

from __future__ import annotations

from dataclasses import dataclass

from blemish.alignment import Alignment
from blemish.arrays import BoolArray, Float32Array
from blemish.backbones import Backbone
from blemish.calibration import Calibration
from blemish.combination import PartWeights
from blemish.embedding import Embedding
from blemish.gaussian import Regularisation
from blemish.journal import JournalEntry
from blemish.kept_features import KeptFeatures
from blemish.moments import Moments
from blemish.operating_points import OperatingPoint
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.records import ImageRecords
from blemish.rejected import Rejected
from blemish.scorer import ScoreStatistics
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation
from blemish.unusual import UnusualImages


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
    records : ImageRecords
        Of the training images, in the order of the calibration's scores.
    rejected : Rejected or None
        Images that were given, but left out of the fit as outliers, if the settings ask for it.
    mean_image : float32 (3, H, W), 0..1
        Mean of what the network saw of them.
    alignment : Alignment or None
        How parts are brought to one place; the records say where each lay.
    kept : KeptFeatures or None
        Their embeddings, if the settings say `keep_features`.
    unusual : UnusualImages or None
        Features of the images of the highest left-out scores; None if all are kept.
    journal : tuple of JournalEntry
        What was learned and forgotten; the last is the newest.
    operating_points : tuple of OperatingPoint
        Those that were set besides that of the settings.
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
    records: ImageRecords
    rejected: Rejected | None = None
    mean_image: Float32Array
    alignment: Alignment | None = None
    kept: KeptFeatures | None = None
    unusual: UnusualImages | None = None
    journal: tuple[JournalEntry, ...] = ()
    operating_points: tuple[OperatingPoint, ...] = ()
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
