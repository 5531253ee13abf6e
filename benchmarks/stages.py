"""Time per image of every stage: decode, resize, backbone, and what finding defects adds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from benchmarks.bare import backbone_call, fused_runner, precisions
from benchmarks.materials import MODELS, Materials
from benchmarks.measure import Timings, alternate, cpu_name, has_amx
from benchmarks.tables import Table, milliseconds, verdict

from blemish.cores import cores
from blemish.images import read_image
from blemish.inference import precision_of

TITLE = "Time per image"
MOST_TIMES_BACKBONE = 1.3
MOST_MILLISECONDS = 3.5
_BATCHES = (1, 8)


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure."""
    return [
        loading(materials, say),
        networks(materials, say),
        one_image(materials, say),
    ]


def loading(materials: Materials, say: Callable[[str], None]) -> Table:
    """Decode and resize, one thread."""
    say("decode and resize")
    files = {"900x900": materials.large[0], "256x256": materials.train[0]}
    images = {side: read_image(path) for side, path in files.items()}
    calls: dict[str, Callable[[], object]] = {
        f"decode a PNG of {side}": partial(read_image, path) for side, path in files.items()
    }
    for name in MODELS:
        apply = materials.model(name).preprocessing.apply
        for side, image in images.items():
            calls[f"resize {side}, crop, to float32, for {name}"] = partial(apply, image)
    timings = alternate(calls, turns=10)
    rows = [[stage, milliseconds(timings.median(stage))] for stage in calls]
    return Table("Before the network, on one core", ["stage", "ms"], rows)


def networks(materials: Materials, say: Callable[[str], None]) -> Table:
    """Backbone alone and the whole graph."""
    rows = []
    for name in MODELS:
        for precision in precisions():
            say(f"networks, {name}, {precision}")
            rows += _network_rows(materials, name, precision)
    header = ["model", "batch", "backbone alone, ms", "whole graph, ms", "added, ms", "ratio"]
    return Table(
        f"In the network, per image, {cores()} cores",
        [*header, f"bar: <= {MOST_TIMES_BACKBONE}"],
        rows,
        [
            "Backbone alone is the bare OpenVINO request, of which no output is copied. The whole "
            "graph is what the library calls: channel choice, distances, map, score, and its own "
            "copy of all outputs. Of a batch, the model here runs one image after the other (a "
            "`batch` of 1 in `EngineSettings`); the backbone alone is compiled for the batch.",
        ],
    )


def _network_rows(materials: Materials, name: str, precision: str) -> list[list[str]]:
    model = materials.model(name, precision)
    runner = fused_runner(model, precision)
    rows = []
    for batch in _BATCHES:
        rng = np.random.default_rng(0)
        images = rng.random((batch, 3, *model.size), dtype=np.float32)
        timings = alternate(
            {
                "alone": backbone_call(model.backbone, model.size, precision, batch),
                "whole": partial(runner, images),
            },
            turns=20 if batch == 1 else 8,
            block=8 if batch == 1 else 2,
        )
        rows.append(_network_row(f"{name}, {precision}", batch, timings))
    return rows


def _network_row(name: str, batch: int, timings: Timings) -> list[str]:
    alone, whole = timings.median("alone") / batch, timings.median("whole") / batch
    ratio = timings.ratio("whole", "alone")
    return [
        *(name, str(batch), milliseconds(alone), milliseconds(whole), milliseconds(whole - alone)),
        *(f"{ratio:.2f}", verdict(ratio, at_most=MOST_TIMES_BACKBONE)),
    ]


def one_image(materials: Materials, say: Callable[[str], None]) -> Table:
    """From pixels in memory to a score: what a camera's program waits for."""
    image = read_image(materials.train[0])
    rows = []
    for name in MODELS:
        say(f"one image in memory, {name}")
        ways = ["auto", *precisions()]
        models = {way: materials.model(name, way) for way in ways}
        timings = alternate(
            {way: partial(model.score, image) for way, model in models.items()},
            turns=20,
        )
        for way, model in models.items():
            seconds = timings.median(way)
            chosen = f"auto ({precision_of(model.fitted, model.engine)})" if way == "auto" else way
            rows.append([f"{name}, {chosen}", milliseconds(seconds), _bar(seconds)])
    amx = "has AMX" if has_amx() else "has no AMX, so that the bar cannot be judged here"
    return Table(
        "One uint8 image of 256x256 in memory -> map and score (`Model.score`)",
        ["model", "ms", f"bar, 2 cores with AMX: <= {MOST_MILLISECONDS} ms"],
        rows,
        [f"This CPU ({cpu_name()}) {amx}."],
    )


def _bar(seconds: float) -> str:
    met = verdict(1e3 * seconds, at_most=MOST_MILLISECONDS)
    return met if has_amx() or met == "met" else "over, but no AMX here"
