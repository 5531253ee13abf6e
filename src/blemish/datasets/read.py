"""Reads a dataset of any known layout: tells which it is, and calls its reader.

A new layout: one file with its reader and a function that recognises it, and its lines in the
tables below. Layouts are tried from the most to the least particular; the first that fits wins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from blemish.datasets.btad import btad_categories, read_btad
from blemish.datasets.csv_file import is_csv_layout, read_csv
from blemish.datasets.folder import is_folder_layout, read_folder, whole_of
from blemish.datasets.hyper_kvasir import is_hyper_kvasir_layout, read_hyper_kvasir
from blemish.datasets.kolektorsdd import (
    is_kolektorsdd2_layout,
    is_kolektorsdd_layout,
    read_kolektorsdd,
    read_kolektorsdd2,
)
from blemish.datasets.lag import is_lag_layout, read_lag
from blemish.datasets.listing import found_in, unsupported
from blemish.datasets.mvtec import mvtec_categories, read_mvtec
from blemish.datasets.sample import Sample
from blemish.datasets.shanghaitech import (
    is_shanghaitech_layout,
    read_shanghaitech,
    shanghaitech_scenes,
)
from blemish.datasets.video import read_video
from blemish.datasets.visa import is_visa_layout, read_visa, visa_categories
from blemish.errors import DatasetError
from blemish.videos import is_video

RECOGNISED_BY: dict[str, Callable[[Path], object]] = {
    "csv": is_csv_layout,
    "visa": is_visa_layout,
    "mvtec": mvtec_categories,
    "btad": btad_categories,
    "shanghaitech": is_shanghaitech_layout,
    "hyper-kvasir": is_hyper_kvasir_layout,
    "lag": is_lag_layout,
    "kolektorsdd2": is_kolektorsdd2_layout,
    "kolektorsdd": is_kolektorsdd_layout,
    "folder": is_folder_layout,
}
LAYOUTS = tuple(RECOGNISED_BY)


class PlainReader(Protocol):
    """Reader of a layout without categories."""

    def __call__(self, root: Path, *, split: str) -> list[Sample]:
        """List one split."""


class CategoryReader(Protocol):
    """Reader of a layout with categories."""

    def __call__(self, root: Path, *, split: str, category: str | None) -> list[Sample]:
        """List one split of one category."""


PLAIN_READERS: dict[str, PlainReader] = {
    "csv": read_csv,
    "hyper-kvasir": read_hyper_kvasir,
    "lag": read_lag,
    "kolektorsdd2": read_kolektorsdd2,
    "kolektorsdd": read_kolektorsdd,
    "folder": read_folder,
}
CATEGORY_READERS: dict[str, CategoryReader] = {
    "visa": read_visa,
    "mvtec": read_mvtec,
    "btad": read_btad,
    "shanghaitech": read_shanghaitech,
}
CATEGORIES_OF: dict[str, Callable[[Path], list[str]]] = {
    "visa": visa_categories,
    "mvtec": mvtec_categories,
    "btad": btad_categories,
    "shanghaitech": shanghaitech_scenes,
}


def detect_layout(root: Path | str) -> str:
    """Name of the layout that `root` follows, one of `LAYOUTS`.

    Raises
    ------
    DatasetError
        There is nothing at `root`, it follows none, or it is the folder of one split.
    """
    root = Path(root)
    for layout, is_recognised in RECOGNISED_BY.items():
        if is_recognised(root):
            if layout == "folder":
                _check_whole(root)
            return layout
    if not root.is_dir():
        raise DatasetError(_no_folder(root))
    raise DatasetError(
        f"{root} must hold images, a subfolder of images named good, or one of the datasets "
        f"{', '.join(LAYOUTS[1:-1])}, but {found_in(root)}. "
        "Give another folder, or force a layout to see what it lacks."
    )


def _no_folder(root: Path) -> str:
    must = f"{root} must be a folder of images or a CSV file, but"
    if not root.exists():
        return f"{must} does not exist. Check the path."
    if refused := unsupported([root]):
        return f"{must} is a file; and {refused}. Convert the images, and give their folder."
    return f"{must} is a file. Give the folder that holds the images."


def _check_whole(root: Path) -> None:
    """Refuse one split of a data set: half of it, and its good images would be split again."""
    whole = whole_of(root)
    if whole is not None:
        raise DatasetError(
            f"{root} must be a whole data set, but is a part of the one in {whole}. "
            f"Give {whole}, or force the layout 'folder' to take the part alone."
        )


def categories(root: Path | str, layout: str | None = None) -> list[str]:
    """Categories of a dataset, sorted; none if its layout has no categories.

    Parameters
    ----------
    root : Path
        Folder of the dataset; for the folder of one category the list holds its name alone.
    layout : str or None
        One of `LAYOUTS`; None to detect it.

    Raises
    ------
    DatasetError
        The layout is unknown or cannot be detected.
    """
    root = Path(root)
    chosen = _layout(root, layout)
    return CATEGORIES_OF[chosen](root) if chosen in CATEGORIES_OF else []


def read_dataset(
    root: Path | str, *, split: str, layout: str | None = None, category: str | None = None
) -> list[Sample]:
    """List the samples of one split of a dataset. Opens no image.

    Parameters
    ----------
    root : Path
        Folder of the dataset or of one of its categories, a plain folder of images, a CSV file,
        or a video of good parts.
    split : "train" or "test"
        "train" holds normal images only, whatever the layout.
    layout : str or None
        One of `LAYOUTS`; None to detect it.
    category : str or None
        Needed if `root` holds more than one.

    Returns
    -------
    list of Sample
        Sorted, never empty.

    Raises
    ------
    DatasetError
        The folder does not follow the layout: says what was looked for and what was found.
    """
    root = Path(root)
    if layout is None and category is None and is_video(root):
        return read_video(root, split=split)
    chosen = _layout(root, layout)
    if category is not None and chosen not in CATEGORIES_OF:
        raise DatasetError(
            f"Only a dataset with categories can be asked for the category '{category}', "
            f"but {root} has the layout '{chosen}', which has none. Leave the category out."
        )
    if chosen in PLAIN_READERS:
        return PLAIN_READERS[chosen](root, split=split)
    return CATEGORY_READERS[chosen](root, split=split, category=category)


def _layout(root: Path, layout: str | None) -> str:
    if layout is None:
        return detect_layout(root)
    if layout not in LAYOUTS:
        raise DatasetError(
            f"layout must be one of {', '.join(LAYOUTS)}, but is '{layout}'. "
            "Choose one, or leave it out to have it detected."
        )
    return layout
