"""What some scores must know of normal images: learned in a pass over them, each left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from blemish import scoring
from blemish.arrays import BoolArray, FloatArray
from blemish.errors import InputError
from blemish.pooling import Running
from blemish.scorer import LeftOutScorer, ScoreStatistics


def learn_statistics(
    batches: Iterable[Sequence[FloatArray]],
    scorer: LeftOutScorer,
    *,
    ignored: BoolArray | None = None,
) -> ScoreStatistics:
    """One pass over the training images for what the score must know of normal images.

    Parameters
    ----------
    batches : iterable of lists of float (N, P, d)
    scorer : LeftOutScorer
    ignored : bool (P of the finest level,), optional
        Positions that do not count.

    Returns
    -------
    ScoreStatistics
        With what the score of `scorer` needs; all else None.
    """
    pyramid = scorer.pyramid
    if scorer.settings.score == "chebyshev-two-stage":
        ranks = Running((pyramid.positions(pyramid.levels - 1), sum(pyramid.dims)))
        for levels in batches:
            _, k2 = scorer.parts(levels)
            scale = scorer.settings.chebyshev_scale
            ranks.add(scoring.sorted_bounds(k2, pyramid, scale))
        return ScoreStatistics(rank_means=ranks.mean, rank_squares=ranks.squares)
    kept = slice(None) if ignored is None else ~ignored
    distances, logs = Running(()), Running(())
    for levels in batches:
        distance2, k2 = scorer.parts(levels)
        if distance2 is None:
            raise InputError(f"The score {scorer.settings.score} has no scale to be learned.")
        distances.add(np.sqrt(distance2[:, kept]).ravel())
        largest = scoring.largest_deviation(k2, pyramid)[:, kept]
        logs.add(scoring.log_deviation(largest).ravel())
    return ScoreStatistics(distance_scale=distances.scale(), deviation_scale=logs.scale())


def merged_statistics(seen: Sequence[tuple[float, ScoreStatistics]]) -> ScoreStatistics:
    """Statistics of several sets of images together, each given with its number of images."""

    def scale(name: str) -> tuple[float, float] | None:
        found = [(images, getattr(one, name)) for images, one in seen]
        if any(each is None for _, each in found):
            return None
        running = Running(())
        for images, each in found:
            running.merge(Running.of_scale(images, each))
        return running.scale()

    ranks = None
    for images, one in seen:
        if one.rank_means is not None and one.rank_squares is not None:
            ranks = Running(one.rank_means.shape) if ranks is None else ranks
            ranks.merge(Running.of(images, one.rank_means, one.rank_squares))
    return ScoreStatistics(
        distance_scale=scale("distance_scale"),
        deviation_scale=scale("deviation_scale"),
        rank_means=None if ranks is None else ranks.mean,
        rank_squares=None if ranks is None else ranks.squares,
    )
