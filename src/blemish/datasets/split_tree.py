"""The tree that MVTec AD made common: train/<normal>, test/<defect>, ground_truth/<defect>.

MVTec AD, MPDD and BTAD differ only in their word for normal and in the names of masks.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.category import category_folder, own_name
from blemish.datasets.listing import folders_in, found_in, images_by_stem, images_in, names
from blemish.datasets.sample import NORMAL, TRAIN, Sample, check_split
from blemish.errors import DatasetError


def read_split_tree(root: Path, *, split: str, category: str | None, normal: str) -> list[Sample]:
    """List one split of one category, sorted by folder and then by file name.

    Parameters
    ----------
    root : Path
        Folder of the dataset, or of one category.
    split : "train" or "test"
    category : str or None
    normal : str
        Name of the folder of normal images; the only one that ``train`` may hold.

    Raises
    ------
    DatasetError
        The tree is another, a split holds no image, or an anomalous image has no mask.
    """
    check_split(split)
    top = category_folder(root, category, marker=f"train/{normal}")
    folder = top / split
    expected = normal if split == TRAIN else "<defect>"
    _check_tree(folder, expected, normal if split == TRAIN else None)
    samples: list[Sample] = []
    for defect_folder in folders_in(folder):
        if defect_folder.name == normal:
            images = images_in(defect_folder)
            samples += [Sample(image, NORMAL, category=own_name(top)) for image in images]
        else:
            samples += _anomalous(defect_folder, top)
    if not samples:
        raise DatasetError(
            f"{folder} must hold images as {expected}/<name>.png, but there are none: "
            f"{found_in(folder)}. Restore the images, or give another folder."
        )
    return samples


def _anomalous(folder: Path, top: Path) -> list[Sample]:
    defect = folder.name
    truth = top / "ground_truth" / defect
    masks = images_by_stem(truth)
    return [
        Sample(image, defect, mask_of(image, truth, masks), category=own_name(top))
        for image in images_in(folder)
    ]


def mask_of(image: Path, folder: Path, masks: dict[str, list[Path]]) -> Path:
    """The mask that has the name of `image`, with or without "_mask", and any image suffix.

    Raises
    ------
    DatasetError
        There is none, or more than one.
    """
    stems = (f"{image.stem}_mask", image.stem)
    found = [mask for stem in stems for mask in masks.get(stem, [])]
    if not found:
        raise DatasetError(
            f"{image} must have a mask, but {folder} holds no {stems[0]}.png. "
            "Restore it, or take the image out of the dataset; "
            "to evaluate without masks, choose the layout 'folder'."
        )
    if len(found) > 1:
        raise DatasetError(
            f"{image} must have one mask, but {folder} holds {len(found)}: "
            f"{names([mask.name for mask in found])}. Remove all but one."
        )
    return found[0]


def _check_tree(folder: Path, expected: str, only: str | None) -> None:
    """Images must be in subfolders; `only` is the one subfolder allowed, if not None."""
    loose = images_in(folder)
    if loose:
        raise DatasetError(
            f"Images must be in {folder / expected}, but {len(loose)} are in {folder} itself: "
            f"{names([image.name for image in loose])}. Move them."
        )
    others = [path.name for path in folders_in(folder) if path.name != only]
    if only is not None and others:
        raise DatasetError(
            f"{folder} must hold only '{only}', since training uses normal images alone, "
            f"but also holds {names(others)}. Move them to {folder.parent / 'test'}."
        )
