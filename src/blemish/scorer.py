"""Position scores of a fitted model, and what they would be for a training image left out.

`scoring` says what each score means; here the statistics it needs are derived from the moments.
`Scorer` judges new images, `LeftOutScorer` training images. A few scores need statistics of
normal images that only a pass over them gives; see `score_statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike

from blemish import scoring
from blemish.arrays import Float64Array, FloatArray
from blemish.errors import InputError
from blemish.gaussian import HELD_WHITENING_BYTES, Regularisation, gaussian_of, squared_distances
from blemish.moments import Moments
from blemish.nearest import PairScore, left_out_nearest, nearest
from blemish.neighbourhood import Neighbourhood
from blemish.pooling import Pool
from blemish.pyramid import Pyramid

T = TypeVar("T")

WITH_DISTANCE = frozenset({"gaussian", "hybrid", "hybrid-calibrated"})
WITH_STATISTICS = frozenset({"hybrid-calibrated", "chebyshev-two-stage"})
WITHOUT_NEIGHBOURHOOD = frozenset({"chebyshev-pooled", "chebyshev-two-stage"})


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """Which score, and its parameter.

    Attributes
    ----------
    score : one of `scoring.SCORES`, default "gaussian"
    chebyshev_scale : float in (0, 1], default 1
        Factor of the Chebyshev bound; the hybrid method's authors also tried 0.75 and 0.8.
    """

    score: str = "gaussian"
    chebyshev_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.score not in scoring.SCORES:
            raise InputError(
                f"score must be one of {', '.join(scoring.SCORES)}, but is {self.score!r}. "
                "Choose one."
            )
        if not 0.0 < self.chebyshev_scale <= 1.0:
            raise InputError(
                f"chebyshev_scale must be above 0 and at most 1, but is {self.chebyshev_scale}. "
                "The hybrid method's values are 1, 0.8 and 0.75."
            )


@dataclass(frozen=True, slots=True)
class ScoreStatistics:
    """What some scores must know of normal images left out; None where not needed.

    Attributes
    ----------
    distance_scale, deviation_scale : (mean, standard deviation)
        Of the distance, and of log k, over images and positions: "hybrid-calibrated".
    rank_means, rank_squares : float64 (P, D)
        Mean, and sum of squared deviations, of the sorted bounds: "chebyshev-two-stage".
    """

    distance_scale: tuple[float, float] | None = None
    deviation_scale: tuple[float, float] | None = None
    rank_means: Float64Array | None = None
    rank_squares: Float64Array | None = None


@dataclass(frozen=True, slots=True)
class PositionScores:
    """Scores of a batch of images.

    Attributes
    ----------
    total : float (N, P of the finest level)
    levels : list of float (N, P of the level)
        What each level contributes: its conditional distance, or its largest Chebyshev bound.
    """

    total: FloatArray
    levels: list[FloatArray]


class Scorer:
    """Scores new images.

    Parameters
    ----------
    moments : Moments
    regularisation : Regularisation
    settings : ScoreSettings
    statistics : ScoreStatistics
        From `score_statistics`, for the scores that need them.
    position_weights : list of float64 (P,) per level, optional
        For "chebyshev-pooled": how many counted finest positions each cell stands for.
    neighbourhood : Neighbourhood, optional
        Whose Gaussians may judge a position; default its own alone. See `nearest`.
    dtype : float32 (default) or float64
        Precision of the arithmetic; float32 is right to about 1e-5.
    """

    def __init__(
        self,
        moments: Moments,
        regularisation: Regularisation,
        settings: ScoreSettings,
        statistics: ScoreStatistics | None = None,
        *,
        position_weights: Sequence[Float64Array] | None = None,
        neighbourhood: Neighbourhood | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.pyramid, self.settings = moments.pyramid, settings
        self._neighbourhood = neighbourhood
        self._dtype = np.dtype(dtype)
        self.statistics = statistics or ScoreStatistics()
        self.gaussian = (
            gaussian_of(moments, regularisation, dtype=dtype)
            if settings.score in WITH_DISTANCE
            else None
        )
        self.means: Sequence[FloatArray] = moments.means
        variances: Sequence[FloatArray] = moments.variances()
        if _is_pooled(settings, moments):
            pool = Pool.of(moments, position_weights)
            self.means = pool.means
            variances = [s / (pool.samples - 1) for s in pool.squares]
        self.means = [mean.astype(dtype) for mean in self.means]
        self.variances = [scoring.floored(v).astype(dtype) for v in variances]
        self._rank_moments = _rank_moments(self.statistics, moments.count, dtype)

    def __call__(self, levels: Sequence[FloatArray]) -> PositionScores:
        """Score a batch.

        Parameters
        ----------
        levels : list of float (N, P, d)

        Returns
        -------
        PositionScores
        """
        levels = [array.astype(self._dtype, copy=False) for array in levels]
        self.pyramid.check(levels)
        if self._neighbourhood is not None:
            return self._by_nearest(levels, self._neighbourhood)
        distances: list[FloatArray] = []
        k2: list[FloatArray] = []
        if self.gaussian is not None:
            distances = scoring.level_distances(levels, self.gaussian)
        if self.settings.score != "gaussian":
            k2 = scoring.deviations(levels, self.means, self.variances)
        total = combine(
            self.settings,
            self.pyramid,
            scoring.total_distance(distances, self.pyramid) if distances else None,
            k2,
            self.statistics,
            lambda bounds: scoring.deviations([bounds], *_needed(self._rank_moments))[0],
        )
        return self._scores(total, distances, [k.max(axis=2) for k in k2])

    def _by_nearest(
        self, levels: Sequence[FloatArray], neighbourhood: Neighbourhood
    ) -> PositionScores:
        deviates = self.settings.score != "gaussian"
        found = nearest(
            levels,
            neighbourhood,
            _pair_score(self.settings, self.pyramid, self.statistics),
            gaussian=self.gaussian,
            moments=(self.means, self.variances) if deviates else None,
        )
        return self._scores(found.total, found.distances, found.deviations)

    def _scores(
        self, total: FloatArray, distances: Sequence[FloatArray], largest: Sequence[FloatArray]
    ) -> PositionScores:
        """Scores, and what each level contributes, from its squared distance or largest k^2."""
        if distances:
            return PositionScores(total, [np.sqrt(d) for d in distances])
        scale = self.settings.chebyshev_scale
        return PositionScores(total, [scoring.chebyshev_bound(k2, scale) for k2 in largest])


class LeftOutScorer:
    """Scores training images as if each had not been among those fitted. Float64, exact.

    Closed forms where there are any. With one Gaussian for all positions an image is many
    samples, and is really taken out: the single covariance is small. Whitening that takes more
    than `HELD_WHITENING_BYTES` is made anew for every batch, and never held.

    Parameters
    ----------
    moments : Moments
        Of at least 3 images.
    regularisation, settings, position_weights, neighbourhood
        As `Scorer`.

    Raises
    ------
    NotFittedError
        Fewer than 3 images seen.

    Attributes
    ----------
    count : int
        Images among the moments.
    """

    def __init__(
        self,
        moments: Moments,
        regularisation: Regularisation,
        settings: ScoreSettings,
        *,
        position_weights: Sequence[Float64Array] | None = None,
        neighbourhood: Neighbourhood | None = None,
    ) -> None:
        moments.require_images(3)
        self.pyramid, self.settings = moments.pyramid, settings
        self._neighbourhood = neighbourhood
        self._moments, self._regularisation = moments, regularisation
        self.count = moments.count
        self._squares = moments.squares()
        self._pool = Pool.of(moments, position_weights) if _is_pooled(settings, moments) else None
        ridge = scoring.left_out_ridge(regularisation.ridge, self.count)
        self._whitened_with = replace(regularisation, ridge=ridge)
        self._measures = settings.score in WITH_DISTANCE and not moments.shared
        held = sum(rows.nbytes for rows in moments.scatters) <= HELD_WHITENING_BYTES
        self._gaussian = (
            gaussian_of(moments, self._whitened_with) if self._measures and held else None
        )

    def parts(self, levels: Sequence[FloatArray]) -> tuple[Float64Array | None, list[FloatArray]]:
        """Squared distance (N, P) and k^2 (N, P, d) per level, None or empty if not used.

        By the Gaussian of each position itself, whatever the neighbourhood.
        """
        if self._moments.shared:
            return self._parts_by_removal(levels)
        distance, k2 = None, []
        if self._measures:
            within = squared_distances(levels, self._moments, self._whitened_with, self._gaussian)
            total = scoring.total_distance(within, self.pyramid).astype(np.float64)
            distance = scoring.left_out_distance(total, self.count, self._regularisation.weight)
        if self._pool is not None:
            k2 = scoring.left_out_pooled_deviations(
                levels,
                self._pool.means,
                self._pool.squares,
                count=self.count,
                weights=self._pool.weights,
            )
        elif self.settings.score != "gaussian":
            k2 = scoring.left_out_deviations(levels, self._moments.means, self._squares, self.count)
        return distance, list(k2)

    def _parts_by_removal(
        self, levels: Sequence[FloatArray]
    ) -> tuple[Float64Array | None, list[FloatArray]]:
        distances, deviations = [], []
        for image in range(len(levels[0])):
            alone = [array[image : image + 1].astype(np.float64) for array in levels]
            rest = self._moments.copy()
            rest.remove(alone)
            if self.settings.score in WITH_DISTANCE:
                within = scoring.level_distances(alone, gaussian_of(rest, self._regularisation))
                distances.append(scoring.total_distance(within, self.pyramid))
            if self.settings.score != "gaussian":
                variances = [scoring.floored(v) for v in rest.variances()]
                deviations.append(scoring.deviations(alone, rest.means, variances))
        k2 = [np.concatenate(arrays) for arrays in zip(*deviations, strict=True)]
        return (np.concatenate(distances).astype(np.float64) if distances else None), k2

    def __call__(
        self, levels: Sequence[FloatArray], statistics: ScoreStatistics | None = None
    ) -> Float64Array:
        """Left-out scores of a batch of training images.

        Parameters
        ----------
        levels : list of float (N, P, d)
        statistics : ScoreStatistics
            From `score_statistics`, for the scores that need them.

        Returns
        -------
        float64 (N, P of the finest level)
        """
        statistics = statistics or ScoreStatistics()
        if self._neighbourhood is not None:
            return left_out_nearest(
                levels,
                self._neighbourhood,
                _pair_score(self.settings, self.pyramid, statistics),
                self._moments,
                whitened_with=self._whitened_with if self._measures else None,
                held=self._gaussian,
                deviates=self.settings.score != "gaussian",
            )
        distance, k2 = self.parts(levels)

        def rank_k2(bounds: FloatArray) -> FloatArray:
            means, squares = _needed(statistics.rank_means), _needed(statistics.rank_squares)
            return scoring.left_out_deviations([bounds], [means], [squares], self.count)[0]

        return np.asarray(
            combine(self.settings, self.pyramid, distance, k2, statistics, rank_k2),
            dtype=np.float64,
        )


def combine(
    settings: ScoreSettings,
    pyramid: Pyramid,
    distance2: FloatArray | None,
    k2: Sequence[FloatArray],
    statistics: ScoreStatistics,
    rank_k2: Callable[[FloatArray], FloatArray],
) -> FloatArray:
    """Score (N, P) from squared distance and deviations: one place for new and left-out images.

    Parameters
    ----------
    settings : ScoreSettings
    pyramid : Pyramid
    distance2 : float (N, P) or None
        Squared distance, for the scores that use it.
    k2 : list of float (N, P, d), or empty
    statistics : ScoreStatistics
    rank_k2 : function
        Sorted bounds (N, P, D) to their squared deviations from the bound of their rank.
    """
    scale = settings.chebyshev_scale
    if settings.score == "chebyshev-two-stage":
        bounds = scoring.sorted_bounds(k2, pyramid, scale)
        return scoring.two_stage(bounds, rank_k2(bounds))
    if distance2 is None:
        return scoring.chebyshev_bound(scoring.largest_deviation(k2, pyramid), scale)
    distance = np.sqrt(distance2)
    if settings.score == "gaussian":
        return distance
    largest = scoring.largest_deviation(k2, pyramid)
    if settings.score == "hybrid":
        return scoring.hybrid(distance, scoring.chebyshev_bound(largest, scale))
    return scoring.hybrid_calibrated(
        distance,
        largest,
        distance_scale=_needed(statistics.distance_scale),
        deviation_scale=_needed(statistics.deviation_scale),
    )


def _pair_score(
    settings: ScoreSettings, pyramid: Pyramid, statistics: ScoreStatistics
) -> PairScore:
    """`combine` for pairs of a position and a Gaussian, whose levels are put together already."""
    flat = Pyramid((pyramid.finest,), (1,))

    def score(distance2: FloatArray | None, largest: FloatArray | None) -> FloatArray:
        k2 = [] if largest is None else [largest[:, :, None]]
        return combine(settings, flat, distance2, k2, statistics, lambda bounds: bounds)

    return score


def _is_pooled(settings: ScoreSettings, moments: Moments) -> bool:
    """Whether statistics of positions must be pooled; shared moments already are."""
    return settings.score == "chebyshev-pooled" and not moments.shared


def _rank_moments(
    statistics: ScoreStatistics, count: int, dtype: DTypeLike
) -> tuple[list[FloatArray], list[FloatArray]] | None:
    """Rank means and floored rank variances, ready for `scoring.deviations`; None if unknown."""
    if statistics.rank_means is None or statistics.rank_squares is None:
        return None
    variances = scoring.floored(statistics.rank_squares / (count - 1))
    return [statistics.rank_means.astype(dtype)], [variances.astype(dtype)]


def _needed(value: T | None) -> T:
    """A statistic that the score needs."""
    if value is None:
        raise InputError(
            "This score needs statistics of normal images, but none were given. "
            "Call learn_statistics() first."
        )
    return value
