"""Finds the folder of one category: `root` is either that folder or holds several of them."""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.listing import folders_in, found_in, names
from blemish.errors import DatasetError


def own_name(root: Path) -> str:
    """Name of a folder, also when it was given as ``.``."""
    return root.resolve().name


def categories_at(root: Path, marker: str) -> list[str]:
    """Categories of a dataset, each a folder in which the path `marker` exists.

    Returns
    -------
    list of str
        Sorted. Only its own name if `root` is the folder of a category itself.
    """
    if (root / marker).is_dir():
        return [own_name(root)]
    return [folder.name for folder in folders_in(root) if (folder / marker).is_dir()]


def category_folder(root: Path, category: str | None, *, marker: str) -> Path:
    """The folder of a category.

    Parameters
    ----------
    root : Path
        Folder of the dataset, or of the category itself.
    category : str or None
        May be left out if there is only one.
    marker : str
        Path that every category has, ``train/good`` for example.

    Raises
    ------
    DatasetError
        There is no such category, or there are several and none was chosen.
    """
    found = categories_at(root, marker)
    if not found:
        raise DatasetError(
            f"{root} must hold {marker}, or folders (categories) that do, "
            f"but {found_in(root)}. Is this the folder of the dataset or of one category?"
        )
    chosen = choose_category(root, category, found)
    return root if (root / marker).is_dir() else root / chosen


def choose_category(root: Path, category: str | None, found: list[str]) -> str:
    """The category that was asked for, or the only one there is.

    Raises
    ------
    DatasetError
        There is no such category, or there are several and none was chosen.
    """
    if category is None and len(found) == 1:
        return found[0]
    if category is None:
        raise DatasetError(
            f"One category must be chosen, but {root} holds {len(found)}: {names(found)}. "
            "Name one of them, or give its folder."
        )
    if category not in found:
        raise DatasetError(
            f"category must be one of those in {root}, but '{category}' is not. "
            f"Choose one of: {names(found)}."
        )
    return category
