"""What lies in a folder: images, subfolders, and the words to say so in an error.

Names that start with a dot are left out everywhere: they are the notes of file managers and
archivers (``.DS_Store``, ``._000.png``), never images of a dataset.
"""

from __future__ import annotations

from pathlib import Path

from blemish.errors import DatasetError
from blemish.images import SUFFIXES, list_images

MOST_NAMES = 8  # in an error text

UNSUPPORTED = (
    *(".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif"),
    *(".j2k", ".jfif", ".jp2", ".jpf", ".jxl", ".nef", ".orf", ".pbm", ".pcx", ".pgm"),
    *(".pnm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga"),
)
"""Suffixes of images that are not read."""


def is_image(path: Path) -> bool:
    """Whether `path` is named like an image; the file is not opened."""
    return path.suffix.lower() in SUFFIXES


def entries(folder: Path) -> list[Path]:
    """Files and subfolders of `folder`, sorted by name; none if it is no folder.

    Raises
    ------
    DatasetError
        The folder may not be read.
    """
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(
            f"{folder} must be readable, but the system says: {error.strerror}. "
            "Check its permissions."
        ) from error


def folders_in(folder: Path) -> list[Path]:
    """Subfolders of `folder`, sorted by name."""
    return [path for path in entries(folder) if path.is_dir()]


def images_in(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name."""
    return [path for path in entries(folder) if is_image(path) and path.is_file()]


def images_below(folder: Path) -> list[Path]:
    """Image files in `folder` and all its subfolders, sorted by path; none if it is no folder.

    Raises
    ------
    DatasetError
        A subfolder may not be read.
    """
    if not folder.is_dir():
        return []
    return [image for image in list_images(folder)[0] if not _is_hidden(image, folder)]


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Image files directly in `folder`, by name without suffix."""
    by_stem: dict[str, list[Path]] = {}
    for image in images_in(folder):
        by_stem.setdefault(image.stem, []).append(image)
    return by_stem


def names(words: list[str]) -> str:
    """Join names for an error text, the first few of many.

    Examples
    --------
    >>> names(["bottle", "screw"])
    'bottle, screw'
    >>> names([str(number) for number in range(10)])
    '0, 1, 2, 3, 4, 5, 6, 7 and 2 more'
    >>> names([])
    'none'
    """
    if not words:
        return "none"
    rest = len(words) - MOST_NAMES
    return ", ".join(words[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def unsupported(paths: list[Path]) -> str:
    """Say that images among `paths` are of formats that are not read; "" if there are none.

    Examples
    --------
    >>> unsupported([Path("a.GIF"), Path("b.txt")])
    'images of the format .gif are not supported, only of .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp'
    >>> unsupported([Path("a.png")])
    ''
    """  # noqa: E501
    suffixes = sorted({path.suffix.lower() for path in paths} & set(UNSUPPORTED))
    if not suffixes:
        return ""
    formats = f"format{'s' if len(suffixes) > 1 else ''} {', '.join(suffixes)}"
    return f"images of the {formats} are not supported, only of {', '.join(SUFFIXES)}"


def found_in(folder: Path) -> str:
    """What is at this path, as the second part of an error text: "it holds test, train"."""
    if folder.is_dir():
        found = entries(folder)
        if not found:
            return "it is empty"
        refused = unsupported(found)
        words = names([path.name for path in found])
        return f"it holds {words}" + (f" ({refused})" if refused else "")
    return "it is a file" if folder.exists() else "it does not exist"
