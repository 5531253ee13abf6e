"""What models know about what is normal, put together without their images.

Images whose features are kept, at least those of the highest scores, are looked at again. The
left-out scores of all others are those of before, multiplied by the factor by which the scores of
the former have changed. That is an approximation, and marked as one; see
docs/decisions/0012-combined-calibration.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from blemish.arrays import BoolArray, Float64Array, IntArray
from blemish.calibration import PIXEL_PROBABILITIES, Before
from blemish.combination import PartWeights
from blemish.errors import InputError
from blemish.fitted import Fitted
from blemish.gaussian import Regularisation, gaussian_of
from blemish.judge import counted_positions
from blemish.moments import Moments
from blemish.normal import KnownBefore
from blemish.pooling import Running
from blemish.score_statistics import merged_statistics
from blemish.scorer import WITH_DISTANCE, WITH_STATISTICS, ScoreStatistics
from blemish.scoring import left_out_distance, left_out_ridge
from blemish.threshold import PixelHistogram
from blemish.unusual import UnusualImages, unusual_of


def typical_distance(
    moments: Moments, regularisation: Regularisation, counted: BoolArray | None = None
) -> float:
    """Left-out distance that is usual for the images of these moments, from the moments alone.

    The squared distances of the images within, ``m = d' S^-1 d``, add up to ``tr(S^-1 scatter)``
    exactly; with ``S = weight * scatter / (n - 1) + ridge I`` that is
    ``(n - 1) (D - ridge tr S^-1) / weight``, and ``tr S^-1`` is the squared norm of the whitening
    rows. The mean of m is then put into the formula of the left-out distance, and the mean over
    positions taken.

    Parameters
    ----------
    moments : Moments
        Not shared.
    regularisation : Regularisation
    counted : bool (P of the finest level,), optional
        Positions that count; default all.

    Returns
    -------
    float
        Root mean square over positions.
    """
    count, pyramid = moments.count, moments.pyramid
    ridge = left_out_ridge(regularisation.ridge, count)
    rows = gaussian_of(moments, replace(regularisation, ridge=ridge), dtype=np.float32).whitening
    inverse = np.zeros(pyramid.positions(-1))
    for level, own in enumerate(rows):
        norms = np.einsum("pdv,pdv->p", own, own, dtype=np.float64)
        inverse += norms[pyramid.ancestors(pyramid.levels - 1, level)]
    dims = sum(pyramid.dims)
    within = (count - 1) * (dims - ridge * inverse) / regularisation.weight / count
    left_out = left_out_distance(within[None], count, regularisation.weight)[0]
    return float(np.sqrt(np.mean(left_out if counted is None else left_out[counted])))


def known_before(
    models: Sequence[tuple[Fitted, BoolArray | None]],
    moments: Sequence[Moments],
    regularisations: Sequence[Regularisation],
    *,
    pixels: int,
) -> tuple[KnownBefore, list[UnusualImages], IntArray]:
    """What models know of their images, as it would be in one model of them all.

    Parameters
    ----------
    models : list of (Fitted, (bool (n,) or None))
        Each with those of its images that are in the new model; None for all.
    moments, regularisations
        Of the parts of the new model.
    pixels : int
        Pixels that count in the map of an image.

    Returns
    -------
    known : KnownBefore
    unusual : list of UnusualImages, one per model
        To be looked at again: the first images of a pass.
    order : int64 (m,)
        Number, among the models' images one after the other, of each that is known and then of
        each that is looked at again.
    """
    kept = [np.ones(model.count, bool) if still is None else still for model, still in models]
    fitted = [model for model, _ in models]
    unusual = [_unusual(model).take(still) for model, still in zip(fitted, kept, strict=True)]
    scores = [model.calibration.scores[still] for model, still in zip(fitted, kept, strict=True)]
    counts = [len(own) for own in scores]
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    again = np.concatenate([f + u.numbers for f, u in zip(firsts, unusual, strict=True)])
    together = np.concatenate(scores)
    rest = np.setdiff1d(np.arange(len(together)), again)
    growths = _growths(fitted, moments, regularisations)
    known = KnownBefore(
        len(together),
        _statistics(fitted, counts, growths),
        _seen(fitted, kept, growths),
        _weights(fitted, counts, growths),
        Before(together[rest], _pixel_quantiles(fitted, counts, pixels), together[again], pixels),
    )
    return known, unusual, np.concatenate([rest, again])


def _unusual(model: Fitted) -> UnusualImages:
    if model.unusual is not None:
        return model.unusual
    if model.kept is None:
        raise InputError(
            "A model must keep features of unusual images, but has none. Fit it again."
        )
    return unusual_of(model.calibration.scores, model.kept)


def _growths(
    models: Sequence[Fitted], moments: Sequence[Moments], how: Sequence[Regularisation]
) -> list[list[float]]:
    """By how much left-out distances of each model's parts grow; 1 where none are needed."""
    settings = models[0].settings
    if not (settings.standardise or settings.separate or settings.score in WITH_STATISTICS):
        return [[1.0] * len(model.parts) for model in models]
    if settings.score not in WITH_DISTANCE or settings.shared:
        return [[1.0] * len(model.parts) for model in models]
    counted = [counted_positions(each.pyramid, models[0].ignored) for each in moments]
    now = [typical_distance(m, r, c) for m, r, c in zip(moments, how, counted, strict=True)]
    return [
        [
            after / typical_distance(part.moments, part.regularisation, c)
            for after, part, c in zip(now, model.parts, counted, strict=True)
        ]
        for model in models
    ]


def _statistics(
    models: Sequence[Fitted], counts: Sequence[int], growths: Sequence[Sequence[float]]
) -> list[ScoreStatistics]:
    return [
        merged_statistics(
            [
                (count, _grown(model.parts[k].statistics, growth[k]))
                for model, count, growth in zip(models, counts, growths, strict=True)
            ]
        )
        for k in range(len(models[0].parts))
    ]


def _seen(
    models: Sequence[Fitted], kept: Sequence[BoolArray], growths: Sequence[Sequence[float]]
) -> list[Running | None]:
    """Position scores of good images, grown, of the share of the images that is still in."""
    joined: list[Running | None] = []
    for k, part in enumerate(models[0].parts):
        seen = None if part.standardisation is None else Running(part.standardisation.gain.shape)
        for model, still, growth in zip(models, kept, growths, strict=True):
            own = model.parts[k].standardisation
            if seen is not None and own is not None:
                seen.merge(own.seen.times(growth[k], float(still.mean())))
        joined.append(seen)
    return joined


def _grown(statistics: ScoreStatistics, growth: float) -> ScoreStatistics:
    scale = statistics.distance_scale
    if scale is None:
        return statistics
    return replace(statistics, distance_scale=(scale[0] * growth, scale[1] * growth))


def _weights(
    models: Sequence[Fitted], counts: Sequence[int], growths: Sequence[Sequence[float]]
) -> PartWeights | None:
    """Weights are asked ones over a spread: spreads are joined as variances."""
    known = [model.weights for model in models if model.weights is not None]
    if not known:
        return None
    shares = np.array(counts) / sum(counts)

    def joined(name: str) -> tuple[float, ...]:
        values = np.array([getattr(part, name) for part in known]) / np.array(growths)
        asked = values > 0
        spread = np.where(asked, 1 / np.where(asked, values, 1.0) ** 2, 0.0)
        total = shares @ spread
        return tuple(np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), 0.0))

    return PartWeights(joined("map"), joined("image"))


def _pixel_quantiles(models: Sequence[Fitted], counts: Sequence[int], pixels: int) -> Float64Array:
    if len(models) == 1:
        return models[0].calibration.pixel_quantiles
    histogram = PixelHistogram()
    for model, count in zip(models, counts, strict=True):
        values = model.calibration.pixel_quantiles
        histogram.add_quantiles(values, PIXEL_PROBABILITIES, count * pixels)
    return histogram.quantiles(PIXEL_PROBABILITIES)
