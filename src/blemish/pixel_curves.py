"""A curve over very many pixels, traced at few thresholds; every point is exact."""

from __future__ import annotations

from math import ceil

import numpy as np

from blemish.arrays import Float32Array, Float64Array
from blemish.metrics import Curve, require_points, thin_curve
from blemish.pixel_rates import FalsePositives
from blemish.pixel_store import UInt64Array, decode_regions, decode_scores, slices


def trace_curve(
    keys: UInt64Array,
    weights: Float64Array,
    normal: FalsePositives,
    max_points: int,
    *,
    fpr_limit: float = 1.0,
) -> Curve:
    """Summed weight of the defect pixels found, against the false-positive rate.

    Thresholds are chosen so that neighbours are close in both directions, then looked up
    among all pixels. Of few pixels, every score is a threshold.

    Parameters
    ----------
    keys : uint64 (M,) in rising order
        Defect pixels, as `blemish.pixel_store` encodes them.
    weights : float64 (regions,)
        What each pixel of a region counts; only their proportions matter.
    normal : FalsePositives
        Rates over defect-free pixels.
    max_points : int >= 2
    fpr_limit : float in (0, 1], default 1
        Where to end, interpolated if no threshold meets it.

    Returns
    -------
    Curve

    Raises
    ------
    InputError
        `max_points` is below 2.
    """
    require_points(max_points)
    chosen = [_spread_by_weight(keys, weights, max_points)]
    for scores, _ in normal.groups:
        within = scores[-min(len(scores), ceil(fpr_limit * normal.total) + 1) :]
        chosen.append(_spread(within, max_points))
    end = normal.crossing(fpr_limit)  # with its upper neighbour, so that the cut is exact
    chosen.append(np.array([np.inf, end, np.nextafter(end, np.float32(np.inf))], np.float32))
    thresholds = np.unique(np.concatenate(chosen))[::-1]
    x = normal.rate(thresholds, or_equal=True)
    y = _share_found(keys, weights, thresholds)
    new = np.append(True, (x[1:] > x[:-1]) | (y[1:] > y[:-1]))
    curve = Curve(x[new], y[new], thresholds[new].astype(np.float64))
    return thin_curve(curve if fpr_limit == 1 else _cut(curve, fpr_limit), max_points)


def _spread(rising: Float32Array, count: int) -> Float32Array:
    """About `count` of the scores, evenly spread over their ranks, with both ends."""
    if len(rising) <= 4 * count:
        return rising
    return rising[np.linspace(0, len(rising) - 1, count).astype(np.intp)]


def _spread_by_weight(keys: UInt64Array, weights: Float64Array, count: int) -> Float32Array:
    """Scores of defect pixels, about ``1 / count`` of all weight apart, with the lowest."""
    if len(keys) <= 4 * count:
        return decode_scores(keys)
    total = sum(float(weights[decode_regions(part)].sum()) for part in slices(keys))
    found, before = [], 0.0
    for part in slices(keys):
        summed = before + np.cumsum(weights[decode_regions(part)]) / total
        passed = np.diff(np.floor(summed * count), prepend=np.floor(before * count)) > 0
        passed[0] = True
        found.append(decode_scores(part[passed]))
        before = float(summed[-1])
    return np.concatenate(found)


def _share_found(
    keys: UInt64Array, weights: Float64Array, thresholds: Float32Array
) -> Float64Array:
    """Share of the weight of the defect pixels at or above each falling threshold."""
    rising = thresholds[::-1]
    between = np.zeros(len(rising) + 1)
    for part in slices(keys):
        place = rising.searchsorted(decode_scores(part), side="right")
        between += np.bincount(place, weights[decode_regions(part)], len(between))
    found: Float64Array = np.cumsum(between[::-1])
    found /= found[-1]
    return found[:-1]


def _cut(curve: Curve, limit: float) -> Curve:
    """The curve up to x = `limit`, with a last point interpolated there."""
    end = int(np.searchsorted(curve.x, limit))
    x0, x1, y0, y1 = *curve.x[end - 1 : end + 1], *curve.y[end - 1 : end + 1]
    x, y = curve.x[: end + 1].copy(), curve.y[: end + 1].copy()
    x[end], y[end] = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
    return Curve(x, y, curve.thresholds[: end + 1])
