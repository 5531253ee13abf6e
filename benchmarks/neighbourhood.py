"""What judging a position by the Gaussians around it finds, and costs.

Fits bottle and screw as they are, and bottle once more with every image, training and test, turned
at random by up to 10 degrees and cropped at random from 256 to 224 pixels. Prints one table: AUROC
of images and pixels for each reach, and the processor time of one image over that of reach 0.

    python -m benchmarks.neighbourhood --data ../shared/data \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from benchmarks.measure import alternate

import blemish
from blemish.datasets import Sample, read_dataset
from blemish.engines.engine import EngineSettings
from blemish.errors import FewImagesWarning
from blemish.images import read_image
from blemish.model import Model

REACHES = (0, 1, 2, 3)
SETTINGS = {
    "resnet18 paper": blemish.FitSettings(backbone="resnet18", preset="paper", dims=100),
    "resnet18 accurate": blemish.FitSettings(backbone="resnet18", preset="accurate"),
    "builtin full": blemish.FitSettings(),
    "builtin accurate": blemish.FitSettings(preset="accurate"),
}
SETS = ("bottle", "screw", "bottle disturbed")
_DEGREES, _SIDE, _CROP = 10.0, 256, 224


def disturbed(samples: list[Sample], place: Path, seed: int) -> list[Sample]:
    """Turn and crop images, and masks alike; mirrored at the border."""
    generator = np.random.default_rng(seed)
    result = []
    for number, sample in enumerate(samples):
        turned = cv2.getRotationMatrix2D(
            ((_SIDE - 1) / 2, (_SIDE - 1) / 2), generator.uniform(-_DEGREES, _DEGREES), 1.0
        )
        turned[:, 2] -= generator.integers(0, _SIDE - _CROP + 1, 2)

        image, mask = place / f"{number}.png", None
        _warp(sample.image, turned, cv2.INTER_CUBIC, image)
        if sample.mask is not None:
            mask = place / f"{number}-mask.png"
            _warp(sample.mask, turned, cv2.INTER_NEAREST, mask)
        result.append(replace(sample, image=image, mask=mask))
    return result


def _warp(path: Path, turned: np.ndarray, smooth: int, out: Path) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise SystemExit(f"{path} must be an image, but cannot be read.")
    image = cv2.resize(image, (_SIDE, _SIDE), interpolation=smooth)
    moved = cv2.warpAffine(
        image, turned, (_CROP, _CROP), flags=smooth, borderMode=cv2.BORDER_REFLECT_101
    )
    cv2.imwrite(str(out), moved)


def models(
    train: list[Sample], settings: blemish.FitSettings, weights: Path | None
) -> Iterator[tuple[int, Model]]:
    """A model per reach; one fit serves all if only thresholds depend on the reach."""
    engine, images = EngineSettings(precision="f32"), [sample.image for sample in train]
    first = blemish.fit(images, settings, weights=weights)
    for reach in REACHES:
        near = replace(first.settings, neighbourhood=reach)
        fitted = replace(first.fitted, settings=near)
        if reach and (near.separate or near.standardise):
            fitted = blemish.fit(
                images, replace(settings, neighbourhood=reach), weights=weights
            ).fitted
        yield reach, Model(fitted, engine)


def measure(
    train: list[Sample], test: list[Sample], settings: blemish.FitSettings, weights: Path | None
) -> list[str]:
    """Cells of a row: image / pixel AUROC of each reach, then processor time over that of 0."""
    cells, calls = [], {}
    for reach, model in models(train, settings, weights):
        found = blemish.evaluate(model, test)
        cells.append(f"{found.image_auroc:.4f} / {found.pixel_auroc:.4f}")
        inputs = model.preprocessing.apply(read_image(test[0].image))[None]
        calls[str(reach)] = partial(model.score_inputs, inputs)
    times = alternate(calls, turns=8, clock=time.process_time)
    return cells + [f"{times.ratio(str(reach), '0'):.2f}" for reach in REACHES[1:]]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, required=True, help="ResNet-18, .safetensors")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--models", default=",".join(SETTINGS))
    parser.add_argument("--seed", type=int, default=0, help="of what disturbs")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FewImagesWarning)
    header = [f"r = {r}" for r in REACHES] + [f"time r = {r}" for r in REACHES[1:]]
    print("| set | model | " + " | ".join(header) + " |")
    print("|---" * (len(header) + 2) + "|")
    for name in options.sets.split(","):
        root = options.data / "mvtec" / name.split()[0]
        train, test = (list(read_dataset(root, split=split)) for split in ("train", "test"))
        with tempfile.TemporaryDirectory() as place:
            crops = "disturbed" in name
            if crops:
                samples = disturbed([*train, *test], Path(place), options.seed)
                train, test = samples[: len(train)], samples[len(train) :]
            for kind in options.models.split(","):
                settings = SETTINGS[kind]
                if crops:  # as `paper` does, so that its preset is `full` of what is left
                    preset = "full" if settings.preset == "paper" else settings.preset
                    settings = replace(settings, preset=preset, size=(_CROP, _CROP))
                weights = options.weights if settings.backbone == "resnet18" else None
                row = measure(train, test, settings, weights)
                print("| " + " | ".join([name, kind, *row]) + " |", flush=True)


if __name__ == "__main__":
    main()
