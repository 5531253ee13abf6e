"""What a check of training images found, in a folder: a table, and one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.errors import BlemishError, OutputError
from blemish.loading import ImageLike, load_input
from blemish.pages import page_template
from blemish.preprocessing import Preprocessing
from blemish.results import colour_scale, csv_line
from blemish.training_check.check import COLUMNS, TrainingCheck
from blemish.training_check.suspicion import REASONS, Suspicion
from blemish.visuals import displayable, jpeg_bytes, overlay
from blemish.writing import write_bytes

MOST_PICTURES = 300
"""Images that are shown with pictures, about 20 kB each."""

_HEIGHT = 224


@dataclass(frozen=True, slots=True)
class ShownImage:
    """A suspicious image on the page.

    Attributes
    ----------
    name : str
    suspicions : list of Suspicion
    picture : bytes or None
        JPEG; None if it cannot be read, or there are too many.
    heat_map, original : bytes or None
        Where it looks unlike the others; the image that it is a copy of.
    original_name : str
    """

    name: str
    suspicions: Sequence[Suspicion]
    picture: bytes | None = None
    heat_map: bytes | None = None
    original: bytes | None = None
    original_name: str = ""


def check_csv(check: TrainingCheck) -> bytes:
    """Return the table: a row per suspicion."""
    rows = [csv_line(COLUMNS), *(csv_line(record.values()) for record in check.records())]
    return "".join(rows).encode("utf-8", "surrogateescape")


def write_check(
    folder: Path, check: TrainingCheck, images: Sequence[ImageLike], *, title: str
) -> Path:
    """Write ``check.csv`` and ``check.html``, with pictures of the suspicious images.

    Parameters
    ----------
    folder : Path
        Made if missing.
    check : TrainingCheck
    images : sequence of files or arrays
        Those that were checked.
    title : str

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} must be a folder to write to, but cannot be made: {error.strerror}. "
            "Name another one."
        ) from error
    write_bytes(folder / "check.csv", check_csv(check))
    numbers = check.images
    shown = [_shown(check, images, k, place < MOST_PICTURES) for place, k in enumerate(numbers)]
    page = page_template("check.html.jinja").render(
        title=title,
        check=check,
        shown=shown,
        reasons=REASONS,
        counts={
            reason: sum(each.reason == reason for each in check.suspicions)
            for reason in REASONS
            if any(each.reason == reason for each in check.suspicions)
        },
    )
    path = folder / "check.html"
    write_bytes(path, page.encode("utf-8", "backslashreplace"))
    return path


def _shown(
    check: TrainingCheck, images: Sequence[ImageLike], number: int, with_pictures: bool
) -> ShownImage:
    """An image with its pictures."""
    suspicions = check.of(number)
    name = check.names[number]
    source = next((each.other for each in suspicions if each.other is not None), None)
    original_name = "" if source is None else check.names[source]
    if not with_pictures:
        return ShownImage(name, suspicions, original_name=original_name)
    picture, heat_map = _pictures(check, images[number])
    original = None if source is None else _pictures(check, images[source])[0]
    return ShownImage(name, suspicions, picture, heat_map, original, original_name)


def _pictures(check: TrainingCheck, image: ImageLike) -> tuple[bytes | None, bytes | None]:
    """The image as the network sees it, and with its heat map where there is a model."""
    model = check.model
    preprocessing = Preprocessing.full((_HEIGHT, _HEIGHT)) if model is None else model.preprocessing
    value_range = None if model is None else model.settings.value_range
    try:
        inputs = load_input(image, preprocessing, value_range=value_range)
        pixels = np.ascontiguousarray(inputs.transpose(1, 2, 0))
        picture = jpeg_bytes(displayable(pixels), max_height=_HEIGHT)
        if model is None:
            return picture, None
        score = model.score_inputs(inputs[None])[0]
    except BlemishError:  # said in the table
        return None, None
    mixed = overlay(pixels, score.anomaly_map, colour_scale(model))
    return picture, jpeg_bytes(mixed, max_height=_HEIGHT)
