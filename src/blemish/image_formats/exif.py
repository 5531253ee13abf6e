"""The orientation that EXIF data state, read by Pillow."""

from __future__ import annotations

import contextlib
import threading
import warnings

from PIL import ExifTags, Image

_LOCK = threading.Lock()


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 to 8 in EXIF data, with or without their "Exif" prefix.

    Damaged EXIF data say nothing about the pixels, so they count as none: 1.
    """
    tags = Image.Exif()
    with _LOCK, warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("error")  # what Pillow warns about is damage too
        tags.load(exif)
        return known_orientation(tags.get(ExifTags.Base.Orientation))
    return 1


def known_orientation(value: object) -> int:
    """`value` if it is an orientation, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
