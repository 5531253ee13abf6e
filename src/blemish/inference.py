"""Preprocessed images -> maps, image scores and levels, by the engine that is fastest.

`FusedInference` runs the whole model as one graph; `PlainInference` runs the backbone alone and
the plain definitions behind it, for what has no graph. Both say the same to about 1e-5 in f32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from blemish.arrays import Float32Array, Float64Array
from blemish.engines.compiled_cache import cache_key
from blemish.engines.engine import EngineSettings
from blemish.engines.openvino import FeatureExtractor, GraphRunner, has_bf16
from blemish.errors import BackboneError, InputError
from blemish.fitted import Fitted
from blemish.graph import FUSED_SCORES, fuse, graph_outputs
from blemish.maps import MapOperator, image_scores
from blemish.scorer import Scorer

LARGEST_GRAPH = 256 << 20
"""Bytes of constants up to which a model is compiled into one graph: compiling copies them."""

MOST_DRIFT = 0.1
"""How far bf16 may move the image score of any good image that was tried, in standard deviations
of the scores of good images, to be chosen by itself."""


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


class Inference(Protocol):
    """Runs a model on preprocessed images."""

    def __call__(self, inputs: Float32Array) -> Found:
        """Score float32 (N, 3, H, W), RGB in 0..1."""
        ...


class PlainInference:
    """The backbone, then the plain definitions in NumPy."""

    def __init__(
        self,
        extractor: Callable[[Float32Array], list[Float32Array]],
        fitted: Fitted,
        scorer: Scorer,
        operator: MapOperator,
    ) -> None:
        self._extractor, self._embedding = extractor, fitted.embedding
        self._scorer, self._operator = scorer, operator
        self._top_k = fitted.settings.top_k

    def __call__(self, inputs: Float32Array) -> Found:
        """Score a batch."""
        found = self._scorer(self._embedding(self._extractor(inputs)))
        maps = self._operator(found.total)
        return Found(
            maps.astype(np.float32, copy=False),
            image_scores(maps, self._top_k),
            [level.astype(np.float32, copy=False) for level in found.levels],
        )


class FusedInference:
    """One graph for everything."""

    def __init__(self, runner: GraphRunner) -> None:
        self._runner = runner

    def __call__(self, inputs: Float32Array) -> Found:
        """Score a batch."""
        maps, scores, *levels = self._runner(inputs)
        return Found(maps[:, 0], scores.astype(np.float64), levels)


def inference_of(
    fitted: Fitted,
    engine: EngineSettings,
    *,
    scorer: Callable[[], Scorer],
    operator: MapOperator,
    identity: str | None = None,
) -> Inference:
    """Choose how a model is run, and make it ready.

    Parameters
    ----------
    fitted : Fitted
    engine : EngineSettings
    scorer : function
        Makes the scorer; not called if a compiled graph is found.
    operator : MapOperator
    identity : str, optional
        What tells this model from all others, to keep its compiled graph; None keeps nothing.

    Raises
    ------
    InputError
        The CPU lacks the precision that is asked for.
    BackboneError
        The backbone cannot be run at this size.
    """
    backbone, size = fitted.backbone, fitted.preprocessing.size
    precision = precision_of(fitted, engine)
    threads, streams = engine.threads, engine.streams
    key = None if identity is None else cache_key(identity, precision, threads, streams)
    if can_fuse(fitted):
        try:
            return FusedInference(
                GraphRunner(
                    lambda: fuse(fitted, scorer(), operator),
                    graph_outputs(fitted.moments.pyramid.levels),
                    size,
                    name=backbone.name,
                    precision=precision,
                    threads=threads,
                    streams=streams,
                    cached_as=key,
                )
            )
        except BackboneError:  # a graph that cannot be extended may still run alone
            pass
    extractor = FeatureExtractor(
        backbone, size, precision=precision, threads=threads, streams=streams
    )
    return PlainInference(extractor, fitted, scorer(), operator)


def can_fuse(fitted: Fitted) -> bool:
    """Whether a model is run as one graph: its score has one, and the graph is not too large."""
    size = 4 * sum(scatter.size for scatter in fitted.moments.scatters)
    return fitted.settings.score in FUSED_SCORES and size <= LARGEST_GRAPH


def precision_of(fitted: Fitted, engine: EngineSettings) -> str:
    """Precision that is meant; "auto" is bf16 where the CPU has it and the fit saw it do no harm.

    Raises
    ------
    InputError
        bf16 is asked for on a CPU that lacks it.
    """
    if engine.precision == "auto":
        harmless = fitted.bf16_drift is not None and fitted.bf16_drift <= MOST_DRIFT
        return "bf16" if harmless and has_bf16() else "f32"
    if engine.precision == "bf16" and not has_bf16():
        raise InputError(
            "The precision bf16 needs a CPU that has it (AVX512-BF16 or AMX), but this one has "
            "not. Use auto or f32."
        )
    return engine.precision


def bf16_drift(
    fitted: Fitted, inputs: Float32Array, *, scorer: Callable[[], Scorer], operator: MapOperator
) -> float | None:
    """How far bf16 moves image scores of good images, in standard deviations of good images.

    Parameters
    ----------
    fitted : Fitted
    inputs : float32 (N, 3, H, W)
        Some of the training images.
    scorer, operator
        As in `inference_of`.

    Returns
    -------
    float or None
        The largest over the images; None if this CPU has no bf16, so that nothing can be said.
    """
    if not has_bf16() or not can_fuse(fitted):
        return None
    f32, bf16 = (
        inference_of(fitted, EngineSettings(precision=precision), scorer=scorer, operator=operator)(
            inputs
        ).scores
        for precision in ("f32", "bf16")
    )
    spread = float(np.std(fitted.calibration.scores))
    return float(np.abs(bf16 - f32).max() / max(spread, np.finfo(np.float32).tiny))
