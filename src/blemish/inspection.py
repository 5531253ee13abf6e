"""Many images through a model, in order; what cannot be read is reported and skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array
from blemish.errors import BlemishError
from blemish.loading import in_order, load_input
from blemish.model import Decision, Model, Progress

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

    How many go through the network at once is the model's `engine.streams`.

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

    def judge(path: Path) -> Inspected:
        try:
            pixels = load_input(path, model.preprocessing, value_range=model.settings.value_range)
        except BlemishError as error:
            return Inspected(path, np.zeros((0, 0, 3), np.float32), error=error)
        score = model.score_inputs(pixels[None])[0]
        decision = model.classify(score, false_alarm_rate=false_alarm_rate)
        return Inspected(path, np.ascontiguousarray(pixels.transpose(1, 2, 0)), decision)

    model.threshold(false_alarm_rate)  # a wrong rate is found before the first image is read
    threads = max(_LEAST_THREADS, model.engine.streams)
    for done, found in enumerate(in_order(judge, paths, threads=threads)):
        if progress is not None:
            progress("inspection", done, len(paths))
        yield found
    if progress is not None:
        progress("inspection", len(paths), len(paths))
