"""Which position scores an image score, or a pixel of the map, is made of, and by what factors.

Maps are linear in the position scores, and the image score is the mean of a few pixels or
positions, so both are weighted sums of position scores: exactly, for the image at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array, FloatArray, IntArray
from blemish.combination import Combination
from blemish.maps import MapOperator

_NEGLIGIBLE = 1e-7  # of the largest weight: the end of a blur's tail


@dataclass(frozen=True, slots=True)
class Sources:
    """Positions of one part, with the factors of their standardised scores.

    Attributes
    ----------
    positions : int64 (S,)
        Of the part's finest level.
    weights : float64 (S,)
    """

    positions: IntArray
    weights: Float64Array


def image_sources(combination: Combination, scores: Sequence[FloatArray]) -> list[Sources]:
    """What the image score of one image is made of.

    Parameters
    ----------
    combination : Combination
    scores : list of float (P,), one per part
        Standardised position scores.

    Returns
    -------
    list of Sources, one per part
        The weighted sum of the scores over all of them is the image score.
    """
    if combination.weights is None:
        anomaly_map = combination.operators[0](scores[0][None])[0]
        pixels = highest(anomaly_map.ravel(), combination.top_k)
        rows, columns = np.divmod(pixels, anomaly_map.shape[1])
        return [_pixel_sources(combination.operators[0], rows, columns, 1.0)]
    found = []
    for part, weight in enumerate(combination.weights.image):
        counted = combination.counted[part]
        usable = np.arange(len(scores[part])) if counted is None else np.flatnonzero(counted)
        best = usable[highest(scores[part][usable], combination.top_k)]
        found.append(
            Sources(best, np.full(len(best), weight / len(best)))
            if weight
            else Sources(best[:0], np.zeros(0))
        )
    return found


def pixel_sources(combination: Combination, row: int, column: int) -> list[Sources]:
    """What the map's value at one pixel is made of: one `Sources` per part."""
    weights = (1.0,) if combination.weights is None else combination.weights.map
    return [
        _pixel_sources(operator, np.array([row]), np.array([column]), weight)
        for operator, weight in zip(combination.operators, weights, strict=True)
    ]


def highest(values: FloatArray, count: int) -> IntArray:
    """Indices of the highest of values (K,), highest first."""
    count = min(count, len(values))
    some = np.argpartition(values, -count)[-count:]
    return np.asarray(some[np.argsort(-values[some], kind="stable")], dtype=np.int64)


def _pixel_sources(
    operator: MapOperator, rows: IntArray, columns: IntArray, weight: float
) -> Sources:
    """Positions that the mean of some pixels is made of."""
    factors = np.full(len(rows), weight / len(rows))
    if operator.pixel_weights is not None:
        factors = factors * operator.pixel_weights[rows, columns]
    grid = operator.rows[rows].T @ (factors[:, None] * operator.columns[columns])
    weights = grid.ravel()
    if operator.position_weights is not None:
        weights = weights * operator.position_weights
    kept = np.flatnonzero(np.abs(weights) > _NEGLIGIBLE * np.abs(weights).max(initial=0.0))
    return Sources(kept.astype(np.int64), weights[kept])
