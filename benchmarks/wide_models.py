"""What wide models take: time, memory and size of WR50-Rd550 and of ResNet-18 with all channels.

The fit is the whole `blemish fit` command in a process of its own; memory is the largest resident
set of that process. Scoring is one image in memory to its score and map, in turns with the
backbone alone, medians, in one process per model. Weights change no cost: without `--weights`,
random ones are made. Nothing else should run on the machine: the last column shows how far the
backbone's times were apart.

    python benchmarks/wide_models.py ../shared/data/mvtec/bottle
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array
from blemish.datasets import read_dataset
from blemish.engines.openvino import FeatureExtractor
from blemish.model import Model, load_model
from blemish.plan import plan_fit

# Blocks per layer, width of the inner convolutions, and channels that a block puts out.
NETWORKS = {
    "wide_resnet50_2": ((3, 4, 6), 128, 4),
    "resnet18": ((2, 2, 2), 64, 1),
}


@dataclass(frozen=True, slots=True)
class WideModel:
    """One row of the table: a backbone, how many channels are kept, and images to fit."""

    label: str
    backbone: str
    flags: tuple[str, ...]
    images: int


MODELS = (
    WideModel("WR50-Rd550", "wide_resnet50_2", ("--dims", "550"), 60),
    WideModel("R18, all 448", "resnet18", ("--reduction", "none"), 209),
)


# Random weights ----------------------------------------------------------------------------------


def convolutions(name: str) -> list[tuple[str, str, int, int, int]]:
    """Up to layer 3: name, batch norm, channels out, channels in, kernel."""
    blocks, width, expansion = NETWORKS[name]
    found = [("conv1", "bn1", 64, 3, 7)]
    before = 64
    for layer, count in enumerate(blocks, start=1):
        inner, after = width * 2 ** (layer - 1), 64 * 2 ** (layer - 1) * expansion
        for block in range(count):
            at = f"layer{layer}.{block}"
            if expansion > 1:
                shapes = [(inner, before, 1), (inner, inner, 3), (after, inner, 1)]
            else:
                shapes = [(after, before, 3), (after, after, 3)]
            for k, shape in enumerate(shapes, start=1):
                found.append((f"{at}.conv{k}", f"{at}.bn{k}", *shape))
            if block == 0 and (before != after or layer > 1):
                found.append((f"{at}.downsample.0", f"{at}.downsample.1", after, before, 1))
            before = after
    return found


def write_random_weights(name: str, path: Path) -> None:
    """State dict of a ResNet that keeps values near 1."""
    from safetensors.numpy import save_file  # noqa: PLC0415 - slow to import

    generator = np.random.default_rng(0)
    weights: dict[str, Float32Array] = {}
    for conv, norm, out, into, kernel in convolutions(name):
        weight = generator.standard_normal((out, into, kernel, kernel), dtype=np.float32)
        weights[f"{conv}.weight"] = weight / np.float32(np.sqrt(into * kernel**2))
        weights[f"{norm}.weight"] = generator.uniform(0.4, 1.0, out).astype(np.float32)
        weights[f"{norm}.bias"] = generator.normal(0, 0.3, out).astype(np.float32)
        weights[f"{norm}.running_mean"] = generator.normal(0, 0.3, out).astype(np.float32)
        weights[f"{norm}.running_var"] = generator.uniform(0.3, 2.0, out).astype(np.float32)
    save_file(weights, path)


# Measurements ------------------------------------------------------------------------------------


def fitted(images: Path, model: WideModel, weights: Path, out: Path) -> tuple[float, float]:
    """Run the command; return seconds and peak MB of its process."""
    command = [sys.executable, "-m", "blemish", "fit", str(images), "--quiet", "--out", str(out)]
    command += ["--backbone", model.backbone, "--weights", str(weights), "--preset", "paper"]
    start = time.perf_counter()
    child = os.spawnv(os.P_NOWAIT, command[0], [*command, *model.flags])
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"blemish fit failed with status {os.waitstatus_to_exitcode(status)}.")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def scoring_times(model: Model, runs: int) -> dict[str, list[float]]:
    """Milliseconds of scoring an image, and of the backbone alone, in turns."""
    inputs = np.random.default_rng(0).random((1, 3, *model.size), dtype=np.float32)
    extractor = FeatureExtractor(model.backbone, model.size)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("backbone", lambda: extractor(inputs)),
        ("scoring", lambda: model.score_inputs(inputs)),
    ]
    times: dict[str, list[float]] = {name: [] for name, _ in steps}
    for _ in range(runs + 1):
        for name, step in steps:
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: found[1:] for name, found in times.items()}  # the first makes things ready


def half_megabytes(model: Model) -> float:
    """Size of an export in 16 bit: network, means and whitening without its zeros."""
    numbers = len(model.backbone.onnx) / 4  # its weights are float32
    for scatter in model.parts[0].moments.scatters:
        cells, own, visible = scatter.shape
        numbers += cells * (own + own * (visible - own) + own * (own + 1) / 2)
    return 2 * numbers / 1e6


def row_of(model: WideModel, images: Path, weights: Path, place: Path, runs: int) -> str:
    """Measure one model; return its row."""
    out = place / "model.blemish"
    seconds, peak = fitted(images, model, weights, out)
    loaded = load_model(out)
    plan = plan_fit([loaded.pyramid], loaded.count, backbone=loaded.backbone)
    times = scoring_times(loaded, runs)
    scoring, backbone = (statistics.median(times[name]) for name in ("scoring", "backbone"))
    spread = max(times["backbone"]) / min(times["backbone"])
    return (
        f"| {model.label} | {loaded.count} | {seconds:.0f} | {peak:.0f} "
        f"| {plan.memory_bytes / 1e6:.0f} | {scoring:.1f} | {backbone:.1f} "
        f"| {scoring / backbone:.2f} | {out.stat().st_size / 1e6:.0f} "
        f"| {half_megabytes(loaded):.0f} | {spread:.1f} |"
    )


def folder_of(root: Path, count: int, place: Path) -> Path:
    """Folder with links to the first good training images."""
    place.mkdir()
    for sample in read_dataset(root, split="train")[:count]:
        (place / sample.image.name).symlink_to(sample.image.resolve())
    return place


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("category", type=Path)
    parser.add_argument("--weights", type=Path, help="Of wide_resnet50_2.")
    parser.add_argument("--resnet18-weights", type=Path)
    parser.add_argument("--runs", type=int, default=40, help="Of the scoring.")
    parser.add_argument("--only", choices=sorted(NETWORKS))
    options = parser.parse_args()
    given = {"wide_resnet50_2": options.weights, "resnet18": options.resnet18_weights}
    print(
        "| model | images | fit s | peak MB | planned MB | scoring ms | backbone ms | ratio "
        "| file MB | 16-bit export MB | backbone max / min |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for model in MODELS:
        if options.only not in (None, model.backbone):
            continue
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            weights = given[model.backbone]
            if weights is None:
                weights = place / "random.safetensors"
                write_random_weights(model.backbone, weights)
            images = folder_of(options.category, model.images, place / "images")
            print(row_of(model, images, weights, place, options.runs), flush=True)


if __name__ == "__main__":
    main()
