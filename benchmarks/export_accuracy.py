"""Do exports find what the model finds? AUROC of every format and precision on real test images.

Fits ResNet-18 as the paper does (100 random dimensions), exports it in all six ways, and measures
each export on the test images of the category, beside the model in 32 bits. Prints a table.

    python benchmarks/export_accuracy.py ../shared/data/mvtec/bottle ../shared/data/mvtec/screw \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import blemish
from blemish.arrays import Float32Array
from blemish.datasets import Sample, read_dataset
from blemish.decision import Score
from blemish.engines.engine import EngineSettings
from blemish.export import PRECISIONS, TARGETS, Export, export_model, load_export
from blemish.model import Model, load_model

_TIMED = 40


class ExportedModel(Model):
    """A model that lets its export score."""

    def __init__(self, model: Model, export: Export) -> None:
        super().__init__(model.fitted)
        self._export = export

    def score_inputs(self, inputs: Float32Array) -> list[Score]:
        """Score by the export."""
        return self._export.score_inputs(inputs)


def fitted(root: Path, weights: Path | None, models: Path | None) -> Model:
    """Model of a category, from a file if there is one."""
    kept = None if models is None else models / f"{root.name}.blemish"
    if kept is not None and kept.is_file():
        return load_model(kept, EngineSettings(precision="f32"))
    settings = blemish.FitSettings(backbone="resnet18", preset="paper", dims=100)
    model = blemish.fit(root, settings, weights=weights)
    if kept is not None:
        model.save(kept)
    return Model(model.fitted, EngineSettings(precision="f32"))


def milliseconds(score: Callable[[Float32Array], object], image: Float32Array) -> float:
    """Shortest time for one image, of many tries: least disturbed by other programs."""
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        score(image)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def measure(name: str, model: Model, samples: list[Sample]) -> tuple[float, float]:
    """Image and pixel AUROC on the test images."""
    found = blemish.evaluate(model, samples)
    if found.image_auroc is None or found.pixel_auroc is None:
        raise SystemExit(f"{name} must have good and anomalous test images with masks.")
    return found.image_auroc, found.pixel_auroc


def rows(root: Path, model: Model) -> None:
    """Print the rows of a category."""
    samples = read_dataset(root, split="test")
    good = [sample.image for sample in read_dataset(root, split="train")]
    image = np.zeros((1, 3, *model.size), np.float32)
    expected = measure(root.name, model, samples)
    quickest = milliseconds(model.score_inputs, image)
    print(
        f"| {root.name} | model, f32 | | {expected[0]:.4f} | {expected[1]:.4f} | | | | | | "
        f"{quickest:.1f} |",
        flush=True,
    )
    for precision in PRECISIONS:
        for target in TARGETS:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "export"
                report = export_model(
                    model,
                    folder,
                    target=target,
                    precision=precision,
                    images=good,
                    test=samples,
                    auroc_drop=1.0,
                )
                export = load_export(folder)
                found = measure(root.name, ExportedModel(model, export), samples)
                quickest = milliseconds(export.score_inputs, image)
            parity = report.parity
            print(
                f"| {root.name} | {target} {precision} "
                f"| {sum(report.sizes.values()) / 1e6:.1f} "
                f"| {found[0]:.4f} ({found[0] - expected[0]:+.4f}) "
                f"| {found[1]:.4f} ({found[1] - expected[1]:+.4f}) "
                f"| {parity.score_drift:.2g} | {parity.map_drift:.2g} | {parity.level_drift:.2g} "
                f"| {parity.score_shift:+.2g} | {parity.changed_decisions} of {parity.images} "
                f"| {quickest:.1f} |",
                flush=True,
            )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("categories", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--models", type=Path, help="Folder to keep fitted models in.")
    options = parser.parse_args()
    print(
        "| category | what | MB | image AUROC | pixel AUROC | score, spreads | map, spreads "
        "| level, spreads | mean shift | changed decisions | ms, batch 1 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for root in options.categories:
        rows(root, fitted(root, options.weights, options.models))


if __name__ == "__main__":
    main()
