"""Many images through a model, in order; what cannot be read is reported and skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array
from blemish.errors import BlemishError
from blemish.loading import in_order, load_or_error
from blemish.model import Decision, Model, Progress

_AHEAD = 4  # images per thread that may be worked on or wait
_LEAST_THREADS = 2  # one image is decoded while another is in the network


@dataclass(frozen=True, slots=True)
class Inspected:
    """One image and what was found.

    Attributes
    ----------
    path : Path
    pixels : float32 (H, W, 3), 0..1
        What the network saw. Empty if the image could not be read.
    decision : Decision or None
    error : BlemishError or None
        Why there is no decision.
    """

    path: Path
    pixels: Float32Array
    decision: Decision | None = None
    error: BlemishError | None = None


def inspect_images(
    model: Model,
    paths: Sequence[Path],
    *,
    false_alarm_rate: float | None = None,
    progress: Progress | None = None,
) -> Iterator[Inspected]:
    """Judge images in their order and in bounded memory; several are worked on at a time.

    How many go through the network at once is up to the model's `engine`: streams times batch.

    Parameters
    ----------
    model : Model
    paths : sequence of Path
    false_alarm_rate : float in (0, 1), optional
        Default: that of the fit.
    progress : function, optional

    Yields
    ------
    Inspected
        With an error instead of a decision where a file cannot be read.
    """

    def judge(some: Sequence[Path]) -> list[Inspected]:
        loaded = [
            load_or_error(path, model.preprocessing, value_range=model.settings.value_range)
            for path in some
        ]
        readable = [pixels for pixels in loaded if not isinstance(pixels, BlemishError)]
        scores = iter(model.score_inputs(np.stack(readable)) if readable else [])
        return [
            Inspected(path, np.zeros((0, 0, 3), np.float32), error=pixels)
            if isinstance(pixels, BlemishError)
            else Inspected(
                path,
                np.ascontiguousarray(pixels.transpose(1, 2, 0)),
                model.classify(next(scores), false_alarm_rate=false_alarm_rate),
            )
            for path, pixels in zip(some, loaded, strict=True)
        ]

    model.threshold(false_alarm_rate)  # a wrong rate is found before the first image is read
    threads, batch = max(_LEAST_THREADS, model.engine.streams), model.engine.batch
    batches = [paths[start : start + batch] for start in range(0, len(paths), batch)]
    done = 0
    for found in in_order(judge, batches, threads=threads, ahead=max(1, _AHEAD // batch)):
        for one in found:
            if progress is not None:
                progress("inspection", done, len(paths))
            yield one
            done += 1
    if progress is not None:
        progress("inspection", len(paths), len(paths))
