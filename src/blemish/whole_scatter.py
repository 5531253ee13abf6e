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

# Of coarse rows repeated to finest positions at once; for all positions they would take gigabytes.
_SLICE_BYTES = 16 << 20


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
        for level, scatter in enumerate(self.scatters):
            visible, own = scatter.shape[2], slice(scatter.shape[2] - scatter.shape[1], None)
            cells = np.arange(len(scatter))[self._to_finest(level)]
            step = max(1, _SLICE_BYTES // scatter[0].nbytes)
            for start in range(0, len(cells), step):
                at = slice(start, start + step)
                rows, seen = scatter[cells[at]], vectors[at, :visible]
                result[at, :visible][:, own] += np.einsum("pde,pe->pd", rows, seen)
                left = rows[:, :, : own.start]
                result[at, : own.start] += np.einsum("pde,pd->pe", left, seen[:, own])
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
