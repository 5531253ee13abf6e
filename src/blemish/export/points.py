"""Operating points in the description of an export: written, read, and changed in place.

The graph knows no threshold, so that another one needs no other graph. A program without Blemish
takes `threshold` and `pixel_threshold`, those of the default point, or those of any other one. What
is needed to work out a point anew stands there, too: the leave-one-out scores.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import UInt8Array
from blemish.calibration import PIXEL_PROBABILITIES, Calibration
from blemish.export.folder import DESCRIPTION_FILE, written_whole
from blemish.operating_points import OperatingPoint, OperatingPoints, points_from_json
from blemish.records import DIGEST_BYTES
from blemish.writing import write_bytes


def described_points(
    points: OperatingPoints, calibration: Calibration, highest_score: float | None
) -> dict[str, Any]:
    """Thresholds as `model.json` holds them: those of the default point, and all points.

    Parameters
    ----------
    points : OperatingPoints
    calibration : Calibration
    highest_score : float or None
        Largest image score there can be.
    """
    default = points.get()
    return {
        "threshold": default.threshold(calibration).value,
        "pixel_threshold": default.pixel_threshold(calibration),
        "operating_point": default.name,
        "operating_points": [
            described_point(point, calibration, highest_score) for point in points
        ],
        "point_of_fit": points.of_fit.to_json(),
    }


def described_point(
    point: OperatingPoint, calibration: Calibration, highest_score: float | None
) -> dict[str, Any]:
    """One point: its thresholds, what they promise, and its recipe, as plain data.

    Returns
    -------
    dict
        name, kind, threshold, pixel_threshold, false_alarm_rate and its interval, whether the
        scores these rest on are approximate, reachable,
        older_than_calibration, cross_validation (None unless labelled images chose it), recipe.
    """
    found = point.threshold(calibration)
    estimate = None
    if point.estimate is not None and point.aim is not None:
        estimate = {
            **asdict(point.estimate),
            "false_alarm_rate": point.estimate.false_alarm_rate,
            "false_alarm_interval": list(point.estimate.false_alarm_interval()),
            "miss_rate": point.estimate.miss_rate,
            "miss_interval": list(point.estimate.miss_interval()),
            point.kind: point.estimate.figure(point.aim),
            f"{point.kind}_interval": list(point.estimate.figure_interval(point.aim)),
            "confidence": found.confidence,
        }
    return {
        "name": point.name,
        "kind": point.kind,
        "threshold": found.value,
        "pixel_threshold": point.pixel_threshold(calibration),
        "false_alarm_rate": found.false_alarm_rate,
        "interval": list(found.interval),
        "confidence": found.confidence,
        "approximate": found.approximate,
        "method": found.method,
        "reachable": highest_score is None or found.value <= highest_score,
        "older_than_calibration": point.is_older_than(calibration),
        "cross_validation": estimate,
        "recipe": point.to_json(),
    }


def described_calibration(calibration: Calibration, digests: UInt8Array) -> dict[str, Any]:
    """Leave-one-out scores, and digests of the images, as `model.json` holds them."""
    return {
        "scores": calibration.scores.tolist(),
        "pixel_quantiles": calibration.pixel_quantiles.tolist(),
        "approximate": calibration.approximate,
        "digests": [digest.tobytes().hex() for digest in digests],
    }


def points_of(about: Mapping[str, Any]) -> OperatingPoints:
    """Operating points of a description.

    Raises
    ------
    InputError, KeyError, TypeError
        They are damaged.
    """
    of_fit = OperatingPoint.from_json(about["point_of_fit"])
    recipes = [point["recipe"] for point in about["operating_points"]]
    stored = [recipe for recipe in recipes if recipe != about["point_of_fit"]]
    return OperatingPoints(of_fit, points_from_json(stored))


def calibration_of(about: Mapping[str, Any]) -> Calibration:
    """Calibration of a description.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is damaged.
    """
    told = about["calibration"]
    scores = np.array(told["scores"], dtype=np.float64)
    quantiles = np.array(told["pixel_quantiles"], dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2 or quantiles.shape != PIXEL_PROBABILITIES.shape:
        raise ValueError("scores of another shape")
    if not (np.isfinite(scores).all() and np.isfinite(quantiles).all()):
        raise ValueError("scores that are no numbers")
    return Calibration(scores, quantiles, bool(told["approximate"]))


def digests_of_description(about: Mapping[str, Any]) -> UInt8Array:
    """Digests (n, 16) of the images that were learned from.

    Raises
    ------
    KeyError, TypeError, ValueError
        They are damaged.
    """
    octets = b"".join(bytes.fromhex(digest) for digest in about["calibration"]["digests"])
    return np.frombuffer(octets, np.uint8).reshape(-1, DIGEST_BYTES)


def write_points(
    folder: Path, about: Mapping[str, Any], points: OperatingPoints, out: Path | None = None
) -> None:
    """Change the operating points of an export, in one step; its graph stays as it is.

    Parameters
    ----------
    folder : Path
    about : mapping
        Its description.
    points : OperatingPoints
    out : Path, optional
        Folder for a changed copy; `folder` then stays as it is.

    Raises
    ------
    OutputError
        It cannot be written; what was there before is untouched.
    """
    changed = {**about, **described_points(points, calibration_of(about), about["highest_score"])}
    content = (json.dumps(changed, indent=2) + "\n").encode()
    if out is None:
        write_bytes(folder / DESCRIPTION_FILE, content, durable=True)
        return
    with written_whole(out) as place:
        for path in folder.iterdir():
            if path.name != DESCRIPTION_FILE:
                shutil.copy2(path, place / path.name)
        write_bytes(place / DESCRIPTION_FILE, content)
