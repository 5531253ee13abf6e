"""What Gaussians say of the embeddings around them: terms of all pairs of cells, level by level.

Own embeddings are (P, N, d) here, terms (P, O, N): cells that judge, offsets to what they judge,
images. Everything is done in pieces that bound the memory, on all cores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish import scoring
from blemish.arrays import FloatArray, IntArray
from blemish.cores import for_each
from blemish.gaussian import Gaussian, Regularisation
from blemish.moments import Moments
from blemish.neighbourhood import Neighbourhood
from blemish.whitening import subtrees, whitening_of


def pair_distances(
    own: Sequence[FloatArray], gaussian: Gaussian, neighbourhood: Neighbourhood
) -> list[FloatArray]:
    """Squared conditional distance of all pairs of every level: (P, O, N)."""
    images, dtype = own[0].shape[1], np.result_type(own[0], gaussian.whitening[0])
    result = [np.empty((*s.shape, images), dtype) for s in neighbourhood.sources]

    def measure(piece: tuple[int, slice]) -> None:
        level, cells = piece
        rows = gaussian.whitening[level][cells]
        whitened = _whitened(own, gaussian.means, neighbourhood, level, cells, rows)
        result[level][cells] = np.einsum("cond,cond->con", whitened, whitened)

    pieces = [
        (level, cells)
        for level, rows in enumerate(gaussian.whitening)
        for cells in neighbourhood.pieces(level, len(rows), images, dtype.itemsize)
    ]
    for_each(measure, pieces)
    return list(result)


def pair_products(
    own: Sequence[FloatArray],
    moments: Moments,
    regularisation: Regularisation,
    held: Gaussian | None,
    neighbourhood: Neighbourhood,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """V'v and u'v of all pairs of every level, (P, O, N): see `left_out_pair_distance`."""
    images = own[0].shape[1]
    squares, products = (
        [np.empty((*s.shape, images)) for s in neighbourhood.sources] for _ in range(2)
    )

    def measure(slices: Sequence[IntArray]) -> None:
        whitening = (
            whitening_of(moments, slices, weight=regularisation.weight, ridge=regularisation.ridge)
            if held is None
            else [rows[index] for rows, index in zip(held.whitening, slices, strict=True)]
        )
        for level, rows in enumerate(whitening):
            for piece in neighbourhood.pieces(level, len(rows), images, itemsize=8):
                cells = slices[level][piece]
                judged = _whitened(own, moments.means, neighbourhood, level, cells, rows[piece])
                taken = judged[:, judged.shape[1] // 2]
                squares[level][cells] = np.einsum("cond,cond->con", judged, judged)
                products[level][cells] = np.einsum("cond,cnd->con", judged, taken)

    for_each(measure, subtrees(moments))
    return list(squares), list(products)


def _whitened(
    own: Sequence[FloatArray],
    means: Sequence[FloatArray],
    neighbourhood: Neighbourhood,
    level: int,
    cells: slice | IntArray,
    rows: FloatArray,
) -> FloatArray:
    """What the Gaussians of some cells judge, whitened by their rows: (cells, O, N, d).

    A coarser level's share of the product is that of the coarser cells, which are fewer.
    """
    whitened, first = None, 0
    for coarser in range(level + 1):
        above = neighbourhood.pyramid.ancestors(level, coarser)[cells]
        away = own[coarser][neighbourhood.sources[coarser][above]]
        away = away - means[coarser][above][:, None, None]
        count, offsets, images, dims = away.shape
        block = rows[:, :, first : first + dims].transpose(0, 2, 1)
        share = (away.reshape(count, offsets * images, dims) @ block).reshape(
            count, offsets, images, rows.shape[1]
        )
        if coarser < level:
            share = share[np.arange(count)[:, None], neighbourhood.within[level][coarser][cells]]
        whitened = share if whitened is None else np.add(whitened, share, out=whitened)
        first += dims
    return np.asarray(whitened)


def pair_deviations(
    own: Sequence[FloatArray],
    means: Sequence[FloatArray],
    variances: Sequence[FloatArray],
    neighbourhood: Neighbourhood,
) -> list[FloatArray]:
    """Largest k^2 over the own channels, of all pairs of every level: (P, O, N).

    Means and variances are (P, d), or (P, N, d) if every image has its own.
    """
    images, dtype = own[0].shape[1], np.result_type(own[0], means[0])
    result = [np.empty((*s.shape, images), dtype) for s in neighbourhood.sources]
    shaped = [
        [array.reshape(len(array), 1, -1, array.shape[-1]) for array in arrays]
        for arrays in (means, variances)
    ]

    def measure(piece: tuple[int, slice]) -> None:
        level, cells = piece
        mean, variance = (arrays[level][cells] for arrays in shaped)
        judged = own[level][neighbourhood.sources[level][cells]]
        largest = ((judged - mean) ** 2 / variance).max(axis=-1)
        result[level][cells] = np.minimum(largest, scoring.LARGEST_K2)

    pieces = [
        (level, cells)
        for level, array in enumerate(own)
        for cells in neighbourhood.pieces(level, len(array), images, dtype.itemsize)
    ]
    for_each(measure, pieces)
    return list(result)
