"""Makes the scores of all positions alike, by what is usual for good parts at each of them.

A distance of 20 may be usual at an edge and alarming on a plain face. What is usual is learned
from the left-out scores of the training images, drawn towards the average over positions, since
few images say little about one position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.pooling import Running

PRIOR_IMAGES = 30
"""Images that the average over positions is worth; see docs/decisions/0011-presets.md."""


@dataclass(frozen=True, slots=True)
class Standardisation:
    """Affine correction of each position's score, in the unit of the score.

    A standardised score is the one that the average position would have, were it as many standard
    deviations from its mean.

    Attributes
    ----------
    gain, offset : float64 (P,)
    seen : Running
        Left-out scores of good images, shape (P,), that the two follow from.
    """

    gain: Float64Array
    offset: Float64Array
    seen: Running

    def __call__(self, scores: FloatArray) -> FloatArray:
        """Standardise scores, float (N, P); never below 0.

        Examples
        --------
        >>> twice = Standardisation(np.array([2.0]), np.array([-1.0]), Running((1,)))
        >>> twice(np.array([[3.0], [0.0]]))
        array([[5.],
               [0.]])
        """
        dtype = scores.dtype
        corrected = scores * self.gain.astype(dtype) + self.offset.astype(dtype)
        return np.asarray(np.maximum(corrected, 0.0))


def standardisation_of(seen: Running, counted: BoolArray | None = None) -> Standardisation:
    """Learn the correction from left-out scores of the training images.

    With n images, a position's mean and variance are weighted ``n / (n + 30)`` and the averages
    over positions the rest; a standard deviation below the median one is raised to it, so that
    positions that happened to vary little are not made hysterical.

    Parameters
    ----------
    seen : Running
        Of the scores, shape (P,).
    counted : bool (P,), optional
        Positions that say what is average; default all.

    Returns
    -------
    Standardisation

    Examples
    --------
    >>> seen = Running((2,))
    >>> seen.add(np.array([[1.0, 5.0], [3.0, 9.0]]))
    >>> standardisation_of(seen).gain.round(3)
    array([1.   , 0.982])
    """
    kept = slice(None) if counted is None else counted
    trust = seen.count / (seen.count + PRIOR_IMAGES)
    variances = seen.squares / max(seen.count - 1, 1)
    mean, variance = float(seen.mean[kept].mean()), float(variances[kept].mean())
    means = trust * seen.mean + (1 - trust) * mean
    stds = np.sqrt(trust * variances + (1 - trust) * variance)
    stds = np.maximum(stds, max(float(np.median(stds[kept])), 1e-12))
    gain = np.sqrt(max(variance, 1e-24)) / stds
    return Standardisation(gain, mean - gain * means, seen)
