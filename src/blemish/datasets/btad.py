"""Reads the layout of BTAD (beanTech): that of MVTec AD with other words.

<root>/<category>/train/ok/0000.bmp                categories are 01, 02, 03
<root>/<category>/test/ok/0000.bmp, test/ko/0000.bmp
<root>/<category>/ground_truth/ko/0000.png         named like its image

Suffixes differ between categories, and between images and masks: 01 has bmp images and png
masks, 02 png and png, 03 bmp and bmp. Mishra et al., ISIE 2021.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.category import categories_at
from blemish.datasets.sample import Sample
from blemish.datasets.split_tree import read_split_tree


def btad_categories(root: Path) -> list[str]:
    """Folders below `root` that have ``train/ok``; its own name if it is such a folder."""
    return categories_at(root, "train/ok")


def read_btad(root: Path, *, split: str, category: str | None = None) -> list[Sample]:
    """List one split of one category, sorted by folder and then by file name.

    The defect of an anomalous image is "ko": the dataset has no names for them.

    Raises
    ------
    DatasetError
        The tree is another, the split holds no image, or an anomalous image has no mask.
    """
    return read_split_tree(root, split=split, category=category, normal="ok")
