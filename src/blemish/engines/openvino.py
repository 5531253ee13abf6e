"""Runs graphs on the CPU with OpenVINO: a backbone alone, or a whole model."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import blemish
from blemish.arrays import Float32Array
from blemish.backbones.backbone import INPUT_NAME, Backbone
from blemish.backbones.openvino_import import import_openvino
from blemish.engines.compiled_cache import cache_key, read_compiled, write_compiled
from blemish.errors import BackboneError, InputError, ShapeError

PRECISIONS = ("f32", "bf16")


@lru_cache(maxsize=1)
def has_bf16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX)."""
    core = import_openvino().Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class GraphRunner:
    """Images in, the outputs of a graph out.

    Compiled once for images of one size, `batch` at a time; the number of images may differ from
    call to call. As many calls as there are `streams` run at the same time, further ones wait.

    Parameters
    ----------
    onnx : bytes, or a function that makes them
        A graph with the input "image", float32 (N, 3, H, W).
    outputs : sequence of str
        Which outputs to return; the first axis of each is N.
    size : (int, int), pixels
        Height H and width W of the images.
    name : str
        Of the graph, for messages.
    precision : {"f32", "bf16"}, default "f32"
        Of the arithmetic. "bf16" is faster on CPUs that have it in hardware (about four times
        with AMX), and keeps two to three digits.
    threads : int >= 1 or None, default None
        CPU threads of all streams together; None leaves the choice to OpenVINO: one per core.
    streams : int >= 1, default 1
        Images worked on at the same time. 1 gives the shortest time for one image, one per core
        the most images per second.
    batch : int >= 1, default 1
        Images that are run together. What is left over of a call is filled up with black ones. A
        network alone gains nothing by it on a CPU; a whole model does, for it reads its Gaussians
        once per batch (see `benchmarks/results.md`).
    cached_as : str, optional
        Key of the compiled graph in the cache, from `cache_key`. If it is found there, `onnx` is
        not looked at.

    Raises
    ------
    InputError
        `precision`, `size`, `threads` or `streams` is not one of the above.
    BackboneError
        OpenVINO cannot read the graph or cannot run it at this size.
    """

    def __init__(
        self,
        onnx: bytes | Callable[[], bytes],
        outputs: Sequence[str],
        size: tuple[int, int],
        *,
        name: str,
        precision: str = "f32",
        threads: int | None = None,
        streams: int = 1,
        batch: int = 1,
        cached_as: str | None = None,
    ) -> None:
        _check_settings(size, precision, threads, streams)
        self.size, self.batch = size, batch
        self.outputs = tuple(outputs)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            config = _config(precision, threads, streams)
            compiled = _from_cache(cached_as, config)
            if compiled is None:
                compiled = _compile(onnx, (batch, 3, *size), config, cached_as)
            for _ in range(streams):
                self._free.put(compiled.create_infer_request())
            self._shapes = [tuple(compiled.output(output).shape) for output in self.outputs]
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise BackboneError(
                f"The backbone {name} must run on images of {size[0]}x{size[1]} pixels, "
                f"but OpenVINO cannot run it ({lines[-1]}). Choose another size or backbone."
            ) from error

    def __call__(self, images: Float32Array) -> list[Float32Array]:
        """Run a batch.

        Parameters
        ----------
        images : float32 (N, 3, H, W)
            RGB in 0..1. N may be 0.

        Returns
        -------
        list of float32 (N, ...), one per output
            The caller's own arrays: a later call does not change them.

        Raises
        ------
        ShapeError
            The images are not (N, 3, H, W) with the H and W this runner was made for.
        """
        height, width = self.size
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise ShapeError.of(
                "images",
                f"(N, 3, {height}, {width})",
                images.shape,
                "Were they preprocessed for this model?",
            )
        found = [np.empty((len(images), *shape[1:]), np.float32) for shape in self._shapes]
        if not len(images):
            return found
        request = self._free.get()
        try:
            for start in range(0, len(images), self.batch):
                taken = np.ascontiguousarray(images[start : start + self.batch], np.float32)
                count = len(taken)
                if count < self.batch:
                    taken = np.pad(taken, ((0, self.batch - count), (0, 0), (0, 0), (0, 0)))
                request.infer({INPUT_NAME: taken}, share_inputs=True)
                for output, out in zip(self.outputs, found, strict=True):
                    out[start : start + count] = request.get_tensor(output).data[:count]
        finally:
            self._free.put(request)
        return found


class FeatureExtractor(GraphRunner):
    """Images in, one feature map per layer out.

    Parameters
    ----------
    backbone : Backbone
    size, precision, threads, streams
        See `GraphRunner`. A call returns a list of float32 (N, C, h, w), one per layer, fine to
        coarse.

    Examples
    --------
    >>> from blemish.backbones import load_backbone
    >>> extractor = FeatureExtractor(load_backbone("builtin"), (64, 96))
    >>> [maps.shape[2:] for maps in extractor(np.zeros((2, 3, 64, 96), np.float32))]
    [(16, 24), (8, 12), (4, 6)]
    """

    def __init__(
        self,
        backbone: Backbone,
        size: tuple[int, int],
        *,
        precision: str = "f32",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        super().__init__(
            backbone.onnx,
            [layer.name for layer in backbone.layers],
            size,
            name=backbone.name,
            precision=precision,
            threads=threads,
            streams=streams,
        )


def _config(precision: str, threads: int | None, streams: int) -> dict[str, object]:
    config: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _compile(
    onnx: bytes | Callable[[], bytes],
    shape: tuple[int, ...],
    config: dict[str, object],
    cached_as: str | None,
) -> Any:
    """Compile a graph for images of this shape, and keep it if it has a key."""
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(model=onnx if isinstance(onnx, bytes) else onnx())
    model.reshape({INPUT_NAME: openvino.PartialShape(list(shape))})
    compiled = core.compile_model(model, "CPU", config)
    if cached_as is not None:
        with contextlib.suppress(Exception):  # a cache: without it all goes on
            write_compiled(_versioned(cached_as), compiled.export_model().getvalue())
    return compiled


def _from_cache(cached_as: str | None, config: dict[str, object]) -> Any:
    """A compiled graph that was kept; None if there is none that this OpenVINO takes."""
    kept = None if cached_as is None else read_compiled(_versioned(cached_as))
    if kept is None:
        return None
    with contextlib.suppress(RuntimeError):
        return import_openvino().Core().import_model(kept, "CPU", config)
    return None


def _versioned(key: str) -> str:
    """Compiled graphs are of one version of OpenVINO and of this package."""
    return cache_key(key, import_openvino().__version__, blemish.__version__)


def _check_settings(
    size: tuple[int, int], precision: str, threads: int | None, streams: int
) -> None:
    if precision not in PRECISIONS:
        raise InputError(
            f"precision must be one of {', '.join(PRECISIONS)}, but is {precision}. "
            "Use f32 unless speed matters more than digits."
        )
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, but is {threads}. Leave it out for all.")
    if streams < 1:
        raise InputError(f"streams must be at least 1, but is {streams}. 1 is the quickest.")
    if min(size) < 1:
        raise InputError(
            f"The image size must be at least 1x1 pixels, but is {size[0]}x{size[1]}. "
            "Choose for example 224x224."
        )
