"""Time, peak memory and file size of the whole `blemish fit` command, and how they grow.

Each fit is a process of its own (start, imports, network, calibration and writing included);
memory is the largest resident set of that process. More images than there are are the same files
under new names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.materials import BUILTIN, FLAGS, Materials
from benchmarks.measure import run_process
from benchmarks.tables import Table

_COUNTS, _SIDES = (50, 100, 209, 418), (224, 256, 320)
_RUNS = 2


def tables(name: str, materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure one model against the number and the size of images."""
    usual = 256 if name == BUILTIN else 224
    asked = [(count, usual) for count in _COUNTS]
    asked += [(_COUNTS[1], side) for side in _SIDES if side != usual]
    rows = []
    for count, side in asked:
        say(f"fit, {name}, {count} images, {side}x{side}")
        seconds, memory, size = one_fit(materials, name, count, side)
        cells = [str(count), f"{side}x{side}", f"{seconds:.1f}", f"{memory:.0f}"]
        rows.append([*cells, f"{size / 1e6:.1f}"])
    header = ["images", "size", "seconds", "peak MB", "file MB"]
    notes = [
        f"`blemish fit`, a process of its own, shorter of {_RUNS} runs; images of 256x256 pixels, "
        "resized to the size."
    ]
    return [Table("", header, rows, notes)]


def one_fit(materials: Materials, name: str, count: int, side: int) -> tuple[float, float, int]:
    """Seconds, peak MB and bytes of the file."""
    folder, out = folder_of(materials, count), materials.place / "fit.blemish"
    command = [sys.executable, "-m", "blemish", "fit", str(folder), "--quiet", "--out", str(out)]
    command += [*FLAGS[name], "--size", f"{side}x{side}"]
    if (weights := materials.weights_of(name)) is not None:
        command += ["--weights", str(weights)]
    runs = [run_process(command) for _ in range(_RUNS)]
    return min(run[0] for run in runs), max(run[1] for run in runs), out.stat().st_size


def folder_of(materials: Materials, count: int) -> Path:
    """Folder with so many links to images."""
    folder = materials.place / f"fit-{count}"
    if not folder.exists():
        folder.mkdir()
        for index in range(count):
            image = materials.train[index % len(materials.train)]
            (folder / f"{index:04}{image.suffix}").symlink_to(image.resolve())
    return folder
