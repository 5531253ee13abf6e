"""Peak memory and time of all pixel metrics over many large anomaly maps.

    python benchmarks/metrics_memory.py [--images 100] [--size 1024]

Maps are made one by one; every second image has defects. Bar: 100 maps of 1024 x 1024 within
1 GB for the whole process. Runs where `resource` exists (Linux, macOS).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from blemish.arrays import BoolArray, Float32Array
from blemish.pixel_metrics import PixelScores


def peak_megabytes() -> float:
    """Peak resident memory of this process, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def make_image(seed: int, size: int) -> tuple[Float32Array, BoolArray | None]:
    """Noise, and for odd seeds three discs (one small) where it is brighter by 2 deviations."""
    rng = np.random.default_rng(seed)
    anomaly_map = rng.standard_normal((size, size), dtype=np.float32)
    if seed % 2 == 0:
        return anomaly_map, None
    rows, columns = np.ogrid[:size, :size]
    mask = np.zeros((size, size), dtype=np.bool_)
    for radius in (0.01, 0.05, 0.12):
        y, x = rng.integers(0, size, 2)
        mask |= (rows - y) ** 2 + (columns - x) ** 2 <= (radius * size) ** 2
    anomaly_map[mask] += 2
    return anomaly_map, mask


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=1024)
    options = parser.parse_args()
    print(f"{'after import':20} {peak_megabytes():7.0f} MB")

    pixels, adding = PixelScores(), 0.0
    for seed in range(options.images):
        image = make_image(seed, options.size)
        begin = time.perf_counter()
        pixels.add(*image)
        adding += time.perf_counter() - begin
    print(f"{'add':20} {peak_megabytes():7.0f} MB {adding:6.2f} s  {pixels.regions} regions")

    questions: dict[str, Callable[[], object]] = {
        "sort, AUROC": pixels.auroc,
        "AP": pixels.average_precision,
        "F1-max, threshold": pixels.f1_max,
        "PRO at 0.3": pixels.pro,
        "AUPIMO": lambda: (pixels.aupimo().mean, pixels.aupimo().levels),
        "ROC curve, points": lambda: len(pixels.roc_curve().x),
        "PRO curve, points": lambda: len(pixels.pro_curve().x),
    }
    for name, ask in questions.items():
        begin = time.perf_counter()
        answer = ask()
        seconds = time.perf_counter() - begin
        print(f"{name:20} {peak_megabytes():7.0f} MB {seconds:6.2f} s  {answer}")


if __name__ == "__main__":
    main()
