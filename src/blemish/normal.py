"""What is normal: later passes over the training images, each as if it had been left out.

What scores must know of normal images, what is usual at every position, how far the parts' scores
spread, and at last the scores that thresholds come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.calibration import Calibration, calibrate
from blemish.combination import Combination, PartWeights, split_levels
from blemish.judge import combination_of, counted_positions
from blemish.pooling import Running
from blemish.preprocessing import Preprocessing
from blemish.scorer import WITH_STATISTICS, LeftOutScorer, ScoreStatistics, learn_statistics
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation, standardisation_of

Pass = Callable[[str], Iterable[Sequence[FloatArray]]]
"""Name of a stage -> batches of embeddings of the training images, float (N, P, d) per level."""


@dataclass(frozen=True, slots=True)
class Normal:
    """What the passes found.

    Attributes
    ----------
    statistics : list of ScoreStatistics, one per part
    standardisations : list of Standardisation or None, one per part
    weights : PartWeights or None
    calibration : Calibration
    """

    statistics: list[ScoreStatistics]
    standardisations: list[Standardisation | None]
    weights: PartWeights | None
    calibration: Calibration


def learn_normal(
    levels: Pass,
    left_out: Sequence[LeftOutScorer],
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
    *,
    part_weights: PartWeights | None,
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

    Returns
    -------
    Normal
    """
    counted = [counted_positions(scorer.pyramid, ignored) for scorer in left_out]
    statistics = [ScoreStatistics() for _ in left_out]
    if settings.score in WITH_STATISTICS:
        statistics = [
            learn_statistics(
                (split_levels(batch, len(left_out))[part] for batch in levels("statistics")),
                scorer,
                ignored=None if seen is None else ~seen,
            )
            for part, (scorer, seen) in enumerate(zip(left_out, counted, strict=True))
        ]

    def totals(stage: str) -> Iterable[list[Float64Array]]:
        for batch in levels(stage):
            parts = zip(left_out, split_levels(batch, len(left_out)), statistics, strict=True)
            yield [scorer(own, known) for scorer, own, known in parts]

    standardisations: list[Standardisation | None] = [None] * len(left_out)
    if settings.standardise:
        standardisations = _standardisations(totals("standardisation"), left_out, counted)

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
        weights = _scaled(part_weights, totals("weights"), combination(part_weights))
    calibration = calibrate(totals("calibration"), combination(weights), ignored=ignored)
    return Normal(statistics, standardisations, weights, calibration)


def _standardisations(
    batches: Iterable[Sequence[Float64Array]],
    left_out: Sequence[LeftOutScorer],
    counted: Sequence[BoolArray | None],
) -> list[Standardisation | None]:
    seen = [Running((scorer.pyramid.positions(-1),)) for scorer in left_out]
    for totals in batches:
        for running, total in zip(seen, totals, strict=True):
            running.add(total)
    return [standardisation_of(one, kept) for one, kept in zip(seen, counted, strict=True)]


def _scaled(
    asked: PartWeights, batches: Iterable[Sequence[Float64Array]], combination: Combination
) -> PartWeights:
    """Weights divided by how far scores, and highest scores, of good images spread."""
    pixels = [Running(()) for _ in asked.map]
    images = [Running(()) for _ in asked.image]
    for totals in batches:
        for part, scores in enumerate(combination.standardised(totals)):
            kept = combination.counted[part]
            pixels[part].add((scores if kept is None else scores[:, kept]).ravel())
            images[part].add(np.asarray(combination.highest(part, scores)))
    return PartWeights(
        tuple(w / seen.scale()[1] for w, seen in zip(asked.map, pixels, strict=True)),
        tuple(w / seen.scale()[1] for w, seen in zip(asked.image, images, strict=True)),
    )
