"""A model's life after its fit: good images are added, forgotten, and models merged.

Moments are added and taken out exactly, so a model scores as one fitted on what it then stands
for. What is normal - thresholds, and what is standardised by - takes another look at all training
images: at the images themselves, or at the features that the model keeps. Without either, what is
known of the images before is put together (`combining`), and marked as approximate.

A model is never changed; each function returns a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from blemish.arrays import BoolArray
from blemish.errors import InputError
from blemish.fitted import Fitted
from blemish.inference import TRIED_IMAGES
from blemish.journal import JournalEntry, now
from blemish.learning import add, take_out
from blemish.lifecycle.likeness import check_alike
from blemish.lifecycle.recalibration import (
    Images,
    State,
    changed_model,
    copies,
    features_of_images,
    joined_features,
    learned_anew,
    mean_of,
    rounded,
)
from blemish.lifecycle.same_images import check_known, known_images, of_the_model, some
from blemish.model import Model, Progress
from blemish.moments import Moments
from blemish.operating_points import joined_points
from blemish.passes import learn_images
from blemish.records import places_among
from blemish.rejected import joined_rejected
from blemish.threshold import threshold_for
from blemish.training_images import (
    LEAST_IMAGES,
    source_sizes,
    warn_of_other_shapes,
)
from blemish.training_images import training_images as images_to_learn


@dataclass(frozen=True, slots=True)
class Change:
    """What a step did.

    Attributes
    ----------
    model : Model
        The new one.
    skipped : tuple of str
        Names of images that were not added, since the model had learned them already.
    unlike : tuple of str
        Names of images that were added, but would be anomalous by the scores of the others.
    """

    model: Model
    skipped: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    @property
    def entry(self) -> JournalEntry:
        """What the new model's journal says of the step."""
        return self.model.fitted.journal[-1]


def fit_like(model: Model, images: Images, *, progress: Progress | None = None) -> Model:
    """Fit on other images with settings, preprocessing and kept channels of a model.

    The two can then be merged: on several machines, fit the first as usual, the others like it.

    Parameters
    ----------
    model : Model
    images : folder, or files or arrays
        Good parts, at least 3.
    progress : function, optional

    Raises
    ------
    InputError
        Too few or unusable images.
    """
    found = images_to_learn(images)
    warn_of_other_shapes(source_sizes(found))
    fitted = model.fitted
    with closing(features_of_images(model, found, progress)) as source:
        made = replace(
            learn_images(
                source, fitted.embedding, fitted.backbone, fitted.settings, fitted.ignored
            ),
            operating_points=fitted.operating_points,
        )
        drift = Model(made).bf16_drift(source.some_inputs(TRIED_IMAGES))
    return Model(replace(made, bf16_drift=drift), model.engine)


def update(
    model: Model,
    images: Images,
    *,
    training_images: Images | None = None,
    progress: Progress | None = None,
) -> Change:
    """Add good images. Scores are those of one fit on all of them.

    Parameters
    ----------
    model : Model
    images : folder, or files or arrays
        Good parts. What the model has learned already is skipped.
    training_images : folder, or files or arrays, optional
        All that the model was learned from, to calibrate exactly; not needed if it keeps features.
    progress : function, optional

    Returns
    -------
    Change

    Raises
    ------
    InputError
        No image is new, or training images are missing.
    """
    fitted = model.fitted
    found = known_images(images, fitted, progress)
    new = (found.places < 0) & found.is_first
    if not new.any():
        raise InputError(
            "There must be new images to add, but the model has learned all "
            f"{len(found.images)} already. Give others."
        )
    warn_of_other_shapes(source_sizes(found.take(new)))
    everything: Images | None = None
    if training_images is not None:
        known = of_the_model(training_images, fitted, fitted.records, progress)
        everything = [*known, *found.take(new)]
    with closing(features_of_images(model, found.take(new), progress)) as source:
        moments = copies(fitted)
        for levels in source.levels(fitted.embedding, "moments"):
            add(moments, levels)
        state = State(
            moments=rounded(moments),
            records=fitted.records.plus(source.records),
            mean_image=mean_of(
                [(fitted.count, fitted.mean_image), (len(source.records), source.mean_image)]
            ),
            kept=joined_features([fitted.kept, source.kept]),
        )
        learned, how = learned_anew(
            model, state, everything, [(fitted, None)], newly=source, progress=progress
        )
        entry = JournalEntry(
            action="update",
            when=now(),
            added=len(source.records),
            count=len(state.records),
            calibration=how,
            images=source.records.named(),
        )
    changed = changed_model(model, state, learned, (*fitted.journal, entry))
    is_unlike = np.zeros(len(new), bool)
    before, added = np.split(learned.calibration.scores, [fitted.count])
    limit = threshold_for(before, model.settings.false_alarm_rate).value
    is_unlike[new] = added >= limit
    return Change(changed, tuple(found.names(~new)), tuple(found.names(is_unlike)))


def forget(
    model: Model,
    images: Images,
    *,
    training_images: Images | None = None,
    progress: Progress | None = None,
) -> Change:
    """Take images out, with all their copies, as if they had never been learned.

    Parameters
    ----------
    model : Model
    images : folder, or files or arrays
        Each of them one that the model was learned from.
    training_images : folder, or files or arrays, optional
        All that remain (more do no harm), to calibrate exactly; not needed if the model keeps
        features.
    progress : function, optional

    Returns
    -------
    Change

    Raises
    ------
    InputError
        An image was never learned, fewer than 3 would remain, or training images are missing.
    """
    fitted = model.fitted
    found = known_images(images, fitted, progress)
    check_known(found)
    numbers = places_among(found.digests, fitted.records.digests)
    remaining = numbers < 0
    if remaining.sum() < LEAST_IMAGES:
        raise InputError(
            f"A model needs at least {LEAST_IMAGES} images, but only {remaining.sum()} of "
            f"{fitted.count} would remain. Fit a new model."
        )
    learned_from = [found.images[number] for number in numbers[~remaining]]
    with closing(features_of_images(model, learned_from, progress)) as source:
        moments = copies(fitted)
        for levels in source.levels(fitted.embedding, "moments"):
            if fitted.kept is None:
                take_out(moments, levels)
        if fitted.kept is not None:  # the very numbers that were added
            for levels in fitted.kept.batches(~remaining):
                take_out(moments, levels)
        gone = len(source.records)
        state = State(
            moments=rounded(moments),
            records=fitted.records.take(remaining),
            mean_image=mean_of([(fitted.count, fitted.mean_image), (-gone, source.mean_image)]),
            kept=None if fitted.kept is None else fitted.kept.take(remaining),
        )
    learned, how = learned_anew(
        model, state, training_images, [(fitted, remaining)], progress=progress
    )
    entry = JournalEntry(
        action="forget",
        when=now(),
        removed=gone,
        count=len(state.records),
        calibration=how,
        images=fitted.records.take(~remaining).named(),
    )
    return Change(changed_model(model, state, learned, (*fitted.journal, entry)))


def merge(
    models: Sequence[Model],
    *,
    training_images: Images | None = None,
    progress: Progress | None = None,
) -> Change:
    """Put models of one product together, without their images.

    Parameters
    ----------
    models : sequence of at least 2 Model
        With the same settings but for false-alarm rates, from the same kept channels.
    training_images : folder, or files or arrays, optional
        All that the models were learned from, to calibrate exactly; not needed if all keep
        features.
    progress : function, optional

    Returns
    -------
    Change
        Its model has the engine, and the settings that may differ, of the first, and the operating
        points of all; of one name, the first's.

    Raises
    ------
    InputError
        Models that differ, that share images, or training images are missing.
    """
    if len(models) < 2:
        raise InputError(f"There must be 2 models to merge, but there is {len(models)}. Name more.")
    fitted = [model.fitted for model in models]
    check_alike(fitted)
    first, keeps = models[0], all(each.kept is not None for each in fitted)
    moments, images = copies(fitted[0]), [(fitted[0].count, fitted[0].mean_image)]
    records, kept = fitted[0].records, fitted[0].kept
    known: list[tuple[Fitted, BoolArray | None]] = [(fitted[0], None)]
    for other in fitted[1:]:
        new = records.find(other.records.digests) < 0
        added = _without(other, new)
        for mine, its in zip(moments, added, strict=True):
            mine.merge(its)
        images.append((int(new.sum()), other.mean_image))
        records = records.plus(other.records.take(new))
        kept = joined_features([kept, None if other.kept is None else other.kept.take(new)])
        known.append((other, new))
    settings = replace(first.settings, keep_features=keeps)
    state = State(moments=rounded(moments), records=records, mean_image=mean_of(images), kept=kept)
    learned, how = learned_anew(first, state, training_images, known, progress=progress)
    entry = JournalEntry(
        action="merge",
        when=now(),
        added=len(records) - fitted[0].count,
        count=len(records),
        calibration=how,
        merged=tuple(each.journal for each in fitted),
    )
    drifts = [each.bf16_drift for each in fitted if each.bf16_drift is not None]
    drift = max(drifts) if len(drifts) == len(fitted) else None
    changed = replace(
        changed_model(first, state, learned, (entry,)).fitted,
        settings=settings,
        rejected=joined_rejected([each.rejected for each in fitted], records),
        bf16_drift=drift,
        operating_points=joined_points([each.operating_points for each in fitted]),
    )
    return Change(Model(changed, first.engine))


def calibrate(
    model: Model, training_images: Images | None = None, *, progress: Progress | None = None
) -> Change:
    """Look at all training images once more: thresholds, and what is standardised by, are exact.

    Parameters
    ----------
    model : Model
    training_images : folder, or files or arrays, optional
        All that the model was learned from (more do no harm); not needed if it keeps features.
    progress : function, optional

    Returns
    -------
    Change

    Raises
    ------
    InputError
        Images are missing.
    """
    fitted = model.fitted
    if training_images is None and fitted.kept is None:
        raise InputError(
            "To calibrate, the training images are needed, since the model does not keep their "
            "features. Give the folder that has them all."
        )
    state = State(
        moments=[part.moments for part in fitted.parts],
        records=fitted.records,
        mean_image=fitted.mean_image,
        kept=fitted.kept,
    )
    learned, how = learned_anew(model, state, training_images, [], progress=progress)
    entry = JournalEntry(action="calibrate", when=now(), count=len(state.records), calibration=how)
    return Change(changed_model(model, state, learned, (*fitted.journal, entry)))


def _without(fitted: Fitted, kept: BoolArray) -> list[Moments]:
    """Moments of a model without the images that another has, too: bool (n,).

    Raises
    ------
    InputError
        There are such images, and the model does not keep their features.
    """
    if kept.all():
        return [part.moments for part in fitted.parts]
    if fitted.kept is None:
        names = [name or "an array" for name in fitted.records.take(~kept).names]
        raise InputError(
            f"Models to be merged must have no image in common, but {len(names)} are in two of "
            f"them: {some(names)}. Forget them in one of the two first (blemish forget)."
        )
    moments = copies(fitted)
    for levels in fitted.kept.batches(~kept):
        take_out(moments, levels)
    return moments
