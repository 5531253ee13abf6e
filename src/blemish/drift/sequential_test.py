"""A sequential test that a stream of numbers still comes from where the training numbers came from.

The n training values cut the line into n + 1 gaps. If the values of the stream are exchangeable
with them, the next one falls into any gap with a chance that is known exactly, whatever the
distribution: the share of its gap in an urn that began with one ball per gap and got one more for
every value of the stream (Polya's urn; Hill, J. Amer. Statist. Assoc. 63, 1968, for the first
draw). How well n values show their distribution is thus part of the test, for 20 as for 2000.

A bet on a drift pays a gain per gap, here ``exp(tilt * z)`` with z the normal score of the gap, and
the payoff is the gain over the mean gain of the urn: at 1 on average while nothing drifts. The
evidence for a change at any earlier time is summed as in Shiryaev-Roberts,
``M <- (M + 1) * payoff``, so that M less the number of values is a martingale; an alarm is raised
when the weighted mean of M over all bets reaches the limit A. In any T values without a drift the
expected number of alarms is then at most T / A (an e-detector: Shin, Ramdas and Rinaldo,
arXiv:2203.03532).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add, sub
from statistics import NormalDist
from typing import Any

import numpy as np

from blemish.arrays import Float64Array, FloatArray

TILTS = (0.5, 1.0, 2.0)
"""Shifts in standard deviations that are betted on, upwards and downwards."""

WEIGHTS = (0.25, 0.5, 0.25)

ODDS = (2.0, 4.0, 16.0)
"""By how many times the odds of an anomalous image may rise, as betted on."""

Gains = tuple[float, ...]
"""Of every bet."""

_NORMAL = NormalDist()
_NEUTRAL = 1.0 + 1e-9  # a likelihood ratio that speaks for no change, rounding included


class GapBets:
    """What every bet on a drift of a statistic gains, by the gap a value falls into.

    Parameters
    ----------
    values : float (n,)
        Of the training images. Without any, every value is as good as another.

    Examples
    --------
    >>> bets = GapBets(np.array([1.0, 2.0, 3.0]))
    >>> bets.balls, bets.gains(9.0)[1] > 1 > bets.gains(0.0)[1]
    (4, True)
    """

    def __init__(self, values: FloatArray) -> None:
        self._values: list[float] = np.sort(np.asarray(values, np.float64)).tolist()
        self.balls = len(self._values) + 1
        self.tilts = (*TILTS, *(-tilt for tilt in TILTS))
        self.weights = tuple(weight / 2 for weight in (*WEIGHTS, *WEIGHTS))
        self.scores = np.array(
            [_NORMAL.inv_cdf((gap + 0.5) / self.balls) for gap in range(self.balls)]
        )
        self.table: Float64Array = np.exp(self.scores[:, None] * self.tilts)
        self.total = _numbers(self.table.sum(axis=0))
        self._gains = [_numbers(row) for row in self.table]
        self._tied: dict[tuple[int, int], Gains] = {}  # at most one per training value

    def gains(self, value: float) -> Gains:
        """Gain of every bet; of a value that ties with training values, their gaps' mean."""
        low, high = bisect_left(self._values, value), bisect_right(self._values, value)
        if low == high:
            return self._gains[low]
        if (low, high) not in self._tied:
            self._tied[low, high] = _numbers(self.table[low : high + 1].mean(axis=0))
        return self._tied[low, high]

    def normal_score(self, value: float) -> float:
        """Place among the training values as a standard normal number; never infinite."""
        low, high = bisect_left(self._values, value), bisect_right(self._values, value)
        return float(self.scores[low : high + 1].mean())

    def direction(self, bet: int) -> int:
        """1 for a bet on a rise, -1 on a fall."""
        return 1 if self.tilts[bet] > 0 else -1


class ShareBets:
    """Bets on a rise of a share, such as that of the anomalous images.

    Parameters
    ----------
    hits, count : int
        How many of how many training images were anomalous. Their threshold is one of their own
        scores, so the urn begins with one hit more.

    Examples
    --------
    >>> ShareBets(1, 19).gains(1.0), ShareBets(1, 19).gains(0.0)
    ((2.0, 4.0, 16.0), (1.0, 1.0, 1.0))
    """

    def __init__(self, hits: int, count: int) -> None:
        self.balls = count + 1
        self.weights = WEIGHTS
        self.total = tuple(count - hits + (hits + 1) * odds for odds in ODDS)

    def gains(self, value: float) -> Gains:
        """Gain of every bet; `value` is 1 for a hit and 0 otherwise."""
        return ODDS if value else (1.0,) * len(ODDS)

    def direction(self, bet: int) -> int:  # noqa: ARG002
        """Rises only."""
        return 1


@dataclass(frozen=True, slots=True)
class _Urn:
    """Where a test is between two values of the stream.

    Attributes
    ----------
    total : tuple of float
        Gain of every bet, summed over all balls.
    balls : float
    sums : tuple of float
        Of all that was noted; the last is the number of values.
    """

    total: Gains
    balls: float
    sums: tuple[float, ...]


@dataclass(slots=True)
class _Bet:
    """One bet of a test: its evidence, and where a change would have begun."""

    before: _Urn  # the supposed change
    since: int
    evidence: float = 0.0
    likelihood: float = 1.0  # ratio since the supposed change


class DriftTest:
    """The urn, the evidence, and for every bet where a change would have begun.

    Memory does not grow with the stream.

    Parameters
    ----------
    bets : GapBets or ShareBets
    limit : float >= 1
        Alarm at this evidence: at most one false alarm per so many values, on average.
    noted : int
        How many numbers are summed from the supposed change on; see `add`.
    """

    def __init__(self, bets: GapBets | ShareBets, limit: float, *, noted: int = 1) -> None:
        self.bets, self.limit = bets, limit
        self._urn = _Urn(bets.total, float(bets.balls), (0.0,) * (noted + 1))
        self._newest: tuple[int, list[float]] = (0, [0.0] * (noted + 1))
        self._each: list[_Bet] = []
        self._begin(1)

    @property
    def evidence(self) -> float:
        """Weighted mean over all bets; alarm at the limit."""
        return sum(w * bet.evidence for w, bet in zip(self.bets.weights, self._each, strict=True))

    def add(self, value: float, noted: Sequence[float], number: int) -> bool:
        """Take one value of the stream.

        Parameters
        ----------
        value : float
        noted : sequence of float
            Numbers to be summed from the supposed change on.
        number : int
            Of the image, from 1.

        Returns
        -------
        bool
            Whether the evidence reached the limit.
        """
        urn, gains = self._urn, self.bets.gains(value)
        self._urn = after = _Urn(
            tuple(map(add, urn.total, gains)),
            urn.balls + 1.0,
            tuple(map(add, urn.sums, (*noted, 1.0))),
        )
        for bet, gain, total in zip(self._each, gains, urn.total, strict=True):
            payoff = gain * urn.balls / total
            bet.evidence = (bet.evidence + 1.0) * payoff
            bet.likelihood *= payoff
            if bet.likelihood <= _NEUTRAL:
                bet.likelihood, bet.since, bet.before = 1.0, number + 1, after
        self._newest = (number, [*noted, 1.0])
        return self.evidence >= self.limit

    def change(self) -> tuple[int, int, list[float]]:
        """What the bet with the most evidence says of the value that was added last.

        Returns
        -------
        direction : int
            1 or -1.
        since : int
            Number of the first image after the supposed change: where its likelihood is largest
            (the last zero of that bet's CUSUM, the estimate of Page, Biometrika 41, 1954).
        sums : list of float
            Of what was noted since; the last is how many values.
        """
        best = self._best()
        bet = self._each[best]
        if bet.likelihood <= _NEUTRAL:  # a limit so low that not even one value speaks for a change
            return self.bets.direction(best), *self._newest
        sums = list(map(sub, self._urn.sums, bet.before.sums))
        return self.bets.direction(best), bet.since, sums

    def restart(self, number: int) -> None:
        """Begin anew at the image `number`, with the urn as it was before the supposed change."""
        self._urn = self._each[self._best()].before
        self._begin(number)

    def state(self) -> dict[str, object]:
        """All that changes, as numbers and lists; goes through JSON without loss."""
        return {
            "urn": _list_of(self._urn),
            "bets": [
                [bet.since, bet.evidence, bet.likelihood, _list_of(bet.before)]
                for bet in self._each
            ],
        }

    def resume(self, state: Any) -> None:
        """Go on from a `state` of a test with the same bets.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is none.
        """
        if len(state["bets"]) != len(self._each):
            raise ValueError("bets")
        self._each = [
            _Bet(self._urn_of(before), int(since), *_floats((evidence, likelihood), 2))
            for since, evidence, likelihood, before in state["bets"]
        ]
        self._urn = self._urn_of(state["urn"])

    def _urn_of(self, values: Any) -> _Urn:
        total, balls, sums = values
        return _Urn(
            _floats(total, len(self._urn.total)),
            float(balls),
            _floats(sums, len(self._urn.sums)),
        )

    def _best(self) -> int:
        weighted = [w * b.evidence for w, b in zip(self.bets.weights, self._each, strict=True)]
        return weighted.index(max(weighted))

    def _begin(self, number: int) -> None:
        self._each = [_Bet(self._urn, number) for _ in self.bets.weights]


def _list_of(urn: _Urn) -> list[object]:
    return [list(urn.total), urn.balls, list(urn.sums)]


def _numbers(row: Float64Array) -> Gains:
    return tuple(row.tolist())


def _floats(values: Sequence[Any], count: int) -> Gains:
    """Exactly so many finite numbers."""
    found = tuple(float(value) for value in values)
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ValueError("numbers")
    return found


def noticed_after(training: int, shift: float, limit: float, *, most: int) -> int | None:
    """How many images it takes, about, to notice a shift that is there from the first one on.

    Follows the expected logarithm of every payoff; for a normal distribution.

    Parameters
    ----------
    training : int
        Number of training images.
    shift : float
        In standard deviations.
    limit : float
    most : int
        Images to look at.

    Returns
    -------
    int, or None if `most` do not suffice

    Examples
    --------
    >>> noticed_after(1000, 1.0, 1e5, most=50) < noticed_after(100, 1.0, 1e5, most=50)
    True
    >>> noticed_after(3, 9.0, 1e5, most=50) is None
    True
    """
    bets = GapBets(np.arange(float(training)))
    edges = [_NORMAL.inv_cdf(gap / bets.balls) for gap in range(1, bets.balls)]
    below = np.array([0.0, *(_NORMAL.cdf(edge - shift) for edge in edges), 1.0])
    chances = np.diff(below)
    gain, logarithm = chances @ bets.table, np.array(bets.tilts) * (chances @ bets.scores)
    total, evidence = np.array(bets.total), np.zeros(len(bets.tilts))
    for number in range(1, most + 1):
        payoff = np.exp(logarithm) * (bets.balls + number - 1) / total
        evidence = (evidence + 1.0) * payoff
        total = total + gain
        if float(np.dot(bets.weights, evidence)) >= limit:
            return number
    return None
