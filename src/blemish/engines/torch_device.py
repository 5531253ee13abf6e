"""Where PyTorch computes and how: device, arithmetic, and recording for GPUs."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from blemish.engines.engine import DEVICES
from blemish.errors import InputError

PRECISIONS = ("f32", "bf16", "f16")
_MOST_RECORDED = 4
_WARM_UPS = 3
_PROCESS = threading.RLock()
"""Held while PyTorch is set for one network: its settings are those of the whole process."""


def choose_device(torch: Any, name: str) -> Any:
    """Find the device that is meant.

    Parameters
    ----------
    torch : module
    name : {"auto", "cpu", "cuda", "mps"}, or "cuda:1" and so on
        Auto takes the first of CUDA, MPS and CPU that is there.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        The name is none of these, or the device is not there.
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not (kind == "cuda" and number.isdecimal())):
        raise InputError(
            f"device must be one of {', '.join(DEVICES)}, or cuda:1 and so on, but is {name!r}. "
            "Choose one."
        )
    with warnings.catch_warnings():  # an old driver is no more than a warning to torch
        warnings.simplefilter("ignore")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if kind == "auto":
        kind = "cuda" if gpus else "mps" if has_mps else "cpu"
    if kind == "cuda":
        _check_cuda(torch, gpus, int(number or 0))
    if kind == "mps" and not has_mps:
        raise InputError(
            "The device mps needs a Mac with Apple silicon, but PyTorch finds none. "
            "Use the device cpu."
        )
    return torch.device(f"{kind}:{number}" if number else kind)


def _check_cuda(torch: Any, gpus: int, number: int) -> None:
    if gpus == 0:
        why = "this build of PyTorch is for the CPU alone"
        what = "Install PyTorch with CUDA (https://pytorch.org/get-started/locally)"
        if torch.version.cuda is not None:
            why = f"PyTorch, built for CUDA {torch.version.cuda}, finds none"
            what = "Install a driver for it (nvidia-smi must list the GPU)"
        raise InputError(
            f"The device cuda needs an NVIDIA GPU, but {why}. {what}, or use the device cpu."
        )
    if number >= gpus:
        raise InputError(
            f"The device must be one of {gpus} GPUs, cuda:0 to cuda:{gpus - 1}, but is "
            f"cuda:{number}. Choose one of these."
        )


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises
    ------
    InputError
        It is not in `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"precision must be one of {', '.join(PRECISIONS)}, but is {precision}. "
            "Use f32 unless speed matters more than digits."
        )


@contextlib.contextmanager
def arithmetic(torch: Any, *, exact: bool, threads: int | None) -> Iterator[None]:
    """No gradients; true float32 on GPUs that would round to 10 bits, if `exact`; CPU threads.

    PyTorch keeps these settings per process: one thread at a time has them, all networks
    together, and they are put back afterwards.
    """
    with _PROCESS, contextlib.ExitStack() as afterwards:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        afterwards.callback(setattr, matmul, "allow_tf32", matmul.allow_tf32)
        if threads is not None:
            afterwards.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        matmul.allow_tf32 = not exact
        afterwards.enter_context(
            cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=not exact)
        )
        afterwards.enter_context(torch.inference_mode())
        yield


class Recorded:
    """A function of images, recorded as a CUDA graph per number of images; else called.

    A recorded function costs one call from Python however many kernels it starts. Memory is kept
    for the last few numbers of images. One recording is made at a time, under the lock of
    `arithmetic`; what other threads do on the GPU meanwhile does not spoil it.

    Parameters
    ----------
    torch : module
    function : tensor (N, ...) to tuple of tensors
        Must not look at values on the host.
    device : torch.device
    """

    def __init__(self, torch: Any, function: Callable[[Any], tuple[Any, ...]], device: Any) -> None:
        self._torch, self._function, self._device = torch, function, device
        self._recorded: dict[int, tuple[Any, Any, tuple[Any, ...]]] = {}

    def __call__(self, images: Any) -> tuple[Any, ...]:
        """Call it.

        Parameters
        ----------
        images : float32 tensor (N, ...), N >= 1, on any device

        Returns
        -------
        tuple of tensors on the device
            The caller's own: a later call does not change them.
        """
        if self._device.type != "cuda":
            return self._function(images.to(self._device))
        count = len(images)
        found = self._recorded.pop(count, None) or self._record(images)
        self._recorded[count] = found  # the last used comes last
        while len(self._recorded) > _MOST_RECORDED:
            self._recorded.pop(next(iter(self._recorded)))
        graph, static, outputs = found
        static.copy_(images)
        graph.replay()
        return tuple(output.clone() for output in outputs)

    def _record(self, images: Any) -> tuple[Any, Any, tuple[Any, ...]]:
        with _PROCESS:
            return self._recording(images)

    def _recording(self, images: Any) -> tuple[Any, Any, tuple[Any, ...]]:
        cuda = self._torch.cuda
        static = images.to(self._device, copy=True)
        stream = cuda.Stream(self._device)
        stream.wait_stream(cuda.current_stream(self._device))
        with cuda.stream(stream):  # libraries choose their kernels outside of the recording
            for _ in range(_WARM_UPS):
                self._function(static)
        cuda.current_stream(self._device).wait_stream(stream)
        graph = cuda.CUDAGraph()
        alone = cuda.graph(graph, capture_error_mode="thread_local")
        with cuda.device(self._device), alone:
            outputs = self._function(static)
        return graph, static, outputs
