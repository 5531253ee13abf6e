"""How well image scores separate anomalous from normal images, and the curves behind it.

Every function is exact. Tied scores are one threshold: they are predicted anomalous together,
so a tie between a normal and an anomalous image counts one half in the AUROC. A score at or
above a threshold is anomalous. Higher is better for every metric here; 1 is a perfect score.

The pixel side (maps and masks, PRO, AUPIMO) is in `blemish.pixel_metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.arrays import BoolArray, Float64Array, IntArray
from blemish.errors import InputError, ShapeError


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve over all thresholds, from the strictest threshold to the most lenient.

    Straight lines between neighbouring points belong to the curve: a tie is a diagonal.

    Attributes
    ----------
    x : float64 (K,), 0..1, never falling
        Share of what is normal that is at or above the threshold (false-positive rate).
    y : float64 (K,), 0..1, never falling
        Share of what is anomalous that is at or above the threshold: the true-positive rate
        of a ROC curve, the mean overlap per defect region of a PRO curve.
    thresholds : float64 (K,), strictly falling
        In the unit of the scores. Starts with infinity, where nothing is anomalous: (0, 0).
    """

    x: Float64Array
    y: Float64Array
    thresholds: Float64Array


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Chance that a random anomalous image scores above a random normal one.

    The area under the ROC curve. Ties count one half.

    Parameters
    ----------
    scores : float (N,)
        Image scores; higher is more anomalous.
    labels : bool or 0/1 (N,)
        True (1) where the image is anomalous.

    Returns
    -------
    float
        0..1; 0.5 for scores that say nothing. Negated scores give one minus it.

    Raises
    ------
    ShapeError
        `scores` and `labels` are not two lists of the same length.
    InputError
        A score is not finite, a label is neither 0 nor 1, or one of the two classes is missing.

    Examples
    --------
    >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    0.875
    """
    counts = _count(*_validate(scores, labels))
    rises = np.diff(counts.false, prepend=0)
    twice_area = int(np.sum(rises * (counts.true + np.concatenate(([0], counts.true[:-1])))))
    return twice_area / (2 * int(counts.true[-1]) * int(counts.false[-1]))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Precision at every threshold, averaged over the recall each of them adds.

    The area under the precision-recall curve as a sum of steps, without interpolation
    (as scikit-learn's `average_precision_score`).

    Parameters
    ----------
    scores, labels
        As for `auroc`.

    Returns
    -------
    float
        0..1; about the share of anomalous images for scores that say nothing.

    Raises
    ------
    ShapeError, InputError
        As for `auroc`.

    Examples
    --------
    >>> average_precision([0.1, 0.4, 0.3, 0.9], [False, False, True, True])
    0.8333333333333333
    """
    counts = _count(*_validate(scores, labels))
    precision = counts.true / (counts.true + counts.false)
    return float(np.sum(precision * np.diff(counts.true, prepend=0)) / counts.true[-1])


def f1_max(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Best F1 over all thresholds, and the threshold that reaches it.

    It is found with the truth at hand, so it flatters: a comparison figure, never the
    threshold to work with (`blemish.threshold` has that one).

    Parameters
    ----------
    scores, labels
        As for `auroc`.

    Returns
    -------
    tuple of float
        F1 (0..1) and its threshold, which is one of the scores: at or above it is
        anomalous. Of several equally good thresholds, the highest.

    Raises
    ------
    ShapeError, InputError
        As for `auroc`.

    Examples
    --------
    >>> f1_max([0.1, 0.4, 0.3, 0.9], [False, False, True, True])
    (0.8, 0.3)
    """
    counts = _count(*_validate(scores, labels))
    f1 = 2 * counts.true / (counts.true + counts.false + counts.true[-1])
    best = int(np.argmax(f1))
    return float(f1[best]), float(counts.thresholds[best])


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> Curve:
    """True-positive rate against false-positive rate, one point per distinct score.

    Parameters
    ----------
    scores, labels
        As for `auroc`.

    Returns
    -------
    Curve
        From (0, 0) at threshold infinity to (1, 1) at the lowest score.

    Raises
    ------
    ShapeError, InputError
        As for `auroc`.

    Examples
    --------
    >>> curve = roc_curve([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
    >>> curve.x, curve.y, curve.thresholds
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]), array([inf, 0.9, 0.4, 0.1]))
    """
    counts = _count(*_validate(scores, labels))
    return Curve(
        x=np.concatenate(([0.0], counts.false / counts.false[-1])),
        y=np.concatenate(([0.0], counts.true / counts.true[-1])),
        thresholds=np.concatenate(([np.inf], counts.thresholds)),
    )


def thin_curve(curve: Curve, max_points: int) -> Curve:
    """Keep at most `max_points` points of a curve, for a drawing or a table.

    The points kept are points of the curve, evenly spaced along it (counting steps right
    and steps up, each as a share of the curve's own width and height). First and last stay.
    A point left out is within ``2 / (max_points - 1)`` of the next one kept, counted likewise.

    Parameters
    ----------
    curve : Curve
    max_points : int >= 2

    Returns
    -------
    Curve
        The very same object if it has few enough points.

    Raises
    ------
    InputError
        `max_points` is below 2.

    Examples
    --------
    >>> line = np.linspace(0, 1, 1001)
    >>> thin_curve(Curve(line, line, 1 - line), 5).x
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    require_points(max_points)
    if len(curve.x) <= max_points:
        return curve
    length = _relative(curve.x) + _relative(curve.y)
    marks = np.linspace(0.0, length[-1], max_points)
    kept = np.searchsorted(length, marks, side="right") - 1
    kept[-1] = len(length) - 1
    kept = np.unique(np.concatenate(([0], kept[1:])))
    return Curve(curve.x[kept], curve.y[kept], curve.thresholds[kept])


def require_points(max_points: int) -> None:
    """Refuse a curve of fewer than 2 points, with an InputError."""
    if max_points < 2:
        raise InputError(
            f"max_points must be at least 2, but is {max_points}. "
            "A curve has a beginning and an end."
        )


@dataclass(frozen=True, slots=True)
class _Counts:
    """Images at or above each distinct score, highest score first."""

    thresholds: Float64Array
    true: IntArray
    false: IntArray


def _count(scores: Float64Array, labels: BoolArray) -> _Counts:
    """Count what each threshold would call anomalous, rightly and wrongly."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_tie = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    true = np.cumsum(labels[order], dtype=np.int64)[last_of_tie]
    return _Counts(falling[last_of_tie], true, last_of_tie + 1 - true)


def _validate(scores: ArrayLike, labels: ArrayLike) -> tuple[Float64Array, BoolArray]:
    """Check what every image metric requires; hand back arrays."""
    values: Float64Array = np.asarray(scores, dtype=np.float64)
    truth: NDArray[Any] = np.asarray(labels)
    if values.ndim != 1:
        raise ShapeError.of("scores", "(N,)", values.shape, "Give one score per image.")
    if truth.shape != values.shape:
        raise ShapeError.of(
            "labels", f"{values.shape}", truth.shape, "Give one label for every score."
        )
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(
            f"Scores must be finite, but score {at} is {values[at]}. "
            "Find out why the model gave it; it cannot be ranked."
        )
    if not np.isin(truth, (0, 1)).all():
        at = int(np.flatnonzero(~np.isin(truth, (0, 1)))[0])
        raise InputError(
            f"Labels must be 0 (normal) or 1 (anomalous), but label {at} is {truth[at].item()!r}. "
            "Convert them to bool first."
        )
    anomalous: BoolArray = truth.astype(np.bool_)
    _require_both_classes(len(anomalous), int(np.count_nonzero(anomalous)))
    return values, anomalous


def _require_both_classes(images: int, anomalous: int) -> None:
    if 0 < anomalous < images:
        return
    missing = "anomalous" if anomalous == 0 else "normal"
    raise InputError(
        f"A comparison of normal and anomalous images needs both, but {anomalous} of {images} "
        f"images are anomalous. Add {missing} images to the test set."
    )


def _relative(values: Float64Array) -> Float64Array:
    """Values from 0 (the first) to 1 (the last); all 0 if the curve has no extent this way."""
    extent = values[-1] - values[0]
    return (values - values[0]) / extent if extent > 0 else np.zeros_like(values)
