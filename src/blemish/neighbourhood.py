"""Which Gaussians around a position judge it, and which cells of every level that involves.

A level's term of a score depends only on the cells that the position judged and the position that
judges lie in. Coarse cells are few, so each *pair* of cells, kept as (the cell that judges, offset
to the cell that is judged), is computed once per level; see `nearest`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from blemish.arrays import BoolArray, IntArray
from blemish.pyramid import Pyramid

PAIR_BYTES = 128 << 20
"""Of what is kept about all pairs of some images; what one image needs, if that is more."""

_PIECE_BYTES = 2 << 20  # of embeddings judged at once by one core: they stay in its cache


def reach_of(
    reach: tuple[int, int], finest: tuple[int, int], grid: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of a grid that a reach in positions of the finest grid goes over.

    The same distance in pixels, rounded up to whole cells: two cells are neighbours if positions
    of the finest grid within them are. At most the grid itself.

    Examples
    --------
    >>> [reach_of((3, 3), (56, 56), grid) for grid in ((56, 56), (28, 28), (14, 14))]
    [(3, 3), (2, 2), (1, 1)]
    """
    rows, columns = (
        min(-(-r * coarse // fine), coarse - 1)
        for r, fine, coarse in zip(reach, finest, grid, strict=True)
    )
    return rows, columns


class Neighbourhood:
    """Which Gaussians judge which positions, and the pairs of cells behind that at every level.

    Parameters
    ----------
    pyramid : Pyramid
    reach : (rows, columns) of the finest grid
    candidates : bool (P of the finest level,), optional
        Positions whose Gaussian may judge others; default all. Its own may always judge a position.

    Attributes
    ----------
    judges : int64 (O, P)
        For each of O offsets, none first, the position whose Gaussian judges each position.
    valid : bool (O, P)
        Whether there is such a position, and its Gaussian may.
    sources : list of int64 (P, O) per level
        For the Gaussian of each cell and each offset, the cell whose embedding it judges.
    pairs : list of int64 (O, P) per level
        For each offset and finest position, where its pair of cells is in the flat `sources`.
    within : list of list of int64 (P, O), per level and coarser level
        Which offset, between the cells of the coarser level that hold the two of a pair, it has.

    Examples
    --------
    >>> row = Neighbourhood(Pyramid(grids=((1, 3),), dims=(1,)), reach=(0, 1))
    >>> row.judges
    array([[0, 1, 2],
           [0, 0, 1],
           [1, 2, 2]])
    >>> row.valid[1]
    array([False,  True,  True])
    """

    def __init__(
        self, pyramid: Pyramid, reach: tuple[int, int], candidates: BoolArray | None = None
    ) -> None:
        self.pyramid = pyramid
        reach = reach_of(reach, pyramid.finest, pyramid.finest)
        down, right = _offsets(reach)
        own_first = np.argsort(np.abs(down) + np.abs(right) > 0, kind="stable")
        down, right = down[own_first, None], right[own_first, None]
        rows, columns = np.divmod(np.arange(pyramid.positions(-1)), pyramid.finest[1])
        self.judges = _clipped(rows + down, columns + right, pyramid.finest)
        found = np.divmod(self.judges, pyramid.finest[1])
        self.valid: BoolArray = (found[0] == rows + down) & (found[1] == columns + right)
        if candidates is not None:
            self.valid &= candidates[self.judges]
        self.valid[0] = True
        self.sources: list[IntArray] = []
        self.pairs: list[IntArray] = []
        self.within: list[list[IntArray]] = []
        self._reaches = [reach_of(reach, pyramid.finest, grid) for grid in pyramid.grids]
        for level in range(pyramid.levels):
            self._add_level(level)

    def _add_level(self, level: int) -> None:
        pyramid, grid = self.pyramid, self.pyramid.grids[level]
        down, right = _offsets(self._reaches[level])
        own = np.arange(grid[0] * grid[1])[:, None]
        sources = _clipped(own // grid[1] - down, own % grid[1] - right, grid)
        self.sources.append(sources)
        above = [pyramid.ancestors(level, coarser) for coarser in range(level)]
        self.within.append([self._offset(a[own], a[sources], k) for k, a in enumerate(above)])
        cells = pyramid.ancestors(pyramid.levels - 1, level)
        judges = cells[self.judges]
        self.pairs.append(judges * len(down) + self._offset(judges, cells, level))

    def _offset(self, judges: IntArray, cells: IntArray, level: int) -> IntArray:
        """Which of the offsets of a level lies between the cells that judge and those judged."""
        columns, reach = self.pyramid.grids[level][1], self._reaches[level]
        down = judges // columns - cells // columns + reach[0]
        return down * (2 * reach[1] + 1) + judges % columns - cells % columns + reach[1]

    def batches(self, images: int, kept: int) -> list[slice]:
        """Images whose pairs fit into memory together, if `kept` numbers are kept of each pair."""
        per_image = 8 * kept * sum(sources.size for sources in self.sources)
        step = max(1, PAIR_BYTES // per_image)
        return [slice(start, start + step) for start in range(0, max(images, 1), step)]

    def pieces(self, level: int, cells: int, images: int, itemsize: int) -> Iterator[slice]:
        """Few enough of the cells of a level to judge all that they are to judge at once."""
        offsets = self.sources[level].shape[1]
        per_cell = offsets * images * self.pyramid.visible(level) * itemsize
        step = max(1, _PIECE_BYTES // max(per_cell, 1))
        for start in range(0, cells, step):
            yield slice(start, min(start + step, cells))


def _offsets(reach: tuple[int, int]) -> tuple[IntArray, IntArray]:
    """Rows and columns of all offsets within reach; none is in the middle."""
    rows, columns = np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    return rows.ravel().astype(np.int64), columns.ravel().astype(np.int64)


def _clipped(rows: IntArray, columns: IntArray, grid: tuple[int, int]) -> IntArray:
    """Number of each position, the nearest of the grid where it lies outside."""
    inside = np.clip(rows, 0, grid[0] - 1) * grid[1] + np.clip(columns, 0, grid[1] - 1)
    return np.asarray(inside, dtype=np.int64)
