"""Position scores of a model's parts -> maps and image scores.

A model has one part, in which all levels form one Gaussian per position (PaDiM), or one part per
level, whose scores are put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.maps import MapOperator, image_scores
from blemish.pyramid import Pyramid
from blemish.standardisation import Standardisation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartWeights:
    """Factors with which the scores of the parts enter the map and the image score.

    Attributes
    ----------
    map, image : tuple of float >= 0, one per part, coarse to fine
        The settings' weights, divided by the standard deviation of what they weigh, left out,
        over good images: of position scores, and of their maxima.
    """

    map: tuple[float, ...]
    image: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """Position scores of every part -> maps and image scores.

    Attributes
    ----------
    operators : list of MapOperator, one per part
        From the grid of the part's scores.
    standardisations : list of Standardisation or None, one per part
    counted : list of (bool (P,) or None), one per part
        Positions that have a say in the image score; None for all.
    weights : PartWeights or None
        None with one part: the map is that of its scores, and the image score the highest pixels.
        Else the map is the weighted sum of the parts' maps, and the image score the weighted sum
        of the parts' highest position scores.
    top_k : int
        How many highest pixels, or positions, are averaged.
    """

    operators: Sequence[MapOperator]
    standardisations: Sequence[Standardisation | None]
    counted: Sequence[BoolArray | None]
    weights: PartWeights | None
    top_k: int = 1

    def standardised(self, totals: Sequence[FloatArray]) -> list[FloatArray]:
        """Position scores (N, P) of every part, made alike."""
        return [
            total if standardise is None else standardise(total)
            for total, standardise in zip(totals, self.standardisations, strict=True)
        ]

    def highest(self, part: int, scores: FloatArray) -> Float64Array:
        """Mean of the highest standardised scores (N, P) of a part: float64 (N,)."""
        counted = self.counted[part]
        kept = scores if counted is None else scores[:, counted]
        return image_scores(kept[:, None, :], self.top_k)

    def __call__(self, scores: Sequence[FloatArray]) -> tuple[FloatArray, Float64Array]:
        """Maps (N, H, W) and image scores (N,) of the parts' standardised scores (N, P)."""
        if self.weights is None:
            maps = self.operators[0](scores[0])
            return maps, image_scores(maps, self.top_k)
        maps = np.zeros((len(scores[0]), *self.operators[0].size), scores[0].dtype)
        image = np.zeros(len(scores[0]))
        for part, values in enumerate(scores):
            if self.weights.map[part]:
                maps += values.dtype.type(self.weights.map[part]) * self.operators[part](values)
            if self.weights.image[part]:
                image += self.weights.image[part] * self.highest(part, values)
        return maps, image


def split_levels(levels: Sequence[T], parts: int) -> list[Sequence[T]]:
    """Levels of every part: all of the only one, or one each."""
    return [levels] if parts == 1 else [[level] for level in levels]


def part_pyramids(pyramid: Pyramid, *, separate: bool) -> list[Pyramid]:
    """Pyramids of the parts: that of all levels, or one per level."""
    if not separate:
        return [pyramid]
    return [
        Pyramid((grid,), (dims,)) for grid, dims in zip(pyramid.grids, pyramid.dims, strict=True)
    ]
