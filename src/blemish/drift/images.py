"""Watches a process through the images that a model inspects; keeps a state between two runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blemish.arrays import Float64Array
from blemish.drift.alarm import SCORE, Alarm
from blemish.drift.watch import DEFAULT_FALSE_ALARMS_PER, Watch
from blemish.errors import AlignmentError, BlemishError, InputError
from blemish.image_statistics import STATISTICS, image_statistics
from blemish.images import list_images
from blemish.inspection import Inspected, inspect_source
from blemish.model import Model, Progress
from blemish.sources import FolderSource, Frame, ImageSource
from blemish.writing import write_bytes

Order = Literal["name", "time"]
ORDERS: tuple[Order, ...] = ("name", "time")

_SOON = 50  # images
_SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an image is in the order of time, and by name within it."""

    time: int  # ns since 1970
    name: str

    @classmethod
    def of(cls, path: Path, name: str) -> Place:
        """Place of a file; of one that is gone, at the beginning."""
        try:
            return cls(path.stat().st_mtime_ns, name)
        except OSError:
            return cls(0, name)


@dataclass(frozen=True, slots=True)
class Watched:
    """One image that was watched.

    Attributes
    ----------
    name : str
    number : int
        Of the image in the watch, from 1; of one that could not be read, that of the one before.
    anomalous : bool or None
        None if it could not be read.
    alarms : list of Alarm
        Those it raised.
    place : Place
    error : BlemishError or None
        Why it could not be read; it does not count.
    """

    name: str
    number: int
    anomalous: bool | None
    alarms: list[Alarm]
    place: Place
    error: BlemishError | None = None


def watch_of(
    model: Model,
    *,
    false_alarm_rate: float | None = None,
    false_alarms_per: int = DEFAULT_FALSE_ALARMS_PER,
) -> Watch:
    """Make a watch that compares with the training images of a model.

    Parameters
    ----------
    model : Model
    false_alarm_rate : float in (0, 1), optional
        Which images are anomalous; default: the model's.
    false_alarms_per : int, default 1,000,000
        At most one false alarm of the watch in so many images.

    Raises
    ------
    InputError, NotFittedError
        A rate that cannot be; fewer than 3 training images below the threshold.
    """
    return Watch(
        training_statistics(model),
        threshold=model.threshold(false_alarm_rate).value,
        false_alarms_per=false_alarms_per,
    )


def training_statistics(model: Model) -> dict[str, Float64Array]:
    """Statistics of the training images by name: float64 (n,), scores left-one-out.

    Those of `image_statistics`, and of a model with alignment "motion", how far the part lay from
    the reference in pixels, and "correlation" with it.
    """
    records = model.fitted.records
    columns = {
        SCORE: model.calibration.scores,
        **{name: records.statistics[:, k] for k, name in enumerate(STATISTICS)},
    }
    if records.placements is not None:
        right, down, _, columns["correlation"] = records.placements.T
        columns["motion"] = np.hypot(right, down)
    return columns


def statistics_of(found: Inspected) -> dict[str, float]:
    """Statistics of an image that was inspected, by the names of `training_statistics`."""
    pixels = np.ascontiguousarray(found.pixels.transpose(2, 0, 1))[None]
    values = dict(zip(STATISTICS, image_statistics(pixels)[0].tolist(), strict=True))
    if found.decision is None:
        return values
    score = found.decision.score
    values[SCORE] = score.image_score
    if score.placement is not None:
        values["motion"] = math.hypot(score.placement.dx, score.placement.dy)
        values["correlation"] = score.placement.correlation
    return values


class NewImages(ImageSource):
    """A folder that is being filled, without the images up to the last one that was watched.

    Parameters
    ----------
    source : FolderSource
    after : Place or None
    """

    is_live = True

    def __init__(self, source: FolderSource, after: Place | None) -> None:
        super().__init__()
        self._source, self._after = source, after
        self.counts = source.counts

    def __iter__(self) -> Iterator[Frame]:
        """Frames of the folder that are newer."""
        for frame in self._source:
            if self._after is None or Place.of(frame.path, frame.name) > self._after:
                yield frame

    def stop(self) -> None:
        """End the folder's iteration."""
        self._source.stop()


def watch_images(
    watch: Watch, model: Model, source: ImageSource, *, progress: Progress | None = None
) -> Iterator[Watched]:
    """Inspect the images of a source, and feed the watch with them.

    Parameters
    ----------
    watch : Watch
        From `watch_of` with the same model.
    model : Model
        A part that it cannot align counts as an anomalous image.
    source : ImageSource
    progress : function, optional

    Yields
    ------
    Watched
    """
    for found in inspect_source(model, source, progress=progress):
        place = Place.of(found.path, found.name)
        if found.decision is None and not isinstance(found.error, AlignmentError):
            yield Watched(found.name, watch.images, None, [], place, found.error)
            continue
        anomalous = found.decision is None or found.decision.score.image_score >= watch.threshold
        alarms = watch.add(statistics_of(found), anomalous=anomalous, name=found.name)
        yield Watched(found.name, watch.images, anomalous, alarms, place)


def images_to_watch(
    folder: Path, order: Order, after: Place | None = None
) -> tuple[list[tuple[Path, str]], int]:
    """List the images of a folder in order, those after the last one that was watched.

    Parameters
    ----------
    folder : Path
    order : {"name", "time"}
        Numbers in names count by their value.
    after : Place, optional

    Returns
    -------
    images : list of (Path, name below the folder)
    passed_over : int
        Images up to `after`.

    Raises
    ------
    DatasetError
        The folder is missing.
    """
    names = [(path, path.relative_to(folder).as_posix()) for path in list_images(folder)[0]]
    if order == "time":
        placed = sorted((Place.of(path, name), path) for path, name in names)
        kept = [(path, place.name) for place, path in placed if after is None or place > after]
    else:
        names.sort(key=lambda each: natural(each[1]))
        start = None if after is None else natural(after.name)
        kept = [each for each in names if start is None or natural(each[1]) > start]
    return kept, len(names) - len(kept)


def natural(name: str) -> tuple[tuple[str | int, ...], str]:
    """Key to sort names by, numbers in them by their value.

    Examples
    --------
    >>> sorted(["line/10.png", "line/9.png"], key=natural)
    ['line/9.png', 'line/10.png']
    """
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if k % 2 else part for k, part in enumerate(parts)), name


def latest(last: Place | None, newest: Place, *, live: bool) -> Place:
    """Place to go on after: images of a live source need not come in the order of their times."""
    return max(last, newest) if live and last is not None else newest


def caveats(watch: Watch, model: Model) -> list[str]:
    """What a user should know about how well this watch can see."""
    found = []
    soon = [s for s in _SHIFTS if watch.noticed_after(s, most=_SOON) is not None]
    if not soon or soon[0] > 1:
        what = (
            f"only shifts of {soon[0]:g} standard deviations and more are noticed within {_SOON} "
            "images if they are there from the first image on"
            if soon
            else f"no shift that is there from the first image on is noticed within {_SOON} images"
        )
        found.append(
            f"With {watch.training_images} training images {what}. Later ones are noticed sooner, "
            "as the stream itself shows what is normal."
        )
    if model.calibration.approximate:
        found.append(
            "The scores of the training images are approximate, so the rate of false alarms of "
            "the score and of the share of anomalous images is, too. Run blemish calibrate."
        )
    return found


def save_state(watch: Watch, path: Path, last: Place | None) -> None:
    """Write the state of a watch, and the last image it saw, to a JSON file in one step.

    Raises
    ------
    OutputError
        The file cannot be written; what was there before is untouched.
    """
    place = None if last is None else [last.time, last.name]
    text = json.dumps({"last": place, **watch.state()}, separators=(",", ":"))
    write_bytes(path, text.encode("ascii"), durable=True)


def load_state(watch: Watch, path: Path) -> Place | None:
    """Let a watch go on from a file of `save_state`; returns the last image it saw.

    Raises
    ------
    InputError
        The file cannot be read, or holds no state, or one of another model or rate.
    """
    place = None
    try:
        state = json.loads(path.read_bytes())
        place = _place_of(state)
    except OSError as error:
        raise InputError(
            f"{path} must be a file that can be read, but the system says: {error.strerror}. "
            "Check the path and its permissions."
        ) from error
    except (ValueError, TypeError, AttributeError, OverflowError):
        state = None  # which is refused
    watch.resume(state, source=str(path))
    return place


def _place_of(state: Mapping[str, Any]) -> Place | None:
    last = state.get("last")
    return Place(int(last[0]), str(last[1])) if isinstance(last, list) and len(last) == 2 else None
