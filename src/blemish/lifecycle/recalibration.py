"""What is normal for a model whose images have changed: looked at anew, or put together.

The steps of `lifecycle` change what a model stands for, a `State`; here it becomes a model again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, Float32Array, FloatArray, IntArray
from blemish.fitted import Fitted
from blemish.inference import feature_extractor
from blemish.journal import JournalEntry
from blemish.kept_features import KeptFeatures
from blemish.learning import Learned, learn, regularisations_of
from blemish.lifecycle.combining import known_before
from blemish.lifecycle.same_images import of_the_model
from blemish.loading import ImageLike
from blemish.model import Model, Progress
from blemish.moments import Moments
from blemish.normal import CALIBRATION, KnownBefore, Pass
from blemish.records import ImageRecords
from blemish.training_features import TrainingFeatures
from blemish.unusual import UnusualImages

Images = Path | str | Iterable[ImageLike]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a model will stand for, before it is known what is normal."""

    moments: list[Moments]
    records: ImageRecords
    mean_image: Float32Array
    kept: KeptFeatures | None


def learned_anew(
    model: Model,
    state: State,
    training_images: Images | None,
    known: Sequence[tuple[Fitted, BoolArray | None]],
    *,
    newly: TrainingFeatures | None = None,
    progress: Progress | None,
) -> tuple[Learned, str]:
    """What is normal, and how it was learned: from images, kept features, or what was known.

    `known` are the models of before, with the images that are still in; `newly` images that no
    model knew.
    """
    fitted, settings = model.fitted, model.settings
    how = regularisations_of(state.moments, settings, fitted.ignored)

    def learned(levels: Pass, known: KnownBefore | None = None) -> Learned:
        return learn(
            state.moments,
            levels,
            embedding=fitted.embedding,
            preprocessing=fitted.preprocessing,
            settings=settings,
            ignored=fitted.ignored,
            known=known,
            regularisations=how,
        )

    if training_images is not None:
        at_hand = of_the_model(training_images, fitted, state.records, progress)
        with closing(features_of_images(model, at_hand, progress)) as source:
            return learned(lambda stage: source.levels(fitted.embedding, stage)), "images"
    if state.kept is not None:
        kept = state.kept
        return learned(lambda _: kept.batches()), "features"
    pixels = int(np.prod(model.size) if fitted.ignored is None else (~fitted.ignored).sum())
    before, unusual, order = known_before(known, state.moments, how, pixels=pixels)

    def again_and_new(stage: str) -> Iterator[Sequence[FloatArray]]:
        if stage == CALIBRATION:
            for each in unusual:
                yield from each.features.batches()
        if newly is not None:
            yield from newly.levels(fitted.embedding, stage)

    found = learned(again_and_new, before)
    if found.unusual is None:  # none of them is left, and no image is new
        found = replace(found, unusual=unusual[0])
    order = np.concatenate([order, np.arange(len(order), len(state.records))])
    return _in_order(found, order, at_hand=len(before.calibration.scores)), "combined"


def _in_order(found: Learned, order: IntArray, *, at_hand: int) -> Learned:
    """What was learned of images in another order; those from number `at_hand` on were at hand."""
    scores = np.empty_like(found.calibration.scores)
    scores[order] = found.calibration.scores
    unusual = found.unusual
    if unusual is not None:
        numbers = order[at_hand:][unusual.numbers]
        rising = np.argsort(numbers)
        levels = (np.asarray(level[0 : len(numbers)])[rising] for level in unusual.features.levels)
        unusual = UnusualImages(numbers[rising], KeptFeatures(tuple(levels)))
    calibration = replace(found.calibration, scores=scores)
    return replace(found, calibration=calibration, unusual=unusual)


def features_of_images(
    model: Model, images: Sequence[ImageLike], progress: Progress | None
) -> TrainingFeatures:
    """Features of images as those the model was learned from, in f32 as in a fit."""
    fitted = model.fitted
    return TrainingFeatures(
        images,
        feature_extractor(
            fitted.backbone, fitted.preprocessing.size, replace(model.engine, precision="auto")
        ),
        fitted.backbone,
        fitted.preprocessing,
        value_range=fitted.settings.value_range,
        progress=progress,
        keep=fitted.settings.keep_features,
        alignment=fitted.alignment,
    )


def changed_model(
    model: Model, state: State, learned: Learned, journal: tuple[JournalEntry, ...]
) -> Model:
    """The model that stands for a state."""
    rejected = model.fitted.rejected
    fitted = replace(
        model.fitted,
        parts=learned.parts,
        weights=learned.weights,
        calibration=learned.calibration,
        records=state.records,
        rejected=rejected and rejected.without(state.records),
        mean_image=state.mean_image,
        kept=state.kept,
        unusual=None if state.kept is not None else learned.unusual,
        journal=journal,
    )
    return Model(fitted, model.engine)


def copies(fitted: Fitted) -> list[Moments]:
    """Moments of every part, to be changed."""
    return [part.moments.copy() for part in fitted.parts]


def rounded(moments: list[Moments]) -> list[Moments]:
    """The same moments, as the model file will keep them."""
    for each in moments:
        each.round()
    return moments


def mean_of(images: Sequence[tuple[int, Float32Array]]) -> Float32Array:
    """Mean image of several sets, each with its number of images; below 0 if they are taken out."""
    total = sum(count for count, _ in images)
    weighted = sum(count * image.astype(np.float64) for count, image in images)
    return np.asarray(np.clip(weighted / total, 0, 1), np.float32)


def joined_features(parts: Sequence[KeptFeatures | None]) -> KeptFeatures | None:
    """Features of several sets of images, one after the other; None if one has none."""
    joined: KeptFeatures | None = None
    for part in parts:
        if part is None:
            return None
        joined = part if joined is None else joined.plus(part)
    return joined
