"""Made-up dataset trees. Images are empty files: a reader that opened one would fail."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parents[2] / "shared" / "data"


def plant(root, *paths):
    """Create empty files, and the folders above them."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def plant_mask(path, *, defective):
    """A real mask, for the datasets in which only the mask tells normal from anomalous."""
    pixels = np.zeros((6, 4), np.uint8)
    if defective:
        pixels[2:4, 1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels > 0


def plant_table(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(line.split(",") for line in lines)
    return path


def plant_mvtec(root, category="bottle"):
    return plant(
        root,
        *(f"{category}/train/good/{number:03}.png" for number in range(3)),
        f"{category}/test/good/000.png",
        f"{category}/test/crack/000.png",
        f"{category}/test/crack/001.png",
        f"{category}/ground_truth/crack/000_mask.png",
        f"{category}/ground_truth/crack/001_mask.png",
        f"{category}/readme.txt",
    )


def listed(samples, root):
    """Each sample as a tuple of short words, paths relative to `root`."""
    return [
        (
            sample.image.relative_to(root).as_posix(),
            sample.defect,
            sample.mask and sample.mask.relative_to(root).as_posix(),
        )
        for sample in samples
    ]


def images(samples, root):
    return [sample.image.relative_to(root).as_posix() for sample in samples]
