"""Does the process still look as it did when the model was learned? A running comparison.

Image by image, the score and how the image was taken (light, focus ...) are compared with those of
the training images by a sequential test with a stated rate of false alarms: `drift_test`.

An anomalous image is a defective part, or a drift so large that everything looks defective. It
never counts as a drift of a statistic, neither now nor among the training images; it is counted,
and a rising share of anomalous images is an alarm of its own, which says how these images differ.

After an alarm the statistic is not tested until the alarm is acknowledged; the others are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.drift.alarm import ANOMALOUS, SCORE, Alarm
from blemish.drift.sequential_test import DriftTest, GapBets, ShareBets, noticed_after
from blemish.errors import InputError, NotFittedError

DEFAULT_FALSE_ALARMS_PER = 1_000_000
STATE_VERSION = 1

_LEAST_IMAGES = 3
_RECENT = 20  # images that a level is about the mean of
_FARTHEST = 10.0  # standard deviations that one anomalous image counts at most
_TELLING = 1.0  # mean normal score from which anomalous images are said to differ


class Watch:
    """Compares a stream of images with the training images; `watch_folder.watch_of` makes one.

    Memory and time per image are constant.

    Parameters
    ----------
    training : mapping of str to float (n,)
        Statistics of the training images by name, "score" among them; at least 3 images.
    threshold : float
        Images with this score or a higher one are anomalous.
    false_alarms_per : int >= 1, default 1,000,000
        At most one false alarm is to be expected in so many images, over all statistics together,
        in any stretch of images that are exchangeable with the training images: not only few on
        average in the long run, and for any distribution and number of training images.

    Attributes
    ----------
    statistics : tuple of str
        Names of what is tested.
    images, anomalous : int
        How many were seen, and how many of them were anomalous.
    open_alarms : dict of str to Alarm
        Alarms that were not acknowledged, by statistic.

    Raises
    ------
    InputError
        Numbers that cannot be used.
    NotFittedError
        Fewer than 3 training images.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(400, 2))
    >>> training = {"score": noise[:200, 0], "focus": noise[:200, 1]}
    >>> watch = Watch(training, threshold=3.0)
    >>> found = [
    ...     alarm
    ...     for k, (score, focus) in enumerate(noise[200:])
    ...     for alarm in watch.add({"score": score, "focus": focus - 2.0 * (k >= 100)})
    ... ]
    >>> [(alarm.statistic, alarm.direction, alarm.since) for alarm in found]
    [('focus', 'down', 99)]
    """

    def __init__(
        self,
        training: Mapping[str, FloatArray],
        *,
        threshold: float,
        false_alarms_per: int = DEFAULT_FALSE_ALARMS_PER,
    ) -> None:
        columns = _checked(training, threshold, false_alarms_per)
        self.threshold, self.false_alarms_per = float(threshold), int(false_alarms_per)
        self.statistics = (*columns, ANOMALOUS)
        self.images = self.anomalous = 0
        self.open_alarms: dict[str, Alarm] = {}
        normal = columns[SCORE] < threshold
        self.training_images, self._hits = len(normal), int((~normal).sum())
        self._means = {name: float(values[normal].mean()) for name, values in columns.items()}
        self._stds = {name: _std(values[normal]) for name, values in columns.items()}
        limit = float(self.false_alarms_per * len(self.statistics))
        self._bets: dict[str, GapBets] = {}
        for name, values in columns.items():
            kept = np.sort(values[normal])
            # Where a threshold lies at a training score, nothing normal lies beyond that one.
            self._bets[name] = GapBets(kept[:-1] if name == SCORE and self._hits else kept)
        self._tests = {name: DriftTest(bets, limit) for name, bets in self._bets.items()}
        self._tests[ANOMALOUS] = DriftTest(
            ShareBets(self._hits, self.training_images), limit, noted=1 + len(columns)
        )
        self._levels = dict.fromkeys(self.statistics, 0.0)
        self._fingerprint = _fingerprint(columns, threshold)

    def add(
        self, values: Mapping[str, float], *, anomalous: bool | None = None, name: str = ""
    ) -> list[Alarm]:
        """Take the next image of the stream.

        Parameters
        ----------
        values : mapping of str to float
            Its statistics by name; others than those of the training images are passed over. Of
            an anomalous image some may be missing.
        anomalous : bool, optional
            Default: whether the score reaches the threshold. True for a part that could not be
            scored, for example because it could not be aligned.
        name : str
            Of the image, for the alarms.

        Returns
        -------
        list of Alarm
            Those that this image raised; usually none.

        Raises
        ------
        InputError
            A statistic is missing or no finite number.
        """
        if anomalous is None:
            anomalous = _number(values, SCORE) >= self.threshold
        found = {
            column: _number(values, column)
            for column in self._bets
            if not anomalous or column in values
        }
        self.images += 1
        self.anomalous += anomalous
        raised = [] if anomalous else [self._test(c, v, (v,), name) for c, v in found.items()]
        raised.append(self._test(ANOMALOUS, float(anomalous), self._noted(found, anomalous), name))
        newest = {column: self._deviation(column, value) for column, value in found.items()}
        for column, level in {**newest, ANOMALOUS: float(anomalous)}.items():
            self._levels[column] += (level - self._levels[column]) / min(_RECENT, self.images)
        return [alarm for alarm in raised if alarm is not None]

    @property
    def levels(self) -> dict[str, float]:
        """Where each statistic is now: mean of about the last 20 images, anomalous ones included.

        In standard deviations of the training images, from their mean; "anomalous" as a share.
        """
        return dict(self._levels)

    @property
    def evidence(self) -> dict[str, float]:
        """Evidence of a drift by statistic, as a share of what raises an alarm."""
        return {name: test.evidence / test.limit for name, test in self._tests.items()}

    def noticed_after(self, shift: float, *, most: int = 1000) -> int | None:
        """How many images a shift that is there from the first image on takes to be noticed.

        About; in standard deviations; None if it is more than `most`. Later, when the stream itself
        has shown what is normal, a shift is noticed sooner.
        """
        count = self.training_images - self._hits
        limit = float(self.false_alarms_per * len(self.statistics))
        return noticed_after(count, shift, limit, most=most)

    def acknowledge(self, statistics: Sequence[str] | None = None) -> list[Alarm]:
        """Test statistics again after an alarm: the cause was found and removed.

        What was seen since the supposed change is forgotten. If the new level is to be the normal
        one, update the model with new images instead, and watch with that.

        Parameters
        ----------
        statistics : sequence of str, optional
            Default: all that have an alarm.

        Returns
        -------
        list of Alarm
            Those that were open.

        Raises
        ------
        InputError
            There is no such statistic.
        """
        wanted = self.statistics if statistics is None else statistics
        for name in wanted:
            if name not in self._tests:
                raise InputError(
                    f"A statistic must be one of {', '.join(self.statistics)}, but is {name!r}. "
                    "Name one of these."
                )
        closed = [self.open_alarms.pop(name) for name in wanted if name in self.open_alarms]
        for alarm in closed:
            self._tests[alarm.statistic].restart(self.images + 1)
        return closed

    def state(self) -> dict[str, Any]:
        """All that changes; goes through JSON without loss. About 10 kB."""
        return {
            "version": STATE_VERSION,
            "training": self._fingerprint,
            "false_alarms_per": self.false_alarms_per,
            "images": self.images,
            "anomalous": self.anomalous,
            "levels": self._levels,
            "alarms": [asdict(alarm) for alarm in self.open_alarms.values()],
            "tests": {name: test.state() for name, test in self._tests.items()},
        }

    def resume(self, state: Any, *, source: str = "The state") -> None:
        """Go on where another watch with the same training images and settings stopped.

        Parameters
        ----------
        state : dict
            From `state`.
        source : str
            What to call it in an error.

        Raises
        ------
        InputError
            It is no state, or one of another model, threshold or rate.
        """
        found = (state.get("training"), state.get("false_alarms_per")) if _is_state(state) else ()
        if found and found != (self._fingerprint, self.false_alarms_per):
            raise InputError(
                f"{source} must be that of a watch with this model, threshold and rate of false "
                f"alarms, but is one with another {_other(found[0] != self._fingerprint)}. Use "
                "these again, or begin a new state in another file."
            )
        before = self.state()
        try:
            self._take(state)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self._take(before)
            raise InputError(
                f"{source} must be what a watch has saved, but is damaged or something else. "
                "Begin a new state in another file."
            ) from error

    def _take(self, state: Any) -> None:
        alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        for name, test in self._tests.items():
            test.resume(state["tests"][name])
        self.images, self.anomalous = int(state["images"]), int(state["anomalous"])
        self._levels = {name: float(state["levels"][name]) for name in self.statistics}
        self.open_alarms = {alarm.statistic: alarm for alarm in alarms}

    def _test(
        self, statistic: str, value: float, noted: Sequence[float], image: str
    ) -> Alarm | None:
        test = self._tests[statistic]
        if statistic in self.open_alarms or not test.add(value, noted, self.images):
            return None
        sign, since, sums = test.change()
        now, before, shift, differing = sums[0] / sums[-1], 0.0, None, None
        if statistic == ANOMALOUS:
            before, differing = self._hits / self.training_images, self._differing(sums)
        else:
            before = self._means[statistic]
            if self._stds[statistic] > 0:
                shift = (now - before) / self._stds[statistic]
        alarm = Alarm(
            statistic=statistic,
            direction="up" if sign > 0 else "down",
            number=self.images,
            image=image,
            since=since,
            before=before,
            now=now,
            shift=shift,
            differing=differing,
        )
        self.open_alarms[statistic] = alarm
        return alarm

    def _noted(self, values: Mapping[str, float], anomalous: bool) -> tuple[float, ...]:
        """1 for an anomalous image, and its normal score in every statistic."""
        if not anomalous:
            return (0.0,) * (1 + len(self._bets))
        scores = (
            bets.normal_score(values[name]) if name in values else 0.0
            for name, bets in self._bets.items()
        )
        return (1.0, *scores)

    def _differing(self, sums: Sequence[float]) -> str | None:
        """Statistic in which the anomalous images differ most, besides their score."""
        means = {
            name: total / max(sums[0], 1.0)
            for name, total in zip(self._bets, sums[1:-1], strict=True)
            if name != SCORE
        }
        most = max(means, key=lambda name: abs(means[name]), default=None)
        return most if most is not None and abs(means[most]) >= _TELLING else None

    def _deviation(self, statistic: str, value: float) -> float:
        """In standard deviations of the training images, within bounds."""
        std, difference = self._stds[statistic], value - self._means[statistic]
        if std == 0:
            return math.copysign(_FARTHEST, difference) if difference else 0.0
        return max(-_FARTHEST, min(_FARTHEST, difference / std))


def _checked(
    training: Mapping[str, FloatArray], threshold: float, false_alarms_per: int
) -> dict[str, FloatArray]:
    columns: dict[str, FloatArray] = {
        name: np.asarray(values, np.float64) for name, values in training.items()
    }
    if SCORE not in columns or ANOMALOUS in columns:
        raise InputError(
            f"training must hold {SCORE!r} and other statistics, none of them called "
            f"{ANOMALOUS!r}, but holds {', '.join(columns) or 'none'}. Rename them."
        )
    shapes = {name: values.shape for name, values in columns.items()}
    if len(set(shapes.values())) != 1 or columns[SCORE].ndim != 1:
        raise InputError(
            f"The statistics must hold one number per training image each, but have shapes "
            f"{', '.join(f'{name} {shape}' for name, shape in shapes.items())}. Give float (n,)."
        )
    wrong = [name for name, values in columns.items() if not np.isfinite(values).all()]
    if wrong or not math.isfinite(threshold):
        raise InputError(
            f"The threshold and the statistics of the training images must be finite numbers, but "
            f"{', '.join(wrong) or 'the threshold'} is not. Fit the model again."
        )
    if false_alarms_per < 1:
        raise InputError(
            f"false_alarms_per must be at least 1 image, but is {false_alarms_per}. Try 1000000."
        )
    normal = int((columns[SCORE] < threshold).sum())
    if normal < _LEAST_IMAGES:
        raise NotFittedError(
            f"A watch needs at least {_LEAST_IMAGES} training images below the threshold, but "
            f"there are {normal}. Fit the model on more images, or raise the threshold."
        )
    return columns


def _number(values: Mapping[str, float], name: str) -> float:
    value = values.get(name)
    if value is None or not math.isfinite(value):
        raise InputError(
            f"The statistics of an image must be finite numbers, but {name} is "
            f"{'missing' if value is None else value}. Give all of them, or anomalous=True for a "
            "part that could not be scored."
        )
    return float(value)


def _std(values: FloatArray) -> float:
    """Standard deviation; 0 if all are the same, whatever the rounding."""
    return float(np.std(values, ddof=1)) if np.ptp(values) > 0 else 0.0


def _fingerprint(columns: Mapping[str, FloatArray], threshold: float) -> str:
    """What tells one set of training images from another."""
    digest = hashlib.sha256(repr(float(threshold)).encode())
    for name, values in columns.items():
        digest.update(name.encode() + np.sort(values).astype("<f8").tobytes())
    return digest.hexdigest()[:32]


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and state.get("version") == STATE_VERSION


def _other(training: bool) -> str:
    return "model or threshold" if training else "rate"
