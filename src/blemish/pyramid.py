"""The grids of a backbone's layers, and which coarse cell each fine position lies in.

PaDiM repeats coarse feature maps up to the finest grid. Everything coarse is therefore the same
at all positions below one coarse cell, and need be kept and computed only once per cell. Levels
run from coarse (0) to fine; the embedding *visible* at a level is its own channels behind those
of all coarser levels, so the visible embedding of the finest level is PaDiM's, channels reordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from blemish.arrays import Float64Array, FloatArray, IntArray
from blemish.errors import InputError, ShapeError


@lru_cache(maxsize=64)
def _ancestors(fine: tuple[int, int], coarse: tuple[int, int]) -> IntArray:
    row = np.arange(fine[0]) // (fine[0] // coarse[0])
    column = np.arange(fine[1]) // (fine[1] // coarse[1])
    index = np.asarray((row[:, None] * coarse[1] + column[None, :]).ravel(), dtype=np.int64)
    index.setflags(write=False)  # shared by all callers
    return index


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Grid and number of own dimensions of every level, coarse to fine.

    Parameters
    ----------
    grids : tuple of (h, w)
        Each divides the next: every cell has the same number of children.
    dims : tuple of int >= 1
        Embedding dimensions that a level adds to those of the coarser ones.

    Raises
    ------
    InputError
        A grid does not divide the next, or a level has no dimension.

    Examples
    --------
    >>> pyramid = Pyramid(grids=((1, 2), (2, 4)), dims=(3, 5))
    >>> pyramid.visible(1)
    8
    >>> pyramid.ancestors(1, 0)
    array([0, 0, 1, 1, 0, 0, 1, 1])
    """

    grids: tuple[tuple[int, int], ...]
    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.grids) != len(self.dims) or not self.grids or min(self.dims) < 1:
            raise InputError(
                f"Every level needs a grid and at least 1 dimension, but the grids are "
                f"{self.grids} and the dimensions {self.dims}. Leave out layers with no dimension."
            )
        for coarse, fine in zip(self.grids[:-1], self.grids[1:], strict=True):
            if fine[0] % coarse[0] or fine[1] % coarse[1]:
                raise InputError(
                    f"Each layer's grid must divide that of the finer one, but {coarse[0]}x"
                    f"{coarse[1]} does not divide {fine[0]}x{fine[1]}. "
                    "Use an input size that is a multiple of the coarsest stride."
                )

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.grids)

    @property
    def finest(self) -> tuple[int, int]:
        """Grid (h, w) of the finest level, which is that of the distances."""
        return self.grids[-1]

    def positions(self, level: int) -> int:
        """Number of positions P of a level."""
        height, width = self.grids[level]
        return height * width

    def visible(self, level: int) -> int:
        """Dimensions D visible at a level: its own and those of all coarser levels."""
        return sum(self.dims[: level + 1])

    def ancestors(self, level: int, coarser: int) -> IntArray:
        """Index of the cell at level `coarser` that holds each position of `level`.

        Returns
        -------
        int64 (P,)
        """
        return _ancestors(self.grids[level], self.grids[coarser])

    def spread(self, values: FloatArray, coarser: int, level: int | None = None) -> FloatArray:
        """Repeat values of a coarse level to the positions of a finer one (default the finest).

        Parameters
        ----------
        values : float (N, P of `coarser`)
        coarser, level : int

        Returns
        -------
        float (N, P of `level`)
        """
        level = self.levels - 1 if level is None else level
        return values if level == coarser else values[:, self.ancestors(level, coarser)]

    def visible_vectors(self, own: Sequence[FloatArray], level: int) -> FloatArray:
        """Concatenate per-level vectors to what is visible at every position of `level`.

        Parameters
        ----------
        own : list of float (P of level, X, d) per level
            Any quantity per position and own dimension; X is free (images, say).

        Returns
        -------
        float (P of `level`, X, D of `level`)
        """
        parts = [own[k][self.ancestors(level, k)] for k in range(level)]
        return np.concatenate([*parts, own[level]], axis=-1)

    def level_weights(self, finest: Float64Array | None = None) -> list[Float64Array]:
        """Weight of the cells of every level: that of all finest positions below them.

        Parameters
        ----------
        finest : float64 (P of the finest level,), optional
            Default: 1 each.

        Returns
        -------
        list of float64 (P,)
        """
        last = self.levels - 1
        finest = np.ones(self.positions(last)) if finest is None else finest
        return [
            np.bincount(self.ancestors(last, k), finest, self.positions(k)).astype(np.float64)
            for k in range(self.levels)
        ]

    def check(self, levels: Sequence[FloatArray]) -> int:
        """Refuse embeddings that do not have this pyramid's shapes; return the number of images.

        Raises
        ------
        ShapeError
            An array is not (N, P, d) with the P and d of its level and one N for all.
        """
        count = len(levels[0]) if levels else 0
        if len(levels) != self.levels:
            raise ShapeError(
                f"There must be embeddings for {self.levels} levels, but there are {len(levels)}. "
                "Were they made with the same layers?"
            )
        for level, array in enumerate(levels):
            positions, dims = self.positions(level), self.dims[level]
            if array.shape != (count, positions, dims):
                raise ShapeError.of(
                    f"embeddings of level {level}",
                    f"({count}, {positions}, {dims})",
                    array.shape,
                    "Were they made with the same image size and backbone?",
                )
        return count
