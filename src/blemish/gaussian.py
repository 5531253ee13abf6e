"""Moments -> means and whitening, level by level: the pyramid of conditional Gaussians.

With the channels ordered coarse to fine, the density of the whole embedding is a product,

    p(x3, x2, x1) = p(x3) p(x2 | x3) p(x1 | x2, x3),

and its squared Mahalanobis distance a sum of one term per level. If L is the Cholesky factor of
``covariance + ridge I`` in that order, the rows of W = L^-1 that belong to a level depend only on
what is visible there, and so are needed once per cell of that level. This is exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from blemish.arrays import BoolArray, Float64Array, FloatArray, IntArray
from blemish.cores import for_each
from blemish.errors import FewImagesWarning, InputError
from blemish.moments import Moments
from blemish.pyramid import Pyramid

# Of what is held at once per slice of positions, on each core.
_SLICE_BYTES = 32 << 20
HELD_WHITENING_BYTES = 1_250_000_000
"""Float64 whitening up to this size is held for a pass over images; larger is made for each batch.

ResNet-18 with all 448 channels at 224 takes 1.13 GB, WideResNet-50-2 with 550 takes 1.7 GB.
"""
SHRINKAGES = ("none", "oas", "ledoit-wolf")


@dataclass(frozen=True, slots=True)
class Regularisation:
    """What is done to the sample covariance S: ``weight * S + ridge * I``.

    Attributes
    ----------
    weight : float in (0, 1], default 1
        1 for the paper's epsilon; 1 - intensity under shrinkage.
    ridge : float >= 0
        epsilon, plus ``intensity * mean variance`` under shrinkage. In the squared unit of the
        embeddings; the paper's epsilon is 0.01.
    """

    weight: float = 1.0
    ridge: float = 0.01


@dataclass(frozen=True, slots=True)
class Gaussian:
    """One Gaussian per position, as whitening rows per level.

    Attributes
    ----------
    pyramid : Pyramid
    means : list of float (P, d)
        Per level; P is 1 when one Gaussian is shared by all positions.
    whitening : list of float (P, d, D)
        Per level: the rows of the inverse Cholesky factor that belong to its own channels,
        against all channels visible there.
    """

    pyramid: Pyramid
    means: list[FloatArray]
    whitening: list[FloatArray]

    def astype(self, dtype: DTypeLike) -> Gaussian:
        """Convert all numbers, to score in another precision."""
        return Gaussian(
            self.pyramid,
            [array.astype(dtype, copy=False) for array in self.means],
            [array.astype(dtype, copy=False) for array in self.whitening],
        )


def gaussian_of(
    moments: Moments,
    regularisation: Regularisation | None = None,
    *,
    dtype: DTypeLike = np.float64,
) -> Gaussian:
    """Means and whitening rows of the regularised covariance.

    Parameters
    ----------
    moments : Moments
    regularisation : Regularisation, default the paper's epsilon 0.01
    dtype : float64 (default) or float32
        Of the result. The arithmetic is float64, slice by slice, so that float32 takes half of
        the memory at all times.

    Returns
    -------
    Gaussian

    Raises
    ------
    NotFittedError
        Fewer than 2 images seen.
    InputError
        The covariance is not positive definite: `ridge` is too small for so few images.

    Examples
    --------
    >>> moments = Moments(Pyramid(grids=((1, 1),), dims=(1,)))
    >>> moments.update([np.array([[[1.0]], [[3.0]]])])  # variance 2
    >>> gaussian_of(moments, Regularisation(ridge=2.0)).whitening[0]
    array([[[0.5]]])
    """
    moments.require_images(2)
    regularisation = regularisation or Regularisation()
    whitening: list[FloatArray] = [np.empty(rows.shape, dtype) for rows in moments.scatters]

    def whiten(cells: Sequence[IntArray]) -> None:
        for level, rows in enumerate(_whitened(moments, regularisation, cells)):
            whitening[level][cells[level]] = rows

    for_each(whiten, _subtrees(moments))
    return Gaussian(moments.pyramid, [mean.astype(dtype) for mean in moments.means], whitening)


def squared_distances(
    levels: Sequence[FloatArray], moments: Moments, regularisation: Regularisation
) -> list[Float64Array]:
    """Squared Mahalanobis distance that each level adds, without ever holding the whitening.

    Equal to `scoring.level_distances` with `gaussian_of`. The whitening of each slice of
    positions is made, used and dropped: this takes the time of `gaussian_of` for every batch,
    and next to no memory.

    Parameters
    ----------
    levels : list of float (N, P, d)
    moments : Moments
        Not shared.
    regularisation : Regularisation

    Returns
    -------
    list of float64 (N, P)

    Raises
    ------
    NotFittedError, InputError
        As `gaussian_of`.

    Examples
    --------
    >>> moments = Moments(Pyramid(grids=((1, 1),), dims=(1,)))
    >>> moments.update([np.array([[[1.0]], [[3.0]]])])
    >>> squared_distances([np.array([[[6.0]]])], moments, Regularisation(ridge=2.0))
    [array([[4.]])]
    """
    moments.require_images(2)
    result = [np.empty(array.shape[:2]) for array in levels]

    def measure(cells: Sequence[IntArray]) -> None:
        centred = [
            (array[:, index] - mean[index]).transpose(1, 0, 2)
            for array, mean, index in zip(levels, moments.means, cells, strict=True)
        ]
        for level, rows in enumerate(_whitened(moments, regularisation, cells)):
            below = [np.repeat(c, len(rows) // len(c), axis=0) for c in centred[: level + 1]]
            whitened = np.concatenate(below, axis=2) @ rows.transpose(0, 2, 1)
            result[level][:, cells[level]] = np.einsum("pnd,pnd->np", whitened, whitened)

    for_each(measure, _subtrees(moments))
    return result


def _whitened(
    moments: Moments, regularisation: Regularisation, cells: Sequence[IntArray]
) -> list[Float64Array]:
    """Whitening rows (cells, d, D) of every level, for the cells of a slice."""
    scale = regularisation.weight / (moments.samples - 1)
    whitening: list[Float64Array] = []
    for level, index in enumerate(cells):
        rows = moments.scatters[level][index]
        rows *= scale
        own = rows.shape[1]
        rows[:, np.arange(own), np.arange(-own, 0)] += regularisation.ridge
        whitening.append(_conditional_rows(rows, whitening))
    return whitening


def _subtrees(moments: Moments) -> list[list[IntArray]]:
    """Cells of every level below slices of the coarsest, small enough to be held at once.

    The cells below one parent follow each other, in the order of the parents.
    """
    pyramid = moments.pyramid
    if moments.shared:
        return [[np.zeros(1, dtype=np.int64) for _ in range(pyramid.levels)]]
    roots = pyramid.positions(0)
    per_root = sum(4 * rows.nbytes for rows in moments.scatters) // roots
    step = max(1, _SLICE_BYTES // max(per_root, 1))
    children = [
        np.argsort(pyramid.ancestors(level, level - 1), kind="stable").reshape(
            pyramid.positions(level - 1), -1
        )
        for level in range(1, pyramid.levels)
    ]
    slices = []
    for start in range(0, roots, step):
        cells = [np.arange(start, min(start + step, roots))]
        for below in children:
            cells.append(below[cells[-1]].ravel())
        slices.append(cells)
    return slices


def _conditional_rows(rows: Float64Array, coarser: Sequence[Float64Array]) -> Float64Array:
    """Whitening rows of a level from its covariance rows and those of the coarser levels.

    With ``B W^T = G`` (B the covariance with what is coarser, W its whitening) the conditional
    covariance is ``C - G G^T = L L^T`` and the rows are ``L^-1 [-G W, I]``. W is never put
    together: a level's rows are multiplied once for all cells below each of its own.
    """
    own = rows.shape[1]
    left = rows.shape[2] - own
    gain = np.empty((len(rows), own, left))
    first = 0
    for above in coarser:
        last = first + above.shape[1]
        below = _by_parent(rows, above)[:, :, : above.shape[2]]
        gain[:, :, first:last] = (below @ above.transpose(0, 2, 1)).reshape(len(rows), own, -1)
        first = last
    inverse = inverse_triangular(_cholesky(rows[:, :, left:] - gain @ gain.transpose(0, 2, 1)))
    result = np.zeros_like(rows)
    result[:, :, left:] = inverse
    gain = inverse @ gain
    first = 0
    for above in coarser:
        last = first + above.shape[1]
        below = np.ascontiguousarray(_by_parent(gain, above)[:, :, first:last])
        _by_parent(result, above)[:, :, : above.shape[2]] -= below @ above
        first = last
    return result


def _by_parent(rows: Float64Array, above: Float64Array) -> Float64Array:
    """View of contiguous (cells, d, D) as (coarser cells, all rows below, D)."""
    return rows.reshape(len(above), -1, rows.shape[2])


def _cholesky(matrices: Float64Array) -> Float64Array:
    try:
        return np.asarray(np.linalg.cholesky(matrices))
    except np.linalg.LinAlgError as error:
        raise InputError(
            "The covariance must be positive definite, but is singular at some position. "
            "Use a larger epsilon, shrinkage, fewer dimensions or more images."
        ) from error


def inverse_triangular(lower: Float64Array) -> Float64Array:
    """Inverse of lower triangular matrices, by halves: no LU, no pivots.

    Parameters
    ----------
    lower : float64 (P, d, d)

    Returns
    -------
    float64 (P, d, d), lower triangular

    Examples
    --------
    >>> inverse_triangular(np.array([[[2.0, 0.0], [1.0, 4.0]]]))
    array([[[ 0.5  ,  0.   ],
            [-0.125,  0.25 ]]])
    """
    size = lower.shape[-1]
    if size == 1:
        return np.asarray(1.0 / lower)
    half = size // 2
    first = inverse_triangular(lower[:, :half, :half])
    second = inverse_triangular(lower[:, half:, half:])
    inverse = np.zeros_like(lower)
    inverse[:, :half, :half] = first
    inverse[:, half:, half:] = second
    inverse[:, half:, :half] = -(second @ (lower[:, half:, :half] @ first))
    return inverse


def regularisation_of(
    moments: Moments,
    *,
    epsilon: float = 0.01,
    shrinkage: str = "none",
    counted: BoolArray | None = None,
) -> Regularisation:
    """How the covariance is to be regularised, given what was seen.

    One intensity serves all positions, so that coarse blocks stay common to the positions below
    them: numerators and denominators of the published estimators are summed over positions.

    Parameters
    ----------
    moments : Moments
    epsilon : float >= 0, default 0.01 (the paper's)
        Added to the diagonal in any case.
    shrinkage : {"none", "oas", "ledoit-wolf"}
        Towards ``mean variance * I``: oracle approximating shrinkage (Chen et al. 2010,
        doi:10.1109/TSP.2010.2053029) or Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4.
    counted : bool (P of the finest level,), optional
        Positions that have a say in the intensity. Not needed for shared moments, which have
        weights of their own.

    Raises
    ------
    InputError
        `epsilon` is negative or `shrinkage` unknown.
    NotFittedError
        Fewer than 2 images seen.

    Warns
    -----
    FewImagesWarning
        Fewer images than dimensions, and no shrinkage.
    """
    moments.require_images(2)
    dims = moments.pyramid.visible(moments.pyramid.levels - 1)
    if not np.isfinite(epsilon) or epsilon < 0:
        raise InputError(f"epsilon must be at least 0, but is {epsilon}. The paper's is 0.01.")
    if shrinkage not in SHRINKAGES:
        raise InputError(
            f"shrinkage must be one of {', '.join(SHRINKAGES)}, but is {shrinkage!r}. Choose one."
        )
    if shrinkage == "none":
        if moments.samples <= dims:
            warnings.warn(
                f"{moments.count} images for {dims} dimensions: fine to start with, but in some "
                "directions the covariance rests on epsilon alone. More images, shrinkage or fewer "
                "dimensions make it surer.",
                FewImagesWarning,
                stacklevel=2,
            )
        return Regularisation(1.0, epsilon)
    kept = slice(None) if counted is None or moments.shared else counted
    intensity, variance = (_oas if shrinkage == "oas" else _ledoit_wolf)(moments, kept)
    return Regularisation(1.0 - intensity, epsilon + intensity * variance)


def _oas(moments: Moments, kept: slice | BoolArray) -> tuple[float, float]:
    """Intensity and mean variance by the oracle approximating shrinkage."""
    samples, dims = moments.samples, moments.pyramid.visible(moments.pyramid.levels - 1)
    alpha = moments.whole.norm()[kept] / samples**2 / dims**2
    mean_variance = moments.whole.trace()[kept] / samples / dims
    numerator = float((alpha + mean_variance**2).sum())
    denominator = float((samples + 1) * (alpha - mean_variance**2 / dims).sum())
    intensity = 1.0 if denominator <= 0 else min(numerator / denominator, 1.0)
    return intensity, float(moments.whole.trace()[kept].mean() / (samples - 1) / dims)


def _ledoit_wolf(moments: Moments, kept: slice | BoolArray) -> tuple[float, float]:
    """Intensity and mean variance by Ledoit & Wolf."""
    samples, dims = moments.samples, moments.pyramid.visible(moments.pyramid.levels - 1)
    norm = moments.whole.norm()[kept] / samples**2
    mean_variance = moments.whole.trace()[kept] / samples / dims
    beta = float((moments.known_norms().quartics[kept] / samples - norm).sum() / samples)
    delta = float((norm - dims * mean_variance**2).sum())
    intensity = 1.0 if delta <= 0 else min(max(beta / delta, 0.0), 1.0)
    return intensity, float(moments.whole.trace()[kept].mean() / (samples - 1) / dims)
