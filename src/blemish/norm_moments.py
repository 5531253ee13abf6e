"""Third and fourth moments of the embedding's length: what Ledoit & Wolf's shrinkage needs.

Their intensity needs the sum over images of the fourth power of the centred embedding's length.
Kept together with the length-weighted sum of deviations, it can be moved to another mean, and so
be gathered batch by batch, merged and taken back like the moments themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array


@dataclass(frozen=True, slots=True)
class NormMoments:
    """Sums over samples of ``|d|^2 d`` and ``|d|^4``, d the deviation from the mean.

    Attributes
    ----------
    cubes : float64 (P, D)
    quartics : float64 (P,)
    """

    cubes: Float64Array
    quartics: Float64Array

    @classmethod
    def zeros(cls, positions: int, dims: int) -> NormMoments:
        """Of no sample."""
        return cls(np.zeros((positions, dims)), np.zeros(positions))

    @classmethod
    def of(cls, deviations: Float64Array, weights: Float64Array | None) -> NormMoments:
        """Of a batch about its own mean.

        Parameters
        ----------
        deviations : float64 (P, N, D)
        weights : float64 (N,), optional
        """
        squares = np.einsum("pnd,pnd->pn", deviations, deviations)
        weighted = squares if weights is None else squares * weights
        return cls(
            np.einsum("pn,pnd->pd", weighted, deviations),
            np.einsum("pn,pn->p", weighted, squares),
        )

    def moved(
        self,
        shift: Float64Array,
        *,
        samples: float,
        product: Float64Array,
        trace: Float64Array,
    ) -> NormMoments:
        """The same sums about another centre.

        Parameters
        ----------
        shift : float64 (P, D)
            Own mean minus the new centre.
        samples : float
        product : float64 (P, D)
            Own scatter times `shift`.
        trace : float64 (P,)
            Of the own scatter.
        """
        length = np.einsum("pd,pd->p", shift, shift)
        along = np.einsum("pd,pd->p", shift, product)
        cubed = np.einsum("pd,pd->p", shift, self.cubes)
        return NormMoments(
            self.cubes + 2 * product + (trace + samples * length)[:, None] * shift,
            self.quartics + 4 * along + samples * length**2 + 4 * cubed + 2 * length * trace,
        )

    def moved_back(
        self,
        shift: Float64Array,
        *,
        samples: float,
        product: Float64Array,
        trace: Float64Array,
    ) -> NormMoments:
        """Inverse of `moved`: from sums about the other centre to those about the own mean."""
        length = np.einsum("pd,pd->p", shift, shift)
        along = np.einsum("pd,pd->p", shift, product)
        cubes = self.cubes - 2 * product - (trace + samples * length)[:, None] * shift
        cubed = np.einsum("pd,pd->p", shift, cubes)
        quartics = self.quartics - 4 * along - samples * length**2 - 4 * cubed - 2 * length * trace
        return NormMoments(cubes, quartics)

    def plus(self, other: NormMoments, sign: float = 1.0) -> NormMoments:
        """Sum, or difference with ``sign=-1``, of sums about one centre."""
        return NormMoments(self.cubes + sign * other.cubes, self.quartics + sign * other.quartics)
