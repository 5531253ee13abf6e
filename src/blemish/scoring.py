"""What every score means: pure functions, the plain definition each engine is tested against.

All work per position on the own embeddings of each level (see `pyramid`), in the dtype they are
given. Nothing here is ever NaN or infinite for finite input. x, mu, sigma are the embedding, mean
and standard deviation of a position; C runs over its D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.arrays import Float64Array, FloatArray
from blemish.gaussian import Gaussian, whitened_squares
from blemish.pyramid import Pyramid

SCORES = (
    "gaussian",
    "chebyshev",
    "hybrid",
    "hybrid-calibrated",
    "chebyshev-pooled",
    "chebyshev-two-stage",
)
# A bound is below 1 by definition; this keeps it so in float32, where 1 - 1e-9 is 1.
LARGEST_BOUND = float(np.nextafter(np.float32(1.0), np.float32(0.0)))
# Keeps k^2 within float32, far above any k at which the bound still changes.
LARGEST_K2 = 1e30


def level_distances(levels: Sequence[FloatArray], gaussian: Gaussian) -> list[FloatArray]:
    """Squared Mahalanobis distance that each level adds, at its own grid.

    Eq. 2 of the PaDiM paper (arXiv:2011.08785), squared and split by the chain rule: a level's
    term is its distance given all coarser levels. Written as the squared length of whitened
    vectors, so it cannot be negative.

    Parameters
    ----------
    levels : list of float (N, P, d)
    gaussian : Gaussian

    Returns
    -------
    list of float (N, P)
        0 where a level is exactly as the coarser ones let expect. Under the Gaussian itself the
        typical value is the level's number of dimensions d.

    Examples
    --------
    >>> pyramid = Pyramid(grids=((1, 1),), dims=(2,))
    >>> gaussian = Gaussian(pyramid, [np.zeros((1, 2))], [np.eye(2)[None]])
    >>> level_distances([np.array([[[3.0, 4.0]]])], gaussian)
    [array([[25.]])]
    """
    pyramid = gaussian.pyramid
    centred = [
        (array - mean).transpose(1, 0, 2)
        for array, mean in zip(levels, gaussian.means, strict=True)
    ]
    distances = []
    for level, rows in enumerate(gaussian.whitening):
        visible = pyramid.visible_vectors(centred, level)
        distances.append(whitened_squares(visible, rows))
    return distances


def total_distance(distances: Sequence[FloatArray], pyramid: Pyramid) -> FloatArray:
    """Squared Mahalanobis distance of the whole embedding at every finest position.

    Parameters
    ----------
    distances : list of float (N, P)
        From `level_distances`.

    Returns
    -------
    float (N, P of the finest level), >= 0
    """
    total = pyramid.spread(distances[0], 0)
    for level in range(1, pyramid.levels):
        total = total + pyramid.spread(distances[level], level)
    return total


def deviations(
    levels: Sequence[FloatArray], means: Sequence[FloatArray], variances: Sequence[FloatArray]
) -> list[FloatArray]:
    """k^2 = (x - mu)^2 / sigma^2 of every own channel.

    Parameters
    ----------
    levels : list of float (N, P, d)
    means, variances : list of float (P, d) or (N, P, d)
        Variances `floored` beforehand, so that a dead channel (sigma = 0) that wakes
        up deviates by a great many sigma, and one that stays dead by none.

    Returns
    -------
    list of float (N, P, d), 0 to 1e30

    Examples
    --------
    >>> deviations([np.array([[[3.0]]])], [np.array([[1.0]])], [np.array([[4.0]])])
    [array([[[1.]]])]
    """
    return [
        np.minimum((array - mean) ** 2 / variance, LARGEST_K2)
        for array, mean, variance in zip(levels, means, variances, strict=True)
    ]


def floored(variances: FloatArray) -> FloatArray:
    """Variances of a level, none smaller than (1e-3 of the level's rms sigma)^2.

    Relative to the level, so that it follows the scale of any backbone. Far below every living
    channel, so that it only keeps dead ones (sigma = 0) from dividing by zero.

    Parameters
    ----------
    variances : float (P, d) or (N, P, d), >= 0
        The floor of each of the N is its own.

    Returns
    -------
    float, same shape, > 0

    Examples
    --------
    >>> floored(np.array([[2.0, 0.0]]))
    array([[2.e+00, 1.e-06]])
    """
    mean = variances.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    floor = np.maximum(1e-6 * mean, 1e-24).astype(variances.dtype)
    return np.asarray(np.maximum(variances, floor))


def largest_deviation(k2: Sequence[FloatArray], pyramid: Pyramid) -> FloatArray:
    """Largest k^2 over all channels at every finest position.

    Parameters
    ----------
    k2 : list of float (N, P, d)
        From `deviations`.

    Returns
    -------
    float (N, P of the finest level)
    """
    largest = pyramid.spread(k2[0].max(axis=2), 0)
    for level in range(1, pyramid.levels):
        largest = np.maximum(largest, pyramid.spread(k2[level].max(axis=2), level))
    return largest


def chebyshev_bound(k2: FloatArray, scale: float = 1.0) -> FloatArray:
    """Chebyshev's bound: at least this share of any distribution lies nearer to its mean.

    ``1 - 1 / max(k^2, 1)``, from P(abs(x - mu) >= k sigma) <= 1/k^2. Of the largest k^2 it is the
    largest bound, as it grows with k.

    Parameters
    ----------
    k2 : float, any shape, >= 0
    scale : float, default 1
        Multiplies the bound; the hybrid method's authors also tried 0.75 and 0.8.

    Returns
    -------
    float, shape of `k2`, in [0, scale)
        0 within one sigma, near `scale` far outside.

    Examples
    --------
    >>> chebyshev_bound(np.array([0.25, 1.0, 4.0]))
    array([0.  , 0.  , 0.75])
    """
    bound = 1.0 - 1.0 / np.maximum(k2, 1.0)
    return np.asarray(scale * np.minimum(bound, LARGEST_BOUND), dtype=k2.dtype)


def ceiling(score: str, scale: float = 1.0) -> float | None:
    """Largest value that a score can take; None if it has no bound.

    Examples
    --------
    >>> ceiling("gaussian"), round(ceiling("chebyshev", 0.5), 6)
    (None, 0.5)
    """
    if score in ("chebyshev", "chebyshev-pooled"):
        return scale * LARGEST_BOUND
    return LARGEST_BOUND if score == "chebyshev-two-stage" else None


def hybrid(distance: FloatArray, bound: FloatArray) -> FloatArray:
    """Mean of Mahalanobis distance and Chebyshev bound, as the hybrid method publishes it.

    The bound is below 1 and the distance near sqrt(D), so the bound can only break near-ties.

    Examples
    --------
    >>> hybrid(np.array([10.0]), np.array([0.5]))
    array([5.25])
    """
    return (distance + bound) / 2


def hybrid_calibrated(
    distance: FloatArray,
    k2: FloatArray,
    *,
    distance_scale: tuple[float, float],
    deviation_scale: tuple[float, float],
) -> FloatArray:
    """Mean of distance and deviation, the latter first put on the scale of the former.

    Both are standardised by their leave-one-out distributions over normal images. For the
    Chebyshev part this is done on log k, which ranks exactly as the bound but does not saturate.

    Parameters
    ----------
    distance, k2 : float (N, P)
    distance_scale, deviation_scale : (mean, standard deviation)
        Of the distance, and of log k, of normal images left out.

    Returns
    -------
    float (N, P), >= 0, in the unit of the distance

    Examples
    --------
    >>> hybrid_calibrated(np.array([12.0]), np.array([np.e**2]),
    ...                   distance_scale=(10.0, 1.0), deviation_scale=(0.5, 0.25))
    array([12.])
    """
    mean, std = deviation_scale
    z = (log_deviation(k2) - mean) / std
    return np.maximum((distance + distance_scale[0] + distance_scale[1] * z) / 2, 0.0)


def log_deviation(k2: FloatArray) -> FloatArray:
    """Log of k, with k no smaller than 1e-6."""
    return np.asarray(0.5 * np.log(np.maximum(k2, 1e-12)))


def sorted_bounds(k2: Sequence[FloatArray], pyramid: Pyramid, scale: float = 1.0) -> FloatArray:
    """Chebyshev bounds of all channels at every finest position, largest first.

    Returns
    -------
    float (N, P, D)
    """
    spread = [
        array[:, pyramid.ancestors(pyramid.levels - 1, level)] for level, array in enumerate(k2)
    ]
    bounds = chebyshev_bound(np.concatenate(spread, axis=2), scale)
    return -np.sort(-bounds, axis=2)


def two_stage(bounds: FloatArray, rank_k2: FloatArray) -> FloatArray:
    """Chebyshev bound of the largest Chebyshev bounds.

    Of a position's C bounds, largest first, the n = int(C p) largest are kept, p the largest of
    all; each is judged again by the mean and sigma that the bound of its rank has in normal
    images. The score is the largest of these second bounds; 0 if none is kept.

    Parameters
    ----------
    bounds : float (N, P, C)
        From `sorted_bounds`.
    rank_k2 : float (N, P, C)
        Squared deviation of each from its rank's bound in normal images (`deviations`).

    Returns
    -------
    float (N, P), in [0, 1)

    Examples
    --------
    Of two bounds with p = 0.75, int(2 * 0.75) = 1 is kept.

    >>> two_stage(np.array([[[0.75, 0.5]]]), np.array([[[2.0, 9.0]]]))
    array([[0.5]])
    """
    channels = bounds.shape[2]
    kept = np.floor(channels * bounds[:, :, :1])
    second = np.where(np.arange(channels) < kept, rank_k2, 0.0)
    return chebyshev_bound(second.max(axis=2).astype(bounds.dtype, copy=False))


# --- leaving one image out, in closed form -----------------------------------------------------


def left_out_ridge(ridge: float, count: int) -> float:
    """Ridge to whiten with before `left_out_distance`: ``ridge (n-2)/(n-1)``."""
    return ridge * (count - 2) / (count - 1)


def left_out_distance(squared: Float64Array, count: int, weight: float = 1.0) -> Float64Array:
    """Squared distance an image would have had, had it not been among the `count` fitted.

    ``(n/(n-1))^2 (n-2)/(n-1) m / (1 - w n/(n-1)^2 m)``: Sherman & Morrison's formula, exact for
    a fixed weight w and ridge. m must be taken with the ridge of `left_out_ridge`.

    Parameters
    ----------
    squared : float64, any shape
        Squared distance m to the mean of all images, the image itself among them.
    count : int >= 3
        Images fitted.
    weight : float in (0, 1], default 1
        Of the sample covariance under shrinkage.

    Returns
    -------
    float64, shape of `squared`, >= 0

    Examples
    --------
    Of -1, 0, 1 without the last, the mean is -0.5 and the variance 0.5: (1.5)^2 / 0.5.

    >>> left_out_distance(np.array([1.0]), 3)
    array([4.5])
    """
    n = float(count)
    # The downdated determinant: positive for any ridge > 0; the floor only guards rounding.
    remaining = np.maximum(1.0 - weight * n / (n - 1) ** 2 * squared, 1e-12)
    return np.asarray((n / (n - 1)) ** 2 * (n - 2) / (n - 1) * squared / remaining)


def left_out_deviations(
    levels: Sequence[FloatArray],
    means: Sequence[Float64Array],
    squares: Sequence[Float64Array],
    count: int,
) -> list[Float64Array]:
    """k^2 of every own channel, had the image not been among the `count` fitted.

    Parameters
    ----------
    levels : list of float (N, P, d)
    means, squares : list of float64 (P, d)
        Mean, and sum of squared deviations, over all images.
    count : int >= 3

    Returns
    -------
    list of float64 (N, P, d)
    """
    n = float(count)
    result = []
    for array, mean, square in zip(levels, means, squares, strict=True):
        d2 = (array - mean) ** 2
        variance = floored(np.maximum((square - n / (n - 1) * d2) / (n - 2), 0.0))
        result.append(np.minimum((n / (n - 1)) ** 2 * d2 / variance, LARGEST_K2))
    return result


def left_out_pooled_deviations(
    levels: Sequence[FloatArray],
    means: Sequence[Float64Array],
    squares: Sequence[Float64Array],
    *,
    count: int,
    weights: Sequence[Float64Array],
) -> list[Float64Array]:
    """k^2 from statistics shared by all positions, had the image not been among those fitted.

    Leaving an image out takes all its positions out of the pooled mean and sigma; exact.

    Parameters
    ----------
    levels : list of float (N, P, d)
    means, squares : list of float64 (1, d)
        Pooled mean, and weighted sum of squared deviations from it, over all images.
    count : int >= 2
        Images fitted.
    weights : list of float64 (P,)
        Weight of each position in the pool.

    Returns
    -------
    list of float64 (N, P, d)
    """
    result = []
    for array, mean, square, weight in zip(levels, means, squares, weights, strict=True):
        left = (count - 1) * weight.sum()
        centred = array.astype(np.float64) - mean
        taken = np.einsum("p,npd->nd", weight, centred)[:, None, :]
        taken_squares = np.einsum("p,npd,npd->nd", weight, centred, centred)[:, None, :]
        variance = np.maximum((square - taken_squares - taken**2 / left) / (left - 1), 0.0)
        k2 = (centred + taken / left) ** 2 / floored(variance)
        result.append(np.minimum(k2, LARGEST_K2))
    return result
