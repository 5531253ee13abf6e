"""The reference that parts are aligned with: the mean of good images, each aligned with the rest.

It starts from the image that most others look like. All are aligned with it, their mean is the
next reference, and so on. The mean is laid as parts usually lie; if they lie all ways, so that they
have most room in the frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from blemish.alignment import Alignment, gray, seen_by_reference
from blemish.arrays import Float32Array, Float64Array, FloatArray
from blemish.cores import one_blas_thread
from blemish.errors import AlignmentError
from blemish.registration import Placement, Registration

LEAST_USUAL = 0.5
"""Correlation that good images must usually reach, or there is nothing to align them by."""

SHARE_OF_USUAL = math.sqrt(0.5)
"""The least correlation over the median of good images: the reference then explains half as much
of the variance of an image as it usually does."""

_ROUNDS = 2
_STARTS, _COMPARED = 5, 12
_UNSEEN = 1e-3  # weight of the nearest pixel where an image ends
_POSES = tuple(float(angle) for angle in range(0, 180, 5))
_WORTH = 0.05  # of the frame: room that is worth another pose
_STRAY = 0.005  # of the pixels of the part may be none
_ONE_WAY = 0.5
"""Angles whose mean resultant is longer are spread about one direction."""


def learn_alignment(
    images: Sequence[FloatArray], kind: str, reference: Float32Array | None = None
) -> Alignment:
    """Learn what to align with, and how well good images do.

    Parameters
    ----------
    images : sequence of float (3, H, W), 0..1
        Good images, preprocessed.
    kind : {"shift", "rigid"}
    reference : float32 (3, H, W), optional
        Instead of their mean.

    Returns
    -------
    Alignment

    Raises
    ------
    AlignmentError
        Good images do not look alike wherever they are laid.
    """
    turned = kind == "rigid"
    with one_blas_thread():
        if reference is None:
            start = images[_most_alike(images, turned)]
            reference = _mean(images, _placements(images, start, turned), turned)
            for _ in range(_ROUNDS - 1):
                reference = _mean(images, _placements(images, reference, turned), turned)
        found = _placements(images, reference, turned)
    usual = _usual(found)
    if usual < LEAST_USUAL:
        raise AlignmentError(
            f"To be aligned, good images must correlate with the reference by {LEAST_USUAL} or "
            f"more, but usually do by {usual:.3f}: they show no part of one shape. Use align none, "
            "or another reference."
        )
    return Alignment(
        kind=kind, reference=reference, least_correlation=float(SHARE_OF_USUAL * usual)
    )


def _most_alike(images: Sequence[FloatArray], turned: bool) -> int:
    """Number of the image, of some, that some others are most like."""
    candidates, others = (_spread(len(images), count) for count in (_STARTS, _COMPARED))
    usual = [
        _usual(_placements([images[k] for k in others if k != start], images[start], turned))
        for start in candidates
    ]
    return candidates[int(np.argmax(usual))]


def _placements(
    images: Sequence[FloatArray], reference: FloatArray, turned: bool
) -> list[Placement]:
    registration = Registration(gray(np.asarray(reference, np.float32)), turned=turned)
    return [registration(gray(np.asarray(image, np.float32))) for image in images]


def _mean(
    images: Sequence[FloatArray], placements: Sequence[Placement], turned: bool
) -> Float32Array:
    """Mean of the images that are aligned well, laid so that parts are seen whole."""
    least = SHARE_OF_USUAL * _usual(placements)
    good = [k for k, placement in enumerate(placements) if placement.correlation >= least]
    some, found = [images[k] for k in good], [placements[k] for k in good]
    size = (images[0].shape[1], images[0].shape[2])
    way = _way(found) if turned else 0.0
    middle = _middle(found, way or 0.0)
    if way is None:
        side = math.ceil(math.hypot(*size))
        middle = middle.after(_roomiest(_average(some, found, middle, (side, side)), size))
    return np.ascontiguousarray(_average(some, found, middle, size).transpose(2, 0, 1))


def _average(
    images: Sequence[FloatArray],
    placements: Sequence[Placement],
    middle: Placement,
    canvas: tuple[int, int],
) -> Float32Array:
    """Mean (H, W, 3) on a canvas; `middle` is where it lies in what the placements are against."""
    total = weight = np.zeros(1)
    for image, placement in zip(images, placements, strict=True):
        brought, share = seen_by_reference(
            np.asarray(image, np.float32), placement.after(middle), canvas
        )
        counts = share[..., None].astype(np.float64) + _UNSEEN
        total, weight = total + brought * counts, weight + counts
    return np.clip(total / weight, 0, 1).astype(np.float32)


def _way(placements: Sequence[Placement]) -> float | None:
    """Angle about which the parts lie, in degrees; None if they lie all ways."""
    mean = complex(np.exp(1j * np.radians([each.angle for each in placements])).mean())
    return math.degrees(math.atan2(mean.imag, mean.real)) if abs(mean) > _ONE_WAY else None


def _middle(placements: Sequence[Placement], way: float) -> Placement:
    """Where a reference should lie in the one before, to have its part in the middle of all."""
    back = [placement.inverse() for placement in placements]
    dx, dy = (float(np.median([getattr(each, name) for each in back])) for name in ("dx", "dy"))
    return Placement(dx, dy, -way)


def _roomiest(canvas: Float32Array, size: tuple[int, int]) -> Placement:
    """Where a frame (H, W) should lie on a canvas (S, S, 3), to have most room around the part.

    The part is what differs from the rim of the canvas, by Otsu's threshold.
    """
    levels = (canvas.mean(axis=2) * 255).astype(np.uint8)
    bright = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1] > 0
    rim = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    rows, columns = np.nonzero(bright != (rim.mean() > 0.5))
    if not len(rows):
        return Placement(0.0, 0.0, 0.0)
    places = np.stack([columns, rows]).astype(np.float64) - (len(levels) - 1) / 2
    rooms = [_room(places, angle, size) for angle in _POSES]
    best = max(range(len(rooms)), key=lambda k: rooms[k][0])
    room, x, y = rooms[best if rooms[best][0] > rooms[0][0] + _WORTH * min(size) else 0]
    angle = _POSES[best] if room == rooms[best][0] else _POSES[0]
    return Placement(0.0, 0.0, angle).after(Placement(x, y, 0.0))


def _room(places: Float64Array, angle: float, size: tuple[int, int]) -> tuple[float, float, float]:
    """Least room around places (2, n) in a frame that is turned, and where its middle should be."""
    seen = Placement(0.0, 0.0, -angle).matrix((1, 1))[:, :2] @ places
    low, high = np.quantile(seen, [_STRAY, 1 - _STRAY], axis=1)
    x, y = ((low + high) / 2).tolist()
    room = float(np.min(np.array(size[::-1]) - (high - low)))
    return room, x, y


def _usual(placements: Sequence[Placement]) -> float:
    return float(np.median([placement.correlation for placement in placements]))


def _spread(count: int, most: int) -> list[int]:
    """Numbers of at most so many of `count` images, evenly spread."""
    return sorted({int(k) for k in np.linspace(0, count - 1, min(count, most))})
