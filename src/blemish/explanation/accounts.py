"""A weighted sum of position scores, put down to layers and channels: an account that adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float64Array, FloatArray, IntArray
from blemish.combination import split_levels
from blemish.explanation.contributions import judges_of, position_terms
from blemish.explanation.score_sources import Sources
from blemish.fitted import Fitted
from blemish.judge import Judge, neighbourhoods_of


@dataclass(frozen=True, slots=True)
class ChannelSums:
    """What the channels of one level contribute, over all positions that have a say.

    Attributes
    ----------
    total : float64 (d,)
    strongest : int64 (d,)
        Position of the part's finest level at which each contributes most.
    expected : float64 (d,)
        There: value that the coarser levels let expect.
    """

    total: Float64Array
    strongest: IntArray
    expected: Float64Array


@dataclass(frozen=True, slots=True)
class Account:
    """What one part contributes to a weighted sum of position scores.

    Attributes
    ----------
    distance, deviation : list of ChannelSums per level
        By the distance, and as the channel that deviates most.
    standardisation : float
        Of the offsets that standardising adds.
    """

    distance: list[ChannelSums]
    deviation: list[ChannelSums]
    standardisation: float


class Accountant:
    """Accounts for position scores of one image.

    Parameters
    ----------
    fitted : Fitted
    judge : Judge
    levels : list of float (P, d)
        Embedding of the image, coarse to fine.
    """

    def __init__(self, fitted: Fitted, judge: Judge, levels: Sequence[FloatArray]) -> None:
        self._fitted, self._judge = fitted, judge
        self._levels = split_levels(levels, len(judge.scorers))
        self._neighbourhoods = neighbourhoods_of(
            [scorer.pyramid for scorer in judge.scorers], fitted.settings, fitted.ignored
        )

    def judged_by(self, part: int, positions: IntArray) -> IntArray:
        """Positions (S,) whose Gaussians judge positions (S,) of a part."""
        near = self._neighbourhoods[part]
        if near is None:
            return positions
        return judges_of(self._levels[part], self._judge.scorers[part], near, positions)

    def account(self, part: int, sources: Sources) -> Account:
        """What the sources of a part contribute, by layer and channel."""
        scorer, at = self._judge.scorers[part], sources.positions
        if len(at) == 0:
            silent = [
                ChannelSums(np.zeros(d), np.zeros(d, dtype=np.int64), np.zeros(d))
                for d in scorer.pyramid.dims
            ]
            return Account(silent, silent, 0.0)
        judged_by = self.judged_by(part, at)
        terms = position_terms(
            self._levels[part], scorer, at, judged_by, count=self._fitted.parts[part].moments.count
        )
        gain, offset = self._standardisation(part, at)
        weights = np.where(gain * terms.score + offset > 0, sources.weights, 0.0)  # cut off at 0
        factors = (weights * gain)[:, None]
        distance, deviation = [], []
        for level, (dims, expected) in enumerate(
            zip(scorer.pyramid.dims, terms.expected, strict=True)
        ):
            by_distance = terms.distance[level] if terms.distance else np.zeros((len(at), dims))
            distance.append(_summed(factors * by_distance, at, expected))
            of_level, channel = terms.deviating.T
            is_largest = (of_level == level)[:, None] & (channel[:, None] == np.arange(dims))
            by_deviation = np.where(is_largest, terms.deviation[:, None], 0.0)
            deviation.append(_summed(factors * by_deviation, at, expected))
        return Account(distance, deviation, float(weights @ offset))

    def statistics(self, part: int, level: int, number: int, position: int) -> tuple[float, ...]:
        """Value, mean and standard deviation of one channel at a position of the finest level."""
        scorer = self._judge.scorers[part]
        judge = self.judged_by(part, np.array([position]))[0]
        cells = scorer.pyramid.ancestors(scorer.pyramid.levels - 1, level)
        mean, variance = (
            float(each[cells[judge] if len(each) > 1 else 0, number])
            for each in (scorer.means[level], scorer.variances[level])
        )
        return float(self._levels[part][level][cells[position], number]), mean, variance**0.5

    def _standardisation(self, part: int, at: IntArray) -> tuple[Float64Array, Float64Array]:
        """Factor and offset of the scores of some positions."""
        standardise = self._judge.combination.standardisations[part]
        if standardise is None:
            return np.ones(len(at)), np.zeros(len(at))
        return standardise.gain[at], standardise.offset[at]


def _summed(terms: Float64Array, at: IntArray, expected: Float64Array) -> ChannelSums:
    """Sum terms (S, d) of positions (S,)."""
    best = np.abs(terms).argmax(axis=0)
    return ChannelSums(
        terms.sum(axis=0), at[best], np.take_along_axis(expected, best[None], axis=0)[0]
    )
