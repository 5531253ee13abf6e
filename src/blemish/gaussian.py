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
from blemish.cores import cores, for_each
from blemish.errors import FewImagesWarning, InputError
from blemish.moments import Moments
from blemish.pyramid import Pyramid
from blemish.whitening import SLICE_BYTES, subtrees, whitening_of

HELD_WHITENING_BYTES = 1_250_000_000
"""Float64 whitening up to this size is held for a pass over images; larger is made per batch."""
SHRINKAGES = ("none", "oas", "ledoit-wolf")
_USUAL = {"epsilon": "0.01, the paper's", "relative_epsilon": "0.1"}


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
        Of the result, which is made in float64 slice by slice: float32 takes half the memory.

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
        made = whitening_of(
            moments, cells, weight=regularisation.weight, ridge=regularisation.ridge
        )
        for level, rows in enumerate(made):
            whitening[level][cells[level]] = rows

    for_each(whiten, subtrees(moments))
    return Gaussian(moments.pyramid, [mean.astype(dtype) for mean in moments.means], whitening)


def squared_distances(
    levels: Sequence[FloatArray],
    moments: Moments,
    regularisation: Regularisation,
    held: Gaussian | None = None,
) -> list[Float64Array]:
    """Squared Mahalanobis distance that each level adds, slice by slice, on all cores.

    Equal to `scoring.level_distances` with `gaussian_of`, in float64. Whitening that is not held
    is made, used and dropped for every slice: as slow as `gaussian_of`, in next to no memory.

    Parameters
    ----------
    levels : list of float (N, P, d)
    moments : Moments
        Not shared.
    regularisation : Regularisation
    held : Gaussian, optional
        What `gaussian_of` made of the two.

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
        whitening = (
            whitening_of(moments, cells, weight=regularisation.weight, ridge=regularisation.ridge)
            if held is None
            else [rows[index] for rows, index in zip(held.whitening, cells, strict=True)]
        )
        for level, rows in enumerate(whitening):
            below = [np.repeat(c, len(rows) // len(c), axis=0) for c in centred[: level + 1]]
            result[level][:, cells[level]] = _squares(np.concatenate(below, axis=2), rows)

    for_each(measure, subtrees(moments))
    return result


def whitened_squares(vectors: FloatArray, rows: FloatArray) -> FloatArray:
    """Squared lengths of whitened vectors: bound by memory, so read on all cores where it is much.

    Parameters
    ----------
    vectors : float (P, N, D)
    rows : float (P, d, D)

    Returns
    -------
    float (N, P)

    Examples
    --------
    >>> whitened_squares(np.array([[[3.0, 4.0]]]), np.eye(2)[None])
    array([[25.]])
    """
    if rows.nbytes < SLICE_BYTES:
        return _squares(vectors, rows)
    result = np.empty(vectors.shape[1::-1], np.result_type(vectors, rows))

    def measure(cells: slice) -> None:
        result[:, cells] = _squares(vectors[cells], rows[cells])

    step = -(-len(rows) // (4 * cores()))
    for_each(measure, [slice(start, start + step) for start in range(0, len(rows), step)])
    return result


def _squares(vectors: FloatArray, rows: FloatArray) -> FloatArray:
    whitened = vectors @ rows.transpose(0, 2, 1)
    return np.asarray(np.einsum("pnd,pnd->np", whitened, whitened))


def regularisation_of(
    moments: Moments,
    *,
    epsilon: float = 0.01,
    relative_epsilon: float = 0.0,
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
    relative_epsilon : float >= 0, default 0
        Added too, times the mean variance over dimensions and positions.
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
    for name, value in (("epsilon", epsilon), ("relative_epsilon", relative_epsilon)):
        if not np.isfinite(value) or value < 0:
            raise InputError(f"{name} must be at least 0, but is {value}. Try {_USUAL[name]}.")
    if shrinkage not in SHRINKAGES:
        raise InputError(
            f"shrinkage must be one of {', '.join(SHRINKAGES)}, but is {shrinkage!r}. Choose one."
        )
    kept = slice(None) if counted is None or moments.shared else counted
    if relative_epsilon:
        variance = _mean_variance(moments, kept)
        if variance <= 0:
            raise InputError(
                f"Relative epsilon needs dimensions that vary, but the {dims} of the layers at "
                f"{moments.pyramid.finest[0]}x{moments.pyramid.finest[1]} positions are the same "
                "in all images. Leave that layer out, or use epsilon."
            )
        epsilon += relative_epsilon * variance
    if shrinkage == "none":
        if moments.samples <= dims and not relative_epsilon:
            warnings.warn(
                f"{moments.count} images for {dims} dimensions: fine to start with, but in some "
                "directions the covariance rests on epsilon alone. More images, shrinkage or fewer "
                "dimensions make it surer.",
                FewImagesWarning,
                stacklevel=2,
            )
        return Regularisation(1.0, epsilon)
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
    return intensity, _mean_variance(moments, kept)


def _ledoit_wolf(moments: Moments, kept: slice | BoolArray) -> tuple[float, float]:
    """Intensity and mean variance by Ledoit & Wolf."""
    samples, dims = moments.samples, moments.pyramid.visible(moments.pyramid.levels - 1)
    norm = moments.whole.norm()[kept] / samples**2
    mean_variance = moments.whole.trace()[kept] / samples / dims
    beta = float((moments.known_norms().quartics[kept] / samples - norm).sum() / samples)
    delta = float((norm - dims * mean_variance**2).sum())
    intensity = 1.0 if delta <= 0 else min(max(beta / delta, 0.0), 1.0)
    return intensity, _mean_variance(moments, kept)


def _mean_variance(moments: Moments, kept: slice | BoolArray) -> float:
    """Variance, averaged over dimensions and positions."""
    dims = moments.pyramid.visible(moments.pyramid.levels - 1)
    return float(moments.whole.trace()[kept].mean() / (moments.samples - 1) / dims)
