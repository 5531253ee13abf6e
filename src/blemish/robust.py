"""Learning from images of which a few are defective: outliers are taken out of the moments.

As in the concentration steps of FAST-MCD, images are scored, the worst are taken out, and all are
scored again until the set stays the same. But it starts from all images, not from the most usual
ones, and only evident outliers go: see docs/decisions/0015-outliers.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.embedding import Embedding
from blemish.errors import FewImagesWarning, InputError
from blemish.judge import judge_by
from blemish.learning import Learned, add, learn, take_out
from blemish.moments import Moments
from blemish.outliers import LEAST_SCORES, outliers_among
from blemish.preprocessing import Preprocessing
from blemish.rejected import Rejected
from blemish.settings import FitSettings
from blemish.training_features import TrainingFeatures

SomeImages = Callable[[str, BoolArray], Iterable[Sequence[FloatArray]]]
"""Name of a stage, bool (n,) -> batches of embeddings of those images, float (N, P, d)."""

_MOST_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Sorted:
    """Training images, sorted into those to learn from and outliers.

    Attributes
    ----------
    kept : bool (n,)
    scores : float64 (n,)
        By a model of the kept images; of those, left out.
    limit : float
        Score from which on an image is an outlier.
    learned : Learned
        That model, with the distance as its score.
    """

    kept: BoolArray
    scores: Float64Array
    limit: float
    learned: Learned


def without_outliers(
    gathered: Sequence[Moments],
    source: TrainingFeatures,
    embedding: Embedding,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> tuple[Learned | None, Rejected]:
    """Leave the outliers out of the moments, and of all later passes over the images.

    What was learned without them is given too, if it was learned with the score of the settings.
    The parameters are those of `take_out_outliers`.
    """
    found = take_out_outliers(
        gathered,
        lambda stage, some: source.levels(embedding, stage, some),
        embedding=embedding,
        preprocessing=source.preprocessing,
        settings=settings,
        ignored=ignored,
    )
    out = ~found.kept
    records = replace(source.records.take(out), placements=None)
    rejected = Rejected(records, found.scores[out], found.limit)
    source.choose(found.kept)
    return (found.learned if settings.score == "gaussian" else None), rejected


def take_out_outliers(
    gathered: Sequence[Moments],
    levels: SomeImages,
    *,
    embedding: Embedding,
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> Sorted:
    """Find the outliers among the training images, and take them out of the moments.

    Every image is scored as if it had not been learned from, by the distance, whatever the score
    of the settings. Those that `outliers_among` finds leave the moments, those that it does not
    find any more return, until the set stays the same, or after 6 rounds.

    Parameters
    ----------
    gathered : list of Moments
        Of all images; of the kept ones afterwards.
    levels : function
        Begins a pass over some of the images.
    embedding, preprocessing, settings, ignored
        As in `Fitted`; the settings resolved, with the share in `reject_outliers`.

    Returns
    -------
    Sorted

    Raises
    ------
    InputError
        Fewer than 10 images, or a share of less than one image.
    """
    count = gathered[0].count
    if count < LEAST_SCORES:
        raise InputError(
            f"To reject outliers there must be at least {LEAST_SCORES} images, but there are "
            f"{count}: too few to say what is usual. Give more images, or keep them all."
        )
    if int(settings.reject_outliers * count) == 0:
        raise InputError(
            f"The share of outliers must be at least one of {count} images, but is "
            f"{settings.reject_outliers:g}. Give {math.ceil(100 / count) / 100:g}, or 0 to keep "
            "them all."
        )
    judged = replace(settings, score="gaussian")
    kept = np.ones(count, bool)
    for number in range(_MOST_ROUNDS):
        with warnings.catch_warnings():
            if number:  # it has been said
                warnings.simplefilter("ignore", FewImagesWarning)
            learned = learn(
                gathered,
                lambda stage, now=kept: levels(stage, now),  # type: ignore[misc]
                embedding=embedding,
                preprocessing=preprocessing,
                settings=judged,
                ignored=ignored,
            )
        scores = _scores(learned, levels, kept, preprocessing, judged, ignored)
        found = outliers_among(scores, settings.reject_outliers)
        if (found.rejected == ~kept).all():
            break
        if number < _MOST_ROUNDS - 1:
            _move(gathered, levels, kept, ~found.rejected)
            kept = ~found.rejected
    limit = min(found.limit, float(scores[~kept].min(initial=np.inf)))
    return Sorted(kept, scores, limit, learned)


def _scores(
    learned: Learned,
    levels: SomeImages,
    kept: BoolArray,
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> Float64Array:
    """Scores of all images: left-out ones of those kept, plain ones of the others."""
    scores = np.empty(len(kept))
    scores[kept] = learned.calibration.scores
    if not kept.all():
        judge = judge_by(learned.parts, learned.weights, preprocessing, settings, ignored)
        found = [judge(batch).scores for batch in levels("outliers", ~kept)]
        scores[~kept] = np.concatenate(found)
    return scores


def _move(
    gathered: Sequence[Moments], levels: SomeImages, before: BoolArray, after: BoolArray
) -> None:
    """Take images out of the moments, and put some back, that are of those kept before."""
    for batch in levels("outliers", before & ~after):
        take_out(gathered, batch)
    for batch in levels("outliers", after & ~before):
        add(gathered, batch)
    for moments in gathered:
        moments.round()
