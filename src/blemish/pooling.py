"""Means and squared deviations of all positions together, or of a growing number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array, FloatArray
from blemish.moments import Moments


@dataclass(frozen=True, slots=True)
class Pool:
    """Channel statistics shared by all positions ("chebyshev-pooled").

    Attributes
    ----------
    means, squares : list of float64 (1, d)
        Per level: mean, and weighted sum of squared deviations, over images and positions.
    weights : list of float64 (P,)
        How many counted finest positions each cell stands for.
    samples : float
        Total weight.
    """

    means: list[Float64Array]
    squares: list[Float64Array]
    weights: list[Float64Array]
    samples: float

    @classmethod
    def of(cls, moments: Moments, weights: Sequence[Float64Array] | None) -> Pool:
        """Pool the moments of all positions."""
        weights = weights or moments.pyramid.level_weights()
        means, squares = [], []
        for mean, square, weight in zip(moments.means, moments.squares(), weights, strict=True):
            pooled = weight @ mean / weight.sum()
            spread = weight @ square + moments.count * (weight @ (mean - pooled) ** 2)
            means.append(pooled[None])
            squares.append(spread[None])
        samples = moments.count * float(weights[-1].sum())
        return cls(means, squares, list(weights), samples)


class Running:
    """Mean and sum of squared deviations over a growing number of rows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean: Float64Array = np.zeros(shape)
        self.squares: Float64Array = np.zeros(shape)

    def add(self, rows: FloatArray) -> None:
        """Add rows, float (N, ...)."""
        if len(rows) == 0:
            return
        rows = rows.astype(np.float64, copy=False)
        mean = rows.mean(axis=0)
        total = self.count + len(rows)
        shift = mean - self.mean
        self.squares = (
            self.squares
            + ((rows - mean) ** 2).sum(axis=0)
            + shift**2 * (self.count * len(rows) / total)
        )
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of scalars; the latter never 0."""
        std = float(np.sqrt(self.squares / max(self.count - 1, 1)))
        return float(self.mean), max(std, 1e-12)
