"""Images per second from a folder of large PNG, beside what decoding them alone reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.bare import precisions
from benchmarks.materials import MODELS, Materials
from benchmarks.measure import Timings, alternate
from benchmarks.tables import Table, milliseconds, verdict

from blemish.arrays import Float32Array
from blemish.cores import cores
from blemish.images import read_image
from blemish.inspection import inspect_images
from blemish.loading import in_order, load_input
from blemish.model import Model

TITLE = "Images per second from a folder of PNG of 900x900"
LEAST_SHARE = 0.9
_IMAGES, _TURNS = 32, 3
_ONE, _ALL = "decoding alone, 1 thread", "decoding alone, all cores"

Calls = dict[str, Callable[[], object]]


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure."""
    repeats = -(-_IMAGES // len(materials.large))
    paths = (materials.large * repeats)[:_IMAGES]
    found = []
    for name in MODELS:
        for precision in precisions():
            say(f"folder, {name}, {precision}")
            found.append(_table(materials, paths, name, precision))
    return found


def _table(materials: Materials, paths: list[Path], name: str, precision: str) -> Table:
    models = [materials.model(name, precision, streams) for streams in sorted({1, cores()})]
    for model in models:
        model.score(paths[0])  # compiled before the clock starts
    calls = _calls(models, paths)
    timings = alternate(calls, turns=_TURNS, block=1, warm=0)
    rows = [_row(stage, timings) for stage in calls]
    return Table(
        f"{name}, {precision}, {cores()} cores",
        [
            *("what", "images per second", "core-ms per image"),
            *("share of decoding, 1 thread", "share of decoding, all cores"),
            f"bar: >= {LEAST_SHARE:.0%} of 1 thread, of all",
        ],
        rows,
        [_arithmetic(timings)],
    )


def _calls(models: list[Model], paths: list[Path]) -> Calls:
    """Passes over all images; the name says what, the last models have all streams."""
    last = models[-1]
    load = partial(load_input, preprocessing=last.preprocessing)
    rng = np.random.default_rng(0)
    noise = [rng.random((1, 3, *last.size), dtype=np.float32) for _ in range(4)]
    inputs: list[Float32Array] = [noise[k % 4] for k in range(len(paths))]
    calls: Calls = {
        _ONE: lambda: [read_image(path) for path in paths],
        _ALL: lambda: _exhaust(in_order(read_image, paths, threads=cores())),
        "decode and resize": lambda: _exhaust(in_order(load, paths, threads=cores())),
        "network alone": lambda: _exhaust(in_order(last.score_inputs, inputs, threads=cores())),
    }
    for model in models:
        title = f"whole, streams={model.engine.streams}"
        calls[title] = lambda model=model: _exhaust(  # type: ignore[misc]
            inspect_images(model, paths)
        )
    return calls


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass


def _row(stage: str, timings: Timings) -> list[str]:
    seconds = timings.median(stage) / _IMAGES
    busy = seconds * (1 if stage == _ONE else cores())
    row = [stage, f"{1 / seconds:.1f}", milliseconds(busy)]
    if not stage.startswith("whole"):
        return [*row, "", "", ""]
    shares = [1 / timings.ratio(stage, other) for other in (_ONE, _ALL)]
    met = ", ".join(verdict(share, at_least=LEAST_SHARE) for share in shares)
    return [*row, *(f"{share:.1%}" for share in shares), met]


def _arithmetic(timings: Timings) -> str:
    """What the cores have to do, and what rate follows from it."""
    parts = (_ALL, "decode and resize", "network alone")
    decode, loaded, network = (1e3 * cores() * timings.median(p) / _IMAGES for p in parts)
    resize = max(loaded - decode, 0.0)
    total = loaded + network
    return (
        f"Core-milliseconds per image: decode {decode:.1f}, resize {resize:.1f}, network "
        f"{network:.1f}, together {total:.1f}. So {cores()} cores reach at most "
        f"{1e3 * cores() / total:.0f} images per second, {decode / total:.0%} of decoding alone "
        f"on all cores: {LEAST_SHARE:.0%} of that would leave "
        f"{decode * (1 / LEAST_SHARE - 1):.1f} core-milliseconds for resize and network."
    )
