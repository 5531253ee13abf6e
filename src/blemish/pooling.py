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
        self.count = 0.0
        self.mean: Float64Array = np.zeros(shape)
        self.squares: Float64Array = np.zeros(shape)

    def add(self, rows: FloatArray) -> None:
        """Add rows, float (N, ...)."""
        if len(rows) == 0:
            return
        rows = rows.astype(np.float64, copy=False)
        mean = rows.mean(axis=0)
        self.merge(Running.of(len(rows), mean, ((rows - mean) ** 2).sum(axis=0)))

    def merge(self, other: Running) -> None:
        """Add what another has seen."""
        total = self.count + other.count
        if total == 0:
            return
        shift = other.mean - self.mean
        self.squares = self.squares + other.squares + shift**2 * (self.count * other.count / total)
        self.mean = self.mean + shift * (other.count / total)
        self.count = total

    @classmethod
    def of(cls, count: float, mean: Float64Array | float, squares: Float64Array | float) -> Running:
        """What so many rows of this mean and these squared deviations would have left."""
        running = cls(np.shape(mean))
        running.count = float(count)
        running.mean, running.squares = np.asarray(mean), np.asarray(squares)
        return running

    @classmethod
    def of_scale(cls, count: float, scale: tuple[float, float]) -> Running:
        """The scalars whose `scale` this is."""
        return cls.of(count, scale[0], scale[1] ** 2 * max(count - 1, 1))

    def times(self, factor: float, share: float = 1.0) -> Running:
        """What a share of the rows, all multiplied by a factor, would have left."""
        return Running.of(
            self.count * share, self.mean * factor, self.squares * (factor**2 * share)
        )

    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of scalars; the latter never 0."""
        std = float(np.sqrt(self.squares / max(self.count - 1, 1)))
        return float(self.mean), max(std, 1e-12)
