"""One file per image format: bytes -> header, and bytes -> pixels.

Each format checks its own structure before any decoder sees the bytes, and passes on only the
parts that hold pixels. So a damaged file is an `ImageError` with a reason, no library writes to
the terminal, and odd metadata (colour profiles, comments, thumbnails) can break nothing.
The messages raised here name no file; `blemish.images` adds its path.
"""

from blemish.image_formats import bmp, jpeg, png, tiff, webp
from blemish.image_formats.pixels import Header, Pixels, over_black

__all__ = ["Header", "Pixels", "bmp", "jpeg", "over_black", "png", "tiff", "webp"]
