"""Judging a position by the Gaussians around it: for parts that are not always in the same place.

The plain definition. At the finest grid, with r the reach, the score of position p is

    min over q, max(|q - p|) <= r, of score(x_p judged by the Gaussian of q),

x_p the whole embedding at p (with what is coarser there) and mean, covariance and sigma those of q
(with what is coarser there). The minimum is over the finished position score, so that for `hybrid`
one Gaussian answers for distance and bound together. q ends at the border; an ignored q other
than p itself is no candidate. r = 0 is PaDiM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish import scoring
from blemish.arrays import Float64Array, FloatArray, IntArray
from blemish.gaussian import Gaussian, Regularisation
from blemish.moments import Moments
from blemish.neighbour_pairs import pair_deviations, pair_distances, pair_products
from blemish.neighbourhood import Neighbourhood

PairScore = Callable[[FloatArray | None, FloatArray | None], FloatArray]
"""Squared distances and largest k^2, each None if the score lacks it -> scores of that shape."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """What the best Gaussians around say of a batch.

    Attributes
    ----------
    total : float (N, P of the finest level)
        Least score over the Gaussians around.
    distances : list of float (N, P of the level), or empty
        Squared conditional distance of each level, to the Gaussian that won; averaged over the
        finest positions of a cell, which may each have another winner.
    deviations : list of float (N, P of the level), or empty
        The same for the largest k^2 of a level's own channels; the largest within a cell.
    """

    total: FloatArray
    distances: list[FloatArray]
    deviations: list[FloatArray]


def nearest(
    levels: Sequence[FloatArray],
    neighbourhood: Neighbourhood,
    score: PairScore,
    *,
    gaussian: Gaussian | None,
    moments: tuple[Sequence[FloatArray], Sequence[FloatArray]] | None,
) -> Nearest:
    """Score of every position by the Gaussian around it that finds it most usual.

    Parameters
    ----------
    levels : list of float (N, P, d)
    neighbourhood : Neighbourhood
    score : function
    gaussian : Gaussian, optional
        If the score uses distances.
    moments : (means, variances), each a list of float (P, d), optional
        If the score uses k^2; variances floored.

    Returns
    -------
    Nearest

    Examples
    --------
    Means 0 and 10, sigma 1 and 2: the 8 on the left is judged by the right Gaussian.

    >>> from blemish.pyramid import Pyramid
    >>> pyramid = Pyramid(grids=((1, 2),), dims=(1,))
    >>> two = Gaussian(pyramid, [np.array([[0.0], [10.0]])], [np.array([[[1.0]], [[0.5]]])])
    >>> around = Neighbourhood(pyramid, reach=(1, 1))
    >>> found = nearest([np.array([[[8.0], [12.0]]])], around, lambda squared, _: np.sqrt(squared),
    ...                 gaussian=two, moments=None)
    >>> found.total
    array([[1., 1.]])
    """
    found = []
    for some in neighbourhood.batches(len(levels[0]), kept=2):
        own = _by_position([array[some] for array in levels])
        distances = [] if gaussian is None else pair_distances(own, gaussian, neighbourhood)
        deviations = [] if moments is None else pair_deviations(own, *moments, neighbourhood)
        found.append(_nearest(neighbourhood, score, distances, deviations))
    return Nearest(
        np.concatenate([one.total for one in found]),
        [np.concatenate(own) for own in zip(*(one.distances for one in found), strict=True)],
        [np.concatenate(own) for own in zip(*(one.deviations for one in found), strict=True)],
    )


def _nearest(
    neighbourhood: Neighbourhood,
    score: PairScore,
    distances: Sequence[FloatArray],
    deviations: Sequence[FloatArray],
) -> Nearest:
    def score_at(offset: int) -> FloatArray:
        return score(
            _joined(np.add, distances, neighbourhood, offset),
            _joined(np.maximum, deviations, neighbourhood, offset),
        )

    total, winners = _least(neighbourhood, score_at)
    return Nearest(
        total.T,
        [
            _of_cells(_won(neighbourhood, winners, level, pairs).mean(axis=(1, 3)))
            for level, pairs in enumerate(distances)
        ],
        [
            _of_cells(_won(neighbourhood, winners, level, pairs).max(axis=(1, 3)))
            for level, pairs in enumerate(deviations)
        ],
    )


# --- leaving one image out, in closed form -----------------------------------------------------


def left_out_pair_distance(
    judged: Float64Array,
    product: Float64Array,
    taken: Float64Array,
    *,
    count: int,
    weight: float = 1.0,
) -> Float64Array:
    """Squared distance of an image's x_p to the Gaussian of q, had the image not been fitted.

    With d = x_q - mean and e = x_p - mean, mean and whitening W those of q over all n images, and
    u = W d, v = W e: without the image the mean is mean - d / (n-1), so that x_p deviates from it
    by t = v + u / (n-1) once whitened, and the covariance is

        (n-1)/(n-2) W^-1 (I - c u u') W'^-1,    c = w n / (n-1)^2,

    w the weight of the sample covariance, W made with the ridge of `scoring.left_out_ridge`. By
    Sherman & Morrison's formula, exactly,

        M_loo^2 = (n-2)/(n-1) (t't + c (u't)^2 / (1 - c u'u)).

    Only u'u, u'v and v'v are needed, which add up over the levels. p = q is
    `scoring.left_out_distance`.

    Parameters
    ----------
    judged : float64, any shape
        v'v: squared distance of what is judged, to the mean of all images.
    product : float64, same shape
        u'v.
    taken : float64, same shape
        u'u: squared distance of the sample that is taken out, which the image has at q.
    count : int >= 3
        Images fitted.
    weight : float in (0, 1], default 1

    Returns
    -------
    float64, same shape, >= 0

    Examples
    --------
    -1, 0, 1 at q without the last: mean -0.5, variance 0.5. The image has a 2 at p.

    >>> left_out_pair_distance(np.array([4.0]), np.array([2.0]), np.array([1.0]), count=3)
    array([12.5])
    """
    n = float(count)
    factor = weight * n / (n - 1) ** 2
    length = judged + 2 / (n - 1) * product + taken / (n - 1) ** 2
    along = product + taken / (n - 1)
    # As in `left_out_distance`: positive for any ridge > 0; the floor only guards rounding.
    remaining = np.maximum(1.0 - factor * taken, 1e-12)
    squared = (n - 2) / (n - 1) * (length + factor * along**2 / remaining)
    return np.asarray(np.maximum(squared, 0.0))


def left_out_nearest(
    levels: Sequence[FloatArray],
    neighbourhood: Neighbourhood,
    score: PairScore,
    moments: Moments,
    *,
    whitened_with: Regularisation | None,
    held: Gaussian | None,
    deviates: bool,
) -> Float64Array:
    """Score of training images by the Gaussians around, had each image not been fitted. Exact.

    Parameters
    ----------
    levels : list of float (N, P, d)
    neighbourhood : Neighbourhood
    score : function
    moments : Moments
        Of at least 3 images, not shared.
    whitened_with : Regularisation, optional
        With the ridge of `scoring.left_out_ridge`, if the score uses distances.
    held : Gaussian, optional
        What `gaussian_of` made of the two; else whitening is made slice by slice and dropped.
    deviates : bool
        Whether the score uses k^2.

    Returns
    -------
    float64 (N, P of the finest level)
    """
    totals = []
    for some in neighbourhood.batches(len(levels[0]), kept=3):
        own = _by_position([array[some] for array in levels])
        deviations: list[FloatArray] = []
        if deviates:
            left = _left_out_moments(own, moments)
            deviations = pair_deviations(own, *left, neighbourhood)
        distance_at = None
        if whitened_with is not None:
            pairs = pair_products(own, moments, whitened_with, held, neighbourhood)
            distance_at = _LeftOutDistance(pairs, neighbourhood, moments.count, whitened_with)

        def score_at(
            offset: int,
            distance_at: _LeftOutDistance | None = distance_at,
            deviations: Sequence[FloatArray] = deviations,
        ) -> FloatArray:
            return score(
                None if distance_at is None else distance_at(offset),
                _joined(np.maximum, deviations, neighbourhood, offset),
            )

        totals.append(_least(neighbourhood, score_at)[0].T)
    return np.concatenate(totals).astype(np.float64, copy=False)


class _LeftOutDistance:
    """Left-out squared distances (P, N) of all finest positions, for one offset after the other."""

    def __init__(
        self,
        pairs: tuple[list[FloatArray], list[FloatArray]],
        neighbourhood: Neighbourhood,
        count: int,
        regularisation: Regularisation,
    ) -> None:
        self._squares, self._products = pairs
        self._neighbourhood, self._count = neighbourhood, count
        self._weight = regularisation.weight
        self._taken = self._sum(self._squares, 0)

    def __call__(self, offset: int) -> FloatArray:
        return left_out_pair_distance(
            self._sum(self._squares, offset),
            self._sum(self._products, offset),
            self._taken[self._neighbourhood.judges[offset]],
            count=self._count,
            weight=self._weight,
        )

    def _sum(self, pairs: Sequence[FloatArray], offset: int) -> Float64Array:
        return np.asarray(_joined(np.add, pairs, self._neighbourhood, offset))


def _left_out_moments(
    own: Sequence[FloatArray], moments: Moments
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Means, and floored variances, (P, N, d) without each of the images (P, N, d)."""
    n = float(moments.count)
    means: list[FloatArray] = []
    variances: list[FloatArray] = []
    for array, mean, square in zip(own, moments.means, moments.squares(), strict=True):
        away = array - mean[:, None]
        means.append(mean[:, None] - away / (n - 1))
        variance = np.maximum((square[:, None] - n / (n - 1) * away**2) / (n - 2), 0.0)
        variances.append(scoring.floored(variance.transpose(1, 0, 2)).transpose(1, 0, 2))
    return means, variances


# --- pairs of cells -> positions ---------------------------------------------------------------


def _least(
    neighbourhood: Neighbourhood, score_at: Callable[[int], FloatArray]
) -> tuple[FloatArray, IntArray]:
    """Least score (P, N) over all offsets, and which has it; the first, of equals."""
    best = np.array(score_at(0))
    winners = np.zeros(best.shape, dtype=np.int64)
    for offset in range(1, len(neighbourhood.judges)):
        score = score_at(offset)
        better = (score < best) & neighbourhood.valid[offset][:, None]
        np.copyto(best, score, where=better)
        winners[better] = offset
    return best, winners


def _joined(
    join: np.ufunc, pairs: Sequence[FloatArray], neighbourhood: Neighbourhood, offset: int
) -> FloatArray | None:
    """Pairs of all levels put together at the finest positions (P, N); None if there are none."""
    total = None
    for index, values in zip(neighbourhood.pairs, pairs, strict=False):
        found = _flat(values)[index[offset]]
        total = found if total is None else join(total, found, out=total)
    return total


def _won(
    neighbourhood: Neighbourhood, winners: IntArray, level: int, pairs: FloatArray
) -> FloatArray:
    """What the winners of all finest positions say at a level: (h, rows, w, columns, N).

    h and w are the grid of the level, rows and columns the finest positions in each of its cells.
    """
    positions = np.arange(len(winners))[:, None]
    images = np.arange(winners.shape[1])
    index = neighbourhood.pairs[level][winners, positions]
    grid, finest = neighbourhood.pyramid.grids[level], neighbourhood.pyramid.finest
    shape = (grid[0], finest[0] // grid[0], grid[1], finest[1] // grid[1], len(images))
    return np.asarray(_flat(pairs)[index, images].reshape(shape))


def _of_cells(values: FloatArray) -> FloatArray:
    """Values on the grid of a level, (h, w, N) -> (N, P)."""
    return np.asarray(_flat(values).T)


def _flat(pairs: FloatArray) -> FloatArray:
    """First two axes as one: pairs (P, O, N) -> (P * O, N)."""
    return pairs.reshape(pairs.shape[0] * pairs.shape[1], pairs.shape[2])


def _by_position(levels: Sequence[FloatArray]) -> list[FloatArray]:
    return [np.ascontiguousarray(array.transpose(1, 0, 2)) for array in levels]
