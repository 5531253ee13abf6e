"""Reads LAG (fundus photographs, glaucoma) for anomaly detection.

<root>/non_glaucoma/image/*.jpg                    normal
<root>/suspicious_glaucoma/image/*.jpg             anomalous, the defect is "glaucoma"

The dataset has no split for anomaly detection, and the lists of files that papers use (Tian et
al. (CCD), MICCAI 2021, arXiv:2103.03423) are not part of it: the split here is every fourth
normal image for testing and three of four for training (see `holdout`), against all anomalous
ones. The folders attention_map beside the images show where doctors looked, not where the disease
is: they are not masks. Li et al., CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.holdout import hold_out
from blemish.datasets.listing import found_in, images_in
from blemish.datasets.sample import NORMAL, Sample, check_split
from blemish.errors import DatasetError

CLASSES = {"non_glaucoma": NORMAL, "suspicious_glaucoma": "glaucoma"}


def is_lag_layout(root: Path) -> bool:
    """Whether both classes are in `root`."""
    return all((root / name).is_dir() for name in CLASSES)


def read_lag(root: Path, *, split: str) -> list[Sample]:
    """List one split, sorted by path.

    Parameters
    ----------
    root : Path
        Folder that holds ``non_glaucoma`` and ``suspicious_glaucoma``.
    split : "train" or "test"

    Raises
    ------
    DatasetError
        A class is missing or has no image.
    """
    check_split(split)
    samples: list[Sample] = []
    for name, defect in CLASSES.items():
        folder = root / name / "image"
        images = images_in(folder)
        if not images:
            raise DatasetError(
                f"{folder} must hold the images of a class of LAG, but {found_in(folder)}. "
                "Give the folder that holds non_glaucoma and suspicious_glaucoma."
            )
        samples += [Sample(image, defect) for image in images]
    return hold_out(samples, split)
