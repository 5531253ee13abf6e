"""Embeddings of good images -> what a model is behind its embedding. For a fit, and for later.

First the moments are gathered; then passes over the same images, each as if it had been left out,
find what is normal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blemish.arrays import BoolArray, FloatArray
from blemish.calibration import Calibration
from blemish.combination import PartWeights, part_pyramids, split_levels
from blemish.embedding import Embedding
from blemish.errors import InputError
from blemish.fitted import Part
from blemish.gaussian import Regularisation, regularisation_of
from blemish.judge import neighbourhoods_of, position_weights
from blemish.moments import Moments
from blemish.normal import KnownBefore, Pass, learn_normal
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.scorer import LeftOutScorer
from blemish.settings import FitSettings
from blemish.unusual import UnusualImages


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was learned; fields of `Fitted`."""

    parts: tuple[Part, ...]
    weights: PartWeights | None
    calibration: Calibration
    unusual: UnusualImages | None


def gather(
    batches: Iterable[Sequence[FloatArray]],
    pyramid: Pyramid,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> list[Moments]:
    """First pass: the moments of every part, as the model file will keep them.

    Parameters
    ----------
    batches : iterable of lists of float (N, P, d)
    pyramid : Pyramid
        Of all levels.
    settings : FitSettings
        Resolved.
    ignored : bool (H, W), optional
    """
    pyramids = part_pyramids(pyramid, separate=settings.separate)
    weights = [position_weights(each, ignored) for each in pyramids]
    gathered = [
        Moments(
            each,
            shared=settings.shared,
            weights=None if weight is None else weight[-1],
            norms=settings.shrinkage == "ledoit-wolf",
        )
        for each, weight in zip(pyramids, weights, strict=True)
    ]
    for levels in batches:
        add(gathered, levels)
    if not any(square.any() for moments in gathered for square in moments.squares()):
        raise InputError(
            f"The good images must differ a little, but all {gathered[0].count} look the same to "
            "the network: one colour, or copies of one image. Give real images of good parts."
        )
    for moments in gathered:
        moments.round()
    return gathered


def add(gathered: Sequence[Moments], levels: Sequence[FloatArray]) -> None:
    """Add a batch of embeddings, float (N, P, d) per level, to the moments of the parts."""
    for moments, own in zip(gathered, split_levels(levels, len(gathered)), strict=True):
        moments.update(own)


def take_out(gathered: Sequence[Moments], levels: Sequence[FloatArray]) -> None:
    """Take a batch of embeddings, float (N, P, d) per level, out of the moments of the parts."""
    for moments, own in zip(gathered, split_levels(levels, len(gathered)), strict=True):
        moments.remove(own)


def regularisations_of(
    gathered: Sequence[Moments], settings: FitSettings, ignored: BoolArray | None
) -> list[Regularisation]:
    """How the covariances of every part are regularised."""
    weights = [position_weights(moments.pyramid, ignored) for moments in gathered]
    return [
        regularisation_of(
            moments,
            epsilon=settings.epsilon,
            relative_epsilon=settings.relative_epsilon,
            shrinkage=settings.shrinkage,
            counted=None if weight is None else weight[-1] > 0,
        )
        for moments, weight in zip(gathered, weights, strict=True)
    ]


def left_out_scorers(
    gathered: Sequence[Moments],
    regularisations: Sequence[Regularisation],
    settings: FitSettings,
    ignored: BoolArray | None,
) -> list[LeftOutScorer]:
    """What scores training images as if each had been left out, for every part."""
    return [
        LeftOutScorer(
            moments,
            how,
            settings.score_settings,
            position_weights=position_weights(moments.pyramid, ignored),
            neighbourhood=near,
        )
        for moments, how, near in zip(
            gathered,
            regularisations,
            neighbourhoods_of([moments.pyramid for moments in gathered], settings, ignored),
            strict=True,
        )
    ]


def learn(
    gathered: Sequence[Moments],
    levels: Pass,
    *,
    embedding: Embedding,
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
    known: KnownBefore | None = None,
    regularisations: Sequence[Regularisation] | None = None,
) -> Learned:
    """Later passes: what is normal by these moments.

    Parameters
    ----------
    gathered : list of Moments
        From `gather`.
    levels : function
        Begins a pass over the images they are of, or those that are at hand.
    embedding, preprocessing, settings, ignored
        As in `Fitted`; the settings resolved.
    known : KnownBefore, optional
        About the images that the passes do not bring; see `combining`.
    regularisations : list of Regularisation, optional
        If they have been found already.
    """
    how = regularisations or regularisations_of(gathered, settings, ignored)
    normal = learn_normal(
        levels,
        left_out_scorers(gathered, how, settings, ignored),
        preprocessing,
        settings,
        ignored,
        part_weights=_kept_weights(settings, embedding),
        known=known,
    )
    return Learned(
        parts=tuple(
            Part(
                moments=moments,
                regularisation=regularisation,
                statistics=statistics,
                standardisation=standardisation,
            )
            for moments, regularisation, statistics, standardisation in zip(
                gathered, how, normal.statistics, normal.standardisations, strict=True
            )
        ),
        weights=normal.weights,
        calibration=normal.calibration,
        unusual=normal.unusual,
    )


def _kept_weights(settings: FitSettings, embedding: Embedding) -> PartWeights | None:
    """Weights of the layers that were kept, coarse to fine; None for one part."""
    if not settings.separate or settings.map_weights is None or settings.image_weights is None:
        return None
    kept = [k for k, dims in enumerate(embedding.dims) if dims][::-1]
    weights = PartWeights(
        tuple(settings.map_weights[k] for k in kept),
        tuple(settings.image_weights[k] for k in kept),
    )
    if not any(weights.map) or not any(weights.image):
        raise InputError(
            "map_weights and image_weights must count at least one layer that is kept, but the "
            f"kept dimensions are {', '.join(map(str, embedding.dims))}. Weigh a layer with "
            "dimensions."
        )
    return weights
