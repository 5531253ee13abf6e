"""How fast does a model run, and how fast is one fitted, with PyTorch on a GPU?

PaDiM with ResNet-18 and 100 dimensions, batches of tensors that already lie on the device:
images per second of the whole model and of its network alone, the fraction that leaves for the
scores, and peak memory; then of a fit: features, moments in NumPy, both. Speed does not depend on
the values of the weights, so without `--weights` they are random. Prints a Markdown table.

    python benchmarks/gpu.py --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
    python benchmarks/gpu.py --device cpu --precision f32 --batch 2 --seconds 1
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from blemish.arrays import Float32Array
from blemish.backbones import Backbone, load_backbone
from blemish.backbones.timm import convert_timm
from blemish.backbones.torch_import import import_torch
from blemish.engines.torch import TorchFeatureExtractor, TorchNetwork
from blemish.engines.torch_device import Recorded, choose_device
from blemish.fitting import fit
from blemish.model import Model
from blemish.moments import Moments
from blemish.settings import FitSettings
from blemish.torch_runner import TorchRunner

BAR = 0.85
"""Of the speed of the network alone, what the whole model must reach."""
DIMS = 100
FITTED = 2 * DIMS


def rate(function: Callable[[], object], images: int, seconds: float, wait: object) -> float:
    """Images per second: the best of three runs of at least so many seconds each."""
    assert callable(wait)
    for _ in range(3):
        function()
    best = 0.0
    for _ in range(3):
        wait()
        calls, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            function()
            calls += 1
            if calls % 8 == 0:
                wait()
        wait()
        passed = time.perf_counter() - start
        best = max(best, calls * images / passed)
    return best


def fitted_model(backbone: Backbone, size: int) -> Model:
    """A model of noise: what it scores does not matter here, only how long that takes."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(FITTED)]
    return fit(images, FitSettings(size=(size, size), dims=DIMS), backbone=backbone)


def scoring_rows(
    model: Model, batch: Any, options: argparse.Namespace, wait: Callable[[], None]
) -> list[tuple[str, str]]:
    """Whole model, network alone, and what lies between them."""
    how = {"precision": options.precision, "device": options.device}
    runner = TorchRunner(model.fitted, model._judge, **how)
    network = TorchNetwork(model.backbone, model.size, **how)
    # What a recording returns is copied; a corner of each map costs nothing to copy.
    alone = Recorded(
        network.torch, lambda images: tuple(m[:1, :1] for m in network(images)), network.device
    )

    def run_alone() -> None:
        with network.arithmetic():
            alone(batch)

    backbone_rate = rate(run_alone, len(batch), options.seconds, wait)
    cuda = network.device.type == "cuda"
    if cuda:
        network.torch.cuda.reset_peak_memory_stats()
    whole = rate(lambda: runner(batch), len(batch), options.seconds, wait)
    memory = f"{network.torch.cuda.max_memory_allocated() / 1e6:.0f} MB" if cuda else "not measured"
    share = whole / backbone_rate
    verdict = "reached" if share >= BAR else "missed"
    return [
        ("whole model, images/s", f"{whole:.0f}"),
        ("network alone, images/s", f"{backbone_rate:.0f}"),
        ("whole model / network", f"{share:.1%} (bar {BAR:.0%}: {verdict})"),
        ("peak memory of both", memory),
    ]


def fit_rows(
    model: Model, inputs: Float32Array, options: argparse.Namespace, wait: Callable[[], None]
) -> list[tuple[str, str]]:
    """What a fit does per image once images are decoded: features, then moments."""
    extractor = TorchFeatureExtractor(
        model.backbone, model.size, precision=options.precision, device=options.device
    )
    levels = model.embedding(extractor(inputs))
    moments = Moments(model.pyramid)

    def both() -> None:
        moments.update(model.embedding(extractor(inputs)))

    measured = {
        "fit: features to NumPy, images/s": lambda: extractor(inputs),
        "fit: moments in NumPy, images/s": lambda: moments.update(levels),
        "fit: both, images/s": both,
    }
    return [
        (name, f"{rate(function, len(inputs), options.seconds, wait):.0f}")
        for name, function in measured.items()
    ]


def machine(torch: Any, device: Any) -> str:
    """Card or processor, and versions."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return (
        f"{card}; torch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"Python {platform.python_version()}, blemish {blemish.__version__}"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="Of ResNet-18; random ones otherwise.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16", choices=["f32", "bf16", "f16"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=3.0, help="Of every run.")
    options = parser.parse_args()
    torch = import_torch()
    device = choose_device(torch, options.device)
    backbone = (
        load_backbone("resnet18", weights=options.weights)
        if options.weights
        else convert_timm("resnet18", random_weights=True)
    )
    model = fitted_model(backbone, options.size)
    shape = (options.batch, 3, options.size, options.size)
    inputs = np.random.default_rng(1).random(shape, dtype=np.float32)
    batch = torch.from_numpy(inputs).to(device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    rows = scoring_rows(model, batch, options, wait) + fit_rows(model, inputs, options, wait)
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    print(f"{today}; {machine(torch, device)}\n")
    setting = f"ResNet-18, {DIMS} dims, {options.size}x{options.size}, {options.precision}"
    print(f"| {setting}, batch {options.batch}, {device} | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
