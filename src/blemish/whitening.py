"""Whitening rows of a few positions at a time: the arithmetic behind `gaussian`.

Only Cholesky factors and products, in float64. A slice is some cells of the coarsest level and
all that lies below them; slices are independent of each other, and each core takes its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.arrays import Float64Array, IntArray
from blemish.errors import InputError
from blemish.moments import Moments

SLICE_BYTES = 32 << 20
"""Of what is held at once per slice."""


def whitening_of(
    moments: Moments, cells: Sequence[IntArray], *, weight: float, ridge: float
) -> list[Float64Array]:
    """Whitening rows of the cells of one slice.

    Parameters
    ----------
    moments : Moments
    cells : list of int64 (p,)
        Per level; one of `subtrees`.
    weight, ridge : float
        See `gaussian.Regularisation`.

    Returns
    -------
    list of float64 (p, d, D)

    Raises
    ------
    InputError
        The covariance is not positive definite.
    """
    scale = weight / (moments.samples - 1)
    whitening: list[Float64Array] = []
    for level, index in enumerate(cells):
        rows = moments.scatters[level][index]
        rows *= scale
        own = rows.shape[1]
        rows[:, np.arange(own), np.arange(-own, 0)] += ridge
        whitening.append(_conditional_rows(rows, whitening))
    return whitening


def subtrees(moments: Moments) -> list[list[IntArray]]:
    """Cells of every level below slices of the coarsest, small enough to be held at once.

    The cells below one parent follow each other, in the order of the parents.
    """
    pyramid = moments.pyramid
    if moments.shared:
        return [[np.zeros(1, dtype=np.int64) for _ in range(pyramid.levels)]]
    roots = pyramid.positions(0)
    per_root = sum(4 * rows.nbytes for rows in moments.scatters) // roots
    step = max(1, SLICE_BYTES // max(per_root, 1))
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
