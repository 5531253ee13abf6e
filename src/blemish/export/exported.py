"""Loads an export and scores with it, by the runtime it was made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from blemish.arrays import Float32Array, UInt8Array
from blemish.calibration import Calibration
from blemish.decision import Decision, Score
from blemish.errors import ModelFileError, ShapeError
from blemish.export.description import VERSION
from blemish.export.folder import DESCRIPTION_FILE, FORMAT
from blemish.export.onnx import MODEL_FILE
from blemish.export.openvino import BIN_FILE, XML_FILE
from blemish.export.points import calibration_of, digests_of_description, points_of
from blemish.export.runtimes import Runtime, open_onnx, open_openvino
from blemish.graph import MAP, SCORE
from blemish.loading import ImageLike, load_input
from blemish.operating_points import OperatingPoints
from blemish.preprocessing import Preprocessing
from blemish.training_images import source_size

T = TypeVar("T")
_Level = tuple[str, tuple[int, int]]  # layer and grid

_FILES = {"onnx": {MODEL_FILE}, "openvino": {XML_FILE, BIN_FILE}}


@dataclass(frozen=True, slots=True)
class Export:
    """A model as it was exported. Made by `load_export`.

    Attributes
    ----------
    about : dict
        What `model.json` says.
    preprocessing : Preprocessing
    threshold, pixel_threshold : float
        Those of the default operating point.
    operating_points : OperatingPoints
    calibration : Calibration
        Leave-one-out scores of the model.
    value_range : (low, high) or None
        Black and white of deep images.
    runtime : str
        Program that runs it, with its version.
    """

    about: Mapping[str, Any] = field(repr=False)
    preprocessing: Preprocessing
    threshold: float
    pixel_threshold: float
    operating_points: OperatingPoints = field(repr=False)
    calibration: Calibration = field(repr=False)
    value_range: tuple[float, float] | None = field(repr=False)
    _runtime: Runtime = field(repr=False)
    _levels: Mapping[str, _Level] = field(repr=False)

    @property
    def digests(self) -> UInt8Array:
        """Digest of every image that was learned from, (n, 16); see `records.digests_of`."""
        return digests_of_description(self.about)

    @property
    def runtime(self) -> str:
        """Program that runs it, with its version."""
        return self._runtime.name

    def score(self, image: ImageLike) -> Score:
        """Score one image as `Model.score` does; compare with `threshold`.

        Raises
        ------
        ImageError, InputError
            As `Model.score`.
        """
        loaded = load_input(image, self.preprocessing, value_range=self.value_range)
        return self.score_inputs(loaded[None])[0]

    def classify(self, image: ImageLike, *, operating_point: str | None = None) -> Decision:
        """Judge one image at an operating point, as `Model.classify` does.

        Raises
        ------
        ImageError, InputError
            As `Model.classify`.
        """
        point = self.operating_points.get(operating_point)
        threshold, pixel = (
            point.threshold(self.calibration),
            point.pixel_threshold(self.calibration),
        )
        source_box, score = self.preprocessing.source_box(source_size(image)), self.score(image)
        return Decision(
            is_anomalous=score.image_score >= threshold.value,
            score=score,
            threshold=threshold,
            predicted_mask=score.anomaly_map >= pixel,
            pixel_threshold=pixel,
            operating_point=point.name,
            source_box=source_box,
            region_settings=point.regions,
        )

    def score_inputs(self, inputs: Float32Array) -> list[Score]:
        """Score a batch of preprocessed images.

        Parameters
        ----------
        inputs : float32 (N, 3, H, W)

        Raises
        ------
        ShapeError
            The inputs are not (N, 3, H, W) with the H and W of the export.
        """
        height, width = self.preprocessing.size
        if inputs.ndim != 4 or inputs.shape[1:] != (3, height, width):
            raise ShapeError.of(
                "inputs",
                f"(N, 3, {height}, {width})",
                inputs.shape,
                "Were they preprocessed for this export?",
            )
        if not len(inputs):
            return []
        found = self._runtime.run(np.ascontiguousarray(inputs, dtype=np.float32))
        levels = {
            layer: found[name].reshape(-1, *grid) for name, (layer, grid) in self._levels.items()
        }
        return [
            Score(
                float(found[SCORE][k]),
                found[MAP][k, 0],
                {layer: level[k] for layer, level in levels.items()},
            )
            for k in range(len(inputs))
        ]


def load_export(folder: Path | str) -> Export:
    """Load what `blemish export` wrote, for its own runtime.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Export

    Raises
    ------
    ModelFileError
        The folder is no export, was written by a newer version, is damaged, or its graph lacks
        an output.
    """
    folder = Path(folder)
    about = read_description(folder)
    try:
        how = about["preprocessing"]
        preprocessing = Preprocessing(
            resize=_tuple(how["resize"]),
            crop=_tuple(how["crop"]),
            roi=_tuple(how["roi"]),
            interpolation=how["interpolation"],
        )
        value_range = None if how["value_range"] is None else _pair(how["value_range"], float)
        levels = _levels(about["outputs"])
        threshold, pixel = float(about["threshold"]), float(about["pixel_threshold"])
        points, calibration = points_of(about), calibration_of(about)
        digests_of_description(about)
        if set(about["files"]) != _FILES[about["target"]]:
            raise ValueError("files of another target")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(folder) from error
    _check_files(folder, about["files"])
    names = [MAP, SCORE, *levels]
    if about["target"] == "onnx":
        runtime = open_onnx(folder / MODEL_FILE, names)
    else:
        runtime = open_openvino(folder / XML_FILE, names)
    return Export(
        about,
        preprocessing,
        threshold,
        pixel,
        points,
        calibration,
        value_range,
        runtime,
        levels,
    )


def read_description(folder: Path) -> dict[str, Any]:
    """Read what `model.json` says.

    Raises
    ------
    ModelFileError
        The folder is no export, was written by a newer version, or is damaged.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise ModelFileError(
            f"{folder} must be the folder of an export, but has no {DESCRIPTION_FILE}. "
            "Make one: blemish export."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _damaged(folder) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ModelFileError(
            f"{path} must describe an export of blemish, but is something else. "
            "Name a folder written by blemish export."
        )
    version, writer = found.get("version"), str(found.get("written_by"))
    if not isinstance(version, int) or not isinstance(found.get("files"), dict):
        raise _damaged(folder)
    if version > VERSION:
        raise ModelFileError(
            f"{path} must have format version {VERSION} or older, but has {version}: it was "
            f"written by blemish {writer[:20]!r}. Install that version or a newer one."
        )
    return found


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ModelFileError(
                f"{folder} must hold {name}, but does not. Copy the whole folder, or export the "
                "model again."
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ModelFileError(
                f"{path} must be as it was written, but its checksum differs: it is damaged or "
                "was changed. Copy it again, or export the model again."
            )


def _levels(outputs: Mapping[str, Any]) -> dict[str, _Level]:
    """Layer and grid by the name of the output; `KeyError` and so on if something is missing."""
    if not {MAP, SCORE} <= outputs.keys():
        raise KeyError(SCORE)
    return {
        name: (str(about["layer"]), _pair(about["grid"], int))
        for name, about in outputs.items()
        if name not in (MAP, SCORE)
    }


def _pair(values: Any, kind: Callable[[Any], T]) -> tuple[T, T]:
    first, second = values
    return kind(first), kind(second)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _damaged(folder: Path) -> ModelFileError:
    return ModelFileError(
        f"{folder / DESCRIPTION_FILE} must describe an export, but is damaged. "
        "Copy it again, or export the model again."
    )
