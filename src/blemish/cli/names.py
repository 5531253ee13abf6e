"""Names of images as results show them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def unique_names(images: Sequence[tuple[Path, Path]]) -> list[tuple[Path, str]]:
    """Images, each once, with a name of its own.

    The name is the path below the folder given with the image; where two would be called the
    same, or an image lies elsewhere, all are called by their path below the folder common to all.

    Parameters
    ----------
    images : sequence of (image, folder)

    Examples
    --------
    >>> a, b = Path("test/good"), Path("train/good")
    >>> [name for _, name in unique_names([(a / "0.png", a), (b / "1.png", b)])]
    ['0.png', '1.png']
    >>> [name for _, name in unique_names([(a / "0.png", a), (b / "0.png", b)])]
    ['test/good/0.png', 'train/good/0.png']
    """
    places = {absolute(image): (image, absolute(folder)) for image, folder in images}
    names = [
        place.relative_to(folder).as_posix() if place.is_relative_to(folder) else None
        for place, (_, folder) in places.items()
    ]
    if None in names or len(set(names)) < len(names):
        common = os.path.commonpath([place.parent for place in places])
        names = [place.relative_to(common).as_posix() for place in places]
    return [(image, str(name)) for (image, _), name in zip(places.values(), names, strict=True)]


def absolute(path: Path) -> Path:
    """Whole path without "..", links not followed: two links to a file are two images."""
    return Path(os.path.abspath(path))  # noqa: PTH100
