"""Places that drove an image score, or stand out in the map: strongest first, not overlapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from blemish.arrays import FloatArray, IntArray
from blemish.combination import Combination
from blemish.explanation.score_sources import Sources, highest, pixel_sources

MOST_PEAKS = 3
_HALF = 0.5
Box = tuple[float, float, float, float]
"""x, y, width and height in pixels; pixel 0 covers 0 to 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the network's input.

    Attributes
    ----------
    row, column : int
        Pixel of the map: its highest in the box.
    box : Box
        Cells that supply most of what is found here.
    share : float in 0..1
        Of the image score.
    """

    row: int
    column: int
    box: Box
    share: float


def find_places(
    combination: Combination,
    scores: Sequence[FloatArray],
    anomaly_map: FloatArray,
    sources: Sequence[Sources],
    *,
    pixel_threshold: float,
) -> list[Place]:
    """Places that drove the image score; then, others where the map reaches the pixel threshold.

    Parameters
    ----------
    combination : Combination
    scores : list of float (P,), one per part
        Standardised position scores of one image.
    anomaly_map : float (H, W)
    sources : list of Sources, one per part
        Of the image score.
    pixel_threshold : float

    Returns
    -------
    list of Place
        By share, then by map value; 1 to 3.
    """
    reach = max(
        anomaly_map.shape[axis] / combination.operators[part].grid[axis]
        for part, own in enumerate(sources)
        if len(own.positions)
        for axis in (0, 1)
    )
    found: list[tuple[float, list[float]]] = []  # contribution; left, top, right, bottom
    for value, box in _seeds(combination, scores, anomaly_map, sources):
        for k, (sum_, lead) in enumerate(found):
            if _gap(lead, box) <= reach:
                found[k] = (sum_ + value, lead)
                break
        else:
            found.append((value, list(box)))
    total = sum(value for value, _ in found)
    places = [
        _place(anomaly_map, corners, value / total if total > 0 else 0.0)
        for value, corners in sorted(found, key=lambda each: -each[0])[:MOST_PEAKS]
    ]
    taken = [corners for _, corners in found]
    for row, column in _local_maxima(anomaly_map, round(2 * reach), pixel_threshold):
        corners = _pixel_box(combination, scores, row, column)
        if len(places) < MOST_PEAKS and all(_gap(corners, other) > reach for other in taken):
            places.append(Place(row, column, _box(corners), 0.0))
            taken.append(corners)
    return places


def _seeds(
    combination: Combination,
    scores: Sequence[FloatArray],
    anomaly_map: FloatArray,
    sources: Sequence[Sources],
) -> list[tuple[float, list[float]]]:
    """What the image score is the sum of, largest first, each with the corners of its cells."""
    if combination.weights is None:
        pixels = highest(anomaly_map.ravel(), combination.top_k)
        return [
            (
                float(anomaly_map[row, column]) / len(pixels),
                _pixel_box(combination, scores, int(row), int(column)),
            )
            for row, column in zip(*np.divmod(pixels, anomaly_map.shape[1]), strict=True)
        ]
    seeds = [
        (float(weight * scores[part][position]), _corners(combination, part, np.array([position])))
        for part, own in enumerate(sources)
        for position, weight in zip(own.positions, own.weights, strict=True)
    ]
    return sorted(seeds, key=lambda seed: -seed[0])


def _pixel_box(
    combination: Combination, scores: Sequence[FloatArray], row: int, column: int
) -> list[float]:
    """Corners of the cells that supply most of a pixel of the map, of the part that does."""
    shares = [
        own.weights * scores[part][own.positions]
        for part, own in enumerate(pixel_sources(combination, row, column))
    ]
    part = int(np.argmax([share.max(initial=-np.inf) for share in shares]))
    own, share = pixel_sources(combination, row, column)[part], shares[part]
    return _corners(combination, part, own.positions[share >= _HALF * share.max()])


def _corners(combination: Combination, part: int, positions: IntArray) -> list[float]:
    """Left, top, right and bottom of the cells of positions, in pixels of the map."""
    operator = combination.operators[part]
    high, wide = operator.size[0] / operator.grid[0], operator.size[1] / operator.grid[1]
    rows, columns = np.divmod(positions, operator.grid[1])
    return [
        float(columns.min() * wide),
        float(rows.min() * high),
        float((columns.max() + 1) * wide),
        float((rows.max() + 1) * high),
    ]


def _gap(one: Sequence[float], other: Sequence[float]) -> float:
    """Chessboard distance between two boxes, given by their corners; 0 if they overlap."""
    return max(0.0, *(max(one[k] - other[k + 2], other[k] - one[k + 2]) for k in (0, 1)))


def _place(anomaly_map: FloatArray, corners: Sequence[float], share: float) -> Place:
    left, top = int(corners[0]), int(corners[1])
    inside = anomaly_map[top : int(np.ceil(corners[3])), left : int(np.ceil(corners[2]))]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return Place(int(row) + top, int(column) + left, _box(corners), share)


def _box(corners: Sequence[float]) -> Box:
    left, top, right, bottom = corners
    return left, top, right - left, bottom - top


def _local_maxima(anomaly_map: FloatArray, reach: int, least: float) -> list[tuple[int, int]]:
    """Pixels that are the highest within reach and at least so high, highest first."""
    single = np.ascontiguousarray(anomaly_map, dtype=np.float32)
    around = cv2.dilate(single, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    rows, columns = np.nonzero((single >= around) & (single >= least) & (single > 0))
    order = np.argsort(-single[rows, columns], kind="stable")
    return [(int(rows[k]), int(columns[k])) for k in order]
