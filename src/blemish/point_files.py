"""Files that hold operating points, a model or an export: opened, changed, written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from blemish.calibration import Calibration
from blemish.engines.engine import EngineSettings
from blemish.errors import InputError, ModelFileError
from blemish.export.exported import load_export, read_description
from blemish.export.folder import DESCRIPTION_FILE
from blemish.export.points import (
    calibration_of,
    described_point,
    digests_of_description,
    points_of,
    write_points,
)
from blemish.labelled_points import Scorer, labelled_point, read_labelled, score_labelled
from blemish.model import Model, Progress, beyond_reach, load_model
from blemish.operating_points import OperatingPoint, OperatingPoints, make_point


class PointFile(ABC):
    """A model, or an export of one, whose operating points can be changed.

    Attributes
    ----------
    points : OperatingPoints
    calibration : Calibration
    score_name : str
    highest_score : float or None
        Largest image score there can be; None if there is no bound.
    """

    points: OperatingPoints
    calibration: Calibration
    score_name: str
    highest_score: float | None

    @abstractmethod
    def scorer(self) -> Scorer:
        """What scores images, for points that labelled images choose."""

    @abstractmethod
    def write(self, points: OperatingPoints, out: Path | None = None) -> None:
        """Write the file with these points in its place or, in full, to `out`, in one step.

        Raises
        ------
        OutputError
            It cannot be written; what was there before is untouched.
        """

    def describe(self, point: OperatingPoint) -> dict[str, Any]:
        """What a point is, as plain data; see `export.points.described_point`."""
        return described_point(point, self.calibration, self.highest_score)

    def never_reached(self, point: OperatingPoint) -> str:
        """Say that the threshold of a point cannot be reached, and what to do; "" if it can."""
        threshold, highest = point.threshold(self.calibration), self.highest_score
        if highest is None or threshold.value <= highest:
            return ""
        return beyond_reach(threshold, self.score_name, highest)


@final
class ModelPoints(PointFile):
    """Operating points of a model file."""

    def __init__(self, path: Path, engine: EngineSettings | None = None) -> None:
        self._path, self._model = path, load_model(path, engine)
        self.points, self.calibration = self._model.operating_points, self._model.calibration
        self.score_name = self._model.settings.score
        self.highest_score = self._model.highest_score

    def scorer(self) -> Model:
        """Return the model."""
        return self._model

    def write(self, points: OperatingPoints, out: Path | None = None) -> None:
        """Save the model with these points."""
        self._model.with_operating_points(points).save(out or self._path)


@final
class ExportPoints(PointFile):
    """Operating points of the folder of an export."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._about = folder, read_description(folder)
        try:
            self.points, self.calibration = points_of(self._about), calibration_of(self._about)
            digests_of_description(self._about)
            self.score_name = str(self._about["score"]["name"])
            highest = self._about["highest_score"]
            self.highest_score = None if highest is None else float(highest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{folder / DESCRIPTION_FILE} must hold operating points, but does not, or is "
                "damaged. Export the model again."
            ) from error

    def scorer(self) -> Scorer:
        """Load the export."""
        return load_export(self._folder)

    def write(self, points: OperatingPoints, out: Path | None = None) -> None:
        """Write the description with these points."""
        write_points(self._folder, self._about, points, out)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledChoice:
    """Labelled images, and what they are to choose a threshold for.

    Attributes
    ----------
    folder : Path
    kind : {"cost", "f1"}
    costs : (float, float), default (1, 1)
        Of a false alarm and of a miss.
    defect_share : float in (0, 1), optional
        See `labelled_points.labelled_point`.
    layout, category : str, optional
        As in `read_dataset`.
    """

    folder: Path
    kind: str
    costs: tuple[float, float] = (1.0, 1.0)
    defect_share: float | None = None
    layout: str | None = None
    category: str | None = None


def new_point(
    file: PointFile,
    name: str,
    *,
    false_alarm_rate: float | None = None,
    value: float | None = None,
    labelled: LabelledChoice | None = None,
    pixel_false_alarm_rate: float | None = None,
    pixel_value: float | None = None,
    min_area: tuple[float, str] | None = None,
    max_regions: int | None = None,
    mm_per_pixel: float | None = None,
    progress: Progress | None = None,
) -> OperatingPoint:
    """Make an operating point, or change one.

    What is not given of pixels and regions is taken over from the point of the same name or, if
    there is none, from the default. Nothing is written.

    Parameters
    ----------
    file : PointFile
    name : str
    false_alarm_rate, value, labelled : at most one of them
        By what the image threshold is set; none: it stays.
    pixel_false_alarm_rate, pixel_value : float, at most one of the two
    min_area, max_regions, mm_per_pixel
        See `RegionSettings.changed`.
    progress : function, optional

    Raises
    ------
    InputError
        Values do not fit together, or there is no point of this name to change.
    """
    known = any(point.name == name for point in file.points)
    ways = [way for way in (false_alarm_rate, value, labelled) if way is not None]
    if len(ways) > 1 or not (ways or known):
        raise InputError(
            f"The operating point {name!r} must be set in one way: by a false-alarm rate, a value "
            f"or labelled images, but {len(ways) or 'none'} of them "
            f"{'are' if ways else 'is'} given. Give one."
        )
    base = file.points.get(name if known else None)
    regions = base.regions.changed(
        min_area=min_area, max_regions=max_regions, mm_per_pixel=mm_per_pixel
    )
    base = base.changed(
        file.calibration,
        pixel_false_alarm_rate=pixel_false_alarm_rate,
        pixel_value=pixel_value,
        regions=regions,
    )
    if not ways:
        return base
    pixel_rate, pixel_value = base.pixel_false_alarm_rate, base.pixel_value
    if labelled is None:
        return make_point(
            name,
            file.calibration,
            false_alarm_rate=false_alarm_rate,
            value=value,
            pixel_false_alarm_rate=pixel_rate,
            pixel_value=pixel_value,
            regions=regions,
        )
    return _labelled(file, name, labelled, base, progress)


def _labelled(
    file: PointFile,
    name: str,
    choice: LabelledChoice,
    base: OperatingPoint,
    progress: Progress | None,
) -> OperatingPoint:
    """Point that labelled images choose; pixels and regions as of another."""
    samples = read_labelled(choice.folder, layout=choice.layout, category=choice.category)
    folder = choice.category or choice.folder.resolve().name
    scores = score_labelled(file.scorer(), samples, folder=folder, progress=progress)
    return labelled_point(
        name,
        scores,
        file.calibration,
        kind=choice.kind,
        defect_share=choice.defect_share,
        costs=choice.costs,
        pixel_false_alarm_rate=base.pixel_false_alarm_rate,
        pixel_value=base.pixel_value,
        regions=base.regions,
    )


def open_points(path: Path | str, engine: EngineSettings | None = None) -> PointFile:
    """Open a model file, or the folder of an export.

    Parameters
    ----------
    path : Path
    engine : EngineSettings, optional
        What runs a model. Default: as a fit, in f32, like the scores that calibrate it. An export
        is run by its own runtime.

    Raises
    ------
    ModelFileError
        It is neither, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        return ExportPoints(path)
    return ModelPoints(path, engine or EngineSettings(precision="f32"))
