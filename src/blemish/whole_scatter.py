"""Sums over the scatter of the whole embedding, from the rows that the levels keep.

At a finest position the whole scatter is symmetric (D, D); its rows are kept once per cell of the
level they belong to. It is never put together: products and norms are summed over levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array, IntArray
from blemish.pyramid import Pyramid


@dataclass(frozen=True, slots=True)
class WholeScatter:
    """View of `Moments.scatters`.

    Attributes
    ----------
    pyramid : Pyramid
    scatters : list of float64 (P, d, D)
    shared : bool
        One Gaussian: P is 1 at every level.
    """

    pyramid: Pyramid
    scatters: Sequence[Float64Array]
    shared: bool

    def visible(self, own: Sequence[Float64Array]) -> Float64Array:
        """Own vectors (P, d) per level -> whole vectors at the finest positions: (P, D)."""
        return np.concatenate([v[self._to_finest(k)] for k, v in enumerate(own)], axis=-1)

    def times(self, vectors: Float64Array) -> Float64Array:
        """Whole scatter times a vector per finest position: float64 (P, D) -> (P, D)."""
        result = np.zeros_like(vectors)
        for k, scatter in enumerate(self.scatters):
            rows = scatter[self._to_finest(k)]
            visible = rows.shape[2]
            own = slice(visible - rows.shape[1], visible)
            result[:, own] += np.einsum("pde,pe->pd", rows, vectors[:, :visible])
            left = rows[:, :, : own.start]
            result[:, : own.start] += np.einsum("pde,pd->pe", left, vectors[:, own])
        return result

    def trace(self) -> Float64Array:
        """Trace at every finest position: float64 (P,)."""
        total = np.zeros(len(self.scatters[-1]))
        for k, scatter in enumerate(self.scatters):
            own = scatter[:, :, -scatter.shape[1] :]
            total += np.trace(own, axis1=1, axis2=2)[self._to_finest(k)]
        return total

    def norm(self) -> Float64Array:
        """Squared Frobenius norm at every finest position: float64 (P,)."""
        total = np.zeros(len(self.scatters[-1]))
        for k, scatter in enumerate(self.scatters):
            left = scatter[:, :, : -scatter.shape[1]]
            own = scatter[:, :, -scatter.shape[1] :]
            norm = 2 * np.einsum("pde,pde->p", left, left) + np.einsum("pde,pde->p", own, own)
            total += norm[self._to_finest(k)]
        return total

    def _to_finest(self, level: int) -> slice | IntArray:
        last = self.pyramid.levels - 1
        return slice(None) if self.shared else self.pyramid.ancestors(last, level)
