"""Where "anomalous" begins: thresholds from the scores of good images and a false-alarm rate.

Scores are leave-one-out scores of the training images, so no image has to be held out, and no
labelled defect is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array, FloatArray
from blemish.errors import InputError

ORDER_STATISTIC = "order-statistic"
TAIL_BOUND = "one-sided-chebyshev"
LABELLED, FIXED = "labelled", "fixed"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score at and above which an image (or pixel) is anomalous.

    Attributes
    ----------
    value : float
    false_alarm_rate : float in (0, 1)
        Share of good images that was asked for; for "labelled" and "fixed" the share that was seen.
    method : {"order-statistic", "one-sided-chebyshev", "labelled", "fixed"}
        The first holds its rate for any distribution of scores. The second is the fallback for
        too few images: mean + std * sqrt((1 - a) / a), Cantelli's bound, usually far too careful.
        The others are values of an operating point, chosen by labelled images or given.
    interval : (low, high)
        Where the long-run false-alarm rate of `value` lies with `confidence`. Under the fallback
        it reaches from 0 up to what the number of images can exclude.
    confidence : float, default 0.95
    images : int
        Scores it rests on.
    images_needed : int
        Least number of images for the order statistic at this rate; 0 for "labelled" and "fixed".
    approximate : bool, default False
        Whether the scores it rests on are; see `Calibration`.
    """

    value: float
    false_alarm_rate: float
    method: str
    interval: tuple[float, float]
    confidence: float
    images: int
    images_needed: int
    approximate: bool = False


def threshold_for(
    scores: FloatArray, false_alarm_rate: float, *, confidence: float = 0.95
) -> Threshold:
    """Threshold that good images reach with at most the rate asked for.

    Of n exchangeable scores and one new one, the new one exceeds the k-th smallest with a
    probability of at most (n + 1 - k) / (n + 1), whatever their distribution. The threshold is
    just above the smallest such score that keeps the rate; its long-run rate is then distributed
    as Beta(n + 1 - k, k), which gives the interval.

    Parameters
    ----------
    scores : float (n,)
        Leave-one-out scores of good images.
    false_alarm_rate : float in (0, 1)
    confidence : float in (0, 1), default 0.95

    Returns
    -------
    Threshold

    Raises
    ------
    InputError
        A rate outside (0, 1), or fewer than 2 scores.

    Examples
    --------
    >>> found = threshold_for(np.arange(1.0, 20.0), 0.05)
    >>> found.method, round(found.value, 6), found.images_needed
    ('order-statistic', 19.0, 19)
    """
    for name, value in (("false_alarm_rate", false_alarm_rate), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise InputError(f"{name} must be between 0 and 1, but is {value}. Try 0.05.")
    count = len(scores)
    if count < 2:
        raise InputError(
            f"A threshold needs the scores of at least 2 good images, but there are {count}. "
            "Give more images of good parts."
        )
    needed = images_needed(false_alarm_rate)
    if count < needed:
        value = tail_bound(scores, false_alarm_rate)
        above = int((scores >= value).sum())
        interval = (0.0, rate_interval(above, count, confidence)[1])
        method = TAIL_BOUND
    else:
        rank = math.ceil((count + 1) * (1.0 - false_alarm_rate) - 1e-9)
        value = float(np.nextafter(np.sort(scores)[rank - 1], np.inf))
        tail = (1.0 - confidence) / 2
        exceeding, method = count + 1 - rank, ORDER_STATISTIC
        interval = (
            beta_quantile(tail, exceeding, rank),
            beta_quantile(1.0 - tail, exceeding, rank),
        )
    return Threshold(value, false_alarm_rate, method, interval, confidence, count, needed)


def images_needed(false_alarm_rate: float) -> int:
    """Least number of good images whose largest score keeps the rate.

    Examples
    --------
    >>> images_needed(0.05), images_needed(0.01)
    (19, 99)
    """
    return math.ceil(1.0 / false_alarm_rate - 1e-9) - 1


def tail_bound(scores: FloatArray, false_alarm_rate: float) -> float:
    """Score exceeded with at most the rate by any distribution of this mean and deviation.

    One-sided Chebyshev (Cantelli): ``mean + std * sqrt((1 - a) / a)``.

    Examples
    --------
    >>> round(tail_bound(np.array([9.0, 11.0]), 0.5), 6)
    11.414214
    """
    std = float(np.std(scores, ddof=1))
    bound = float(np.mean(scores)) + std * math.sqrt((1 - false_alarm_rate) / false_alarm_rate)
    return float(np.nextafter(bound, np.inf))


def rate_interval(alarms: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate of which `alarms` in `count` were seen.

    Examples
    --------
    >>> low, high = rate_interval(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    tail = (1.0 - confidence) / 2
    low = 0.0 if alarms == 0 else beta_quantile(tail, alarms, count - alarms + 1)
    high = 1.0 if alarms == count else beta_quantile(1.0 - tail, alarms + 1, count - alarms)
    return low, high


def beta_quantile(probability: float, a: int, b: int) -> float:
    """Quantile of Beta(a, b) for whole a, b >= 1, by bisection on a binomial tail.

    Beta(a, b) is at most x with the probability that of a + b - 1 draws at least a are below x.

    Examples
    --------
    >>> round(beta_quantile(0.5, 1, 1), 12)
    0.5
    """
    trials = a + b - 1
    hits = np.arange(a, trials + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    coefficients = logs[trials] - logs[hits] - logs[trials - hits]
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        terms = coefficients + hits * math.log(x) + (trials - hits) * math.log1p(-x)
        if float(np.exp(terms).sum()) < probability:
            low = x
        else:
            high = x
    return (low + high) / 2


class PixelHistogram:
    """Distribution of the pixel values of many maps, in bounded memory.

    Bins are the float32 values that share sign, exponent and the 11 leading bits of the mantissa,
    so a quantile is right to 0.05 % of its value, whatever the scale.

    Examples
    --------
    >>> histogram = PixelHistogram()
    >>> histogram.add(np.arange(1000.0))
    >>> abs(histogram.quantile(0.99) - 990) < 1
    True
    """

    _SHIFT = 12
    _BETWEEN = 200  # values that stand for all between two known quantiles

    def __init__(self) -> None:
        self.counts: Float64Array = np.zeros(1 << (31 - self._SHIFT))

    def add(self, values: FloatArray) -> None:
        """Count pixel values, all >= 0 and finite."""
        bits = np.ascontiguousarray(values, dtype=np.float32).ravel().view(np.uint32)
        self.counts += np.bincount(bits >> self._SHIFT, minlength=len(self.counts))

    def add_quantiles(
        self, values: Float64Array, probabilities: Float64Array, pixels: float
    ) -> None:
        """Count so many pixels of which only some quantiles are known: even between two of them.

        Parameters
        ----------
        values, probabilities : float64 (q,), rising
            Quantiles, all >= 0, and the share of pixels below each, the last 1.
        pixels : float
        """
        steps = (np.arange(self._BETWEEN) + 0.5) / self._BETWEEN
        shares = np.diff(probabilities, prepend=0.0)
        lower = np.concatenate([values[:1], values[:-1]])
        spread = lower[:, None] + (values - lower)[:, None] * steps
        spread[-1] = values[-1]  # the largest of all is reached
        bits = np.ascontiguousarray(spread, dtype=np.float32).ravel().view(np.uint32)
        weights = np.repeat(shares * pixels / self._BETWEEN, self._BETWEEN)
        np.add.at(self.counts, bits >> self._SHIFT, weights)

    def quantile(self, probability: float) -> float:
        """Value that at least this share of all pixels lie below (upper edge of its bin)."""
        return float(self.quantiles(np.array([probability]))[0])

    def quantiles(self, probabilities: Float64Array) -> Float64Array:
        """`quantile` of several probabilities."""
        running = np.cumsum(self.counts)
        places = np.searchsorted(running, probabilities * running[-1], side="left")
        edges = ((places + 1) << self._SHIFT).astype(np.uint32)
        return np.asarray(edges.view(np.float32), np.float64)
