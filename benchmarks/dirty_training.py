"""Does a fit withstand defective images among the training images?

A share of the training images is made of defective test images, chosen by a seed; the other test
images measure. Three fits are compared: of the clean images alone, of all, and of all with
`reject_outliers`. Prints how many defective and good images were named, and the image AUROC of
the three.

    python benchmarks/dirty_training.py ../shared/data/mvtec/bottle ../shared/data/mvtec/screw \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

import blemish
from blemish.datasets import Sample, read_dataset
from blemish.errors import FewImagesWarning
from blemish.evaluation import evaluate
from blemish.loading import load_input
from blemish.records import digests_of
from blemish.settings import MOST_OUTLIERS, FitSettings

SETUPS = {
    "r18-paper": FitSettings(backbone="resnet18", preset="paper", dims=100),
    "r18-full": FitSettings(backbone="resnet18", dims=100),
    "r18-accurate": FitSettings(backbone="resnet18", preset="accurate"),
    "builtin": FitSettings(),
    "builtin-accurate": FitSettings(preset="accurate"),
}


@dataclass(frozen=True, slots=True)
class Mixture:
    """Training images of which some are defective, and the test images that are left."""

    images: Sequence[Path]
    dirty: frozenset[Path]
    test: Sequence[Sample]


def mixture(root: Path, share: float, seed: int) -> Mixture:
    """Mix defective test images into the good training images; at least one stays for the test."""
    good = [sample.image for sample in read_dataset(root, split="train")]
    test = read_dataset(root, split="test")
    defective = [sample.image for sample in test if sample.is_anomalous]
    count = min(round(share / (1 - share) * len(good)), len(defective) - 1)
    generator = np.random.default_rng(seed)
    dirty = [defective[k] for k in generator.choice(len(defective), count, replace=False)]
    mixed = [*good, *dirty]
    return Mixture(
        [mixed[k] for k in generator.permutation(len(mixed))],
        frozenset(dirty),
        [sample for sample in test if sample.image not in dirty],
    )


@cache
def clean_model(root: Path, setup: str, weights: Path | None) -> blemish.Model:
    """Model of the good training images alone."""
    return blemish.fit(
        [s.image for s in read_dataset(root, split="train")], SETUPS[setup], weights=weights
    )


def named(model: blemish.Model, images: Sequence[Path]) -> set[Path]:
    """Images that the fit rejected; their names alone are not unique."""
    if model.fitted.rejected is None:
        return set()
    out = {digest.tobytes() for digest in model.fitted.rejected.records.digests}
    digests = [digests_of(load_input(image, model.preprocessing)[None])[0] for image in images]
    return {image for image, d in zip(images, digests, strict=True) if d.tobytes() in out}


def row(root: Path, setup: str, share: float, seed: int, options: argparse.Namespace) -> str:
    """Fit and measure one mixture."""
    settings = SETUPS[setup]
    weights = options.weights if settings.backbone != "builtin" else None
    mixed = mixture(root, share, seed)
    robust = blemish.fit(
        mixed.images, replace(settings, reject_outliers=options.reject), weights=weights
    )
    clean = clean_model(root, setup, weights)
    plain = blemish.fit(mixed.images, settings, weights=weights) if mixed.dirty else clean
    found = named(robust, mixed.images)
    hit = len(found & mixed.dirty)
    figures = []
    for model in (clean, plain, robust):
        auroc = evaluate(model, mixed.test).image_auroc
        figures.append("-" if auroc is None else f"{auroc:.4f}")
    return (
        f"| {root.name} | {setup} | {share:.0%} | {seed} | {len(mixed.images)} "
        f"| {len(mixed.dirty)} | {hit} | {len(found) - hit} | {' | '.join(figures)} |"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("categories", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--reject", type=float, default=MOST_OUTLIERS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", FewImagesWarning)
    print(
        "| category | setup | dirty share | seed | training images | defective | named "
        "| good ones named | AUROC clean | AUROC dirty | AUROC rejecting |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for category in options.categories:
        for setup in options.setups:
            for share in options.shares:
                for seed in options.seeds if share else options.seeds[:1]:
                    print(row(category, setup, share, seed, options), flush=True)


if __name__ == "__main__":
    main()
