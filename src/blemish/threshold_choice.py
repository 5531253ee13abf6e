"""Thresholds chosen by labelled images, and what they are worth on images that chose nothing.

A threshold that was chosen on some images flatters itself on them. So the choice is repeated
without a part of the images (a fold), which is then judged; the errors of all folds together are
the estimate. Scores of normal images must come from images that the model did not learn from, or
be leave-one-out scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blemish.arrays import Float64Array, IntArray
from blemish.errors import InputError
from blemish.threshold import rate_interval

BY_COST, BY_F1 = "cost", "f1"
AIMS = (BY_COST, BY_F1)
FOLDS = 5
CONFIDENCE = 0.95
_EQUAL = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a threshold is chosen for.

    Attributes
    ----------
    kind : {"cost", "f1"}
        Least mean cost per part, or largest F1.
    defect_share : float in (0, 1)
        Share of defective parts that is expected; for F1, that at which it is computed.
    false_alarm_cost, miss_cost : float > 0, default 1
        For "cost": of a good part called anomalous, of a defective part called normal.

    Raises
    ------
    InputError
        A value is not as described.

    Examples
    --------
    >>> cost = Aim(kind="cost", defect_share=0.01, false_alarm_cost=1, miss_cost=50)
    >>> round(cost.figure(false_alarm_rate=0.1, miss_rate=0.2), 6)  # 0.99 * 0.1 + 0.01 * 0.2 * 50
    0.199
    >>> Aim(kind="f1", defect_share=0.5).figure(false_alarm_rate=0.5, miss_rate=0)
    0.8
    """

    kind: str
    defect_share: float
    false_alarm_cost: float = 1.0
    miss_cost: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in AIMS:
            raise InputError(f"The aim must be one of {', '.join(AIMS)}, but is {self.kind!r}.")
        share = self.defect_share
        if not is_number(share) or not 0.0 < share < 1.0:
            raise InputError(
                f"The share of defective parts must be between 0 and 1, but is {share!r}. "
                "Give what the line makes, 0.01 for example."
            )
        for cost in (self.false_alarm_cost, self.miss_cost):
            if not is_number(cost) or not 0.0 < cost < math.inf:
                raise InputError(
                    f"The costs must be numbers above 0, but one is {cost!r}. "
                    "Give what a false alarm and a miss cost, as 1:50."
                )

    def figure(self, *, false_alarm_rate: float, miss_rate: float) -> float:
        """Mean cost per part, or F1, at some rates of errors."""
        share = self.defect_share
        false_alarms, missed = (1 - share) * false_alarm_rate, share * miss_rate
        if self.kind == BY_COST:
            return self.false_alarm_cost * false_alarms + self.miss_cost * missed
        found = share - missed
        return 2 * found / (2 * found + false_alarms + missed)

    def loss(self, *, false_alarm_rate: float, miss_rate: float) -> float:
        """What is to be small: the cost, or 1 - F1."""
        figure = self.figure(false_alarm_rate=false_alarm_rate, miss_rate=miss_rate)
        return figure if self.kind == BY_COST else 1 - figure

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Errors of a chosen threshold on images that did not choose it, summed over the folds.

    Attributes
    ----------
    folder : str
        Name of the folder of the labelled images.
    defective, good : int
        Labelled images, without those that the model learned from.
    left_out : int
        Leave-one-out scores of the images that the model learned from.
    missed, false_alarms, false_alarms_left_out : int
        Errors among these three.
    folds : int
    lowest, highest : float
        Thresholds of the folds: how much the choice depends on the images.
    """

    folder: str
    defective: int
    good: int
    left_out: int
    missed: int
    false_alarms: int
    false_alarms_left_out: int
    folds: int
    lowest: float
    highest: float

    def __post_init__(self) -> None:
        counts = (
            (self.missed, self.defective),
            (self.false_alarms, self.good),
            (self.false_alarms_left_out, self.left_out),
        )
        whole = all(type(n) is int for n in (*sum(counts, ()), self.folds))
        if not whole or not all(0 <= errors <= images for errors, images in counts):
            raise InputError(f"An estimate must count errors among images, but has {counts}.")
        if not self.defective or not self.normal or not isinstance(self.folder, str):
            raise InputError("An estimate must be of good and defective images of a folder.")
        if not (is_number(self.lowest) and is_number(self.highest)):
            raise InputError("An estimate must have the thresholds of its folds, as numbers.")

    @property
    def normal(self) -> int:
        """Scores of normal images."""
        return self.good + self.left_out

    @property
    def false_alarm_rate(self) -> float:
        """Share of all normal scores."""
        return (self.false_alarms + self.false_alarms_left_out) / self.normal

    @property
    def miss_rate(self) -> float:
        """Share of the defective images."""
        return self.missed / self.defective

    def false_alarm_interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Clopper-Pearson interval of the false-alarm rate."""
        alarms = self.false_alarms + self.false_alarms_left_out
        return rate_interval(alarms, self.normal, confidence)

    def miss_interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Clopper-Pearson interval of the miss rate."""
        return rate_interval(self.missed, self.defective, confidence)

    def figure(self, aim: Aim) -> float:
        """Mean cost per part, or F1."""
        return aim.figure(false_alarm_rate=self.false_alarm_rate, miss_rate=self.miss_rate)

    def figure_interval(self, aim: Aim) -> tuple[float, float]:
        """Interval of the figure: at the ends of the intervals of both rates, each of 97.5 %.

        Both rates lie in theirs with at least 95 % (Bonferroni), and the figure gets worse with
        either, so it lies between those of the best and the worst ends. Unlike resampling, this
        does not claim certainty where no error was seen.
        """
        each = 1 - (1 - CONFIDENCE) / 2
        alarms, missed = self.false_alarm_interval(each), self.miss_interval(each)
        ends = [aim.figure(false_alarm_rate=alarms[end], miss_rate=missed[end]) for end in (0, 1)]
        return min(ends), max(ends)

    def is_shifted(self) -> bool:
        """Whether good images raise more alarms than left-out ones, beyond chance.

        Then they look other than those the model learned from, and the share of both together says
        little.
        """
        if not self.good or not self.left_out:
            return False
        of_good = rate_interval(self.false_alarms, self.good, CONFIDENCE)
        of_left_out = rate_interval(self.false_alarms_left_out, self.left_out, CONFIDENCE)
        return of_good[0] > of_left_out[1]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def choose_threshold(normal: Float64Array, anomalous: Float64Array, aim: Aim) -> float:
    """Threshold with the least loss on some scores.

    Any value between two neighbouring scores does the same; the middle is taken, as far as can be
    from both. Of several such gaps with the same loss it is the widest; the ends, at which all or
    nothing is anomalous, only if nothing else does as well.

    Parameters
    ----------
    normal, anomalous : float64 (n,), (m,)
    aim : Aim

    Returns
    -------
    float

    Examples
    --------
    >>> aim = Aim(kind="f1", defect_share=0.5)
    >>> choose_threshold(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0]), aim)
    4.0
    """
    values = np.unique(np.concatenate([normal, anomalous]))
    middles = (values[:-1] + values[1:]) / 2
    candidates = np.concatenate([values[:1], middles, np.nextafter(values[-1:], np.inf)])
    gaps = np.concatenate([[0.0], np.diff(values), [0.0]])
    alarms = 1 - np.searchsorted(np.sort(normal), candidates, side="left") / len(normal)
    missed = np.searchsorted(np.sort(anomalous), candidates, side="left") / len(anomalous)
    losses = np.array(
        [
            aim.loss(false_alarm_rate=float(a), miss_rate=float(m))
            for a, m in zip(alarms, missed, strict=True)
        ]
    )
    gaps[losses > losses.min() + _EQUAL] = -1.0
    widest = np.flatnonzero(gaps == gaps.max())
    return float(candidates[widest[-1]])


def cross_validate(
    good: Float64Array,
    left_out: Float64Array,
    anomalous: Float64Array,
    aim: Aim,
    *,
    defects: Sequence[str],
    folder: str,
    seed: int = 0,
) -> Estimate:
    """Errors of `choose_threshold` on images that it did not see.

    Every fold holds its share of good images, of left-out scores and of every kind of defect.

    Parameters
    ----------
    good, left_out : float64
        Scores of normal images that the model did not learn from, and leave-one-out scores.
    anomalous : float64 (m,)
    aim : Aim
    defects : sequence of str (m,)
        Kind of every defective image.
    folder : str
        Name of the folder of the images, for the record.
    seed : int, default 0
        Which image gets into which fold.

    Returns
    -------
    Estimate

    Raises
    ------
    InputError
        Fewer than 5 defective images, or than 5 normal scores.
    """
    normal = np.concatenate([good, left_out])
    for kind, count in (("defective", len(anomalous)), ("normal", len(normal))):
        if count < FOLDS:
            raise InputError(
                f"Choosing a threshold by labelled images needs at least {FOLDS} {kind} ones, but "
                f"{folder} gives {count}. Add some, or choose a false-alarm rate instead."
            )
    generator = np.random.default_rng(seed)
    kinds = ["good"] * len(good) + ["left out"] * len(left_out)
    normal_folds, defect_folds = _folds(kinds, generator), _folds(defects, generator)
    alarms = np.zeros(len(normal), bool)
    missed = np.zeros(len(anomalous), bool)
    chosen = []
    for fold in range(FOLDS):
        mine, his = normal_folds == fold, defect_folds == fold
        value = choose_threshold(normal[~mine], anomalous[~his], aim)
        alarms[mine], missed[his] = normal[mine] >= value, anomalous[his] < value
        chosen.append(value)
    return Estimate(
        folder=folder,
        defective=len(anomalous),
        good=len(good),
        left_out=len(left_out),
        missed=int(missed.sum()),
        false_alarms=int(alarms[: len(good)].sum()),
        false_alarms_left_out=int(alarms[len(good) :].sum()),
        folds=FOLDS,
        lowest=min(chosen),
        highest=max(chosen),
    )


def aim_from_json(data: Mapping[str, Any] | None) -> Aim | None:
    """Read what `Aim.to_json` gave; another set of keys is a TypeError."""
    return None if data is None else Aim(**data)


def estimate_from_json(data: Mapping[str, Any] | None) -> Estimate | None:
    """Read what `Estimate.to_json` gave; another set of keys is a TypeError."""
    return None if data is None else Estimate(**data)


def _folds(kinds: Sequence[str], generator: np.random.Generator) -> IntArray:
    """Fold of every image, each kind dealt out evenly, in random order."""
    order = generator.permutation(len(kinds))
    order = order[np.argsort(np.array(kinds, dtype=str)[order], kind="stable")]
    folds = np.empty(len(kinds), np.int64)
    folds[order] = np.arange(len(kinds)) % FOLDS
    return folds


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
