"""Features of the training images of the highest left-out scores, which thresholds rest on.

Without the training images, a model that was changed can look at these once more. They tell by how
much left-out scores have shrunk or grown, and put the end of their distribution right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float16Array, Float64Array, FloatArray, IntArray
from blemish.kept_features import KeptFeatures, to_16_bits

SHARE = 0.15
FEWEST, MOST = 10, 64


@dataclass(frozen=True, slots=True)
class UnusualImages:
    """The highest left-out scores' images.

    Attributes
    ----------
    numbers : int64 (k,), rising
        Which of the training images.
    features : KeptFeatures
        Of k images.
    """

    numbers: IntArray
    features: KeptFeatures

    def take(self, kept: BoolArray) -> UnusualImages:
        """Those among some of the training images, bool (n,), which are numbered anew."""
        mine = kept[self.numbers]
        renumbered = np.cumsum(kept) - 1
        return UnusualImages(renumbered[self.numbers[mine]], self.features.take(mine))


def unusual_count(images: int) -> int:
    """How many of so many training images are kept.

    Examples
    --------
    >>> unusual_count(8), unusual_count(209), unusual_count(5000)
    (8, 32, 64)
    """
    return min(images, MOST, max(FEWEST, math.ceil(SHARE * images)))


def unusual_of(scores: Float64Array, features: KeptFeatures) -> UnusualImages:
    """The images of the highest scores (n,), of the features of all."""
    highest = np.zeros(len(scores), bool)
    highest[np.argsort(-scores, kind="stable")[: unusual_count(len(scores))]] = True
    return UnusualImages(np.flatnonzero(highest), features.take(highest))


class HighestScores:
    """Gathers the embeddings of the highest-scored of many images, in bounded memory.

    Parameters
    ----------
    images : int
        How many there are in all.
    """

    def __init__(self, images: int) -> None:
        self._most, self._seen = unusual_count(images), 0
        self._held: list[tuple[float, int, list[Float16Array]]] = []

    def add(self, levels: Sequence[FloatArray], scores: Float64Array) -> None:
        """Offer a batch: embeddings, float (N, P, d) per level, and their scores (N,)."""
        least = self._held[-1][0] if len(self._held) == self._most else -math.inf
        for row, score in enumerate(scores):
            if score > least:
                one = to_16_bits([np.asarray(level[row], np.float32) for level in levels])
                self._held.append((float(score), self._seen + row, one))
        self._seen += len(scores)
        self._held.sort(key=lambda held: (-held[0], held[1]))
        del self._held[self._most :]

    def found(self) -> UnusualImages | None:
        """The images, by their number in the order they were offered; None if there were none."""
        if not self._held:
            return None
        held = sorted(self._held, key=lambda each: each[1])
        return UnusualImages(
            np.array([number for _, number, _ in held], dtype=np.int64),
            KeptFeatures(
                tuple(np.stack(level) for level in zip(*(rows for _, _, rows in held), strict=True))
            ),
        )
