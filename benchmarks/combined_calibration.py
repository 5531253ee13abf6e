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
from blemish.lifecycle import forget, merge, update
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
        keep_features=False,
    )
    images = [sample.image for sample in read_dataset(options.dataset, split="train")]
    good = [s.image for s in read_dataset(options.dataset, split="test") if not s.is_anomalous]
    whole = fit(images, settings, weights=options.weights)
    exact = whole.calibration.scores
    print("| seed | step | combined | exact | realised | interval | inside | test good |")
    print("|---|---|---|---|---|---|---|---|")
    outside = 0
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(images))
        half = len(images) // 2
        first, second = ([images[k] for k in part] for part in (order[:half], order[half:]))
        a, b = (fit(part, settings, weights=options.weights) for part in (first, second))
        for step, change in (
            ("merge", merge([a, b])),
            ("update", update(a, second[:20])),
            ("forget", forget(whole, first[:20])),
        ):
            model = change.model
            threshold = model.threshold()
            scores = exact
            if step != "merge":
                kept = set(first + second[:20]) if step == "update" else set(images) - set(first[:20])
                scores = fit(
                    [i for i in images if i in kept], settings, weights=options.weights
                ).calibration.scores
            realised = float((scores >= threshold.value).mean())
            low, high = threshold.interval
            inside = low <= realised <= high
            outside += not inside
            alarms = sum(model.score(image).image_score >= threshold.value for image in good)
            exact_value = type(model.calibration)(scores, model.calibration.pixel_quantiles)
            print(
                f"| {seed} | {step} | {threshold.value:.4f} | "
                f"{exact_value.threshold(options.rate).value:.4f} | {realised:.2%} | "
                f"{low:.2%} to {high:.2%} | {'yes' if inside else 'NO'} | {alarms} of {len(good)} |",
                flush=True,
            )
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
