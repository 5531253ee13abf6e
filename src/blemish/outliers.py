"""Which of a set of values are too far out, where the set itself may be dirty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float64Array

FALSE_DISCOVERY_RATE = 0.05
"""Largest share expected to be no outliers after all among those called outliers."""

LEAST_SCORES = 10
"""With fewer, nothing is called an outlier."""

_QUARTILES = (0.25, 0.75)
_LOWER_HALF = (0.25, 0.5)  # where a dirty set is still clean
_LEAST_SCALE = 0.01  # of the median: copies of one image are no yardstick
_LEAST_COUNT = 8
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Outliers:
    """Outliers among n scores.

    Attributes
    ----------
    rejected : bool (n,)
    limit : float
        Outliers are those that reach it.
    """

    rejected: BoolArray
    limit: float


def outliers_among(scores: Float64Array, most: float) -> Outliers:
    """Image scores that are too high for a good image, where some may not be of good images.

    The score of a good image is the largest of many, so a Gumbel distribution is laid through
    two quantiles of the scores: first 25 % and 50 %, where few outliers have a say, then the
    quartiles of what remained. By it every score has a probability, and Benjamini & Hochberg's
    procedure says how small it must be, so that of those called outliers about 5 % are none: of
    a clean set next to none is called so, of many outliers the weaker ones are found too.

    Parameters
    ----------
    scores : float64 (n,)
        Left-out scores of the images, larger is more anomalous.
    most : float in 0..1
        Largest share that may be outliers.

    Returns
    -------
    Outliers

    References
    ----------
    Benjamini & Hochberg, J. R. Stat. Soc. B 57, 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.

    Examples
    --------
    >>> found = outliers_among(np.array([*np.linspace(9, 12, 30), 40.0]), most=0.2)
    >>> np.flatnonzero(found.rejected), round(found.limit, 1)
    (array([30]), 16.2)
    """
    count, largest = len(scores), int(most * len(scores))
    if count < LEAST_SCORES or not largest:
        return Outliers(np.zeros(count, bool), float("inf"))
    falling = np.sort(scores)[::-1]
    allowed = FALSE_DISCOVERY_RATE * np.arange(1, count + 1) / count
    number, tried, quantiles = 0, set[int](), _LOWER_HALF
    while True:
        location, scale = _gumbel(falling[number:], quantiles)
        probability = -np.expm1(-np.exp(-(falling - location) / scale))
        small = np.flatnonzero(probability <= allowed)
        number = min(int(small[-1]) + 1 if len(small) else 0, largest)
        if number in tried or len(tried) == _ROUNDS:
            break
        tried.add(number)
        quantiles = _QUARTILES
    limit = location - scale * np.log(-np.log1p(-allowed[max(number, 1) - 1]))
    if number == largest:  # no more may be called outliers
        limit = falling[number - 1]
    return Outliers(scores >= limit, float(limit))


def _gumbel(falling: Float64Array, quantiles: tuple[float, float]) -> tuple[float, float]:
    """Location and scale of the Gumbel distribution with these quantiles of the scores."""
    low, high = np.quantile(falling, quantiles)
    reduced = -np.log(-np.log(np.array(quantiles)))
    scale = (high - low) / (reduced[1] - reduced[0])
    scale = max(scale, _LEAST_SCALE * abs(float(np.median(falling))), 1e-12)
    return float(high - scale * reduced[1]), float(scale)


def usual_range(values: Float64Array, least_spread: float) -> tuple[float, float]:
    """Smallest and largest value that is usual, where a few of the values may be anything.

    From the median 6 (1 + 4 / n) robust standard deviations down and up. That is 1.4826 times the
    median absolute deviation, but at least `least_spread`: images of a steady camera differ by
    nothing that matters. Of normally distributed values of 8 images, a value beyond it is found
    in one of a hundred sets; of more images, in fewer.

    Parameters
    ----------
    values : float64 (n,)
    least_spread : float > 0, in the unit of the values

    Returns
    -------
    (float, float)
        Infinite for fewer than 8 values.

    Examples
    --------
    >>> usual_range(np.array([4.0, 5.0, 5.0, 5.0, 5.0, 5.0, 6.0, 9.0]), 0.125)
    (3.875, 6.125)
    """
    if len(values) < _LEAST_COUNT:
        return float("-inf"), float("inf")
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    reach = 6 * (1 + 4 / len(values)) * max(spread, least_spread)
    return median - reach, median + reach
