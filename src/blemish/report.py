"""One HTML file that shows what was found: opens offline, needs no other file and no server.

Pictures are inside the page as JPEG of bounded size. Of very many images only the most telling
ones keep theirs, so neither the page nor the memory for it grows without end.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from blemish.arrays import BoolArray, FloatArray, UInt8Array
from blemish.charts import histogram_svg
from blemish.pages import page_template
from blemish.visuals import (
    Boxes,
    ColourScale,
    boxed,
    colour_at,
    contour,
    displayable,
    jpeg_bytes,
    mask_picture,
    overlay,
)
from blemish.writing import write_bytes

Decision = Literal["normal", "anomalous"]

GOOD = "good"
DEFAULT_PICTURE_LIMIT = 300
DEFAULT_PICTURE_HEIGHT = 320
_GRADIENT_STOPS = 17


@dataclass(frozen=True, slots=True)
class RowPictures:
    """The pictures of one image, as JPEG files in memory.

    Attributes
    ----------
    image, overlay, contour : bytes
    truth : bytes or None
        Ground truth, if there is one.
    """

    image: bytes
    overlay: bytes
    contour: bytes
    truth: bytes | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One inspected image.

    Attributes
    ----------
    name : str
        Shown, searched and sorted by; usually the path below the inspected folder.
    score : float
    decision : {"normal", "anomalous"}
    label : str or None
        "good" or the name of the defect, where the truth is known.
    pictures : RowPictures or None
        None if they are not to be shown in the page.
    link : str or None
        Path of a picture file, relative to the page, to open from the row.
    """

    name: str
    score: float
    decision: Decision
    label: str | None = None
    pictures: RowPictures | None = None
    link: str | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the decision contradicts the label."""
        return self.label is not None and (self.label == GOOD) != (self.decision == "normal")


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be inspected, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows.

    Attributes
    ----------
    title : str
        Usually the product.
    threshold : float
        Score at and above which an image is anomalous.
    rows : sequence of ReportRow
        In any order; `ReportRows` collects them in bounded memory.
    facts : mapping of str to str
        What was used: model, backbone, preset, images learned from, false-alarm rate with its
        interval ... shown in this order.
    scale : ColourScale or None
        Of the heat maps; None leaves out the legend.
    failures : sequence of Failure
    not_images : int
        Files that were passed over because they are no images.
    metrics : mapping of str to float or str, or None
        Where the truth is known; floats are shown with four digits.
    charts : sequence of str
        SVG made by `blemish.charts`, for example ROC and PRO curves.
    timelines : sequence of str
        SVG of the scores of video clips.
    training_scores : float (K,) or None
        Leave-one-out scores of the images learned from, shown in the histogram.
    """

    title: str
    threshold: float
    rows: Sequence[ReportRow]
    facts: Mapping[str, str] = field(default_factory=dict)
    scale: ColourScale | None = None
    failures: Sequence[Failure] = ()
    not_images: int = 0
    metrics: Mapping[str, float | str] | None = None
    charts: Sequence[str] = ()
    timelines: Sequence[str] = ()
    training_scores: FloatArray | None = None


class ReportRows:
    """Collects rows; keeps the pictures of only so many of them.

    Kept are those of wrong decisions first, then those of the highest scores.

    Parameters
    ----------
    picture_limit : int >= 0, default 300
        Rows that keep their pictures: about 40 kB each in the page.

    Examples
    --------
    >>> rows = ReportRows(picture_limit=1)
    >>> shown = RowPictures(b"", b"", b"")
    >>> rows.add(ReportRow("a.png", 7.0, "anomalous", pictures=shown))
    >>> rows.add(ReportRow("b.png", 9.0, "anomalous", pictures=shown))
    >>> [row.name for row in rows.rows if row.pictures]
    ['b.png']
    """

    def __init__(self, picture_limit: int = DEFAULT_PICTURE_LIMIT) -> None:
        self.rows: list[ReportRow] = []
        self._limit = picture_limit
        self._shown: list[tuple[bool, float, int]] = []

    def wants_pictures(self, row: ReportRow) -> bool:
        """Whether `add` would keep pictures of this row now: if not, there is no need to draw."""
        return len(self._shown) < self._limit or (
            self._limit > 0 and (row.is_wrong, row.score) > self._shown[0][:2]
        )

    def add(self, row: ReportRow) -> None:
        """Add a row, and drop the pictures of the least telling one if there are too many."""
        self.rows.append(row)
        if row.pictures is None:
            return
        heapq.heappush(self._shown, (row.is_wrong, row.score, len(self.rows) - 1))
        if len(self._shown) > self._limit:
            dropped = heapq.heappop(self._shown)[2]
            self.rows[dropped] = replace(self.rows[dropped], pictures=None)


def row_pictures(
    image: UInt8Array | FloatArray,
    anomaly_map: FloatArray,
    predicted_mask: BoolArray,
    scale: ColourScale,
    *,
    truth: BoolArray | None = None,
    boxes: Boxes = (),
    max_height: int = DEFAULT_PICTURE_HEIGHT,
) -> RowPictures:
    """Make the pictures of one row from arrays of one size.

    Parameters
    ----------
    image : uint8 (H, W, 3), or float (H, W, 3) in 0..1
    anomaly_map : float (H, W)
    predicted_mask : bool (H, W)
    scale : ColourScale
    truth : bool (H, W), optional
    boxes : sequence of (x, y, width, height), optional
        Of the regions, in pixels of the map.
    max_height : int, default 320
        Larger pictures are made smaller.

    Raises
    ------
    ShapeError, InputError
        Shapes do not fit together, or the map holds a NaN.
    """
    return RowPictures(
        image=jpeg_bytes(displayable(image), max_height=max_height),
        overlay=jpeg_bytes(overlay(image, anomaly_map, scale), max_height=max_height),
        contour=jpeg_bytes(boxed(contour(image, predicted_mask), boxes), max_height=max_height),
        truth=None if truth is None else jpeg_bytes(mask_picture(truth), max_height=max_height),
    )


def write_report(path: Path, report: Report) -> None:
    """Write the report as one HTML file.

    The same report gives the same bytes. An existing file is replaced in one step.

    Parameters
    ----------
    path : Path
        Usually ``report.html``.
    report : Report

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_bytes(path, render_report(report).encode("utf-8", "backslashreplace"))


def render_report(report: Report) -> str:
    """Return the report as the text of an HTML page."""
    rows = sorted(report.rows, key=lambda row: (-row.score, row.name))
    anomalous = sum(row.decision == "anomalous" for row in rows)
    labels = sorted({row.label for row in rows if row.label is not None})
    return page_template("report.html.jinja").render(
        report=report,
        rows=rows,
        columns=_picture_columns(rows),
        anomalous=anomalous,
        normal=len(rows) - anomalous,
        labels=labels,
        wrong=sum(row.is_wrong for row in rows),
        defects=_per_label(rows, labels),
        shown=sum(row.pictures is not None for row in rows),
        histogram=_histogram(report),
        bar_end=2 * report.threshold if report.threshold > 0 else 1.0,
        gradient=", ".join(
            "rgb({} {} {})".format(*colour_at(stop / (_GRADIENT_STOPS - 1)))
            for stop in range(_GRADIENT_STOPS)
        ),
    )


def _picture_columns(rows: Sequence[ReportRow]) -> list[tuple[str, str]]:
    """Field and heading of each picture there is a column for."""
    shown = [row.pictures for row in rows if row.pictures is not None]
    columns = [("image", "Image"), ("overlay", "Heat map"), ("contour", "Contour")]
    if any(pictures.truth is not None for pictures in shown):
        columns.append(("truth", "Truth"))
    return columns if shown else []


def _per_label(rows: Sequence[ReportRow], labels: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return each label with its number of images and of right decisions, good parts first."""
    table = []
    for label in sorted(labels, key=lambda name: (name != GOOD, name)):
        those = [row for row in rows if row.label == label]
        table.append((label, len(those), sum(not row.is_wrong for row in those)))
    return table


def _histogram(report: Report) -> str | None:
    def scores(wanted: tuple[bool | None, ...]) -> FloatArray:
        return np.array(
            [
                row.score
                for row in report.rows
                if (None if row.label is None else row.label == GOOD) in wanted
            ]
        )

    groups: dict[str, FloatArray] = {}
    if report.training_scores is not None:
        groups["learned from"] = report.training_scores
    if any(row.label is not None for row in report.rows):
        groups |= {"good": scores((True,)), "defective": scores((False,))}
        unknown = scores((None,))
        if len(unknown):
            groups["unlabelled"] = unknown
    else:
        groups["inspected"] = scores((None,))
    if not any(len(group) for group in groups.values()):
        return None
    return histogram_svg(groups, threshold=report.threshold)
