"""What does the Rd-MVTec protocol cost, and what does alignment bring back?

Aligned (preset paper), under the protocol, and under the protocol with `--align rigid`: mean and
standard deviation over the seeds, and whether alignment recovers at least half of the pixel AUROC
that the protocol costs. Exit status 1 if not.

    python benchmarks/rd_mvtec.py ../shared/data/mvtec --category bottle --dims 100 \
        --backbone resnet18 --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors

`--choices` also measures what the paper leaves open, one parameter at a time. `--cross-check`
measures version 0 a second time, from image files that Pillow alone has turned and cut out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.benchmark import run_benchmark
from blemish.benchmark_summary import Spread
from blemish.datasets import RdMvtec, Sample, load_mask, read_dataset
from blemish.datasets.motion import Motion
from blemish.run_log import RunLog
from blemish.settings import FitSettings

SHOWN = ("image_auroc", "pixel_auroc", "pro")
RECOVERED = 0.5
HEADER = "| | image AUROC | pixel AUROC | PRO | defects outside | not scored |"
CHOICES = {
    "border reflect": RdMvtec(border="reflect"),
    "border black": RdMvtec(border="black"),
    "rotate-first": RdMvtec(order="rotate-first"),
    "rotation bicubic": RdMvtec(rotation="bicubic"),
    "rotation nearest": RdMvtec(rotation="nearest"),
    "channel seed 0 in all versions": RdMvtec(channel_seed=0),
    "rotation only": RdMvtec(random_crop=False),
    "crop only": RdMvtec(max_rotation=0),
}


class Bench:
    """Runs of one category and backbone, printed row by row."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._log = None if options.log is None else RunLog(options.log)
        self.settings = FitSettings(
            backbone=options.backbone, preset=options.preset, dims=options.dims
        )

    def row(
        self, name: str, settings: FitSettings, protocol: RdMvtec | None = None
    ) -> dict[str, Spread]:
        """Measure with all seeds and print."""
        found = run_benchmark(
            self._options.root,
            settings,
            only=[self._options.category],
            seeds=self._options.seeds,
            protocol=protocol,
            weights=self._options.weights,
            log=self._log,
        )
        if found.failed:
            raise SystemExit(f"{found.failed[0].category}: {found.failed[0].reason}")
        spreads = {
            metric: Spread.of([float(run.metrics[metric] or 0) for run in found.runs])
            for metric in SHOWN
        }
        blank = sum(run.counts.get("blank_masks", 0) for run in found.runs)
        shown = sum(run.counts["anomalous_images"] for run in found.runs)
        lost = sum(run.counts["unreadable"] for run in found.runs)
        cells = [f"{s.mean:.4f} +- {s.std or 0:.4f}" for s in spreads.values()]
        print(f"| {name} | {' | '.join(cells)} | {blank} of {shown} | {lost} |", flush=True)
        return spreads


def cross_check(bench: Bench, root: Path, category: str, weights: Path | None) -> None:
    """Version 0 by the package, and from files that Pillow made."""
    protocol = RdMvtec()
    moved = run_benchmark(
        root, bench.settings, only=[category], seeds=(0,), protocol=protocol, weights=weights
    )
    with tempfile.TemporaryDirectory() as place:
        for split in ("train", "test"):
            samples = read_dataset(root, split=split, category=category)
            version = protocol.version(samples, category=category, split=split, seed=0)
            write_moved(version, Path(place) / category, split)
        settings = replace(bench.settings, preset="full", size=(protocol.crop,) * 2)
        written = run_benchmark(Path(place), settings, only=[category], seeds=(0,), weights=weights)
    for name, found in (("version 0, on the fly", moved), ("version 0, by Pillow", written)):
        metrics = found.runs[0].metrics
        cells = " | ".join(f"{metrics[metric]:.4f}" for metric in SHOWN)
        counts = found.runs[0].counts
        print(f"| {name} | {cells} | {counts['blank_masks']} | {counts['unreadable']} |")


def write_moved(samples: Iterable[Sample], folder: Path, split: str) -> None:
    """Write one split of a version in MVTec's layout."""
    for sample in samples:
        if sample.motion is None:
            raise ValueError(sample)
        image = Image.open(sample.image).convert("RGB")
        target = folder / split / sample.defect / f"{sample.image.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        moved_by_pillow(image, sample.motion, Image.Resampling.BICUBIC).save(target)
        mask = load_mask(sample)
        if mask is not None:
            target = folder / "ground_truth" / sample.defect / f"{sample.image.stem}_mask.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            truth = Image.fromarray(mask.astype(np.uint8) * 255)
            moved_by_pillow(truth, sample.motion, Image.Resampling.NEAREST).save(target)


def moved_by_pillow(image: Image.Image, motion: Motion, resize: Image.Resampling) -> Image.Image:
    """Resize, continue the border, turn and cut out with nothing of the package."""
    short = min(image.size)
    sides = [int(motion.size * side / short) for side in image.size]
    small = np.asarray(image.resize((sides[0], sides[1]), resize))
    margin = motion.size
    rest = [(0, 0)] * (small.ndim - 2)
    padded = Image.fromarray(np.pad(small, [(margin, margin), (margin, margin), *rest], "edge"))
    is_mask = resize is Image.Resampling.NEAREST
    turned = padded.rotate(
        motion.angle, Image.Resampling.NEAREST if is_mask else Image.Resampling.BILINEAR
    )
    left = margin + round((sides[0] - motion.crop) / 2) + motion.right
    top = margin + round((sides[1] - motion.crop) / 2) + motion.down
    return turned.crop((left, top, left + motion.crop, top + motion.crop))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--category", required=True)
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--dims", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--log", type=Path, help="keep runs here")
    parser.add_argument("--choices", action="store_true")
    parser.add_argument("--cross-check", action="store_true")
    options = parser.parse_args()
    bench = Bench(options)
    print(f"{HEADER}\n|{'---|' * (HEADER.count('|') - 1)}", flush=True)
    aligned = bench.row("aligned", bench.settings)
    moved = bench.row("rd-mvtec", bench.settings, RdMvtec())
    if options.choices:
        for name, protocol in CHOICES.items():
            bench.row(name, bench.settings, protocol)
    if options.cross_check:
        cross_check(bench, options.root, options.category, options.weights)
    rigid = replace(bench.settings, align="rigid")
    brought_back = bench.row("rd-mvtec, align rigid", rigid, RdMvtec())
    cost, after = (
        aligned["pixel_auroc"].mean - found["pixel_auroc"].mean for found in (moved, brought_back)
    )
    recovered = (cost - after) / cost
    holds = recovered >= RECOVERED
    print(
        f"\nThe protocol costs {cost:.4f} pixel AUROC; alignment recovers {recovered:.0%} of it "
        f"(bar: {RECOVERED:.0%}): {'holds' if holds else 'DOES NOT HOLD'}"
    )
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
