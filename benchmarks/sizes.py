"""Sizes of what is stored and shipped: the model, its graph, its exports."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.materials import MODELS, Materials
from benchmarks.measure import output_of
from benchmarks.tables import Table

TITLE = "Sizes"
_EXPORTS = (("onnx", "fp16"), ("openvino", "fp16"), ("openvino", "int8"))
_IMAGES = 16
_SAID = 120  # characters of a reason


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure."""
    rows = []
    for name in MODELS:
        say(f"sizes, {name}")
        model = materials.model(name)
        rows.append([name, "model file", _megabytes(materials.model_file(name).stat().st_size)])
        rows.append([name, "backbone alone, ONNX, f32", _megabytes(len(model.backbone.onnx))])
        rows.append([name, "whole graph, ONNX, f32", _megabytes(len(model.graph()))])
        for target, precision in _EXPORTS:
            rows.append(
                [name, f"export, {target}, {precision}", export(materials, name, target, precision)]
            )
    return [Table("", ["model", "what", "MB"], rows)]


def export(materials: Materials, name: str, target: str, precision: str) -> str:
    """Size of an export, or why there is none."""
    images = materials.place / "export-images"
    if not images.exists():
        images.mkdir()
        for path in materials.train[:_IMAGES]:
            shutil.copy(path, images)
    out = materials.place / f"export-{name}-{target}-{precision}"
    command = [sys.executable, "-m", "blemish", "export", str(materials.model_file(name))]
    command += ["--to", target, "--precision", precision, "--out", str(out)]
    try:
        output_of([*command, "--images", str(images)])
    except RuntimeError as error:
        reason = str(error).split("failed: ", 1)[-1].replace(str(materials.place), "...")
        return f"none ({reason.removeprefix('Error: ')[:_SAID]}...)"
    return _megabytes(folder_size(out))


def folder_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"
