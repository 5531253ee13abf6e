"""Runs a backbone on the CPU with OpenVINO."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from blemish.arrays import Float32Array
from blemish.backbones.backbone import INPUT_NAME, Backbone
from blemish.backbones.openvino_import import import_openvino
from blemish.errors import BackboneError, InputError, ShapeError

PRECISIONS = ("f32", "bf16")


class FeatureExtractor:
    """Images in, one feature map per layer out.

    Compiled once for one image size; the number of images may differ from call to call. They
    are run one after the other, each on all threads: on a CPU this is as fast as running them
    together, and needs the memory of one. Calls from several threads wait for each other.

    Parameters
    ----------
    backbone : Backbone
    size : (int, int), pixels
        Height H and width W of the images.
    precision : {"f32", "bf16"}, default "f32"
        Of the arithmetic. "bf16" is faster on CPUs that have it in hardware (about four times
        with AMX), and keeps two to three digits.
    threads : int >= 1 or None, default None
        CPU threads; None leaves the choice to OpenVINO: one per core.

    Raises
    ------
    InputError
        `precision`, `size` or `threads` is not one of the above.
    BackboneError
        OpenVINO cannot read the graph or cannot run it at this size.

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
    ) -> None:
        _check_settings(size, precision, threads)
        self.backbone = backbone
        self.size = size
        self._lock = threading.Lock()
        try:
            self._request = _compile(backbone, size, precision, threads)
            self._shapes = [
                tuple(self._request.get_tensor(layer.name).shape) for layer in backbone.layers
            ]
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise BackboneError(
                f"The backbone {backbone.name} must run on images of {size[0]}x{size[1]} pixels, "
                f"but OpenVINO cannot run it ({lines[-1]}). Choose another size or backbone."
            ) from error

    def __call__(self, images: Float32Array) -> list[Float32Array]:
        """Extract the features of a batch.

        Parameters
        ----------
        images : float32 (N, 3, H, W)
            RGB in 0..1. N may be 0.

        Returns
        -------
        list of float32 (N, C, h, w), one per layer, fine to coarse
            The caller's own arrays: a later call does not change them.

        Raises
        ------
        ShapeError
            The images are not (N, 3, H, W) with the H and W this extractor was made for.
        """
        height, width = self.size
        if images.ndim != 4 or images.shape[1:] != (3, height, width):
            raise ShapeError.of(
                "images",
                f"(N, 3, {height}, {width})",
                images.shape,
                "Were they preprocessed for this model?",
            )
        maps = [np.empty((len(images), *shape[1:]), np.float32) for shape in self._shapes]
        with self._lock:
            for index in range(len(images)):
                image = np.ascontiguousarray(images[index : index + 1], dtype=np.float32)
                self._request.infer({INPUT_NAME: image}, share_inputs=True)
                for layer, out in zip(self.backbone.layers, maps, strict=True):
                    out[index] = self._request.get_tensor(layer.name).data[0]
        return maps


def _compile(backbone: Backbone, size: tuple[int, int], precision: str, threads: int | None) -> Any:
    """Compile the graph for one image of this size."""
    openvino = import_openvino()
    config: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    model = core.read_model(model=backbone.onnx)
    model.reshape({INPUT_NAME: openvino.PartialShape([1, 3, *size])})
    return core.compile_model(model, "CPU", config).create_infer_request()


def _check_settings(size: tuple[int, int], precision: str, threads: int | None) -> None:
    if precision not in PRECISIONS:
        raise InputError(
            f"precision must be one of {', '.join(PRECISIONS)}, but is {precision}. "
            "Use f32 unless speed matters more than digits."
        )
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, but is {threads}. Leave it out for all.")
    if min(size) < 1:
        raise InputError(
            f"The image size must be at least 1x1 pixels, but is {size[0]}x{size[1]}. "
            "Choose for example 224x224."
        )
