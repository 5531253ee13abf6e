"""A folder of results: ``results.csv``, pictures, and one HTML report."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from blemish.arrays import BoolArray, UInt8Array
from blemish.charts import Line, curve_svg
from blemish.clips import timelines
from blemish.datasets import NORMAL
from blemish.decision import Decision
from blemish.descriptions import metric_rows, model_facts
from blemish.errors import InputError, OutputError
from blemish.evaluation import PRO_LIMIT, Evaluation
from blemish.inspection import Inspected
from blemish.metrics import Curve, thin_curve
from blemish.model import Model
from blemish.panels import five_panel, level_panels
from blemish.report import (
    DEFAULT_PICTURE_LIMIT,
    Failure,
    Report,
    ReportRow,
    ReportRows,
    row_pictures,
    write_report,
)
from blemish.scorer import WITH_DISTANCE
from blemish.threshold import Threshold
from blemish.visuals import (
    ColourScale,
    boxed,
    contour,
    heat_map,
    mask_picture,
    overlay,
    png_bytes,
)
from blemish.writing import write_bytes

PICTURES = ("five-panel", "levels", "heat-map", "overlay", "mask", "contour")
COLUMNS = (
    *("image", "score", "decision", "threshold", "label", "error", "time"),
    *("operating_point", "regions", "regions_left_out"),
)
REGION_COLUMNS = (
    *("image", "decision", "region", "x", "y", "width", "height", "centroid_x", "centroid_y"),
    *("area_px", "area_mm2", "peak", "mean"),
)
_CURVE_POINTS = 2000


class ResultsFolder:
    """Collects what was found and writes it.

    Pictures are written as they come; `finish` writes the table and the report.

    Parameters
    ----------
    folder : Path
        Made if missing. Files of an earlier run with the same names are replaced.
    model : Model
    title : str
    threshold : Threshold, optional
        Default: the model's own.
    pictures : sequence of str from `PICTURES`
        Kinds to write for every image, each into a folder of its own.
    report_pictures : int
        Images shown with pictures in the report.

    Raises
    ------
    OutputError
        The folder cannot be written.
    InputError
        An unknown kind of picture.
    """

    def __init__(
        self,
        folder: Path,
        model: Model,
        *,
        title: str,
        threshold: Threshold | None = None,
        pictures: Sequence[str] = ("five-panel",),
        report_pictures: int = DEFAULT_PICTURE_LIMIT,
    ) -> None:
        if unknown := [kind for kind in pictures if kind not in PICTURES]:
            raise InputError(
                f"Pictures must be of {', '.join(PICTURES)}, but {unknown[0]!r} is asked for. "
                "Choose from these."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder} must be a folder to write to, but cannot be made: {error.strerror}. "
                "Name another one."
            ) from error
        self.folder, self._model, self._title, self._pictures = folder, model, title, pictures
        self._threshold = threshold or model.threshold()
        self._scale, self._level_scales = colour_scale(model), level_scales(model)
        self._rows = ReportRows(report_pictures)
        self._failures: list[Failure] = []
        self._records: list[list[object]] = []
        self._regions: list[list[object]] = []

    def __enter__(self) -> ResultsFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the table even if the work was interrupted: what was decided is not lost."""
        if error is not None:
            with contextlib.suppress(OutputError):
                self.write_table()

    def add(
        self,
        name: str,
        found: Inspected,
        *,
        label: str | None = None,
        truth: BoolArray | None = None,
    ) -> None:
        """Add one image.

        Parameters
        ----------
        name : str
            Path below the inspected folder.
        found : Inspected
        label : str, optional
            "good" or the defect, where known.
        truth : bool (H, W), optional
        """
        record = record_of(name, found, label)
        self._records.append(csv_row(record))
        self._regions += region_rows(record)
        if found.decision is None:
            self._failures.append(Failure(name, str(found.error)))
            return
        verdict = verdict_of(found.decision)
        score = found.decision.score.image_score
        if truth is None and label == NORMAL:
            truth = np.zeros(found.pixels.shape[:2], dtype=bool)
        link = None
        for kind in self._pictures:
            relative = Path(kind) / picture_name(name)
            picture = self._draw(kind, found, found.decision, name, truth)
            write_bytes(self.folder / relative, png_bytes(picture))
            link = link or relative.as_posix()
        row = ReportRow(name, score, verdict, label, link=link)
        if self._rows.wants_pictures(row):
            shown = row_pictures(
                found.pixels,
                found.decision.score.anomaly_map,
                found.decision.predicted_mask,
                self._scale,
                truth=truth,
                boxes=boxes_of(found.decision),
            )
            row = replace(row, pictures=shown)
        self._rows.add(row)

    def _draw(
        self,
        kind: str,
        found: Inspected,
        decision: Decision,
        name: str,
        truth: BoolArray | None,
    ) -> UInt8Array:
        anomaly_map, mask = decision.score.anomaly_map, decision.predicted_mask
        if kind == "heat-map":
            return heat_map(anomaly_map, self._scale)
        if kind == "overlay":
            return overlay(found.pixels, anomaly_map, self._scale)
        if kind == "mask":
            return mask_picture(mask)
        if kind == "contour":
            return boxed(contour(found.pixels, mask), boxes_of(decision))
        verdict, score = verdict_of(decision), decision.score.image_score
        if kind == "levels":
            return level_panels(
                found.pixels,
                self._model.level_maps(decision.score),
                self._level_scales,
                anomaly_map,
                self._scale,
                title=name,
                decision=verdict,
                score=score,
            )
        return five_panel(
            found.pixels,
            truth,
            anomaly_map,
            mask,
            self._scale,
            title=name,
            decision=verdict,
            score=score,
            boxes=boxes_of(decision),
        )

    def write_table(self) -> None:
        """Write ``results.csv``, a row per image so far, and ``regions.csv``, one per region."""
        self._write_csv("results.csv", COLUMNS, self._records)
        self._write_csv("regions.csv", REGION_COLUMNS, self._regions)

    def _write_csv(
        self, name: str, columns: Sequence[str], rows: Iterable[Iterable[object]]
    ) -> None:
        lines = [csv_line(columns), *map(csv_line, rows)]
        # File names need not be text; their bytes are written as they are.
        content = "".join(lines).encode("utf-8", "surrogateescape")
        write_bytes(self.folder / name, content)

    def finish(
        self,
        *,
        not_images: int = 0,
        evaluation: Evaluation | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the table, the curves and the report; return the report's path."""
        self.write_table()
        charts: list[str] = []
        frames = None if evaluation is None else evaluation.frames
        if evaluation is not None:
            for name, curve in evaluation.curves.items():
                path = self.folder / f"{name.lower().replace(' ', '_')}.csv"
                write_bytes(path, curve_csv(curve).encode())
            charts = curve_charts(evaluation)
        path = self.folder / "report.html"
        report = Report(
            title=self._title,
            threshold=self._threshold.value,
            rows=self._rows.rows,
            facts=facts or model_facts(self._model, self._threshold),
            scale=self._scale,
            failures=self._failures,
            not_images=not_images,
            metrics=None if evaluation is None else metric_rows(evaluation),
            charts=charts,
            timelines=() if frames is None else timelines(frames, self._threshold.value),
            training_scores=self._model.calibration.scores,
        )
        write_report(path, report)
        return path


def record_of(name: str, found: Inspected, label: str | None = None) -> dict[str, object]:
    """One row of the table: what was found of an image, as plain data.

    Returns
    -------
    dict
        image, score, decision ("normal" or "anomalous"), threshold, label, error, time (seconds,
        as in `sources.Frame`), operating_point, regions (a list, see `Region.to_json`),
        regions_left_out (too small, or too many); None where there is none.
    """
    record: dict[str, object] = dict.fromkeys(COLUMNS)
    record |= {"image": name, "label": label, "time": found.time}
    if found.decision is None:
        return record | {"error": str(found.error)}
    decision = found.decision
    if decision.source_box is not None:
        regions = decision.regions()
        record["regions"] = [region.to_json() for region in regions]
        record["regions_left_out"] = regions.too_small + regions.too_many
    return record | {
        "score": decision.score.image_score,
        "decision": verdict_of(decision),
        "threshold": decision.threshold.value,
        "operating_point": decision.operating_point,
    }


def csv_row(record: Mapping[str, object]) -> list[object]:
    """Values of a record for a table, where regions are counted."""
    regions = record["regions"]
    told = len(regions) if isinstance(regions, list) else None
    return list({**record, "regions": told}.values())


def region_rows(record: Mapping[str, Any]) -> list[list[object]]:
    """Rows of ``regions.csv`` for one record, numbered as in the pictures."""
    return [
        [
            *(record["image"], record["decision"], number, *region["box"], *region["centroid"]),
            *(region[name] for name in ("area_px", "area_mm2", "peak", "mean")),
        ]
        for number, region in enumerate(record["regions"] or [], start=1)
    ]


def boxes_of(decision: Decision) -> list[tuple[int, int, int, int]]:
    """Boxes of the regions in pixels of the map, as pictures show them; none if none are known."""
    return [] if decision.source_box is None else [region.map_box for region in decision.regions()]


def verdict_of(decision: Decision) -> Literal["normal", "anomalous"]:
    """Return the word for a decision."""
    return "anomalous" if decision.is_anomalous else "normal"


def colour_scale(model: Model) -> ColourScale:
    """Return the one colour scale of a model, from its leave-one-out maps."""
    return ColourScale.from_normal(
        median=model.calibration.pixel_threshold(0.5), threshold=model.pixel_threshold()
    )


def level_scales(model: Model) -> dict[str, ColourScale]:
    """Colour scale of every level's map: the model's, by the level's share of the dimensions.

    Of the squared distance of normal parts each level takes about its share of the dimensions.
    Chebyshev bounds lie between 0 and 1 at every level and need no share.
    """
    scale, dims = colour_scale(model), model.pyramid.dims
    shared = model.settings.score in WITH_DISTANCE
    whole = 2.0 if model.settings.score == "hybrid" else 1.0  # it halves the distance
    return {
        name: ColourScale(*(v * factor for v in (scale.low, scale.threshold, scale.high)))
        for name, own in zip(model.level_names, dims, strict=True)
        for factor in [whole * math.sqrt(own / sum(dims)) if shared else 1.0]
    }


def picture_name(name: str) -> str:
    """Name of an image's picture: images that differ only in their suffix do not collide.

    Examples
    --------
    >>> picture_name("crack/000.png"), picture_name("crack/000.jpg")
    ('crack/000.png', 'crack/000.jpg.png')
    """
    return name if name.lower().endswith(".png") else f"{name}.png"


def csv_line(values: Iterable[object]) -> str:
    """One line of CSV, with its end; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if v is None else v for v in values)
    return text.getvalue()


def curve_csv(curve: Curve) -> str:
    """Return a curve as CSV text: x, y and threshold."""
    thin = thin_curve(curve, _CURVE_POINTS)
    rows = zip(thin.x, thin.y, thin.thresholds, strict=True)
    return "x,y,threshold\n" + "".join(f"{x:.9g},{y:.9g},{t:.9g}\n" for x, y, t in rows)


def curve_charts(evaluation: Evaluation) -> list[str]:
    """Return the ROC and PRO curves as SVG."""
    roc = [
        Line(f"{name.split()[0]} AUROC {value:.3f}", curve.x, curve.y)
        for name, value in (
            ("image ROC", evaluation.image_auroc),
            ("pixel ROC", evaluation.pixel_auroc),
        )
        if (curve := evaluation.curves.get(name)) is not None and value is not None
    ]
    charts = [curve_svg(roc, title="ROC", diagonal=True)] if roc else []
    pro = evaluation.curves.get("PRO")
    if pro is not None and evaluation.pro is not None:
        line = Line(f"PRO {evaluation.pro:.3f} (FPR <= 0.3)", pro.x, pro.y)
        charts.append(
            curve_svg([line], title="PRO", y_label="mean overlap per region", x_limit=PRO_LIMIT)
        )
    return charts
