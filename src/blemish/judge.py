"""Embeddings of a fitted model -> maps and image scores: the plain definition, in NumPy.

`graph` and `torch_runner` compute the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from blemish.combination import Combination, PartWeights, split_levels
from blemish.errors import InputError
from blemish.fitted import Fitted, Part
from blemish.input_size import position_mask
from blemish.maps import MapOperator
from blemish.neighbourhood import Neighbourhood, reach_of
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.scorer import Scorer
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation


@dataclass(frozen=True, slots=True)
class Found:
    """What a model says of a batch.

    Attributes
    ----------
    maps : float32 (N, H, W)
    scores : float64 (N,)
    levels : list of float32 (N, P of the level)
        Coarse to fine.
    """

    maps: Float32Array
    scores: Float64Array
    levels: list[Float32Array]


class Judge:
    """What comes after the embedding.

    Parameters
    ----------
    scorers : list of Scorer, one per part, coarse to fine
    combination : Combination
    """

    def __init__(self, scorers: Sequence[Scorer], combination: Combination) -> None:
        self.scorers, self.combination = scorers, combination

    def __call__(self, levels: Sequence[FloatArray]) -> Found:
        """Judge a batch of embeddings, float (N, P, d) per level, coarse to fine."""
        found = [
            scorer(part)
            for scorer, part in zip(
                self.scorers, split_levels(levels, len(self.scorers)), strict=True
            )
        ]
        totals = self.combination.standardised([part.total for part in found])
        maps, scores = self.combination(totals)
        contributions = found[0].levels if self.combination.weights is None else totals
        return Found(
            maps.astype(np.float32, copy=False),
            scores,
            [level.astype(np.float32, copy=False) for level in contributions],
        )


def judge_of(fitted: Fitted) -> Judge:
    """Everything behind the embedding, ready to score."""
    return judge_by(
        fitted.parts, fitted.weights, fitted.preprocessing, fitted.settings, fitted.ignored
    )


def judge_by(
    parts: Sequence[Part],
    weights: PartWeights | None,
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> Judge:
    """`judge_of` a model that is still being learned."""
    pyramids = [part.moments.pyramid for part in parts]
    return Judge(
        [
            Scorer(
                part.moments,
                part.regularisation,
                settings.score_settings,
                part.statistics,
                position_weights=position_weights(part.moments.pyramid, ignored),
                neighbourhood=near,
            )
            for part, near in zip(
                parts, neighbourhoods_of(pyramids, settings, ignored), strict=True
            )
        ],
        combination_of(
            pyramids,
            preprocessing,
            settings,
            ignored,
            standardisations=[part.standardisation for part in parts],
            weights=weights,
        ),
    )


def combination_of(
    pyramids: Sequence[Pyramid],
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
    *,
    standardisations: Sequence[Standardisation | None],
    weights: PartWeights | None,
) -> Combination:
    """How the position scores of the parts, each with a pyramid, become maps and image scores."""
    return Combination(
        [map_operator(p.finest, preprocessing, settings, ignored) for p in pyramids],
        standardisations,
        [counted_positions(p, ignored) for p in pyramids],
        weights,
        settings.top_k,
    )


def counted_positions(pyramid: Pyramid, ignored: BoolArray | None) -> BoolArray | None:
    """Finest positions that are not ignored: bool (P,); None if all count."""
    return None if ignored is None else ~position_mask(ignored, pyramid.finest).ravel()


def position_weights(pyramid: Pyramid, ignored: BoolArray | None) -> list[Float64Array] | None:
    """Per level, how many counted finest positions each cell stands for; None if all count."""
    counted = counted_positions(pyramid, ignored)
    return None if counted is None else pyramid.level_weights(np.where(counted, 1.0, 0.0))


def neighbourhoods_of(
    pyramids: Sequence[Pyramid], settings: FitSettings, ignored: BoolArray | None
) -> list[Neighbourhood | None]:
    """Whose Gaussians judge the positions of every part, coarse to fine; None for its own alone.

    The settings count positions of the finest part; a coarser one has the same reach in pixels.
    """
    if settings.neighbourhood == 0:
        return [None] * len(pyramids)
    reach, finest = (settings.neighbourhood,) * 2, pyramids[-1].finest
    return [
        Neighbourhood(p, reach_of(reach, finest, p.finest), counted_positions(p, ignored))
        for p in pyramids
    ]


def require_own_gaussians(settings: FitSettings, what: str) -> None:
    """Refuse a model with a neighbourhood for what has no code for it.

    Raises
    ------
    InputError
    """
    if settings.neighbourhood:
        raise InputError(
            f"{what} can judge a position by its own Gaussian alone, but the model was fitted with "
            f"a neighbourhood of {settings.neighbourhood}. Fit with neighbourhood 0."
        )


def map_operator(
    grid: tuple[int, int],
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> MapOperator:
    """Operator from a grid to the map of a model."""
    return MapOperator(
        grid,
        preprocessing.size,
        settings.map_settings,
        ignored=ignored,
        ignored_positions=None if ignored is None else position_mask(ignored, grid),
    )
