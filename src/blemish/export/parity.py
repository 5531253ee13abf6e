"""Does an export say what its model says? Differences, in units that matter, and their limits.

A difference of scores is measured in spreads: standard deviations of the leave-one-out scores of
good images. Above the threshold it is measured in spreads plus how far the score is above: what
is anomalous anyway may differ more. The same holds for the pixels of a map, with the pixel
threshold and the spread of the pixels of good images. Levels may have units of their own: each is
measured in the standard deviation of its values on the compared images that are normal.

A bounded score can differ by a few spreads at most, so a blank map might pass for a good one:
the maps must correlate as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from blemish.arrays import Float64Array, FloatArray
from blemish.calibration import PIXEL_PROBABILITIES
from blemish.decision import Score
from blemish.export.agreement import Correlation, OwnSpread, at_least
from blemish.model import Model


@dataclass(frozen=True, slots=True)
class Limits:
    """What an export may differ from its model.

    Attributes
    ----------
    score, map, level : float, spreads
        Largest difference of an image score, a pixel of a map, and a value of a level.
    decisions : float in 0..1
        Share of images that may be judged otherwise.
    correlation : float in 0..1
        Least correlation of the maps, over all pixels of all images.
    """

    score: float
    map: float
    level: float
    decisions: float
    correlation: float


LIMITS = {
    "fp32": Limits(score=0.002, map=0.01, level=0.05, decisions=0.0, correlation=0.999),
    "fp16": Limits(score=0.05, map=0.5, level=1.0, decisions=0.01, correlation=0.99),
    "int8": Limits(score=1.0, map=5.0, level=10.0, decisions=0.05, correlation=0.7),
}
"""Per precision; see docs/decisions/0010-exports.md for what was measured."""

_FLAT = 1e-3  # of the spread of good pixels: maps that vary less are of one value
_QUARTILES_APART = 1.349  # standard deviations, of a Gaussian


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an export is from its model.

    Attributes
    ----------
    images : int
        Images compared.
    made_up : bool
        Whether these were no real images.
    spread, pixel_spread : float
        Standard deviation of the leave-one-out scores of good images; of the pixels of their maps,
        from the quartiles.
    threshold, pixel_threshold : float
    score_difference, map_difference, level_difference : float
        Largest absolute differences.
    score_drift, map_drift, level_drift : float, spreads of scores, pixels or the level
        The same as it matters; see the top of this module.
    map_correlation : float in -1..1
        Of the pixels of the maps with those of the model; 0 for blank maps.
    score_shift : float, spreads
        Mean of the differences of scores, export minus model.
    changed_decisions : int
        Images judged otherwise.
    limits : Limits
    """

    images: int
    made_up: bool
    spread: float
    pixel_spread: float
    threshold: float
    pixel_threshold: float
    score_difference: float
    map_difference: float
    level_difference: float
    score_drift: float
    map_drift: float
    level_drift: float
    map_correlation: float
    score_shift: float
    changed_decisions: int
    limits: Limits

    @property
    def most_changed(self) -> int:
        """Decisions that may change."""
        return int(self.limits.decisions * self.images)

    @property
    def failures(self) -> list[str]:
        """What is beyond its limit, in words; empty if the export is as good as the model."""
        found = []
        for name, drift, limit in (
            ("scores", self.score_drift, self.limits.score),
            ("maps", self.map_drift, self.limits.map),
            ("levels", self.level_drift, self.limits.level),
        ):
            if not drift <= limit:  # not a number is beyond every limit
                found.append(f"{name} differ by {drift:.3g} spreads, more than {limit:g}")
        if not self.map_correlation >= self.limits.correlation:
            found.append(
                f"maps correlate by {self.map_correlation:.3g}, less than "
                f"{self.limits.correlation:g}"
            )
        if self.changed_decisions > self.most_changed:
            found.append(
                f"{self.changed_decisions} of {self.images} decisions changed, more than "
                f"{self.most_changed}"
            )
        return found

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {**asdict(self), "passed": not self.failures}


class Comparison:
    """Gathers differences, batch by batch.

    Parameters
    ----------
    model : Model
        What the export is compared with.
    limits : Limits
    made_up : bool
        Whether the images are no real ones.
    """

    def __init__(self, model: Model, limits: Limits, *, made_up: bool = False) -> None:
        self._limits, self._made_up = limits, made_up
        self._threshold, self._pixel = model.threshold().value, model.pixel_threshold()
        self._spread = at_least(np.std(model.calibration.scores), self._threshold)
        quartiles = np.interp((0.25, 0.75), PIXEL_PROBABILITIES, model.calibration.pixel_quantiles)
        apart = (quartiles[1] - quartiles[0]) / _QUARTILES_APART
        self._pixel_spread = at_least(apart, self._pixel)
        self._correlation = Correlation(flat=_FLAT * self._pixel_spread)
        self._levels = {name: OwnSpread(self._pixel) for name in model.level_names}
        self._images, self._changed, self._sum = 0, 0, 0.0
        self._differences, self._drifts = [0.0] * 3, [0.0] * 2

    def add(self, expected: Sequence[Score], found: Sequence[Score]) -> None:
        """Compare what the model and the export say of the same images."""
        for one, other in zip(expected, found, strict=True):
            scores = np.array([one.image_score]), np.array([other.image_score])
            self._compare(0, *scores, self._spread, self._threshold)
            maps = one.anomaly_map, other.anomaly_map
            self._compare(1, *maps, self._pixel_spread, self._pixel)
            self._correlation.add(*maps)
            judged = [score.image_score >= self._threshold for score in (one, other)]
            for name, level in one.level_grids.items():
                self._largest(2, level, other.level_grids[name])
                self._levels[name].add(level, other.level_grids[name], good=not judged[0])
            self._images += 1
            self._sum += other.image_score - one.image_score
            self._changed += judged[0] != judged[1]

    def _compare(
        self, kind: int, one: FloatArray, other: FloatArray, spread: float, threshold: float
    ) -> None:
        drift = self._largest(kind, one, other) / (spread + np.maximum(one - threshold, 0.0))
        # `max` of Python would pass over what is not a number.
        self._drifts[kind] = float(np.maximum(self._drifts[kind], drift.max()))

    def _largest(self, kind: int, one: FloatArray, other: FloatArray) -> Float64Array:
        """Differences; the largest is kept."""
        difference = np.abs(other.astype(np.float64) - one)
        self._differences[kind] = float(np.maximum(self._differences[kind], difference.max()))
        return difference

    def result(self) -> Parity:
        """All images so far."""
        return Parity(
            images=self._images,
            made_up=self._made_up,
            spread=self._spread,
            pixel_spread=self._pixel_spread,
            threshold=self._threshold,
            pixel_threshold=self._pixel,
            score_difference=self._differences[0],
            map_difference=self._differences[1],
            level_difference=self._differences[2],
            score_drift=self._drifts[0],
            map_drift=self._drifts[1],
            level_drift=float(np.max([level.result() for level in self._levels.values()])),
            map_correlation=self._correlation.result(),
            score_shift=self._sum / max(self._images, 1) / self._spread,
            changed_decisions=self._changed,
            limits=self._limits,
        )
