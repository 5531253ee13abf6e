"""From a model file to the first score, with an empty cache of compiled graphs and a full one."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable

from benchmarks.materials import MODELS, Materials
from benchmarks.measure import output_of
from benchmarks.tables import Table, milliseconds

from blemish.backbones.weights import CACHE_VARIABLE

TITLE = "Start of a process"
_STARTS = 5

_START = """
import json, sys, time
begin = time.perf_counter()
import blemish
imported = time.perf_counter()
model = blemish.load(sys.argv[1])
loaded = time.perf_counter()
model.score(sys.argv[2])
first = time.perf_counter()
model.score(sys.argv[2])
print(json.dumps([imported - begin, loaded - imported, first - loaded,
                  time.perf_counter() - first, first - begin]))
"""


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure."""
    rows = []
    for name in MODELS:
        say(f"start, {name}")
        model, image = materials.model_file(name), materials.train[0]
        command = [sys.executable, "-c", _START, str(model), str(image)]
        kept = {CACHE_VARIABLE: str(materials.place / "cache-kept")}
        output_of(command, kept)
        found: dict[str, list[list[float]]] = {"empty": [], "full": []}
        for turn in range(_STARTS):
            fresh = {CACHE_VARIABLE: str(materials.place / f"cache-{name}-{turn}")}
            found["empty"].append(json.loads(output_of(command, fresh)))
            found["full"].append(json.loads(output_of(command, kept)))
        for state, runs in found.items():
            medians = [milliseconds(statistics.median(times)) for times in zip(*runs, strict=True)]
            rows.append([f"{name}, {state} cache", *medians])
    header = ["model", "import", "load", "first score", "second score", "start to first score"]
    notes = [
        f"Milliseconds, default precision, medians of {_STARTS} processes each, taking turns. The "
        "start of Python itself is not counted. A compiled graph is kept when a model file is "
        "scored with for the first time."
    ]
    return [Table("", header, rows, notes)]
