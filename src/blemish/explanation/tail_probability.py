"""How rare a score is among normal images: what was seen, and what may lie beyond it.

The conformal p-value holds whatever the distribution, but cannot be smaller than 1 / (n + 1). What
lies beyond is an extrapolation, and is said to be one: a generalised Pareto tail (Pickands 1975)
fitted to the highest scores, with the interval that resampling the scores gives. It errs to the
careful side: on known distributions (`benchmarks/rarity.py`, 30 and 200 scores, probabilities down
to 1e-5) the truth was more than ten times the interval's upper end in no sample of normal, gamma or
lognormal scores, and in at most 11 % of those with a polynomial tail (Student's t, 5 degrees); of
light tails it says too much, not too little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array, FloatArray

TAIL_SHARE = 0.25
LEAST_TAIL = 10
"""Scores that a tail is fitted to, at the least."""
LEAST_SCORES = 20
RESAMPLES = 500
SMALLEST = 1e-12
"""No probability is stated below this: nobody has seen so many parts."""


@dataclass(frozen=True, slots=True)
class TailProbability:
    """Chance that a normal image scores at least this much.

    Attributes
    ----------
    p_value : float in (0, 1]
        ``(1 + scores of good images at least as high) / (n + 1)``: valid for any distribution, as
        long as the image comes from where the good ones came from. At least ``1 / (n + 1)``.
    images : int
        Scores it rests on.
    higher : int
        Good images that score at least as high.
    extrapolated : float or None
        By a tail fitted to the highest scores, where no good image scored as high; None where one
        did, or with fewer than 20 images. Not below 1e-12.
    interval : (low, high) or None
        95 % of the tails fitted to resampled scores lie in it. It does not know whether the shape
        of the tail is right.
    """

    p_value: float
    images: int
    higher: int
    extrapolated: float | None = None
    interval: tuple[float, float] | None = None


def tail_probability(scores: FloatArray, value: float, *, seed: int = 0) -> TailProbability:
    """How rare a score is among those of good images.

    Parameters
    ----------
    scores : float (n,)
        Leave-one-out scores of good images.
    value : float
    seed : int, default 0
        Of the resampling.

    Returns
    -------
    TailProbability

    Examples
    --------
    >>> scores = np.arange(1.0, 20.0)
    >>> tail_probability(scores, 18.0).p_value, tail_probability(scores, 50.0).p_value
    (0.15, 0.05)
    >>> beyond = tail_probability(np.arange(100.0), 150.0)
    >>> beyond.interval[0] <= beyond.extrapolated <= beyond.interval[1] < beyond.p_value
    True
    """
    rising: Float64Array = np.sort(np.asarray(scores, dtype=np.float64))
    count = len(rising)
    higher = int((rising >= value).sum())
    p_value = (1 + higher) / (count + 1)
    if higher or count < LEAST_SCORES:
        return TailProbability(p_value, count, higher)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    resampled = np.sort(rising[drawn], axis=1)
    found = np.clip(_beyond(resampled, value), SMALLEST, p_value)
    best = float(np.clip(_beyond(rising[None], value)[0], SMALLEST, p_value))
    low, high = (float(q) for q in np.quantile(found, (0.025, 0.975)))
    return TailProbability(p_value, count, higher, best, (min(low, best), max(high, best)))


def _beyond(scores: Float64Array, value: float) -> Float64Array:
    """Share of a fitted tail beyond a value, for rows (R, n) of rising scores: float64 (R,).

    Generalised Pareto by probability-weighted moments (Hosking & Wallis 1987), with a shape of at
    least 0: a tail that ends would call impossible what was only never seen.
    """
    count = scores.shape[1]
    tail = max(LEAST_TAIL, round(TAIL_SHARE * count))
    start = scores[:, count - tail - 1][:, None]
    excess = scores[:, count - tail :] - start
    above = 1.0 - (np.arange(1, tail + 1) - 0.35) / tail
    mean = np.maximum(excess.mean(axis=1), 1e-300)
    weighted = np.maximum((above * excess).mean(axis=1), 1e-300)
    shape = np.clip(2.0 - mean / np.where(mean > 2 * weighted, mean - 2 * weighted, np.inf), 0, 0.9)
    scale = mean * (1.0 - shape)
    away = np.maximum(value - start[:, 0], 0.0) / scale
    heavy = shape > 1e-6
    safe = np.where(heavy, shape, 1.0)
    share = np.where(heavy, (1.0 + safe * away) ** (-1.0 / safe), np.exp(-np.minimum(away, 700.0)))
    return np.asarray(share * tail / count)


def share_of_pixels(quantiles: Float64Array, probabilities: Float64Array, value: float) -> float:
    """Share of the pixels of good images whose map value is at least so high.

    Parameters
    ----------
    quantiles : float64 (Q,), rising
        Of these pixels.
    probabilities : float64 (Q,)
        Share of pixels below each; the last is 1, of the highest pixel.
    value : float

    Returns
    -------
    float in 0..1
        Interpolated in the logarithm of the share. Above the last quantile but one its share
        stands for at most that; 0 is above all.

    Examples
    --------
    >>> quantiles, probabilities = np.array([0.0, 1.0, 2.0, 5.0]), np.array([0.0, 0.9, 0.99, 1.0])
    >>> [round(share_of_pixels(quantiles, probabilities, v), 4) for v in (0.0, 1.5, 3.0, 6.0)]
    [1.0, 0.0316, 0.01, 0.0]
    """
    if value > quantiles[-1]:
        return 0.0
    rates = 1.0 - probabilities[:-1]
    return float(np.exp(np.interp(value, quantiles[:-1], np.log(rates))))
