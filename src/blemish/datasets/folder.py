"""Reads plain folders: good images only, or normal and defect subfolders, or two folders.

<root>/*.png                                       all normal
<root>/good/*.png, <root>/scratch/*.png            one subfolder per defect
<root>/train/good/*.png, <root>/test/scratch/*.png the same, with splits

A subfolder named good, ok or normal (in any case) holds normal images, any other the defect it
is named after; images may lie deeper. Masks are not looked for. Without train and test, every
fourth normal image is kept for the test split if there are defects (see `holdout`).
"""

from __future__ import annotations

import os
from pathlib import Path

from blemish.datasets.holdout import hold_out
from blemish.datasets.listing import folders_in, found_in, images_below, images_in, names
from blemish.datasets.sample import ANOMALOUS, NORMAL, TEST, TRAIN, Sample, check_split
from blemish.errors import DatasetError

NORMAL_NAMES = ("good", "ok", "normal")
MASK_NAMES = ("ground_truth", "mask", "masks")


def is_folder_layout(root: Path) -> bool:
    """Whether `root` holds images, or a subfolder named good, ok or normal; or its train does."""
    top = root / TRAIN if _has_splits(root) else root
    return bool(images_in(top)) or any(_is_normal(path) for path in folders_in(top))


def whole_of(root: Path) -> Path | None:
    """The data set with ``train/good`` of which `root` is a split; None if it is of none."""
    place = Path(os.path.abspath(root))  # noqa: PTH100 - a link keeps its name
    whole = place.parent
    if place.name not in (TRAIN, TEST) or not _has_splits(whole):
        return None
    return whole if any(_is_normal(path) for path in folders_in(whole / TRAIN)) else None


def read_folder(root: Path, *, split: str) -> list[Sample]:
    """List one split of a folder, sorted by path.

    Raises
    ------
    DatasetError
        There are no images, it cannot be told which are normal, or the split would be empty.
    """
    check_split(split)
    if not _has_splits(root):
        samples = hold_out(_labelled(root), split)
    elif split == TRAIN:
        samples = _labelled(root / TRAIN)
        _check_all_normal(samples, root / TRAIN)
    else:
        _check_nothing_loose(root / TEST)
        samples = _labelled(root / TEST, needs_normal=False)
    if not samples:
        raise DatasetError(_empty(root, split))
    return samples


def read_folders(normal: Path, anomalous: Path | None = None, *, split: str) -> list[Sample]:
    """List one split of two folders, one of normal and one of anomalous images.

    Parameters
    ----------
    normal : Path
        All images in it, and in its subfolders, are normal.
    anomalous : Path or None
        All images in it are anomalous. The defect is the name of the subfolder that holds
        them, or "anomaly" for those directly in the folder.
    split : "train" or "test"

    Raises
    ------
    DatasetError
        A folder has no image, or there is nothing to test.
    """
    check_split(split)
    samples = [Sample(image, NORMAL) for image in _some_images(normal)]
    if anomalous is not None:
        for image in _some_images(anomalous):
            inner = image.relative_to(anomalous).parts
            samples.append(Sample(image, inner[0] if len(inner) > 1 else ANOMALOUS))
    samples = hold_out(samples, split)
    if not samples:
        raise DatasetError(_empty(normal, split))
    return samples


def _is_normal(folder: Path) -> bool:
    return folder.name.lower() in NORMAL_NAMES


def _has_splits(root: Path) -> bool:
    return (root / TRAIN).is_dir() and (root / TEST).is_dir()


def _labelled(root: Path, *, needs_normal: bool = True) -> list[Sample]:
    """All images with the labels that their folders give them."""
    loose = images_in(root)
    subfolders = [path for path in folders_in(root) if images_below(path)]
    if loose and not subfolders:
        return [Sample(image, NORMAL) for image in loose]
    _check_subfolders(root, loose, subfolders)
    if needs_normal and not any(_is_normal(path) for path in subfolders):
        raise DatasetError(
            f"A subfolder of {root} must be named good, ok or normal, but they are named: "
            f"{names([path.name for path in subfolders])}. "
            "Rename the one that holds the normal images."
        )
    return [
        Sample(image, NORMAL if _is_normal(subfolder) else subfolder.name)
        for subfolder in subfolders
        for image in images_below(subfolder)
    ]


def _check_subfolders(root: Path, loose: list[Path], subfolders: list[Path]) -> None:
    found = [path.name for path in subfolders]
    if not found:
        raise DatasetError(
            f"{root} must hold images, or subfolders of images, but {found_in(root)}. "
            "Give the folder that holds the images."
        )
    if loose:
        raise DatasetError(
            f"{root} must hold images or subfolders of images, but holds both: "
            f"{len(loose)} images beside {names(found)}. "
            "Move the normal images into a subfolder named good."
        )
    masks = [name for name in found if name.lower() in MASK_NAMES]
    if masks:
        raise DatasetError(
            f"Each subfolder of {root} must hold images of one label, "
            f"but {names(masks)} is a name for masks. "
            "Move it elsewhere, or arrange the dataset as MVTec AD does to use the masks."
        )


def _check_all_normal(samples: list[Sample], folder: Path) -> None:
    defects = sorted({sample.defect for sample in samples if sample.is_anomalous})
    if defects:
        raise DatasetError(
            f"{folder} must hold normal images only, but also holds {names(defects)}. "
            f"Move them to {folder.parent / TEST}."
        )


def _check_nothing_loose(folder: Path) -> None:
    loose = images_in(folder)
    if loose:
        raise DatasetError(
            f"Test images must be in subfolders of {folder} that name their label, but "
            f"{len(loose)} are in {folder} itself: {names([image.name for image in loose])}. "
            "Move normal images into a subfolder named good, others into one per defect."
        )


def _some_images(folder: Path) -> list[Path]:
    images = images_below(folder)
    if not images:
        raise DatasetError(
            f"{folder} must hold images, but {found_in(folder)}. "
            "Give the folder that holds the images."
        )
    return images


def _empty(root: Path, split: str) -> str:
    if split == TRAIN:
        return (
            f"{root} must hold normal images to train on, but has none: {found_in(root)}. "
            "Add images of good parts."
        )
    return (
        f"A test split needs images of defects, but all images in {root} are normal. "
        "Put defects into a subfolder named after them, and the normal images into one named good."
    )
