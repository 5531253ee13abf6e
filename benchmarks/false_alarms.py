"""Does the threshold keep its promise? Realised false-alarm rate on held-out good images.

Cross-validation over the good training images: fit on all folds but one, judge the images of that
fold by the threshold of the fit. Prints the realised rate over all folds beside the interval that
the thresholds state, and beside what so few held-out images would show by chance.

    python benchmarks/false_alarms.py ../shared/data/mvtec/bottle ../shared/data/mvtec/screw \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import blemish
from blemish.datasets import read_dataset
from blemish.inspection import inspect_images
from blemish.threshold import rate_interval


def realised(root: Path, settings: blemish.FitSettings, weights: Path | None, folds: int) -> bool:
    """Cross-validate one category, print a row, and return whether the promise was kept."""
    images = [sample.image for sample in read_dataset(root, split="train")]
    order = np.random.default_rng(0).permutation(len(images))
    alarms, intervals = 0, []
    for fold in range(folds):
        held_out = set(order[fold::folds].tolist())
        fitted = [image for k, image in enumerate(images) if k not in held_out]
        model = blemish.fit(fitted, settings, weights=weights)
        intervals.append(model.threshold().interval)
        judged = inspect_images(model, [images[k] for k in sorted(held_out)])
        alarms += sum(one.decision is not None and one.decision.is_anomalous for one in judged)
    low, high = np.mean(intervals, axis=0)
    rate = alarms / len(images)
    chance = rate_interval(alarms, len(images))
    print(
        f"| {root.name} | {len(images)} | {settings.false_alarm_rate:.1%} | {alarms} | {rate:.2%} "
        f"| {low:.2%} to {high:.2%} | {'yes' if low <= rate <= high else 'NO'} "
        f"| {chance[0]:.2%} to {chance[1]:.2%} |",
        flush=True,
    )
    return bool(low <= rate <= high)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("categories", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05])
    options = parser.parse_args()
    print(
        "| category | good images | asked | alarms | realised | stated 95 % interval | inside "
        "| 95 % interval of the realised rate |"
    )
    print("|---|---|---|---|---|---|---|---|")
    dims = 100 if options.backbone != "builtin" else None
    kept = True
    for rate in options.rates:
        settings = blemish.FitSettings(
            backbone=options.backbone, preset="paper", dims=dims, false_alarm_rate=rate
        )
        for category in options.categories:
            kept &= realised(category, settings, options.weights, options.folds)
    sys.exit(not kept)


if __name__ == "__main__":
    main()
