"""Reads the layout of MVTec AD, and of MPDD, which has the same.

<root>/<category>/train/good/000.png
<root>/<category>/test/<defect>/000.png            ("good" for normal images)
<root>/<category>/ground_truth/<defect>/000_mask.png

Any image suffix is read. Masks named like their image (000.png) are found too: prepared copies
of VisA have them. Bergmann et al., CVPR 2019; Jezek et al. (MPDD), ICUMT 2021.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.category import categories_at
from blemish.datasets.sample import Sample
from blemish.datasets.split_tree import read_split_tree


def mvtec_categories(root: Path) -> list[str]:
    """Folders below `root` that have ``train/good``; its own name if it is such a folder."""
    return categories_at(root, "train/good")


def read_mvtec(root: Path, *, split: str, category: str | None = None) -> list[Sample]:
    """List one split of one category, sorted by folder and then by file name.

    A mask is found by its image's name and never by its place in a list, so
    a lost mask is an error and not a shift of all masks after it.

    Raises
    ------
    DatasetError
        The tree is another, the split holds no image, or an anomalous image has no mask.
    """
    return read_split_tree(root, split=split, category=category, normal="good")
