"""Operating points: several named thresholds of one model, for several uses of it.

A point keeps its recipe. One by a false-alarm rate is worked out from the calibration each time, so
it follows the model when that is updated or merged. One that labelled images have chosen, or that
was given as a value, is kept as it is, together with the calibration it was made beside, so that it
can be told to be older than the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from blemish.calibration import Calibration
from blemish.errors import InputError
from blemish.regions import RegionSettings
from blemish.threshold import FIXED, LABELLED, Threshold, rate_interval
from blemish.threshold_choice import (
    AIMS,
    CONFIDENCE,
    Aim,
    Estimate,
    aim_from_json,
    estimate_from_json,
    is_number,
)

DEFAULT = "default"
BY_RATE, BY_VALUE = "false-alarm-rate", "value"
KINDS = (BY_RATE, *AIMS, BY_VALUE)
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A named pair of thresholds, for images and for pixels, and which regions are told.

    Attributes
    ----------
    name : str
    kind : {"false-alarm-rate", "cost", "f1", "value"}
    false_alarm_rate : float in (0, 1), for that kind only
    value : float, for all other kinds
        Image threshold.
    pixel_false_alarm_rate : float in (0, 1), or None
        Pixel threshold by its rate; None: it is `pixel_value`.
    pixel_value : float or None
    aim, estimate : for "cost" and "f1"
        What the labelled images chose it for, and its errors on images that did not choose it.
    calibration : str
        `calibration_digest` beside which the values were set; "" if there is none.
    regions : RegionSettings
    is_default : bool, default False
        Whether the model is used at it unless another is named.

    Raises
    ------
    InputError
        A value is not as described, or they do not fit together.
    """

    name: str
    kind: str = BY_RATE
    false_alarm_rate: float | None = None
    value: float | None = None
    pixel_false_alarm_rate: float | None = None
    pixel_value: float | None = None
    aim: Aim | None = None
    estimate: Estimate | None = None
    calibration: str = ""
    regions: RegionSettings = field(default_factory=RegionSettings)
    is_default: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.kind not in KINDS:
            raise InputError(
                f"The kind of an operating point must be one of {', '.join(KINDS)}, but is "
                f"{self.kind!r}. Choose one."
            )
        _check_one("image", self.false_alarm_rate, self.value)
        _check_one("pixel", self.pixel_false_alarm_rate, self.pixel_value)
        by_rate, labelled = self.false_alarm_rate is not None, self.aim is not None
        fits = by_rate == (self.kind == BY_RATE) and labelled == (self.kind in AIMS)
        fits &= labelled == (self.estimate is not None)
        fits &= self.aim is None or self.aim.kind == self.kind
        if not fits:
            raise InputError(
                f"The operating point {self.name!r} of kind {self.kind} must hold what that kind "
                "needs and nothing else, but does not. Make it with `make_point`."
            )

    def threshold(self, calibration: Calibration) -> Threshold:
        """Image threshold.

        Its interval is that of the false-alarm rate: for a rate that of the order statistic, for
        labelled images that of the estimate, and for a given value that of the share of
        leave-one-out scores that reach it.
        """
        if self.false_alarm_rate is not None:
            return calibration.threshold(self.false_alarm_rate)
        value = float(self.value or 0.0)
        if self.estimate is not None:
            rate, interval = self.estimate.false_alarm_rate, self.estimate.false_alarm_interval()
            return Threshold(
                value, rate, LABELLED, interval, CONFIDENCE, self.estimate.normal, images_needed=0
            )
        scores = calibration.scores
        reached = int((scores >= value).sum())
        interval = rate_interval(reached, len(scores), CONFIDENCE)
        rate = reached / len(scores)
        return Threshold(
            value, rate, FIXED, interval, CONFIDENCE, len(scores), 0, calibration.approximate
        )

    def pixel_threshold(self, calibration: Calibration) -> float:
        """Map value at and above which a pixel is in the predicted mask."""
        if self.pixel_false_alarm_rate is not None:
            return calibration.pixel_threshold(self.pixel_false_alarm_rate)
        return float(self.pixel_value or 0.0)

    def changed(
        self,
        calibration: Calibration,
        *,
        pixel_false_alarm_rate: float | None = None,
        pixel_value: float | None = None,
        regions: RegionSettings | None = None,
    ) -> OperatingPoint:
        """Return the point with another pixel threshold, or telling other regions."""
        point = replace(self, regions=regions or self.regions)
        if pixel_false_alarm_rate is None and pixel_value is None:
            return point
        digest = point.calibration or calibration_digest(calibration)
        has_value = point.value is not None or pixel_value is not None
        return replace(
            point,
            pixel_false_alarm_rate=pixel_false_alarm_rate,
            pixel_value=pixel_value,
            calibration=digest if has_value else "",
        )

    def is_older_than(self, calibration: Calibration) -> bool:
        """Whether a value was set for another state of the model; never of rates alone."""
        return bool(self.calibration) and self.calibration != calibration_digest(calibration)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the model file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OperatingPoint:
        """Read what `to_json` gave.

        Raises
        ------
        InputError, TypeError, KeyError
            It is no operating point.
        """
        read = {
            **data,
            "aim": aim_from_json(data["aim"]),
            "estimate": estimate_from_json(data["estimate"]),
            "regions": RegionSettings.from_json(data["regions"]),
        }
        if not isinstance(data["calibration"], str) or not isinstance(data["is_default"], bool):
            raise TypeError("an operating point of other types")
        return cls(**read)


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """All operating points of a model; the one of its fit is called "default".

    Attributes
    ----------
    of_fit : OperatingPoint
        In place unless another one is called "default".
    stored : tuple of OperatingPoint
        Sorted by name, "default" first; what a model file holds.

    Raises
    ------
    InputError
        Two have one name, or two are the default.

    Examples
    --------
    >>> fit = point_of_fit(0.05, 0.001)
    >>> strict = replace(fit, name="strict", false_alarm_rate=0.001)
    >>> points = OperatingPoints(fit).with_point(strict).with_default("strict")
    >>> [point.name for point in points], points.get().name
    (['default', 'strict'], 'strict')
    """

    of_fit: OperatingPoint
    stored: tuple[OperatingPoint, ...] = ()

    def __post_init__(self) -> None:
        names = [point.name for point in self.stored]
        if len(set(names)) < len(names):
            raise InputError(
                f"Operating points must have different names, but they are {', '.join(names)}."
            )
        if sum(point.is_default for point in self.stored) > 1:
            raise InputError("Only one operating point may be the default, but several are.")

    def __iter__(self) -> Iterator[OperatingPoint]:
        """All points, that of the fit first."""
        of_fit = [] if any(point.name == DEFAULT for point in self.stored) else [self.of_fit]
        return iter([*of_fit, *self.stored])

    @property
    def default(self) -> str:
        """Name of the point that is used unless another is named."""
        return next((point.name for point in self.stored if point.is_default), DEFAULT)

    def get(self, name: str | None = None) -> OperatingPoint:
        """Point of a name, by default the default.

        Raises
        ------
        InputError
            There is none; names those there are.
        """
        name = self.default if name is None else name
        for point in self:
            if point.name == name:
                return point
        raise InputError(
            f"The model must have the operating point {name!r}, but has only "
            f"{', '.join(point.name for point in self)}. Choose one of them, or make it: "
            "blemish threshold."
        )

    def with_point(self, point: OperatingPoint) -> OperatingPoints:
        """Add a point, in place of that of the same name, whose being the default it takes over."""
        point = replace(point, is_default=self.default == point.name != DEFAULT)
        others = [each for each in self.stored if each.name != point.name]
        stored = sorted([*others, point], key=lambda each: (each.name != DEFAULT, each.name))
        return replace(self, stored=tuple(stored))

    def without(self, name: str) -> OperatingPoints:
        """Remove a point; the default is then that of the fit, if it was this one.

        Raises
        ------
        InputError
            There is none, or it is that of the fit.
        """
        point = self.get(name)
        if point not in self.stored:
            raise InputError(
                f"The operating point {name!r} must be one that was added, but is that of the fit, "
                "which stays. Make another one the default, or set this one anew."
            )
        return replace(self, stored=tuple(each for each in self.stored if each != point))

    def with_default(self, name: str) -> OperatingPoints:
        """Make a point the one that is used unless another is named.

        Raises
        ------
        InputError
            There is none of this name.
        """
        self.get(name)
        return replace(
            self,
            stored=tuple(
                replace(point, is_default=point.name == name != DEFAULT) for point in self.stored
            ),
        )


def make_point(
    name: str,
    calibration: Calibration,
    *,
    false_alarm_rate: float | None = None,
    value: float | None = None,
    aim: Aim | None = None,
    estimate: Estimate | None = None,
    pixel_false_alarm_rate: float | None = None,
    pixel_value: float | None = None,
    regions: RegionSettings | None = None,
) -> OperatingPoint:
    """Operating point of what is given: a false-alarm rate or a value, for images and for pixels.

    Parameters
    ----------
    name : str
    calibration : Calibration
        Of the model it is for.
    false_alarm_rate, value : float, one of the two
    aim, estimate : with a value that labelled images have chosen
    pixel_false_alarm_rate, pixel_value : float, one of the two
    regions : RegionSettings, optional

    Raises
    ------
    InputError
        As `OperatingPoint`.
    """
    unaided = BY_RATE if value is None else BY_VALUE
    has_value = value is not None or pixel_value is not None
    return OperatingPoint(
        name=name,
        kind=unaided if aim is None else aim.kind,
        false_alarm_rate=false_alarm_rate,
        value=value,
        pixel_false_alarm_rate=pixel_false_alarm_rate,
        pixel_value=pixel_value,
        aim=aim,
        estimate=estimate,
        calibration=calibration_digest(calibration) if has_value else "",
        regions=regions or RegionSettings(),
    )


def points_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[OperatingPoint, ...]:
    """Read a list of what `OperatingPoint.to_json` gave.

    Raises
    ------
    InputError, TypeError, KeyError
        They are no operating points, or cannot be together in one model.
    """
    stored = tuple(OperatingPoint.from_json(each) for each in data)
    return OperatingPoints(point_of_fit(0.5, 0.5), stored).stored


def point_of_fit(false_alarm_rate: float, pixel_false_alarm_rate: float) -> OperatingPoint:
    """Operating point "default", of the rates that were chosen at the fit."""
    return OperatingPoint(
        name=DEFAULT,
        false_alarm_rate=false_alarm_rate,
        pixel_false_alarm_rate=pixel_false_alarm_rate,
    )


def calibration_digest(calibration: Calibration) -> str:
    """Tell one calibration from another: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for values in (calibration.scores, calibration.pixel_quantiles):
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()[:16]


def _check_name(name: object) -> None:
    if (
        not isinstance(name, str)
        or not name
        or len(name) > _LONGEST_NAME
        or name != name.strip()
        or not name.isprintable()
    ):
        raise InputError(
            f"The name of an operating point must be 1 to {_LONGEST_NAME} printable characters "
            f"without spaces around them, but is {name!r}. Call it strict, for example."
        )


def _check_one(what: str, rate: float | None, value: float | None) -> None:
    """One of the two, and that one a number in its range."""
    if (rate is None) == (value is None):
        raise InputError(
            f"The {what} threshold must be given by a false-alarm rate or as a value, but "
            f"{'neither is' if rate is None else 'both are'} given. Give one of them."
        )
    if rate is not None and not (is_number(rate) and 0.0 < rate < 1.0):
        raise InputError(
            f"The {what} false-alarm rate must be between 0 and 1, but is {rate!r}. Try "
            f"{'0.05' if what == 'image' else '0.001'}."
        )
    if value is not None and not is_number(value):
        raise InputError(
            f"The {what} threshold must be a finite number, but is {value!r}. Scores that were "
            "seen are in `blemish inspect`."
        )


def joined_points(models: Sequence[Sequence[OperatingPoint]]) -> tuple[OperatingPoint, ...]:
    """Operating points of several models; of those of one name, and as default, the first's."""
    points = {point.name: point for point in models[0]}
    for stored in models[1:]:
        for point in stored:
            points.setdefault(point.name, replace(point, is_default=False))
    return tuple(points.values())
