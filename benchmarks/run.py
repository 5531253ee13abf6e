"""Measure everything, or some parts, and write the report.

    python -m benchmarks.run
    python -m benchmarks.run --only stages,streams --data ../shared/data

Run it from the root of the repository, on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import (
    against_torch,
    fit_cost,
    preset_times,
    roofline,
    sizes,
    stages,
    start_time,
    streams,
)
from benchmarks.materials import BUILTIN, R18, Materials, gather
from benchmarks.measure import machine, today, versions
from benchmarks.tables import Table, replace_sections, section

from blemish.backbones.weights import CACHE_VARIABLE
from blemish.cores import one_blas_thread

Measure = Callable[[Materials, Callable[[str], None]], list[Table]]

PARTS: dict[str, tuple[str, Measure]] = {
    "stages": (stages.TITLE, stages.tables),
    "presets": (preset_times.TITLE, preset_times.tables),
    "streams": (streams.TITLE, streams.tables),
    "torch": (against_torch.TITLE, against_torch.tables),
    "fit_r18": (f"Fit of {R18}", partial(fit_cost.tables, R18)),
    "fit_builtin": (f"Fit of {BUILTIN}", partial(fit_cost.tables, BUILTIN)),
    "start": (start_time.TITLE, start_time.tables),
    "sizes": (sizes.TITLE, sizes.tables),
    "roofline": (roofline.TITLE, roofline.tables),
}
DATA = Path("../shared/data")
WEIGHTS = Path("../shared/weights/resnet18.tv_in1k.layers1-3.safetensors")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line; wrong ones end the program with status 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds mvtec/bottle")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="ResNet-18, .safetensors")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results.md"))
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := [part for part in options.only if part not in PARTS]:
        parser.error(f"--only must be of {', '.join(PARTS)}, but has {', '.join(unknown)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(arguments)
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - begin:6.1f} s  {text}", file=sys.stderr, flush=True)

    with gather(options.data, options.weights) as materials, one_blas_thread():
        os.environ[CACHE_VARIABLE] = str(materials.place / "cache")
        for part in options.only:
            title, tables = PARTS[part]
            measured = f"{today()}. {machine()}. {versions()}. {materials.description}"
            text = section(title, tables(materials, say), measured=measured)
            report = options.out.read_text() if options.out.exists() else ""
            options.out.write_text(replace_sections(report, {part: text}, list(PARTS)))
            say(f"{part} is in {options.out}")


if __name__ == "__main__":
    main()
