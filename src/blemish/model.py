"""A model of good parts, and scoring with it. `fitting` makes one; start reading there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, Float32Array
from blemish.engines.engine import EngineSettings
from blemish.fitted import Fitted
from blemish.graph import fuse
from blemish.inference import Inference, bf16_drift, inference_of
from blemish.judge import Judge, judge_of, map_operator
from blemish.loading import ImageLike, load_input
from blemish.maps import MapOperator
from blemish.model_file import read_model, write_model
from blemish.scoring import ceiling
from blemish.threshold import Threshold

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, images done and images in all."""


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
        Per layer. With one Gaussian over all layers: its conditional distance, not squared (the
        squares of all layers, repeated to the finest grid, sum to the squared distance), or its
        largest Chebyshev bound. With separate layers: the layer's own score, standardised if the
        settings say so.
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
        self._identity, self._lock = identity, threading.Lock()
        self.settings, self.backbone = fitted.settings, fitted.backbone
        self.preprocessing, self.embedding = fitted.preprocessing, fitted.embedding
        self.parts, self.calibration = fitted.parts, fitted.calibration
        self.ignored, self.pyramid = fitted.ignored, fitted.pyramid
        self._thresholds: dict[float, Threshold] = {}  # the intervals take a moment

    def __getstate__(self) -> tuple[Fitted, EngineSettings, str | None]:
        """Pickle what was fitted; compiled networks are made anew."""
        return self.fitted, self.engine, self._identity

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

        Returns
        -------
        Decision

        Raises
        ------
        ImageError, InputError
            As `score`; or a rate outside (0, 1).
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
        if false_alarm_rate is None:
            false_alarm_rate = self.settings.false_alarm_rate
        if false_alarm_rate not in self._thresholds:
            self._thresholds[false_alarm_rate] = self.calibration.threshold(false_alarm_rate)
        return self._thresholds[false_alarm_rate]

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

    def pixel_threshold(self, false_alarm_rate: float | None = None) -> float:
        """Pixel threshold of a pixel false-alarm rate, by default that of the fit."""
        rate = (
            self.settings.pixel_false_alarm_rate if false_alarm_rate is None else false_alarm_rate
        )
        return self.calibration.pixel_threshold(rate)

    def score_inputs(self, inputs: Float32Array) -> list[Score]:
        """Score a batch of preprocessed images.

        Parameters
        ----------
        inputs : float32 (N, 3, H, W)
            From `preprocessing.apply`.
        """
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
        return bf16_drift(self.fitted, inputs, judge=lambda: self._judge)

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
        """Whole model as one ONNX graph, in f32; see `graph.fuse`.

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
                self.fitted, self.engine, judge=lambda: self._judge, identity=self._identity
            )

    @cached_property
    def _judge(self) -> Judge:
        return judge_of(self.fitted)

    @cached_property
    def _level_operators(self) -> list[MapOperator]:
        return [
            map_operator(grid, self.preprocessing, self.settings, self.ignored)
            for grid in self.pyramid.grids
        ]


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
    settings = model.settings
    return (
        f"The threshold {threshold.value:.6g} cannot be reached: the score {settings.score} ends "
        f"at {model.highest_score or 0:.6g}, so this model never raises an alarm. Use more images, "
        "a higher false-alarm rate, or another score."
    )
