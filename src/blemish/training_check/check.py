"""Which training images should be looked at again, before a fit or after it.

Unlike the others, copies, blurred, badly lit, of another size: what a careful person would look
for, with the value that was measured and the limit that it is beyond. The check names images; it
removes none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from blemish.arrays import Float32Array, IntArray, UInt8Array
from blemish.engines.engine import EngineSettings
from blemish.errors import (
    AlignmentError,
    BlemishError,
    BlemishWarning,
    InputError,
    NotFittedError,
)
from blemish.fitting import fit
from blemish.image_statistics import STATISTICS, image_statistics
from blemish.input_size import full_size_for
from blemish.loading import ImageLike, load_ahead, name_of
from blemish.model import Model, Progress
from blemish.outliers import LEAST_SCORES, Outliers, outliers_among
from blemish.preprocessing import Preprocessing
from blemish.records import DIGEST_BYTES, digests_of
from blemish.rejected import Rejected
from blemish.settings import MOST_OUTLIERS, FitSettings
from blemish.training_check.copies import Copies, copies_among, thumbnails_of
from blemish.training_check.suspicion import (
    REASONS,
    Suspicion,
    by_copies,
    by_scores,
    by_sizes,
    by_statistics,
)
from blemish.training_images import source_size

COLUMNS = ("image", "reason", "value", "limit", "detail")
_BATCH = 16
_SHOWN = 5
_STRIDES = (4, 8, 16)  # of the builtin backbone


@dataclass(frozen=True, slots=True)
class TrainingCheck:
    """What a check found.

    Attributes
    ----------
    names : tuple of str
        Of all n images.
    suspicions : tuple of Suspicion
        In the order of `suspicion.REASONS`; an image can be named several times.
    copies : tuple of tuple of int
        Groups of copies, the original first.
    notes : tuple of str
        What could not be judged, and why.
    model : Model or None
        That scored the images.
    """

    names: tuple[str, ...]
    suspicions: tuple[Suspicion, ...]
    copies: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()
    model: Model | None = field(default=None, repr=False)

    @property
    def images(self) -> list[int]:
        """Numbers of the suspicious images, each once."""
        return list(dict.fromkeys(each.image for each in self.suspicions))

    def of(self, image: int) -> list[Suspicion]:
        """All that is suspicious about an image."""
        return [each for each in self.suspicions if each.image == image]

    def records(self) -> list[dict[str, Any]]:
        """One row per suspicion, with `COLUMNS`."""
        return [
            {"image": self.names[each.image]} | {name: getattr(each, name) for name in COLUMNS[1:]}
            for each in self.suspicions
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "images": len(self.names),
            "suspicious": len(self.images),
            "suspicions": self.records(),
            "copies": [[self.names[image] for image in group] for group in self.copies],
            "notes": list(self.notes),
        }


def check_training(
    images: Iterable[ImageLike],
    *,
    model: Model | None = None,
    scores: bool = True,
    names: Sequence[str] | None = None,
    engine: EngineSettings | None = None,
    progress: Progress | None = None,
) -> TrainingCheck:
    """Look for suspicious images among those that are to be learned from, or were.

    Parameters
    ----------
    images : files or arrays
        Good parts, as far as is known.
    model : Model, optional
        It scores the images: those it was learned from as if each had been left out. Without one,
        a robust model with the builtin backbone is learned for the purpose.
    scores : bool, default True
        False: learn no model for the purpose, which is most of the time.
    names : sequence of str, optional
        Default: the file names.
    engine : EngineSettings, optional
        For that model.
    progress : function, optional

    Returns
    -------
    TrainingCheck

    Raises
    ------
    NotFittedError
        There is no image.

    Examples
    --------
    >>> noise = np.random.default_rng(0).integers(90, 120, (12, 64, 64, 3), dtype=np.uint8)
    >>> found = check_training([*noise, noise[3], noise[5] // 3])
    >>> [(each.image, each.reason) for each in found.suspicions]
    [(13, 'score'), (12, 'copy'), (13, 'dark'), (13, 'grainy')]
    """
    images = list(images)
    if not images:
        raise NotFittedError("A check needs images, but there are none. Give some.")
    names = names or [name_of(image) or f"image {k}" for k, image in enumerate(images)]
    seen = _Seen(images, names, model, progress or _silent)
    quick, notes = None, []
    if model is None and scores:
        quick, note = _quick_model(seen, engine, progress)
        notes += [note] if note else []
    suspicions = [*seen.errors, *by_sizes(seen.sizes)]
    scorer = model or quick
    if scorer is not None:
        suspicions += _by_model(scorer, seen, "score" if model is None else "rejected")
    copies = seen.copies()
    suspicions += [*by_copies(copies, names), *by_statistics(seen.statistics)]
    order = {reason: place for place, reason in enumerate(REASONS)}
    return TrainingCheck(
        tuple(names),
        tuple(sorted(suspicions, key=lambda each: order[each.reason])),
        tuple(tuple(group) for group in copies.groups()),
        tuple(notes),
        scorer,
    )


def check_model(model: Model) -> TrainingCheck:
    """Look for suspicious images among those that a model was learned from.

    Without the images, from what the model keeps of them: near copies are not found.
    """
    fitted = model.fitted
    records, scores = fitted.records, fitted.calibration.scores
    suspicions = by_scores(scores, outliers_among(scores, MOST_OUTLIERS))
    names = [name or f"image {k}" for k, name in enumerate(records.names)]
    copies = copies_among(np.zeros((len(names), 1), np.float32), records.digests)
    suspicions += [*by_copies(copies, names), *by_statistics(records.statistics)]
    groups = tuple(tuple(group) for group in copies.groups())
    return TrainingCheck(tuple(names), tuple(suspicions), groups, model=model)


def check_lines(check: TrainingCheck) -> list[str]:
    """What a check found, as lines of text: an image and what is suspicious about it each."""
    numbers, total = check.images, len(check.names)
    lines = [
        f"{len(numbers)} of {total} images {'is' if len(numbers) == 1 else 'are'} suspicious."
        if numbers
        else f"None of {total} images is suspicious."
    ]
    for number in numbers:
        why = "; ".join(f"{REASONS[each.reason]}: {each.detail}" for each in check.of(number))
        lines.append(f"{check.names[number]}: {why}")
    return lines + list(check.notes)


def check_summary(check: TrainingCheck) -> str:
    """One line: how many images are suspicious, the first few, and why; "" for none."""
    numbers = check.images
    if not numbers:
        return ""
    shown = [
        f"{check.names[number]} ({', '.join(REASONS[each.reason] for each in check.of(number))})"
        for number in numbers[:_SHOWN]
    ]
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    word = "image" if len(numbers) == 1 else "images"
    return f"{len(numbers)} suspicious {word}: {', '.join(shown)}{more}."


class _Seen:
    """What one pass over the images measures; images that cannot be read are missing from it."""

    def __init__(
        self,
        images: Sequence[ImageLike],
        names: Sequence[str],
        model: Model | None,
        progress: Progress,
    ) -> None:
        self.images, self._names, self._model = images, names, model
        self.errors: list[Suspicion] = []
        self.sizes = [self._size(k) for k in range(len(images))]
        self.statistics = np.full((len(images), len(STATISTICS)), np.nan)
        self.digests = np.zeros((len(images), DIGEST_BYTES), np.uint8)
        self.scores = np.full(len(images), np.nan)
        self.places: list[int] = []
        self._thumbnails: list[Float32Array] = []
        self._go_through(progress)

    def copies(self) -> Copies:
        """Copies among all images."""
        original, similarity = np.arange(len(self.images)), np.ones(len(self.images))
        if self.places:
            places = np.array(self.places)
            found = copies_among(np.concatenate(self._thumbnails), self.digests[places])
            original[places], similarity[places] = places[found.original], found.similarity
        return Copies(original, similarity)

    @property
    def size(self) -> tuple[int, int]:
        """Input size of a model that would be learned."""
        first = next((size for size in self.sizes if size is not None), (1, 1))
        return full_size_for(first, _STRIDES)

    def _size(self, image: int) -> tuple[int, int] | None:
        try:
            return source_size(self.images[image])
        except BlemishError as error:
            self.errors.append(Suspicion(image, "unreadable", str(error)))
            return None

    def _go_through(self, progress: Progress) -> None:
        readable = [k for k, size in enumerate(self.sizes) if size is not None]
        preprocessing, value_range = Preprocessing.full(self.size), None
        if self._model is not None:
            preprocessing = self._model.preprocessing
            value_range = self._model.settings.value_range
        stream = load_ahead(
            [self.images[k] for k in readable], preprocessing, value_range=value_range
        )
        pairs, done = zip(readable, stream, strict=True), 0
        while some := list(islice(pairs, _BATCH)):
            progress("check", done, len(readable))
            self._measure(some)
            done += len(some)
        progress("check", done, len(readable))

    def _measure(self, some: Sequence[tuple[int, Float32Array | BlemishError]]) -> None:
        loaded = []
        for image, found in some:
            if isinstance(found, BlemishError):
                self.errors.append(Suspicion(image, "unreadable", str(found)))
            else:
                loaded.append((image, found))
        if not loaded:
            return
        places = [image for image, _ in loaded]
        inputs = np.stack([found for _, found in loaded])
        self.places += places
        self.statistics[places], self.digests[places] = image_statistics(inputs), digests_of(inputs)
        self._thumbnails.append(thumbnails_of(inputs))
        if self._model is not None:
            self._score(self._model, places, inputs)

    def _score(self, model: Model, places: Sequence[int], inputs: Float32Array) -> None:
        """Plain scores of images that the model does not know."""
        known = model.fitted.records.find(self.digests[places]) >= 0
        known |= _rejected_places(model, self.digests[places]) >= 0
        unknown = [k for k, is_known in enumerate(known) if not is_known]
        if not unknown:
            return
        names = [self._names[places[k]] for k in unknown]
        for k, found in zip(unknown, model.score_or_errors(inputs[unknown], names), strict=True):
            if isinstance(found, AlignmentError):
                self.errors.append(Suspicion(places[k], "unaligned", str(found)))
            else:
                self.scores[places[k]] = found.image_score


def _quick_model(
    seen: _Seen, engine: EngineSettings | None, progress: Progress | None
) -> tuple[Model | None, str]:
    """A robust model of the readable images; or None, and why there is none."""
    readable = [seen.images[place] for place in seen.places]
    if len(readable) < LEAST_SCORES:
        return None, (
            f"Scores need at least {LEAST_SCORES} images, but there are {len(readable)}: "
            "not scored."
        )
    settings = FitSettings(reject_outliers=MOST_OUTLIERS, size=seen.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlemishWarning)
        try:
            return fit(readable, settings, engine=engine, progress=progress), ""
        except InputError as error:
            return None, f"Not scored: {error}"


def _by_model(model: Model, seen: _Seen, why_rejected: str) -> list[Suspicion]:
    """Images that look unlike the others, and those that the fit has left out."""
    fitted, places = model.fitted, np.array(seen.places, dtype=np.int64)
    known = fitted.records.find(seen.digests[places])
    scores = seen.scores.copy()
    scores[places[known >= 0]] = fitted.calibration.scores[known[known >= 0]]
    absent = np.ones(fitted.count, bool)
    absent[known[known >= 0]] = False
    there = np.flatnonzero(np.isfinite(scores))
    pool = np.concatenate([scores[there], fitted.calibration.scores[absent]])
    found = outliers_among(pool, MOST_OUTLIERS)
    rejected = np.zeros(len(scores), bool)
    rejected[there] = found.rejected[: len(there)]
    suspicions = by_scores(np.where(rejected, scores, -np.inf), Outliers(rejected, found.limit))
    if fitted.rejected is not None:
        numbers = _rejected_places(model, seen.digests[places])
        suspicions += [
            _left_out(fitted.rejected, number, place, why_rejected)
            for number, place in zip(numbers.tolist(), places.tolist(), strict=True)
            if number >= 0
        ]
    return suspicions


def _left_out(rejected: Rejected, number: int, image: int, reason: str) -> Suspicion:
    """Why a fit has left out one of those that it rejected."""
    score = float(rejected.scores[number])
    detail = f"image score {score:.4g} reaches {rejected.limit:.4g}"
    return Suspicion(image, reason, detail, score, rejected.limit)


def _rejected_places(model: Model, digests: UInt8Array) -> IntArray:
    """Number among the rejected images of each digest (m, 16); -1 if it is none."""
    rejected = model.fitted.rejected
    if rejected is None:
        return np.full(len(digests), -1, dtype=np.int64)
    return rejected.records.find(digests)


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
