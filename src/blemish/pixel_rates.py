"""False-positive rates at any threshold over very many pixels, and what a step in them is worth.

A defect pixel lifts a curve by its weight while the false-positive rate runs from `above` (higher
scores only) to `reached` (ties too). `share_of_rates` and `share_of_log_rates` say which share of
a range of rates then lies under that pixel: 1 if it comes before the range, 0 if after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Float32Array, Float64Array
from blemish.errors import InputError
from blemish.pixel_store import (
    UInt64Array,
    decode_regions,
    decode_scores,
    encode_keys,
    slices,
)

LOWEST = int(encode_keys(np.array([-np.inf], np.float32))[0] >> np.uint64(32))
HIGHEST = int(encode_keys(np.array([np.inf], np.float32))[0] >> np.uint64(32))


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """Sum over groups of (pixels at or above a threshold / divisor), divided by `total`.

    Divisors 1, `total` 1: a count. Divisors 1, `total` the number of pixels: the rate over all of
    them. One group per number of pixels in an image, with that number as divisor, and `total` the
    number of images: the mean over images of the rate in each.

    Attributes
    ----------
    groups : tuple of (float32 (M,) in rising order, int)
        Scores of defect-free pixels, and their divisor.
    total : int

    Examples
    --------
    >>> scores = np.array([1, 2, 2, 5], np.float32)
    >>> FalsePositives(((scores, 1),), total=4).rate(np.array([2], np.float32), or_equal=True)
    array([0.75])
    """

    groups: tuple[tuple[Float32Array, int], ...]
    total: int

    def rate(self, thresholds: Float32Array, *, or_equal: bool) -> Float64Array:
        """Rate of scores above each threshold (K,), with those equal to it if asked; (K,)."""
        side: Literal["left", "right"] = "left" if or_equal else "right"
        summed = np.zeros(len(thresholds))
        for scores, divisor in self.groups:
            summed += (len(scores) - scores.searchsorted(thresholds, side=side)) / divisor
        summed /= self.total
        return summed

    def crossing(self, rate: float, *, beyond: bool = False) -> np.float32:
        """Highest threshold whose rate is at least `rate` (above `rate`, if `beyond`).

        Minus infinity if no score reaches it. Found by bisection over all float32 numbers.
        """
        low, high = LOWEST, HIGHEST
        while high - low > 1:
            middle = (low + high) // 2
            found = self.rate(_threshold(middle), or_equal=True)[0]
            if found > rate or (found == rate and not beyond):
                low = middle
            else:
                high = middle
        crossed: np.float32 = _threshold(low)[0]
        return crossed

    def levels(self, bounds: tuple[float, float]) -> int:
        """Distinct rates from the lower to the upper bound, both included."""
        first = self.crossing(bounds[0])
        last = self.crossing(bounds[1], beyond=True)
        within = [
            scores[scores.searchsorted(last, "right") : scores.searchsorted(first, "right")]
            for scores, _ in self.groups
        ]
        return len(np.unique(np.concatenate(within)))


@dataclass(frozen=True, slots=True)
class DefectPixels:
    """A slice of the defect pixels, lowest score first, set against the defect-free ones.

    Attributes
    ----------
    scores : float32 (M,)
    regions : intp (M,)
        Number of the region each is in.
    true : intp (M,)
        Defect pixels of all regions with at least this score.
    above, reached : float64 (M,)
        Count or rate of defect-free pixels with a higher score; with a higher or equal one.
    """

    scores: Float32Array
    regions: NDArray[np.intp]
    true: NDArray[np.intp]
    above: Float64Array
    reached: Float64Array


def compare(keys: UInt64Array, normal: FalsePositives) -> Iterator[DefectPixels]:
    """Set every defect pixel against the defect-free ones, slice by slice.

    Parameters
    ----------
    keys : uint64 (M,) in rising order
        As `blemish.pixel_store` encodes them.
    normal : FalsePositives
    """
    for part in slices(keys):
        scores = decode_scores(part)
        yield DefectPixels(
            scores=scores,
            regions=decode_regions(part),
            true=len(keys) - keys.searchsorted(encode_keys(scores)),
            above=normal.rate(scores, or_equal=False),
            reached=normal.rate(scores, or_equal=True),
        )


def share_of_rates(above: Float64Array, reached: Float64Array, limit: float) -> Float64Array:
    """Share of the rates 0..`limit` at which a pixel counts as found; (M,), 0..1.

    Half of a tie counts, on average: found in proportion from rate `above` to rate `reached`.

    Examples
    --------
    >>> share_of_rates(np.array([0.0, 0.1, 0.5]), np.array([0.0, 0.3, 0.5]), limit=0.4)
    array([1. , 0.5, 0. ])
    """
    begin, end = np.minimum(above, limit), np.minimum(reached, limit)
    step = reached - above
    tied = np.divide((end - begin) ** 2, 2 * step, out=np.zeros_like(step), where=step > 0)
    share: Float64Array = (tied + (limit - end)) / limit
    return share


def share_of_log_rates(
    above: Float64Array, reached: Float64Array, bounds: tuple[float, float]
) -> Float64Array:
    """Share of the logarithms of the rates within `bounds` at which a pixel counts as found; (M,).

    As `share_of_rates`, with ``d log(rate)`` in place of ``d rate``.

    Examples
    --------
    >>> above = np.array([0.0, 0.01, 0.5])
    >>> share_of_log_rates(above, above, bounds=(0.001, 0.1))
    array([1. , 0.5, 0. ])
    """
    low, high = bounds
    begin, end = np.clip(above, low, high), np.clip(reached, low, high)
    step = reached - above
    # integral over the tie of (rate - above) / step * d rate / rate
    rise = (end - begin) - above * np.log1p((end - begin) / begin)
    tied = np.divide(rise, step, out=np.zeros_like(step), where=step > 0)
    share: Float64Array = (tied + np.log(high / end)) / np.log(high / low)
    return np.clip(share, 0.0, 1.0)


def require_limit(fpr_limit: float) -> None:
    """Refuse a highest rate that is not in (0, 1], with an InputError."""
    if not 0 < fpr_limit <= 1:
        raise InputError(
            f"fpr_limit must be above 0 and at most 1, but is {fpr_limit}. The usual limit is 0.3."
        )


def require_bounds(bounds: tuple[float, float]) -> None:
    """Refuse bounds that are not ``0 < low < high <= 1``, with an InputError."""
    if not 0 < bounds[0] < bounds[1] <= 1:
        raise InputError(
            f"bounds must be rising, above 0 and at most 1, but are {bounds}. "
            "The usual bounds are (1e-5, 1e-4)."
        )


def _threshold(code: int) -> Float32Array:
    return decode_scores(np.array([code << 32], dtype=np.uint64))
