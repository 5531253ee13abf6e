"""Reads Hyper-Kvasir (colonoscopy) for anomaly detection.

<root>/labeled-images/lower-gi-tract/anatomical-landmarks/cecum/*.jpg, ileum/*.jpg       normal
<root>/labeled-images/lower-gi-tract/quality-of-mucosal-views/bbps-2-3/*.jpg             normal
<root>/segmented-images/images/*.jpg, masks/*.jpg of the same names                      polyps
<root>/labeled-images/lower-gi-tract/pathological-findings/polyps/*.jpg                  polyps

Polyps come from segmented-images, with masks, if that folder is there; else from labeled-images,
without. All other classes are left out. These are the classes of Tian et al. (CCD), MICCAI 2021,
arXiv:2103.03423, but their lists of files are not part of the dataset: the split here is every
fourth normal image for testing and three of four for training (see `holdout`), against all
polyps. Nothing in the dataset tells patients apart, so one may be in both splits. Borgli et al.,
Scientific Data 2020.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.holdout import hold_out
from blemish.datasets.listing import found_in, images_by_stem, images_in
from blemish.datasets.sample import NORMAL, Sample, check_split
from blemish.errors import DatasetError

LOWER = "lower-gi-tract"
NORMAL_CLASSES = (
    "anatomical-landmarks/cecum",
    "anatomical-landmarks/ileum",
    "quality-of-mucosal-views/bbps-2-3",
)
POLYPS = "pathological-findings/polyps"


def is_hyper_kvasir_layout(root: Path) -> bool:
    """Whether `root` is the dataset, or its ``labeled-images``."""
    return _lower(root).is_dir()


def read_hyper_kvasir(root: Path, *, split: str) -> list[Sample]:
    """List one split, sorted by path.

    Parameters
    ----------
    root : Path
        Folder that holds ``labeled-images`` or ``lower-gi-tract``.
    split : "train" or "test"

    Raises
    ------
    DatasetError
        A class is missing or has no image, or a segmented polyp has no mask.
    """
    check_split(split)
    lower, segmented = _lower(root), root / "segmented-images"
    samples = [
        Sample(image, NORMAL) for name in NORMAL_CLASSES for image in _some_images(lower / name)
    ]
    if segmented.is_dir():
        samples += _segmented_polyps(segmented)
    else:
        samples += [Sample(image, "polyps") for image in _some_images(lower / POLYPS)]
    return hold_out(samples, split)


def _lower(root: Path) -> Path:
    inner = root / "labeled-images" / LOWER
    return inner if inner.is_dir() else root / LOWER


def _some_images(folder: Path) -> list[Path]:
    images = images_in(folder)
    if not images:
        raise DatasetError(
            f"{folder} must hold the images of a class of Hyper-Kvasir, "
            f"but {found_in(folder)}. Give the folder that holds labeled-images."
        )
    return images


def _segmented_polyps(folder: Path) -> list[Sample]:
    masks = images_by_stem(folder / "masks")
    samples = []
    for image in _some_images(folder / "images"):
        found = masks.get(image.stem, [])
        if len(found) != 1:
            raise DatasetError(
                f"{image} must have one mask of the same name, but {folder / 'masks'} holds "
                f"{len(found)}. Restore it, or move the folder {folder.name} elsewhere to do "
                "without masks."
            )
        samples.append(Sample(image, "polyps", found[0]))
    return samples
