"""Preprocessed images -> maps, image scores and levels, by the engine that is fastest.

`FusedInference` runs the whole model as one graph; `PlainInference` runs the backbone alone and
the plain definitions behind it, for what has no graph. Both say the same to about 1e-5 in f32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np

from blemish.arrays import Float32Array
from blemish.backbones import Backbone
from blemish.cores import one_blas_thread
from blemish.embedding import Embedding
from blemish.engines.compiled_cache import cache_key
from blemish.engines.engine import EngineSettings
from blemish.engines.openvino import FeatureExtractor, GraphRunner, has_bf16
from blemish.engines.torch import TorchFeatureExtractor
from blemish.errors import InputError
from blemish.fitted import Fitted
from blemish.graph import can_extend, fuse, graph_outputs, has_graph, sources
from blemish.judge import Found, Judge
from blemish.torch_runner import TorchRunner

LARGEST_GRAPH = 256 << 20
"""Bytes of constants up to which a model is compiled into one graph: compiling copies them."""

MOST_DRIFT = 0.1
"""How far bf16 may move the image score of any good image that was tried, in standard deviations
of the scores of good images, to be chosen by itself."""

TRIED_IMAGES = 8
"""How many good images a fit tries bf16 with."""


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
        embedding: Embedding,
        judge: Judge,
    ) -> None:
        self._extractor, self._embedding, self._judge = extractor, embedding, judge

    def __call__(self, inputs: Float32Array) -> Found:
        """Score a batch."""
        embeddings = self._embedding(self._extractor(inputs))
        with one_blas_thread():  # others would spin on, and slow the next network by half
            return self._judge(embeddings)


class FusedInference:
    """One graph for everything, compiled for single images, and for batches once one comes.

    Parameters
    ----------
    runner_for : function
        Makes the runner of a batch size.
    batch : int
        Fewer images than this are run one by one.
    """

    def __init__(self, runner_for: Callable[[int], GraphRunner], batch: int = 1) -> None:
        self._runner_for, self._batch, self._lock = runner_for, batch, threading.Lock()
        self._runners = {1: runner_for(1)}

    def __call__(self, inputs: Float32Array) -> Found:
        """Score a batch."""
        size = self._batch if len(inputs) >= self._batch else 1
        with self._lock:
            if size not in self._runners:
                self._runners[size] = self._runner_for(size)
        maps, scores, *levels = self._runners[size](inputs)
        return Found(maps[:, 0], scores.astype(np.float64), levels)


def inference_of(
    fitted: Fitted,
    engine: EngineSettings,
    *,
    judge: Callable[[], Judge],
    identity: str | None = None,
) -> Inference:
    """Choose how a model is run, and make it ready.

    Parameters
    ----------
    fitted : Fitted
    engine : EngineSettings
    judge : function
        Makes the judge; not called if a compiled graph is found.
    identity : str, optional
        What tells this model from all others, to keep its compiled graph; None keeps nothing.

    Raises
    ------
    InputError
        The CPU lacks the precision that is asked for.
    BackboneError
        The backbone cannot be run at this size.
    """
    if engine.engine == "torch":
        return _with_torch(fitted, engine, judge())
    backbone, size = fitted.backbone, fitted.preprocessing.size
    precision = precision_of(fitted, engine)
    threads, streams = engine.threads, engine.streams

    def runner(batch: int) -> GraphRunner:
        how = (precision, threads, streams, batch)
        return GraphRunner(
            lambda: fuse(fitted, judge()),
            graph_outputs(fitted.pyramid.levels),
            size,
            name=backbone.name,
            precision=precision,
            threads=threads,
            streams=streams,
            batch=batch,
            cached_as=None if identity is None else cache_key(identity, sources(), *how),
        )

    if can_fuse(fitted):
        return FusedInference(runner, engine.batch)
    extractor = FeatureExtractor(
        backbone, size, precision=precision, threads=threads, streams=streams
    )
    return PlainInference(extractor, fitted.embedding, judge())


def _with_torch(fitted: Fitted, engine: EngineSettings, judge: Judge) -> Inference:
    """Run a model with PyTorch; a score without a graph is computed behind its network."""
    precision = "f32" if engine.precision == "auto" else engine.precision
    if has_graph(fitted.settings):
        return TorchRunner(
            fitted, judge, precision=precision, threads=engine.threads, device=engine.device
        ).score_inputs
    extractor = feature_extractor(fitted.backbone, fitted.preprocessing.size, engine)
    return PlainInference(extractor, fitted.embedding, judge)


def feature_extractor(
    backbone: Backbone, size: tuple[int, int], engine: EngineSettings
) -> Callable[[Float32Array], list[Float32Array]]:
    """What runs the network alone; in f32 unless the engine says otherwise.

    Raises
    ------
    InputError
        The CPU lacks the precision, or the engine its device or packages.
    BackboneError
        The backbone cannot be run at this size.
    """
    precision = "f32" if engine.precision == "auto" else engine.precision
    if engine.engine == "torch":
        return TorchFeatureExtractor(
            backbone, size, precision=precision, threads=engine.threads, device=engine.device
        )
    _check_bf16(precision)
    return FeatureExtractor(backbone, size, precision=precision, threads=engine.threads)


def can_fuse(fitted: Fitted) -> bool:
    """Whether a model is run as one graph.

    Its scores must have one, the backbone's graph must be such that it can be extended, and what
    is put behind it must not be too large.
    """
    return (
        has_graph(fitted.settings)
        and 4 * fitted.whitening_numbers <= LARGEST_GRAPH
        and can_extend(fitted.backbone)
    )


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
    _check_bf16(engine.precision)
    return engine.precision


def _check_bf16(precision: str) -> None:
    if precision == "bf16" and not has_bf16():
        raise InputError(
            "The precision bf16 needs a CPU that has it (AVX512-BF16 or AMX), but this one has "
            "not. Use auto or f32."
        )


def bf16_drift(fitted: Fitted, inputs: Float32Array, *, judge: Callable[[], Judge]) -> float | None:
    """How far bf16 moves image scores of good images, in standard deviations of good images.

    Parameters
    ----------
    fitted : Fitted
    inputs : float32 (N, 3, H, W)
        Some of the training images.
    judge
        As in `inference_of`.

    Returns
    -------
    float or None
        The largest over the images; None if this CPU has no bf16, so that nothing can be said.
    """
    if not has_bf16() or not can_fuse(fitted):
        return None
    f32, bf16 = (
        inference_of(fitted, EngineSettings(precision=precision), judge=judge)(inputs).scores
        for precision in ("f32", "bf16")
    )
    spread = float(np.std(fitted.calibration.scores))
    return float(np.abs(bf16 - f32).max() / max(spread, np.finfo(np.float32).tiny))
