"""Differences of many values, gathered batch by batch: what needs the whole to be judged."""

from __future__ import annotations

import numpy as np

from blemish.arrays import Float64Array, FloatArray
from blemish.pooling import Running

LEAST_SPREAD = 1e-4
"""Of the level of the values: those of good images may all be the same."""

_USUAL = 3.0  # standard deviations above the mean that good values reach


def at_least(spread: float | np.floating, size: float) -> float:
    """Spread, or a small share of the size of what is measured, if that is more."""
    return max(float(spread), LEAST_SPREAD * abs(size), float(np.finfo(np.float32).tiny))


class Correlation:
    """Correlation of two series of arrays, over all their values.

    Parameters
    ----------
    flat : float
        Standard deviation of the first series below which it is all one value, so that only
        rounding is left to correlate: then the cosine is taken, of values and not of deviations.

    Examples
    --------
    >>> correlation = Correlation(flat=1e-9)
    >>> correlation.add(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    >>> round(correlation.result(), 6)
    1.0
    """

    def __init__(self, flat: float) -> None:
        self._flat, self._count = flat, 0
        self._sums, self._products = np.zeros(2), np.zeros((2, 2))

    def add(self, one: FloatArray, other: FloatArray) -> None:
        """Add two arrays of the same shape."""
        both = np.stack([one.ravel(), other.ravel()]).astype(np.float64)
        self._count += both.shape[1]
        self._sums += both.sum(axis=1)
        self._products += both @ both.T

    def result(self) -> float:
        """-1 to 1; 0 if the second series is one value, and not a number if it holds such."""
        count = max(self._count, 1)
        means = self._sums / count
        moments = self._products / count
        around = moments - np.outer(means, means)
        # The difference of two nearly equal numbers has the rounding of the larger ones.
        rounding = 1e-12 * np.diag(moments)
        if around[0, 0] <= max(self._flat**2, rounding[0]):
            if not moments.any():
                return 1.0
            around = moments
        if np.isnan(around).any():
            return float("nan")
        if min(around[0, 0], around[1, 1] - rounding[1]) <= 0:
            return 0.0
        return float(np.clip(around[0, 1] / np.sqrt(around[0, 0] * around[1, 1]), -1, 1))


class OwnSpread:
    """Largest difference, in the spread of the values themselves, which is known at the end.

    The spread is the standard deviation over good images. What a value exceeds the mean by, beyond
    three spreads, is added to it: what is anomalous anyway may differ more.

    Parameters
    ----------
    size : float
        Of what is measured, for values that are all the same.
    """

    def __init__(self, size: float) -> None:
        self._size = size
        self._good, self._all = Running(()), Running(())
        self._values, self._differences = np.empty(0), np.empty(0)

    def add(self, one: FloatArray, other: FloatArray, *, good: bool) -> None:
        """Add the expected and the found values of an image."""
        values = one.ravel().astype(np.float64)
        self._all.add(values)
        if good:
            self._good.add(values)
        values = np.concatenate([self._values, values])
        differences = np.concatenate([self._differences, np.abs(other.ravel() - one.ravel())])
        self._values, self._differences = _worst(values, differences)

    def result(self) -> float:
        """Spreads; not a number if a value is not."""
        mean, spread = (self._good if self._good.count else self._all).scale()
        spread = at_least(spread, max(abs(mean), self._size))
        allowed = spread + np.maximum(self._values - mean - _USUAL * spread, 0.0)
        return float((self._differences / allowed).max(initial=0.0))


def _worst(values: Float64Array, differences: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Only those that can be worst: no other has a lower value and as large a difference."""
    order = np.lexsort((-differences, values))
    values, differences = values[order], differences[order]
    before = np.maximum.accumulate(np.concatenate([[-1.0], differences[:-1]]))
    kept = (differences > before) | np.isnan(differences)
    return values[kept], differences[kept]
