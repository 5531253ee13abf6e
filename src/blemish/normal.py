"""What is normal: later passes over the training images, each as if it had been left out.

What scores must know of normal images, what is usual at every position, how far the parts' scores
spread, and at last the scores that thresholds come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.calibration import Before, Calibration, calibrate
from blemish.combination import Combination, PartWeights, split_levels
from blemish.judge import combination_of, counted_positions
from blemish.pooling import Running
from blemish.preprocessing import Preprocessing
from blemish.score_statistics import learn_statistics, merged_statistics
from blemish.scorer import WITH_STATISTICS, LeftOutScorer, ScoreStatistics
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation, standardisation_of
from blemish.unusual import HighestScores, UnusualImages

Pass = Callable[[str], Iterable[Sequence[FloatArray]]]
"""Name of a stage -> batches of embeddings of the training images, float (N, P, d) per level."""


CALIBRATION = "calibration"
"""Name of the last stage."""


@dataclass(frozen=True, slots=True)
class Normal:
    """What the passes found.

    Attributes
    ----------
    statistics : list of ScoreStatistics, one per part
    standardisations : list of Standardisation or None, one per part
    weights : PartWeights or None
    calibration : Calibration
    unusual : UnusualImages or None
        Those of the highest scores, numbered as the passes brought them; None if they brought
        none.
    """

    statistics: list[ScoreStatistics]
    standardisations: list[Standardisation | None]
    weights: PartWeights | None
    calibration: Calibration
    unusual: UnusualImages | None = None


@dataclass(frozen=True, slots=True)
class KnownBefore:
    """What is known of training images that the passes do not bring; see `combining`.

    Attributes
    ----------
    images : int
        How many they are. Some of them may come first in the pass `CALIBRATION`, but in no other.
    statistics : list of ScoreStatistics, one per part
    seen : list of Running or None, one per part
        What standardisations follow from.
    weights : PartWeights or None
    calibration : Before
    """

    images: int
    statistics: list[ScoreStatistics]
    seen: list[Running | None]
    weights: PartWeights | None
    calibration: Before


def learn_normal(
    levels: Pass,
    left_out: Sequence[LeftOutScorer],
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
    *,
    part_weights: PartWeights | None,
    known: KnownBefore | None = None,
) -> Normal:
    """Go through the training images as often as the settings need.

    Parameters
    ----------
    levels : function
        Begins a pass.
    left_out : list of LeftOutScorer, one per part
    preprocessing : Preprocessing
    settings : FitSettings
    ignored : bool (H, W), optional
    part_weights : PartWeights or None
        Of the settings; they are divided by what the scores spread.
    known : KnownBefore, optional

    Returns
    -------
    Normal
    """
    passes = _Passes(levels, left_out, settings, ignored, known)
    statistics = passes.statistics()
    standardisations = passes.standardisations(statistics)

    def combination(weights: PartWeights | None) -> Combination:
        return combination_of(
            [scorer.pyramid for scorer in left_out],
            preprocessing,
            settings,
            ignored,
            standardisations=standardisations,
            weights=weights,
        )

    weights = part_weights
    if part_weights is not None:
        weights = passes.scaled(part_weights, statistics, combination(part_weights))
    calibration, unusual = passes.calibration(statistics, combination(weights), ignored)
    return Normal(statistics, standardisations, weights, calibration, unusual)


class _Passes:
    """Passes over the training images that are at hand, and what is known of the others."""

    def __init__(
        self,
        levels: Pass,
        left_out: Sequence[LeftOutScorer],
        settings: FitSettings,
        ignored: BoolArray | None,
        known: KnownBefore | None,
    ) -> None:
        self._levels, self._left_out, self._settings = levels, left_out, settings
        self._counted = [counted_positions(scorer.pyramid, ignored) for scorer in left_out]
        self._known = known
        self._missing = 0 if known is None else known.images
        self._batch: Sequence[FloatArray] = ()
        self._at_hand = left_out[0].count - self._missing

    def totals(
        self, stage: str, statistics: Sequence[ScoreStatistics]
    ) -> Iterable[list[Float64Array]]:
        """Left-out position scores (N, P) of every part, per batch."""
        for batch in self._levels(stage):
            self._batch = batch
            own = split_levels(batch, len(self._left_out))
            parts = zip(self._left_out, own, statistics, strict=True)
            yield [scorer(part, known) for scorer, part, known in parts]

    def statistics(self) -> list[ScoreStatistics]:
        """What the score must know, for every part."""
        if self._settings.score not in WITH_STATISTICS:
            return [ScoreStatistics() for _ in self._left_out]
        return [self._statistics(part) for part in range(len(self._left_out))]

    def _statistics(self, part: int) -> ScoreStatistics:
        seen: list[tuple[float, ScoreStatistics]] = []
        if self._known is not None:
            seen.append((self._missing, self._known.statistics[part]))
        if self._at_hand:
            counted = self._counted[part]
            batches = self._levels("statistics")
            found = learn_statistics(
                (split_levels(batch, len(self._left_out))[part] for batch in batches),
                self._left_out[part],
                ignored=None if counted is None else ~counted,
            )
            seen.append((self._at_hand, found))
        return seen[0][1] if len(seen) == 1 else merged_statistics(seen)

    def standardisations(
        self, statistics: Sequence[ScoreStatistics]
    ) -> list[Standardisation | None]:
        """What is usual at every position, for every part; None where not wanted."""
        if not self._settings.standardise:
            return [None] * len(self._left_out)
        seen = [Running((scorer.pyramid.positions(-1),)) for scorer in self._left_out]
        if self._known is not None:
            for own, before in zip(seen, self._known.seen, strict=True):
                if before is not None:
                    own.merge(before)
        for totals in self.totals("standardisation", statistics):
            for running, total in zip(seen, totals, strict=True):
                running.add(total)
        return [
            standardisation_of(one, kept) for one, kept in zip(seen, self._counted, strict=True)
        ]

    def scaled(
        self,
        asked: PartWeights,
        statistics: Sequence[ScoreStatistics],
        combination: Combination,
    ) -> PartWeights:
        """Weights divided by how far scores, and highest scores, of good images spread."""
        pixels = [Running(()) for _ in asked.map]
        images = [Running(()) for _ in asked.image]
        for totals in self.totals("weights", statistics):
            for part, scores in enumerate(combination.standardised(totals)):
                kept = combination.counted[part]
                pixels[part].add((scores if kept is None else scores[:, kept]).ravel())
                images[part].add(np.asarray(combination.highest(part, scores)))
        known = None if self._known is None else self._known.weights
        return PartWeights(
            self._divided(asked.map, pixels, None if known is None else known.map),
            self._divided(asked.image, images, None if known is None else known.image),
        )

    def calibration(
        self,
        statistics: Sequence[ScoreStatistics],
        combination: Combination,
        ignored: BoolArray | None,
    ) -> tuple[Calibration, UnusualImages | None]:
        """Scores of all images, and the images of the highest that are at hand."""
        highest = HighestScores(self._left_out[0].count)
        calibration = calibrate(
            self.totals(CALIBRATION, statistics),
            combination,
            ignored=ignored,
            before=None if self._known is None else self._known.calibration,
            on_scores=lambda scores: highest.add(self._batch, scores),
        )
        return calibration, highest.found()

    def _divided(
        self,
        asked: Sequence[float],
        seen: Sequence[Running],
        known: Sequence[float] | None,
    ) -> tuple[float, ...]:
        """Asked weights over the spread; what is known of other images counts by their number."""
        if known is None:
            return tuple(w / own.scale()[1] for w, own in zip(asked, seen, strict=True))
        share = self._missing / (self._missing + self._at_hand)
        return tuple(
            0.0
            if wanted == 0
            else wanted
            / np.sqrt(
                share * (wanted / before) ** 2
                + (1 - share) * (own.scale()[1] ** 2 if own.count > 1 else (wanted / before) ** 2)
            ).item()
            for wanted, own, before in zip(asked, seen, known, strict=True)
        )
