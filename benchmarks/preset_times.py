"""What the presets cost: one image in memory to score and map, and the size of the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.materials import Materials
from benchmarks.measure import alternate
from benchmarks.tables import Table, milliseconds, verdict

import blemish
from blemish.engines.engine import EngineSettings
from blemish.engines.openvino import has_bf16
from blemish.images import read_image
from blemish.model import load_model

TITLE = "Presets"
MOST = 1.5
_IMAGES = 60
_PRESETS = ("paper", "accurate", "tiny")


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure: for each backbone and precision, the presets take turns."""
    rows = []
    image = read_image(materials.train[0])
    for backbone in ("resnet18", "builtin"):
        for preset in _PRESETS:
            say(f"presets, fit of {backbone} {preset}")
            settings = blemish.FitSettings(
                backbone=backbone, preset=preset, dims=100 if preset == "paper" else None
            )
            weights = None if backbone == "builtin" else materials.weights
            fitted = blemish.fit(materials.train[:_IMAGES], settings, weights=weights)
            fitted.save(_file(materials, backbone, preset))
        for precision in ("f32", "bf16", "auto") if has_bf16() else ("f32",):
            say(f"presets, {backbone} in {precision}")
            engine = EngineSettings(precision=precision)
            calls: dict[str, Callable[[], object]] = {
                preset: partial(load_model(_file(materials, backbone, preset), engine).score, image)
                for preset in _PRESETS
            }
            found = alternate(calls)
            for preset in _PRESETS:
                ratio = found.ratio(preset, "paper")
                size = _file(materials, backbone, preset).stat().st_size / 1e6
                bar = ""
                if (backbone, preset) == ("resnet18", "accurate") and precision != "auto":
                    bar = f"<= {MOST}: {verdict(ratio, at_most=MOST)}"
                taken = milliseconds(found.median(preset))
                cells = [taken, f"{ratio:.2f}", bar, f"{size:.1f}"]
                rows.append([f"{backbone}, {preset}, {precision}", *cells])
    header = ["backbone, preset, precision", "ms", "over paper", "bar", "file, MB"]
    note = (
        "One image of 256x256 in memory, as `Model.score` takes it. `paper` has 100 dimensions on "
        "224x224 pixels, the others see 256x256. Auto is bf16 only where the fit saw it do no harm."
    )
    return [Table("", header, rows, [note])]


def _file(materials: Materials, backbone: str, preset: str) -> Path:
    return materials.place / f"{backbone}-{preset}.blemish"
