"""Many images through a model, in order; what cannot be read or aligned is reported."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array
from blemish.decision import Decision, Score
from blemish.errors import AlignmentError, BlemishError
from blemish.lazy_image import LazyImage
from blemish.loading import in_order, load_or_error
from blemish.model import Model, Progress
from blemish.sources import Frame, ImageList, ImageSource
from blemish.training_images import source_size

_AHEAD = 4  # images per thread that may be worked on or wait
_LEAST_THREADS = 2  # one image is decoded while another is in the network


@dataclass(frozen=True, slots=True)
class Inspected:
    """One image and what was found.

    Attributes
    ----------
    path : Path
    pixels : float32 (H, W, 3), 0..1
        The image, preprocessed. Empty if it could not be read.
    decision : Decision or None
    error : BlemishError or None
        Why there is no decision.
    name : str
        As the source calls it.
    time : float or None
        Seconds, as in `sources.Frame`.
    """

    path: Path
    pixels: Float32Array
    decision: Decision | None = None
    error: BlemishError | None = None
    name: str = ""
    time: float | None = None


def inspect_images(
    model: Model,
    paths: Sequence[Path | LazyImage],
    *,
    false_alarm_rate: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Inspected]:
    """Judge images in their order and in bounded memory; several are worked on at a time.

    How many go through the network at once is up to the model's `engine`: streams times batch.

    Parameters
    ----------
    model : Model
    paths : sequence of Path, or of images made of a file
    false_alarm_rate : float in (0, 1), optional
        Default: the model's default operating point.
    progress : function, optional

    Yields
    ------
    Inspected
        With an error instead of a decision where a file cannot be read.
    """
    return inspect_source(
        model, ImageList(paths), false_alarm_rate=false_alarm_rate, progress=progress
    )


def inspect_source(
    model: Model,
    source: ImageSource,
    *,
    false_alarm_rate: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Inspected]:
    """Judge the images of any source as `inspect_images` does; those of a live one as they come.

    Parameters
    ----------
    model : Model
    source : ImageSource
        Its `stop()` ends the iteration; its `counts` say what became of its frames.
    false_alarm_rate : float in (0, 1), optional
        Default: the model's default operating point.
    progress : function, optional
        Called if the length of the source is known.

    Yields
    ------
    Inspected
        With an error instead of a decision where an image cannot be read, or not be aligned.

    Raises
    ------
    CameraError
        A camera cannot be opened, or is lost for good.
    """

    def judge(some: Sequence[Frame]) -> list[Inspected]:
        loaded = [_loaded(frame, model) for frame in some]
        readable = [found[0] for found in loaded if not isinstance(found, BlemishError)]
        names = [
            str(frame.path)
            for frame, found in zip(some, loaded, strict=True)
            if not isinstance(found, BlemishError)
        ]
        scores = iter(model.score_or_errors(np.stack(readable), names) if readable else [])
        return [
            _without_decision(frame, found)
            if isinstance(found, BlemishError)
            else judged(frame, *found, next(scores))
            for frame, found in zip(some, loaded, strict=True)
        ]

    def judged(
        frame: Frame, pixels: Float32Array, size: tuple[int, int], score: Score | AlignmentError
    ) -> Inspected:
        if isinstance(score, AlignmentError):
            return _without_decision(frame, score, pixels)
        return Inspected(
            frame.path,
            np.ascontiguousarray(pixels.transpose(1, 2, 0)),
            model.classify(score, false_alarm_rate=false_alarm_rate, source_size=size),
            name=frame.name,
            time=frame.time,
        )

    model.threshold(false_alarm_rate)  # a wrong rate is found before the first image is read
    done, total = 0, source.length
    for found in _judged(judge, source, model):
        for one in found:
            if progress is not None and total is not None:
                progress("inspection", done, max(done, total))
            yield one
            done += 1
    if progress is not None and total is not None:
        progress("inspection", done, done)


def _without_decision(
    frame: Frame, error: BlemishError, pixels: Float32Array | None = None
) -> Inspected:
    seen = np.zeros((3, 0, 0), np.float32) if pixels is None else pixels
    return Inspected(
        frame.path,
        np.ascontiguousarray(seen.transpose(1, 2, 0)),
        error=error,
        name=frame.name,
        time=frame.time,
    )


def _loaded(frame: Frame, model: Model) -> tuple[Float32Array, tuple[int, int]] | BlemishError:
    """Input of a frame, and the size of its image; or why they cannot be had."""
    pixels = load_or_error(frame.image, model.preprocessing, value_range=model.settings.value_range)
    if isinstance(pixels, BlemishError):
        return pixels
    try:
        return pixels, source_size(frame.image)
    except BlemishError as error:  # the file is gone
        return error


def _judged(
    judge: Callable[[Sequence[Frame]], list[Inspected]], source: ImageSource, model: Model
) -> Iterator[list[Inspected]]:
    """Several batches at a time; of a live source one frame, since the next may be long in coming.

    A camera is asked for its newest frame only once the last one is judged.
    """
    if source.is_live:
        with closing(_iterated(source)) as frames:
            for frame in frames:
                yield judge([frame])
        return
    threads, batch = max(_LEAST_THREADS, model.engine.streams), model.engine.batch
    frames = _iterated(source)
    batches = iter(lambda: list(islice(frames, batch)), [])
    yield from in_order(judge, batches, threads=threads, ahead=max(1, _AHEAD // batch))


def _iterated(source: ImageSource) -> Generator[Frame, None, None]:
    """Frames of a source, which is closed with this generator."""
    yield from source
