"""A model of good parts: fit it, score with it. The whole algorithm in order; start reading here.

images -> preprocessing -> backbone -> embedding        (what a position looks like)
       -> moments -> Gaussian per position              (what it looks like in good parts)
       -> distance per position -> map -> image score   (how far an image is from that)
       -> leave-one-out scores -> threshold             (how far is too far)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, Float32Array, Float64Array
from blemish.backbones import Backbone, load_backbone
from blemish.calibration import Calibration, calibrate
from blemish.embedding import Embedding, choose_embedding, layer_covariances
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import InputError, NotFittedError
from blemish.gaussian import Regularisation, regularisation_of
from blemish.images import image_size, list_images
from blemish.input_size import check_size, full_size_for, position_mask
from blemish.loading import ImageLike, load_batches, load_input
from blemish.maps import MapOperator, image_scores
from blemish.moments import Moments
from blemish.plan import FitPlan, plan_fit
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.scorer import (
    WITH_STATISTICS,
    LeftOutScorer,
    Scorer,
    ScoreStatistics,
    learn_statistics,
)
from blemish.settings import FitSettings
from blemish.threshold import Threshold

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, images done and images in all."""

LEAST_IMAGES = 3
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says of one image.

    Attributes
    ----------
    image_score : float
        Larger is more anomalous; compare it with a threshold.
    anomaly_map : float32 (H, W)
        Of the network's input, in the unit of the score.
    level_grids : dict of str to float32 (h, w)
        Per layer, what it contributes to the squared score (distance) or its largest bound.
    """

    image_score: float
    anomaly_map: Float32Array = field(repr=False)
    level_grids: dict[str, Float32Array] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """A score, judged.

    Attributes
    ----------
    is_anomalous : bool
        Whether the image score is at least the threshold.
    score : Score
    threshold : Threshold
    predicted_mask : bool (H, W)
        Where the map is at least `pixel_threshold`.
    pixel_threshold : float
    """

    is_anomalous: bool
    score: Score
    threshold: Threshold
    predicted_mask: BoolArray = field(repr=False)
    pixel_threshold: float


class Model:
    """A fitted model. Made by `fit` and by `load`.

    Attributes
    ----------
    settings : FitSettings
    backbone : Backbone
    preprocessing : Preprocessing
    embedding : Embedding
    moments : Moments
    regularisation : Regularisation
    statistics : ScoreStatistics
    calibration : Calibration
    ignored : bool (H, W) or None
        Pixels of the network's input that neither score nor calibrate.
    """

    def __init__(
        self,
        *,
        settings: FitSettings,
        backbone: Backbone,
        preprocessing: Preprocessing,
        embedding: Embedding,
        moments: Moments,
        regularisation: Regularisation,
        statistics: ScoreStatistics,
        calibration: Calibration,
        ignored: BoolArray | None = None,
    ) -> None:
        self.settings, self.backbone, self.preprocessing = settings, backbone, preprocessing
        self.embedding, self.moments, self.regularisation = embedding, moments, regularisation
        self.statistics, self.calibration, self.ignored = statistics, calibration, ignored

    @property
    def count(self) -> int:
        """Number of images fitted."""
        return self.moments.count

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the maps, in pixels."""
        return self.preprocessing.size

    @property
    def level_names(self) -> list[str]:
        """Layer of every level, coarse to fine."""
        kept = zip(self.backbone.layers, self.embedding.dims, strict=True)
        return [layer.name for layer, dims in kept if dims][::-1]

    def score(self, image: ImageLike) -> Score:
        """Score one image.

        Parameters
        ----------
        image : Path, str, or array uint8 / uint16 / float (H, W) or (H, W, 3)
            A file, or RGB pixels.

        Returns
        -------
        Score

        Raises
        ------
        ImageError
            The file cannot be read.
        InputError
            The image does not fit the region of interest or crop.
        """
        loaded = load_input(image, self.preprocessing, value_range=self.settings.value_range)
        return self.score_inputs(loaded[None])[0]

    def classify(
        self,
        image: ImageLike | Score,
        *,
        false_alarm_rate: float | None = None,
        pixel_false_alarm_rate: float | None = None,
    ) -> Decision:
        """Judge an image, or its score, by the threshold of a false-alarm rate.

        Parameters
        ----------
        image : as in `score`, or a Score
        false_alarm_rate, pixel_false_alarm_rate : float in (0, 1), optional
            Default: those of the fit.
        """
        score = image if isinstance(image, Score) else self.score(image)
        threshold = self.threshold(false_alarm_rate)
        pixel = self.pixel_threshold(pixel_false_alarm_rate)
        return Decision(
            is_anomalous=score.image_score >= threshold.value,
            score=score,
            threshold=threshold,
            predicted_mask=score.anomaly_map >= pixel,
            pixel_threshold=pixel,
        )

    def threshold(self, false_alarm_rate: float | None = None) -> Threshold:
        """Image threshold of a false-alarm rate, by default that of the fit."""
        return self.calibration.threshold(false_alarm_rate or self.settings.false_alarm_rate)

    def pixel_threshold(self, false_alarm_rate: float | None = None) -> float:
        """Pixel threshold of a pixel false-alarm rate, by default that of the fit."""
        rate = false_alarm_rate or self.settings.pixel_false_alarm_rate
        return self.calibration.pixel_threshold(rate)

    def score_inputs(self, inputs: Float32Array) -> list[Score]:
        """Score a batch of preprocessed images.

        Parameters
        ----------
        inputs : float32 (N, 3, H, W)
            From `preprocessing.apply`.
        """
        found = self._scorer(self.embedding(self._extractor(inputs)))
        maps = self._operator(found.total)
        scores = image_scores(maps, self.settings.top_k)
        grids = self.moments.pyramid.grids
        return [
            Score(
                float(scores[k]),
                maps[k],
                {
                    name: level[k].reshape(grid).astype(np.float32)
                    for name, level, grid in zip(self.level_names, found.levels, grids, strict=True)
                },
            )
            for k in range(len(inputs))
        ]

    def level_maps(self, score: Score) -> dict[str, Float32Array]:
        """Which scale is anomalous: the map of every level, at image size.

        Returns
        -------
        dict of str to float32 (H, W)
            Per layer, coarse to fine; same upsampling and blur as the anomaly map.
        """
        return {
            name: map_operator(grid.shape, self.preprocessing, self.settings, self.ignored)(
                grid.reshape(1, -1)
            )[0]
            for name, grid in score.level_grids.items()
        }

    def save(self, path: Path | str) -> None:
        """Write the model to one file; see `model_file`."""
        from blemish.model_file import save_model  # noqa: PLC0415 - it imports this module

        save_model(self, Path(path))

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.backbone, self.size)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(
            self.moments,
            self.regularisation,
            self.settings.score_settings,
            self.statistics,
            position_weights=position_weights(self.moments.pyramid, self.ignored),
        )

    @cached_property
    def _operator(self) -> MapOperator:
        return map_operator(
            self.moments.pyramid.finest, self.preprocessing, self.settings, self.ignored
        )


def fit(
    images: Path | str | Sequence[ImageLike],
    settings: FitSettings | None = None,
    *,
    backbone: Backbone | None = None,
    weights: Path | str | None = None,
    ignore_mask: BoolArray | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[FitPlan], None] | None = None,
) -> Model:
    """Learn what good parts look like.

    Parameters
    ----------
    images : folder, or sequence of files or arrays
        Good parts only, at least 3.
    settings : FitSettings, optional
    backbone : Backbone, optional
        Instead of the one that the settings name.
    weights : Path, optional
        State dict of the backbone that the settings name.
    ignore_mask : bool (H, W), optional
        In the frame of the source images: True where positions neither score nor calibrate.
    progress : function, optional
    on_plan : function, optional
        Called with what the fit will take, before the images are gone through.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        Too few or unusable images, settings that do not fit together.
    ResourceError
        The fit would not fit into memory.
    """
    settings = settings or FitSettings()
    images = _image_list(images)
    if backbone is None:
        path = None if weights is None else Path(weights)
        backbone = load_backbone(settings.backbone, weights=path, layers=settings.layers)
    preprocessing = _preprocessing(settings, backbone, images[0])
    source = _Features(images, backbone, preprocessing, settings, progress or _silent)
    ignored = None if ignore_mask is None else _ignored(ignore_mask, preprocessing, images[0])

    embedding = _embedding(source, settings, backbone)
    pyramid = embedding.pyramid(source.grids)
    plan = plan_fit(pyramid, len(images), backbone=backbone, shared=settings.shared)
    if on_plan is not None:
        on_plan(plan)
    plan.check()
    weights_by_level = position_weights(pyramid, ignored)
    moments = _gather(source, embedding, pyramid, settings, weights_by_level)
    regularisation = regularisation_of(
        moments, epsilon=settings.epsilon, shrinkage=settings.shrinkage
    )
    left_out = LeftOutScorer(
        moments, regularisation, settings.score_settings, position_weights=weights_by_level
    )
    statistics = ScoreStatistics()
    if settings.score in WITH_STATISTICS:
        statistics = learn_statistics(
            source.levels(embedding, "statistics"),
            left_out,
            ignored=_ignored_positions(pyramid.finest, ignored),
        )
    calibration = calibrate(
        source.levels(embedding, "calibration"),
        left_out,
        map_operator(pyramid.finest, preprocessing, settings, ignored),
        statistics=statistics,
        top_k=settings.top_k,
        ignored=ignored,
    )
    return Model(
        settings=settings,
        backbone=backbone,
        preprocessing=preprocessing,
        embedding=embedding,
        moments=moments,
        regularisation=regularisation,
        statistics=statistics,
        calibration=calibration,
        ignored=ignored,
    )


class _Features:
    """Feature maps of the training images, streamed anew for every pass."""

    def __init__(
        self,
        images: Sequence[ImageLike],
        backbone: Backbone,
        preprocessing: Preprocessing,
        settings: FitSettings,
        progress: Progress,
    ) -> None:
        self._images, self._preprocessing, self._settings = images, preprocessing, settings
        self._progress = progress
        self._extractor = FeatureExtractor(backbone, preprocessing.size)
        height, width = preprocessing.size
        self.grids = [(height // la.stride, width // la.stride) for la in backbone.layers]

    def maps(self, stage: str) -> Iterator[list[Float32Array]]:
        """Feature maps per batch: list of float32 (N, C, h, w), fine to coarse."""
        done, total = 0, len(self._images)
        self._progress(stage, done, total)
        value_range = self._settings.value_range
        for inputs in load_batches(
            self._images, self._preprocessing, batch=_BATCH, value_range=value_range
        ):
            yield self._extractor(inputs)
            done += len(inputs)
            self._progress(stage, done, total)

    def levels(self, embedding: Embedding, stage: str) -> Iterator[list[Float32Array]]:
        """Embeddings per batch: list of float32 (N, P, d), coarse to fine."""
        return (embedding(maps) for maps in self.maps(stage))


def _gather(
    source: _Features,
    embedding: Embedding,
    pyramid: Pyramid,
    settings: FitSettings,
    weights: Sequence[Float64Array] | None,
) -> Moments:
    """First pass: the moments, as the model file will keep them."""
    moments = Moments(
        pyramid,
        shared=settings.shared,
        weights=None if weights is None else weights[-1],
        norms=settings.shrinkage == "ledoit-wolf",
    )
    for levels in source.levels(embedding, "moments"):
        moments.update(levels)
    if not any(square.any() for square in moments.squares()):
        raise InputError(
            f"The good images must differ a little, but all {moments.count} look the same to the "
            "network: one colour, or copies of one image. Give real images of good parts."
        )
    moments.round()
    return moments


def _image_list(images: Path | str | Sequence[ImageLike]) -> Sequence[ImageLike]:
    if isinstance(images, Path | str):
        images = list_images(Path(images))[0]
    if len(images) < LEAST_IMAGES:
        raise NotFittedError(
            f"A model needs at least {LEAST_IMAGES} images of good parts, but there "
            f"{'is' if len(images) == 1 else 'are'} {len(images)}. Give more; 20 to 300 are usual."
        )
    return images


def _source_size(image: ImageLike) -> tuple[int, int]:
    if isinstance(image, Path | str):
        return image_size(Path(image))
    height, width = image.shape[:2]
    return height, width


def _preprocessing(settings: FitSettings, backbone: Backbone, first: ImageLike) -> Preprocessing:
    strides = [layer.stride for layer in backbone.layers]
    if settings.preset == "paper":
        preset = Preprocessing.paper(roi=settings.roi)
    else:
        source = settings.roi[:1:-1] if settings.roi else _source_size(first)
        size = settings.size or full_size_for((source[0], source[1]), strides)
        preset = Preprocessing.full(size, roi=settings.roi)
    check_size(preset.size, strides)
    return replace(preset, interpolation=settings.interpolation)


def _embedding(source: _Features, settings: FitSettings, backbone: Backbone) -> Embedding:
    channels = [layer.channels for layer in backbone.layers]
    dims = settings.dims
    if dims is None and settings.reduction != "none":
        dims = min(backbone.default_dims or sum(channels), sum(channels))
    covariances = None
    if settings.reduction == "pca":
        covariances = layer_covariances(source.maps("principal components"))
    return choose_embedding(
        channels,
        reduction=settings.reduction,
        dims=dims,
        seed=settings.seed,
        layer_sums=settings.layer_sums,
        covariances=covariances,
    )


def _ignored(mask: BoolArray, preprocessing: Preprocessing, first: ImageLike) -> BoolArray:
    source = _source_size(first)
    if mask.shape != source:
        raise InputError(
            f"The ignore mask must have the size of the images, {source[0]}x{source[1]}, but has "
            f"{mask.shape[0]}x{mask.shape[1]}. Draw it on one of the images."
        )
    ignored = preprocessing.apply_to_mask(mask)
    if ignored.all():
        raise InputError(
            "The ignore mask must leave something to look at, but covers the whole image. "
            "White means ignored; perhaps it is inverted."
        )
    return ignored


def _ignored_positions(grid: tuple[int, int], ignored: BoolArray | None) -> BoolArray | None:
    return None if ignored is None else position_mask(ignored, grid).ravel()


def position_weights(pyramid: Pyramid, ignored: BoolArray | None) -> list[Float64Array] | None:
    """Per level, how many counted finest positions each cell stands for; None if all count."""
    if ignored is None:
        return None
    finest = np.where(position_mask(ignored, pyramid.finest).ravel(), 0.0, 1.0)
    last = pyramid.levels - 1
    return [
        np.bincount(pyramid.ancestors(last, k), finest, pyramid.positions(k))
        for k in range(pyramid.levels)
    ]


def map_operator(
    grid: tuple[int, ...],
    preprocessing: Preprocessing,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> MapOperator:
    """Operator from a grid to the map of a model."""
    shape = (grid[0], grid[1])
    return MapOperator(
        shape,
        preprocessing.size,
        settings.map_settings,
        ignored=ignored,
        ignored_positions=None if ignored is None else position_mask(ignored, shape),
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
