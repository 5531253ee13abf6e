"""Time, peak memory and file size of the whole `blemish fit` command, and how they grow.

Each row is the median of several runs of the command in a process of its own (start, imports,
network, calibration and writing included); memory is the largest resident set of that process.
Twice as many images are the same files under new names.

    python benchmarks/fit_cost.py ../shared/data/mvtec/bottle \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from blemish.datasets import read_dataset


def run(command: list[str]) -> tuple[float, float]:
    """Run a command; return seconds and peak MB of its process."""
    start = time.perf_counter()
    child = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed with status {os.waitstatus_to_exitcode(status)}.")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def folder_of(images: list[Path], copies: int, place: Path) -> Path:
    """Folder with links to all images, each `copies` times."""
    folder = place / f"{len(images) * copies}"
    folder.mkdir()
    for copy in range(copies):
        for image in images:
            (folder / f"{copy}-{image.name}").symlink_to(image.resolve())
    return folder


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("category", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    images = [sample.image for sample in read_dataset(options.category, split="train")]
    settings = {
        "resnet18, 100 dims, paper": [
            *("--backbone", "resnet18", "--weights", str(options.weights)),
            *("--preset", "paper", "--dims", "100"),
        ],
        "builtin, default": [],
    }
    print("| settings | images | seconds | peak MB | file MB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for copies in (1, 2):
            folder = folder_of(images, copies, place)
            for label, flags in settings.items():
                out = place / "model.blemish"
                command = [sys.executable, "-m", "blemish", "fit", str(folder), "--quiet"]
                command += ["--out", str(out), *flags]
                runs = [run(command) for _ in range(options.runs)]
                seconds, memory = (statistics.median(r[k] for r in runs) for k in (0, 1))
                size = out.stat().st_size / 1e6
                print(
                    f"| {label} | {len(images) * copies} | {seconds:.1f} | {memory:.0f} "
                    f"| {size:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
