"""Do thresholds hold that were put together without the images?

The good training images of a product are split at random into halves A and B. Two models are
fitted and merged without images. The false-alarm rate that the combined threshold really has is
that of the merged model's exact leave-one-out scores (those after `blemish calibrate` with all
images), and should lie in the interval that the threshold states.

    python benchmarks/combined_calibration.py ../shared/data/mvtec/bottle --weights FILE
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

from blemish.datasets import read_dataset
from blemish.errors import BlemishWarning
from blemish.fitting import fit
from blemish.lifecycle.steps import forget, merge, update
from blemish.model import Model
from blemish.settings import FitSettings


def main() -> int:
    """Print a table; 1 if a rate lies outside its interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--weights", type=Path, help="ResNet-18; default: builtin")
    parser.add_argument("--preset", default="full")
    parser.add_argument("--score", default="gaussian")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", BlemishWarning)
    settings = FitSettings(
        backbone="resnet18" if options.weights else "builtin",
        preset=options.preset,
        score=options.score,
        false_alarm_rate=options.rate,
    )
    images = [sample.image for sample in read_dataset(options.dataset, split="train")]
    good = [s.image for s in read_dataset(options.dataset, split="test") if not s.is_anomalous]

    def fitted(some: list[Path]) -> Model:
        return fit(some, settings, weights=options.weights)

    whole = fitted(images)
    print("| seed | step | combined | exact | realised | interval | inside | test good |")
    print("|---|---|---|---|---|---|---|---|")
    outside = 0
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(images))
        first, second = ([images[k] for k in some] for some in np.array_split(order, 2))
        few = second[:20]
        a = fitted(first)
        for step, found, exact in (
            ("merge", merge([a, fitted(second)]), whole),
            ("update", update(a, few), fitted(first + few)),
            ("forget", forget(whole, few), fitted([i for i in images if i not in few])),
        ):
            outside += not _row(seed, step, found.model, exact, good)
    return 1 if outside else 0


def _row(seed: int, step: str, model: Model, exact: Model, good: list[Path]) -> bool:
    """Print a row; whether the realised rate lies in the interval."""
    threshold = model.threshold()
    realised = float((exact.calibration.scores >= threshold.value).mean())
    low, high = threshold.interval
    inside = low <= realised <= high
    alarms = sum(model.score(image).image_score >= threshold.value for image in good)
    print(
        f"| {seed} | {step} | {threshold.value:.4f} | {exact.threshold().value:.4f} | "
        f"{realised:.2%} | {low:.2%} to {high:.2%} | {'yes' if inside else 'NO'} | "
        f"{alarms} of {len(good)} |",
        flush=True,
    )
    return inside


if __name__ == "__main__":
    sys.exit(main())
