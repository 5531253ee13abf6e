"""Reasons to look at a training image again: each with its value, and the limit it is beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array
from blemish.image_statistics import STATISTICS
from blemish.outliers import Outliers, usual_range
from blemish.training_check.copies import LEAST_SIMILARITY, Copies

REASONS = {
    "unreadable": "cannot be read",
    "unaligned": "cannot be aligned",
    "shape": "other shape",
    "size": "other size",
    "rejected": "left out of the fit",
    "score": "unlike the other parts",
    "copy": "copy of another image",
    "dark": "dark",
    "bright": "bright",
    "flat": "little contrast",
    "harsh": "much contrast",
    "blurred": "blurred",
    "grainy": "noisy, or sharper",
    "clipped": "black or white areas",
}
"""Why an image is suspicious, and that in words."""

_SHAPE_TOLERANCE = 0.02

# Per statistic: reasons for a value that is too low and too high, and the least spread.
_STATISTICS: dict[str, tuple[str | None, str | None, float]] = {
    "brightness": ("dark", "bright", 0.004),
    "contrast": ("flat", "harsh", 0.004),
    "focus": ("blurred", "grainy", 0.05),
    "clipped": (None, "clipped", 0.002),
}


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A reason to look at an image.

    Attributes
    ----------
    image : int
        Number of the image.
    reason : str
        One of `REASONS`.
    detail : str
        In words.
    value, limit : float or None
        What was measured, and what it should not be beyond.
    other : int or None
        Number of the image that it is a copy of.
    """

    image: int
    reason: str
    detail: str
    value: float | None = None
    limit: float | None = None
    other: int | None = None


def by_statistics(statistics: Float64Array) -> list[Suspicion]:
    """Images that were taken in another way than most.

    Parameters
    ----------
    statistics : float64 (n, 4)
        `image_statistics.STATISTICS`; NaN for images that have none.
    """
    found = []
    for column, name in enumerate(STATISTICS):
        low_reason, high_reason, least = _STATISTICS[name]
        values = statistics[:, column]
        there = np.isfinite(values)
        low, high = usual_range(values[there], least)
        for image in np.flatnonzero(there & ((values < low) | (values > high))).tolist():
            value = float(values[image])
            reason, limit = (low_reason, low) if value < low else (high_reason, high)
            if reason is not None:
                word = "below" if value < low else "above"
                detail = f"{name} {value:.4g} is {word} {limit:.4g}"
                found.append(Suspicion(image, reason, detail, value, limit))
    return found


def by_scores(scores: Float64Array, found: Outliers) -> list[Suspicion]:
    """Images that look unlike the others, left out: float64 (n,), higher first."""
    return [
        Suspicion(
            image,
            "score",
            f"image score {scores[image]:.4g} reaches {found.limit:.4g}",
            float(scores[image]),
            found.limit,
        )
        for image in np.argsort(-scores, kind="stable").tolist()
        if found.rejected[image]
    ]


def by_copies(copies: Copies, names: Sequence[str]) -> list[Suspicion]:
    """Images that are copies of earlier ones; those are not suspicious themselves."""
    found = []
    for image, original in enumerate(copies.original.tolist()):
        if image == original:
            continue
        alike = float(copies.similarity[image])
        detail = f"the same pixels as {names[original]}"
        if alike < 1:
            detail = f"nearly the same picture as {names[original]}, similarity {alike:.4f}"
        found.append(Suspicion(image, "copy", detail, alike, LEAST_SIMILARITY, original))
    return found


def by_sizes(sizes: Sequence[tuple[int, int] | None]) -> list[Suspicion]:
    """Images of another size, (height, width), than most; None where it is unknown.

    Another shape is worse than another size: images are stretched to one.
    """
    known = [size for size in sizes if size is not None]
    if not known:
        return []
    usual = max(dict.fromkeys(known), key=known.count)
    shape = usual[0] / usual[1]
    found = []
    for image, size in enumerate(sizes):
        if size is None or size == usual:
            continue
        detail = f"{size[0]}x{size[1]} pixels, most have {usual[0]}x{usual[1]}"
        if abs(size[0] / size[1] / shape - 1) > _SHAPE_TOLERANCE:
            found.append(Suspicion(image, "shape", detail, size[0] / size[1], shape))
        else:
            found.append(Suspicion(image, "size", detail, size[0] * size[1], usual[0] * usual[1]))
    return found
