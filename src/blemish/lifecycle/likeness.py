"""Whether models may be merged: what must be the same, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

import numpy as np

from blemish.errors import InputError
from blemish.fitted import Fitted
from blemish.settings import FitSettings

MAY_DIFFER = frozenset(
    {"false_alarm_rate", "pixel_false_alarm_rate", "keep_features", "reject_outliers"}
)
"""Settings that say nothing about what a score is."""

_SAME: dict[str, Callable[[Fitted], object]] = {
    "backbone's graph (sha256)": lambda model: model.backbone.sha256[:12],
    "layers": lambda model: tuple(layer.name for layer in model.backbone.layers),
    "input size": lambda model: model.preprocessing.size,
    "preprocessing": lambda model: model.preprocessing.to_json(),
}


def check_alike(models: Sequence[Fitted]) -> None:
    """Refuse models whose scores do not mean the same.

    Raises
    ------
    InputError
        Names what differs, with the values.
    """
    for number, model in enumerate(models[1:], 2):
        differing = list(_differences(models[0], model))
        if differing:
            raise InputError(
                f"Models to be merged must have the same settings, but the first and number "
                f"{number} differ: {'; '.join(differing)}. Fit one like the other "
                "(blemish fit --like)."
            )


def _differences(first: Fitted, other: Fitted) -> Iterator[str]:
    differing = False
    for field in fields(FitSettings):
        mine, its = getattr(first.settings, field.name), getattr(other.settings, field.name)
        if mine != its and field.name not in MAY_DIFFER:
            differing = True
            yield f"{field.name} {mine} and {its}"
    for name, value in _SAME.items():
        if not differing and value(first) != value(other):
            yield f"{name} {value(first)} and {value(other)}"
    if not differing and not _same_channels(first, other):
        yield "the channels kept (chosen from other images)"
    if not _same(first.ignored, other.ignored):
        yield "the ignore mask"
    if not differing and not _same(_reference(first), _reference(other)):
        yield "the reference that parts are aligned with"


def _reference(model: Fitted) -> object:
    return None if model.alignment is None else model.alignment.reference


def _same_channels(first: Fitted, other: Fitted) -> bool:
    mine, its = first.embedding, other.embedding
    return mine.dims == its.dims and all(
        _same(a, b)
        for pairs in ((mine.selections, its.selections), (mine.projections, its.projections))
        for a, b in zip(*pairs, strict=True)
    )


def _same(first: object, other: object) -> bool:
    """Whether two arrays, or None, are the same."""
    if first is None or other is None:
        return first is other
    return np.array_equal(np.asarray(first), np.asarray(other))
