"""Reads KolektorSDD and KolektorSDD2.

KolektorSDD, <root>/kos01/Part0.jpg and <root>/kos01/Part0_label.bmp: 50 items of 8 parts. It has
no split for training on normal images only, so here every fourth item (kos04, kos08 ...) is kept
for testing: train has the normal parts of the other items; test has the normal parts of the
items kept, and the defective parts of all items. Tabernik et al., J. Intell. Manuf. 2020.

KolektorSDD2, <root>/train/10301.png and <root>/train/10301_GT.png, and the same in <root>/test.
The split is the published one, of which training takes the normal images only (2085 of 2331).
The published archive holds a duplicate, "10301 (copy).png", which is left out. Bozic et al.,
Computers in Industry 2021.

In both, each image has a mask and only the mask says whether the image is normal: it is all
black then. So these readers open the masks (not the images). The defect is "defect" throughout.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.holdout import is_held_out
from blemish.datasets.listing import folders_in, found_in, images_by_stem, images_in, names
from blemish.datasets.sample import NORMAL, TEST, TRAIN, Sample, check_split
from blemish.errors import DatasetError
from blemish.images import read_mask

DEFECT = "defect"
LABEL_1 = "_label"
LABEL_2 = "_GT"
COPY = " (copy)"


def is_kolektorsdd_layout(root: Path) -> bool:
    """Whether a subfolder has images with ``_label`` files."""
    return any(_has_masks(folder, LABEL_1) for folder in folders_in(root))


def is_kolektorsdd2_layout(root: Path) -> bool:
    """Whether the subfolder ``train`` has images with ``_GT`` files."""
    return _has_masks(root / TRAIN, LABEL_2)


def read_kolektorsdd(root: Path, *, split: str) -> list[Sample]:
    """List one split of KolektorSDD, sorted by path.

    Raises
    ------
    DatasetError
        The folder is another, an image has no mask, or the split holds no image.
    ImageError
        A mask cannot be read.
    """
    check_split(split)
    items = [folder for folder in folders_in(root) if _has_masks(folder, LABEL_1)]
    samples: list[Sample] = []
    for place, item in enumerate(items):
        held_out = is_held_out(place)
        if split == TRAIN and held_out:
            continue
        samples += [
            sample
            for sample in _read_pairs(item, LABEL_1)
            if sample.is_anomalous == (split == TEST) or held_out
        ]
    if not samples:
        raise DatasetError(
            f"{root} must hold folders (kos01) with images (Part0.jpg) and masks "
            f"(Part0_label.bmp) for the split '{split}', but {found_in(root)}. "
            "Give the folder of the dataset."
        )
    return samples


def read_kolektorsdd2(root: Path, *, split: str) -> list[Sample]:
    """List one split of KolektorSDD2, sorted by path.

    Raises
    ------
    DatasetError
        The folder is another, an image has no mask, or the split holds no image.
    ImageError
        A mask cannot be read.
    """
    check_split(split)
    samples = _read_pairs(root / split, LABEL_2)
    if split == TRAIN:
        samples = [sample for sample in samples if not sample.is_anomalous]
    if not samples:
        raise DatasetError(
            f"{root / split} must hold images (10301.png) and masks (10301_GT.png), "
            f"but {found_in(root / split)}. Give the folder that holds train and test."
        )
    return samples


def _has_masks(folder: Path, ending: str) -> bool:
    return any(image.stem.endswith(ending) for image in images_in(folder))


def _read_pairs(folder: Path, ending: str) -> list[Sample]:
    """Images of a folder, each with the mask that is named like it with `ending` added."""
    by_stem = images_by_stem(folder)
    samples = []
    for image in images_in(folder):
        if image.stem.endswith((ending, COPY)):
            continue
        masks = by_stem.get(image.stem + ending, [])
        if len(masks) != 1:
            found = names([mask.name for mask in masks]) if masks else "there is none"
            raise DatasetError(
                f"{image} must have one mask, named {image.stem}{ending}, but {found}. "
                "Restore it, or take the image out of the dataset."
            )
        samples.append(_labelled(image, masks[0]))
    return samples


def _labelled(image: Path, mask: Path) -> Sample:
    return Sample(image, DEFECT, mask) if read_mask(mask).any() else Sample(image, NORMAL)
