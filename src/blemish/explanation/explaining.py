"""Explain why an image got its score: where, by which layers and channels, how rarely, unlike what.

image -> embedding -> position scores -> map and image score      as the model scores, in f32
      -> positions that the score is the weighted sum of          `score_sources`
      -> their layers and channels                                `contributions`, `accounts`
      -> places, how rare they are, the most similar good image   `peaks`, `similar_patches`
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array, Float64Array, FloatArray, UInt8Array
from blemish.calibration import PIXEL_PROBABILITIES
from blemish.combination import Combination, split_levels
from blemish.explanation.accounts import Account, Accountant, ChannelSums
from blemish.explanation.comparing import Comparison, probes_at
from blemish.explanation.dimension_names import dimensions_of
from blemish.explanation.explanation import (
    ChannelContribution,
    Explanation,
    LayerContribution,
    Peak,
)
from blemish.explanation.peaks import Place, find_places
from blemish.explanation.score_sources import image_sources, pixel_sources
from blemish.explanation.tail_probability import share_of_pixels, tail_probability
from blemish.inference import feature_extractor
from blemish.input_size import position_mask
from blemish.judge import judge_of, map_operator
from blemish.loading import ImageLike, load_input, name_of, path_of
from blemish.model import Model, Progress
from blemish.records import digests_of
from blemish.training_images import source_size

MOST_CHANNELS = 10


def explain(
    model: Model,
    image: ImageLike,
    *,
    good: Path | str | Iterable[ImageLike] | None = None,
    anywhere: bool = False,
    operating_point: str | None = None,
    false_alarm_rate: float | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explain why an image got its score.

    Parameters
    ----------
    model : Model
    image : Path, str, or array uint8 / uint16 / float (H, W) or (H, W, 3)
    good : folder, or files or arrays, optional
        Images of good parts to compare with, as for a fit; best those that the model learned from.
        Default: the features that the model keeps, if it does.
    anywhere : bool, default False
        Look for the most similar good patch at all places too, which takes longer.
    operating_point, false_alarm_rate : optional
        Which threshold; as `Model.threshold`.
    progress : function, optional
        Called while the good images are gone through.

    Returns
    -------
    Explanation
        Its contributions sum to its score, which is that of `Model.score` in f32.

    Raises
    ------
    ImageError, InputError, AlignmentError
        As `Model.score`; or the good images cannot be used.

    Examples
    --------
    >>> import numpy as np, blemish
    >>> noise = np.random.default_rng(0).integers(100, 120, (24, 64, 64, 3), dtype=np.uint8)
    >>> settings = blemish.FitSettings(size=(64, 64), dims=(6, 6, 6))
    >>> model = blemish.fit(list(noise[:20]), settings)
    >>> pierced = noise[20].copy()
    >>> pierced[24:40, 24:40] = 0
    >>> found = explain(model, pierced)
    >>> found.is_anomalous, found.tail.p_value, len(found.peaks)
    (True, 0.047619047619047616, 1)
    >>> total = sum(layer.image for layer in found.layers) + found.constant
    >>> bool(abs(total / found.image_score - 1) < 1e-4)
    True
    """
    return Explainer(model, progress=progress).explain(
        image,
        good=good,
        anywhere=anywhere,
        operating_point=operating_point,
        false_alarm_rate=false_alarm_rate,
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    """One image, scored by the plain definition, with all that the score was made of."""

    digest: UInt8Array  # (1, 16), of what came
    inputs: Float32Array  # (3, H, W), aligned if the model aligns
    to_image: Float64Array  # (2, 3), from pixels of these to pixels of what came
    levels: list[Float32Array]  # (P, d) per level
    scores: list[FloatArray]  # (P,) per part, standardised
    grids: list[FloatArray]  # (P,) per level
    anomaly_map: FloatArray
    image_score: float


class Explainer:
    """Explains images of one model; what the model needs for it is made once.

    Parameters
    ----------
    model : Model
    progress : function, optional
    """

    def __init__(self, model: Model, *, progress: Progress | None = None) -> None:
        self._model, self._progress = model, progress
        self._judge = judge_of(model.fitted)
        self._extract = feature_extractor(
            model.backbone, model.size, replace(model.engine, precision="f32")
        )
        self._names = model.level_names
        self._dimensions = dimensions_of(model.backbone, model.embedding)

    @property
    def _combination(self) -> Combination:
        return self._judge.combination

    def explain(
        self,
        image: ImageLike,
        *,
        good: Path | str | Iterable[ImageLike] | None = None,
        anywhere: bool = False,
        operating_point: str | None = None,
        false_alarm_rate: float | None = None,
    ) -> Explanation:
        """Explain one image; see `explain`."""
        model = self._model
        threshold = model.threshold(false_alarm_rate, operating_point=operating_point)
        found = self._score(image)
        accountant = Accountant(model.fitted, self._judge, found.levels)
        sources = image_sources(self._combination, found.scores)
        accounts = [accountant.account(k, own) for k, own in enumerate(sources)]
        places = find_places(
            self._combination,
            found.scores,
            found.anomaly_map,
            sources,
            pixel_threshold=model.pixel_threshold(operating_point=operating_point),
        )
        layers, constant = self._layers(found, accountant, accounts, places[0])
        channels, others = self._channels(found.image_score, accountant, accounts)
        probes = probes_at(model, self._judge, accountant, places[0])
        compare = Comparison(model, self._extract, good, self._progress)
        compared = compare(found.digest, found.levels, probes, places[0], anywhere=anywhere)
        scores = model.calibration.scores
        return Explanation(
            image=name_of(image),
            image_score=found.image_score,
            threshold=threshold.value,
            is_anomalous=found.image_score >= threshold.value,
            median_score=float(np.median(scores)),
            score=model.settings.score,
            separate=self._combination.weights is not None,
            is_training_image=bool(model.fitted.records.find(found.digest)[0] >= 0),
            is_aligned=model.aligner is not None,
            peaks=self._peaks(places, found, source_size(image)),
            layers=layers,
            constant=constant,
            channels=channels,
            other_channels=others,
            is_approximate=model.calibration.approximate,
            tail=tail_probability(scores, found.image_score),
            position_p_values=compared.p_values,
            similar=compared.here,
            similar_anywhere=compared.anywhere,
            good_scores=scores,
            pixels=_picture(found.inputs),
            mean_pixels=_picture(self._usual_image()),
            anomaly_map=np.asarray(found.anomaly_map, np.float32),
            layer_maps=self._layer_maps(found),
        )

    def _score(self, image: ImageLike) -> _Scored:
        """Score as the plain definition does, and keep what it went through."""
        model = self._model
        inputs = load_input(image, model.preprocessing, value_range=model.settings.value_range)
        digest, to_image = digests_of(inputs[None]), np.eye(2, 3)
        if model.aligner is not None:
            placement = model.aligner.place(inputs, path_of(image))
            inputs = model.aligner.bring(inputs, placement)
            to_image = placement.matrix(model.size)
        levels = model.embedding(self._extract(inputs[None]))
        parts = split_levels(levels, len(self._judge.scorers))
        found = [scorer(own) for scorer, own in zip(self._judge.scorers, parts, strict=True)]
        scores = self._combination.standardised([each.total for each in found])
        maps, image_scores = self._combination(scores)
        grids = found[0].levels if self._combination.weights is None else scores
        return _Scored(
            digest,
            inputs,
            to_image,
            [level[0] for level in levels],
            [each[0] for each in scores],
            [each[0] for each in grids],
            maps[0],
            float(image_scores[0]),
        )

    def _usual_image(self) -> Float32Array:
        """Mean of the good images, or what they are aligned to: (3, H, W)."""
        alignment = self._model.fitted.alignment
        return self._model.fitted.mean_image if alignment is None else alignment.reference

    def _peaks(
        self, places: Sequence[Place], found: _Scored, size: tuple[int, int]
    ) -> tuple[Peak, ...]:
        """Places in the frame of the source image of a size (H0, W0)."""
        calibration, peaks = self._model.calibration, []
        for place in places:
            x, y = self._in_source([(place.column + 0.5, place.row + 0.5)], found, size)[0]
            left, top, wide, high = place.box
            corners = [(left + u * wide, top + v * high) for u in (0, 1) for v in (0, 1)]
            around = self._in_source(corners, found, size)
            (x0, y0), (x1, y1) = around.min(axis=0).tolist(), around.max(axis=0).tolist()
            value = float(found.anomaly_map[place.row, place.column])
            peaks.append(
                Peak(
                    x=float(x),
                    y=float(y),
                    box=(x0, y0, x1 - x0, y1 - y0),
                    input_box=place.box,
                    pixel=(place.row, place.column),
                    map_value=value,
                    good_share=share_of_pixels(
                        calibration.pixel_quantiles, PIXEL_PROBABILITIES, value
                    ),
                    share=place.share,
                )
            )
        return tuple(peaks)

    def _in_source(
        self, points: Sequence[tuple[float, float]], found: _Scored, size: tuple[int, int]
    ) -> Float64Array:
        """Points (K, 2) of what the network saw, in the source image; pixel 0 covers 0 to 1."""
        left, top, wide, high = self._model.preprocessing.source_box(size)
        centred = np.column_stack([np.array(points) - 0.5, np.ones(len(points))])
        there = centred @ found.to_image.T + 0.5
        return np.asarray(there * (wide, high) / self._model.size[::-1] + (left, top))

    def _layers(
        self, found: _Scored, accountant: Accountant, accounts: Sequence[Account], first: Place
    ) -> tuple[tuple[LayerContribution, ...], float]:
        """Contribution of every layer, and what belongs to none."""
        in_map = [
            accountant.account(k, own)
            for k, own in enumerate(pixel_sources(self._combination, first.row, first.column))
        ]
        whole = len(accounts) == 1
        layers = []
        for k, (part, level) in enumerate(self._parts_of_levels()):
            own, of_map = accounts[part], in_map[part]
            distance, deviation = (
                float(each[level].total.sum()) for each in (own.distance, own.deviation)
            )
            offset = 0.0 if whole else own.standardisation
            image = distance + deviation + offset
            at_peak, median = self._beside_median(found, k, first)
            layers.append(
                LayerContribution(
                    layer=self._names[k],
                    cell=self._cell(k),
                    image=image,
                    distance=distance,
                    deviation=deviation,
                    standardisation=offset,
                    share=_share(image, found.image_score),
                    map=float(of_map.distance[level].total.sum())
                    + float(of_map.deviation[level].total.sum())
                    + (0.0 if whole else of_map.standardisation),
                    at_peak=at_peak,
                    median=median,
                )
            )
        return tuple(layers), accounts[0].standardisation if whole else 0.0

    def _channels(
        self, score: float, accountant: Accountant, accounts: Sequence[Account]
    ) -> tuple[tuple[ChannelContribution, ...], float]:
        """Largest contributions of channels, and the sum of all others."""
        ranked: list[tuple[float, str, int, int]] = []  # contribution, kind, level, number
        sums: dict[tuple[str, int], ChannelSums] = {}
        for k, (part, level) in enumerate(self._parts_of_levels()):
            sums["distance", k] = accounts[part].distance[level]
            sums["deviation", k] = accounts[part].deviation[level]
        for (kind, k), own in sums.items():
            ranked += [(float(own.total[n]), kind, k, int(n)) for n in np.flatnonzero(own.total)]
        ranked.sort(key=lambda each: -abs(each[0]))
        found = [
            self._channel(accountant, value, score, kind, k, number, sums[kind, k])
            for value, kind, k, number in ranked[:MOST_CHANNELS]
        ]
        return tuple(found), sum(value for value, *_ in ranked[MOST_CHANNELS:])

    def _channel(
        self,
        accountant: Accountant,
        contribution: float,
        score: float,
        kind: str,
        k: int,
        number: int,
        sums: ChannelSums,
    ) -> ChannelContribution:
        """One channel of a level, where it contributes most."""
        part, level = self._parts_of_levels()[k]
        place = int(sums.strongest[number])
        value, mean, std = accountant.statistics(part, level, number, place)
        how, spread = self._model.parts[part].regularisation, std
        if kind == "distance":
            spread = math.hypot(math.sqrt(how.weight) * std, math.sqrt(how.ridge))
        return ChannelContribution(
            dimension=self._dimensions[k][number],
            kind=kind,
            contribution=contribution,
            share=_share(contribution, score),
            value=value,
            mean=mean,
            std=std,
            spread=spread,
            deviations=(value - mean) / spread,
            expected=float(sums.expected[number]),
        )

    def _parts_of_levels(self) -> list[tuple[int, int]]:
        """Part of every level, coarse to fine, and its number in that."""
        return [
            (part, level)
            for part, scorer in enumerate(self._judge.scorers)
            for level in range(scorer.pyramid.levels)
        ]

    def _cell(self, level: int) -> tuple[float, float]:
        grid, size = self._model.pyramid.grids[level], self._model.size
        return size[0] / grid[0], size[1] / grid[1]

    def _beside_median(self, found: _Scored, level: int, place: Place) -> tuple[float, float]:
        """A layer's own score at a place, and its median over the image."""
        grid, (high, wide) = self._model.pyramid.grids[level], self._cell(level)
        cell = int(place.row // high) * grid[1] + int(place.column // wide)
        values, ignored = found.grids[level], self._model.ignored
        counted = values if ignored is None else values[~position_mask(ignored, grid).ravel()]
        return float(values[cell]), float(np.median(counted))

    def _layer_maps(self, found: _Scored) -> dict[str, Float32Array]:
        """Map of every layer, as `Model.level_maps`."""
        model = self._model
        return {
            name: np.asarray(
                map_operator(grid, model.preprocessing, model.settings, model.ignored)(
                    values[None]
                )[0],
                np.float32,
            )
            for name, grid, values in zip(
                self._names, model.pyramid.grids, found.grids, strict=True
            )
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _picture(inputs: Float32Array) -> Float32Array:
    """Network input (3, H, W) as a picture (H, W, 3)."""
    return np.ascontiguousarray(inputs.transpose(1, 2, 0))
