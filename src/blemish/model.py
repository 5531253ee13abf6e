"""A model of good parts, and scoring with it. `fitting` makes one; start reading there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from blemish.alignment import Aligner
from blemish.arrays import Float32Array, UInt8Array
from blemish.decision import Decision, Score
from blemish.engines.engine import EngineSettings
from blemish.errors import AlignmentError, InputError
from blemish.fitted import Fitted
from blemish.graph import fuse
from blemish.inference import Inference, bf16_drift, inference_of
from blemish.judge import Judge, judge_of, map_operator
from blemish.loading import ImageLike, load_input, path_of
from blemish.maps import MapOperator
from blemish.model_file import read_model, write_model
from blemish.operating_points import OperatingPoints, point_of_fit
from blemish.regions import RegionSettings
from blemish.scoring import ceiling
from blemish.threshold import Threshold
from blemish.training_images import source_size as source_size_of

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, images done and images in all."""


class Model:
    """A fitted model, ready to score. Made by `fit` and by `load_model`.

    Parameters
    ----------
    fitted : Fitted
        Its fields are attributes of the model, too.
    engine : EngineSettings, optional
        How it is run.
    identity : str, optional
        Checksum of the file it was read from; its compiled graph is kept under this name.
    """

    def __init__(
        self, fitted: Fitted, engine: EngineSettings | None = None, *, identity: str | None = None
    ) -> None:
        self.fitted, self.engine = fitted, engine or EngineSettings()
        self.identity, self._lock = identity, threading.Lock()
        self.settings, self.backbone = fitted.settings, fitted.backbone
        self.preprocessing, self.embedding = fitted.preprocessing, fitted.embedding
        self.parts, self.calibration = fitted.parts, fitted.calibration
        self.ignored, self.pyramid = fitted.ignored, fitted.pyramid
        of_fit = point_of_fit(self.settings.false_alarm_rate, self.settings.pixel_false_alarm_rate)
        self.operating_points = OperatingPoints(of_fit, fitted.operating_points)
        self._thresholds: dict[float | str, Threshold] = {}  # the intervals take a moment

    def __getstate__(self) -> tuple[Fitted, EngineSettings, str | None]:
        """Pickle what was fitted; compiled networks are made anew."""
        return self.fitted, self.engine, self.identity

    def __setstate__(self, state: tuple[Fitted, EngineSettings, str | None]) -> None:
        """Make the model of what was fitted."""
        fitted, engine, identity = state
        self.__init__(fitted, engine, identity=identity)  # type: ignore[misc]

    @property
    def count(self) -> int:
        """Number of images fitted."""
        return self.fitted.count

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the maps, in pixels."""
        return self.preprocessing.size

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Black and white of deep images; None: as they declare."""
        return self.settings.value_range

    @property
    def digests(self) -> UInt8Array:
        """Digest of every image fitted, (n, 16); see `records.digests_of`."""
        return self.fitted.records.digests

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
        AlignmentError
            The model aligns parts, and this one it cannot.
        InputError
            The image does not fit the region of interest or crop.
        """
        loaded = load_input(image, self.preprocessing, value_range=self.settings.value_range)
        return _scored(self.score_or_errors(loaded[None], [path_of(image)])[0])

    def classify(
        self,
        image: ImageLike | Score,
        *,
        operating_point: str | None = None,
        false_alarm_rate: float | None = None,
        pixel_false_alarm_rate: float | None = None,
        source_size: tuple[int, int] | None = None,
    ) -> Decision:
        """Judge an image, or its score, at an operating point or a false-alarm rate.

        Parameters
        ----------
        image : as in `score`, or a Score
        operating_point : str, optional
            Default: the model's default, which is that of the fit unless another was made it.
        false_alarm_rate, pixel_false_alarm_rate : float in (0, 1), optional
            In place of those of the operating point.
        source_size : (H0, W0), optional
            Of the source image of a Score; then regions can be told.

        Returns
        -------
        Decision

        Raises
        ------
        ImageError, InputError
            As `score`; or a rate outside (0, 1), an unknown operating point, or one with a rate.
        """
        threshold = self.threshold(false_alarm_rate, operating_point=operating_point)
        point = self.operating_points.get(operating_point)
        pixel = self.pixel_threshold(pixel_false_alarm_rate, operating_point=operating_point)
        if not isinstance(image, Score):
            source_size = source_size_of(image)
            image = self.score(image)
        score, by_rate = image, (false_alarm_rate, pixel_false_alarm_rate) != (None, None)
        return Decision(
            is_anomalous=score.image_score >= threshold.value,
            score=score,
            threshold=threshold,
            predicted_mask=score.anomaly_map >= pixel,
            pixel_threshold=pixel,
            operating_point=None if by_rate else point.name,
            source_box=source_size and self.preprocessing.source_box(source_size),
            region_settings=point.regions,
        )

    def threshold(
        self, false_alarm_rate: float | None = None, *, operating_point: str | None = None
    ) -> Threshold:
        """Image threshold of a false-alarm rate, or of an operating point, by default the default.

        Raises
        ------
        InputError
            Both are given, the rate is outside (0, 1), or there is no such operating point.
        """
        if false_alarm_rate is not None and operating_point is not None:
            raise InputError(
                f"A threshold must be that of an operating point or of a false-alarm rate, but "
                f"both {operating_point!r} and {false_alarm_rate:g} are given. Give one of them."
            )
        point = self.operating_points.get(operating_point)
        key = point.name if false_alarm_rate is None else false_alarm_rate
        if key not in self._thresholds:
            self._thresholds[key] = (
                point.threshold(self.calibration)
                if false_alarm_rate is None
                else self.calibration.threshold(false_alarm_rate)
            )
        return self._thresholds[key]

    def can_alarm(self, threshold: Threshold) -> bool:
        """Whether any image could reach a threshold: a Chebyshev bound ends below 1."""
        most = self.highest_score
        return most is None or threshold.value <= most

    @property
    def highest_score(self) -> float | None:
        """Largest image score there can be; None if there is no bound."""
        most = ceiling(self.settings.score, self.settings.chebyshev_scale)
        if most is None:
            return None
        highest = [
            most
            if part.standardisation is None
            else float(part.standardisation(np.full((1, 1), most)).max())
            for part in self.parts
        ]
        weights = self.fitted.weights
        return highest[0] if weights is None else float(np.dot(weights.image, highest))

    def pixel_threshold(
        self, false_alarm_rate: float | None = None, *, operating_point: str | None = None
    ) -> float:
        """Pixel threshold of a pixel false-alarm rate, by default that of an operating point."""
        if false_alarm_rate is not None:
            return self.calibration.pixel_threshold(false_alarm_rate)
        return self.operating_points.get(operating_point).pixel_threshold(self.calibration)

    def with_operating_points(self, points: OperatingPoints) -> Model:
        """Return the same model with other operating points; nothing is fitted anew."""
        changed = replace(self.fitted, operating_points=points.stored)
        return Model(changed, self.engine, identity=self.identity)

    def at(self, operating_point: str | None, regions: RegionSettings | None = None) -> Model:
        """Return the same model with another default operating point, telling other regions.

        Parameters
        ----------
        operating_point : str or None
            None: the default as it is.
        regions : RegionSettings, optional
            Default: those of the operating point.

        Raises
        ------
        InputError
            There is no such operating point.
        """
        point = self.operating_points.get(operating_point)
        points = self.operating_points
        if regions not in (None, point.regions):
            points = points.with_point(replace(point, regions=regions))
        return self.with_operating_points(points.with_default(point.name))

    def score_inputs(self, inputs: Float32Array) -> list[Score]:
        """Score a batch of preprocessed images.

        Parameters
        ----------
        inputs : float32 (N, 3, H, W)
            From `preprocessing.apply`.

        Raises
        ------
        AlignmentError
            The model aligns parts, and one of them it cannot.
        """
        return [_scored(found) for found in self.score_or_errors(inputs)]

    def as_seen(self, inputs: Float32Array) -> Float32Array:
        """Preprocessed images (N, 3, H, W) as the network is to see them: aligned, if it has to be.

        Raises
        ------
        AlignmentError
            One of them cannot be aligned.
        """
        return inputs if self.aligner is None else self.aligner.align_all(inputs)

    def score_or_errors(
        self, inputs: Float32Array, names: Sequence[str] = ()
    ) -> list[Score | AlignmentError]:
        """Score a batch as `score_inputs`; errors are returned, with the images' names if given."""
        if self.aligner is None:
            return [*self._scores(inputs)]
        aligned, found = self.aligner(inputs, names)
        scores = iter(self._scores(aligned) if len(aligned) else [])
        return [
            one if isinstance(one, AlignmentError) else next(scores).restored(one) for one in found
        ]

    def _scores(self, inputs: Float32Array) -> list[Score]:
        """Score a batch, aligned if it has to be."""
        found = self._inference(inputs)
        grids = self.pyramid.grids
        return [
            Score(
                float(found.scores[k]),
                found.maps[k],
                {
                    name: level[k].reshape(grid)
                    for name, level, grid in zip(self.level_names, found.levels, grids, strict=True)
                },
            )
            for k in range(len(inputs))
        ]

    def bf16_drift(self, inputs: Float32Array) -> float | None:
        """How far bf16 moves the image scores of some good images; see `inference.bf16_drift`."""
        return bf16_drift(self.fitted, self.as_seen(inputs), judge=lambda: self._judge)

    def level_maps(self, score: Score) -> dict[str, Float32Array]:
        """Which scale is anomalous: the map of every level, at image size.

        Returns
        -------
        dict of str to float32 (H, W)
            Per layer, coarse to fine; same upsampling and blur as the anomaly map.
        """
        return {
            name: operator(grid.reshape(1, -1))[0]
            for (name, grid), operator in zip(
                score.level_grids.items(), self._level_operators, strict=True
            )
        }

    def graph(self) -> bytes:
        """Whole model, of aligned images if it aligns, as one ONNX graph in f32; see `graph.fuse`.

        Raises
        ------
        BackboneError
            The score has no graph, or the backbone's graph cannot be extended.
        """
        return fuse(self.fitted, self._judge)

    def save(self, path: Path | str) -> None:
        """Write the model to one file; see `model_file`.

        Raises
        ------
        OutputError
            The file cannot be written; what was there before is untouched.
        """
        write_model(self.fitted, Path(path))

    @cached_property
    def _inference(self) -> Inference:
        with self._lock:  # several threads may score at once
            return self.__dict__.get("_inference") or inference_of(
                self.fitted, self.engine, judge=lambda: self._judge, identity=self.identity
            )

    @cached_property
    def aligner(self) -> Aligner | None:
        """What brings parts to one place; None if nothing does."""
        return None if self.fitted.alignment is None else Aligner(self.fitted.alignment)

    @cached_property
    def _judge(self) -> Judge:
        return judge_of(self.fitted)

    @cached_property
    def _level_operators(self) -> list[MapOperator]:
        return [
            map_operator(grid, self.preprocessing, self.settings, self.ignored)
            for grid in self.pyramid.grids
        ]


def _scored(found: Score | AlignmentError) -> Score:
    if isinstance(found, AlignmentError):
        raise found
    return found


def load_model(path: Path | str, engine: EngineSettings | None = None) -> Model:
    """Read a model from a file.

    Parameters
    ----------
    path : Path
    engine : EngineSettings, optional
        How to run it.

    Raises
    ------
    ModelFileError
        The file is missing, no model, damaged, or written by a newer version.
    """
    fitted, header = read_model(Path(path))
    return Model(fitted, engine, identity=header["checksum"])


def never_reached(model: Model, threshold: Threshold) -> str:
    """Say that a threshold cannot be reached, and what to do."""
    return beyond_reach(threshold, model.settings.score, model.highest_score or 0)


def beyond_reach(threshold: Threshold, score: str, highest_score: float) -> str:
    """Say that a threshold is above the highest value that a score can have, and what to do."""
    return (
        f"The threshold {threshold.value:.6g} cannot be reached: the score {score} ends "
        f"at {highest_score:.6g}, so this model never raises an alarm. Use more images, "
        "a higher false-alarm rate, or another score."
    )
