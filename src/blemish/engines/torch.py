"""Runs a backbone with PyTorch, on a GPU where there is one."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from blemish.arrays import Float32Array
from blemish.backbones.backbone import Backbone
from blemish.backbones.torch_import import import_torch
from blemish.engines.torch_device import Recorded, arithmetic, check_precision, choose_device
from blemish.engines.torch_graph import TorchGraph
from blemish.errors import BackboneError, InputError, ShapeError


class TorchNetwork:
    """The graph of a backbone on a device, for tensors that stay there.

    Parameters
    ----------
    backbone : Backbone
    size : (int, int), pixels
        Height H and width W of the images.
    precision : {"f32", "bf16", "f16"}, default "f32"
        Of convolutions and matrix products.
    threads : int >= 1 or None, default None
        CPU threads; None: as PyTorch is set.
    device : {"auto", "cpu", "cuda", "mps"}, or "cuda:1" and so on, default "auto"
        Auto takes the first of CUDA, MPS and CPU that is there.

    Attributes
    ----------
    torch : module
    device : torch.device
    exact : bool
        Whether the precision is f32, and meant.

    Raises
    ------
    InputError
        PyTorch is not installed, the device is not there, or `precision`, `size` or `threads` is
        not one of the above.
    BackboneError
        The graph has an operator that is not known, or cannot be run at this size.
    """

    def __init__(
        self,
        backbone: Backbone,
        size: tuple[int, int],
        *,
        precision: str = "f32",
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        check_precision(precision)
        _check_settings(size, threads)
        torch = import_torch()
        self.torch, self.device = torch, choose_device(torch, device)
        self.backbone, self.size, self.exact = backbone, size, precision == "f32"
        self._threads = threads
        dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
        self._graph = TorchGraph(
            torch,
            backbone,
            device=self.device,
            dtype=dtypes[precision],
            channels_last=self.device.type != "mps",
        )
        self.shapes = self._probe()

    def arithmetic(self) -> Any:
        """Context in which to compute: no gradients, the precision that is meant."""
        return arithmetic(self.torch, exact=self.exact, threads=self._threads)

    def __call__(self, images: Any) -> tuple[Any, ...]:
        """Feature maps: tensor (N, C, h, w) per layer, of images (N, 3, H, W) on the device."""
        return tuple(self._graph(images))

    def to_tensor(self, images: Any) -> Any:
        """Check a batch, array or tensor, and make it a float32 tensor.

        Raises
        ------
        ShapeError
            The images are not (N, 3, H, W) with the H and W this network was made for.
        """
        height, width = self.size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, height, width):
            raise ShapeError.of(
                "images",
                f"(N, 3, {height}, {width})",
                tuple(images.shape),
                "Were they preprocessed for this model?",
            )
        if isinstance(images, self.torch.Tensor):
            return images.to(self.torch.float32)
        array = np.ascontiguousarray(images, dtype=np.float32)
        return self.torch.from_numpy(array if array.flags.writeable else array.copy())

    def _probe(self) -> list[tuple[int, ...]]:
        """Shape (C, h, w) of every layer, by running one black image."""
        black = np.zeros((1, 3, *self.size), np.float32)
        try:
            with self.arithmetic():
                found = self(self.to_tensor(black).to(self.device))
        except (RuntimeError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            height, width = self.size
            raise BackboneError(
                f"The backbone {self.backbone.name} must run on images of {height}x{width} "
                f"pixels, but PyTorch cannot run it ({reason}). Choose another size or backbone."
            ) from error
        return [tuple(maps.shape[1:]) for maps in found]


class TorchFeatureExtractor:
    """Images in, one feature map per layer out: the contract of `openvino.FeatureExtractor`.

    The images of a call are run together. Calls from several threads wait for each other.

    Parameters
    ----------
    backbone, size, precision, threads, device
        See `TorchNetwork`.

    Raises
    ------
    InputError, BackboneError
        As `TorchNetwork`.
    """

    def __init__(
        self,
        backbone: Backbone,
        size: tuple[int, int],
        *,
        precision: str = "f32",
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        self.backbone, self.size = backbone, size
        self._network = TorchNetwork(
            backbone, size, precision=precision, threads=threads, device=device
        )
        self._lock = threading.Lock()
        self._run = Recorded(self._network.torch, self._features, self._network.device)

    def __call__(self, images: Float32Array) -> list[Float32Array]:
        """Extract the features of a batch.

        Parameters
        ----------
        images : float32 (N, 3, H, W)
            RGB in 0..1. N may be 0. A tensor on the device is taken, too.

        Returns
        -------
        list of float32 (N, C, h, w), one per layer, fine to coarse
            The caller's own arrays: a later call does not change them.

        Raises
        ------
        ShapeError
            The images are not (N, 3, H, W) with the H and W this extractor was made for.
        """
        batch = self._network.to_tensor(images)
        if len(batch) == 0:
            return [np.empty((0, *shape), np.float32) for shape in self._network.shapes]
        with self._lock, self._network.arithmetic():
            return [maps.cpu().numpy() for maps in self._run(batch)]

    def _features(self, images: Any) -> tuple[Any, ...]:
        return tuple(maps.float().contiguous() for maps in self._network(images))


def _check_settings(size: tuple[int, int], threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, but is {threads}. Leave it out for all.")
    if min(size) < 1:
        raise InputError(
            f"The image size must be at least 1x1 pixels, but is {size[0]}x{size[1]}. "
            "Choose for example 224x224."
        )
