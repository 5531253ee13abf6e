"""BMP: its size is read here, its pixels are decoded by Pillow."""

from __future__ import annotations

import struct

from PIL.BmpImagePlugin import BmpImageFile

from blemish.errors import ImageError
from blemish.image_formats.pixels import COPY_AGAIN, Header, Pixels, decode_with_pillow

SIGNATURE = b"BM"


def read_header(content: bytes) -> Header:
    """Read the size; rows may be stored bottom up or, with a negative height, top down.

    Raises
    ------
    ImageError
        The header is cut off or of an unknown kind.
    """
    kind = struct.unpack_from("<I", content, 14)[0] if len(content) >= 26 else 0
    if kind == 12:
        width, height = struct.unpack_from("<HH", content, 18)
    elif kind in (40, 52, 56, 64, 108, 124):
        width, height = struct.unpack_from("<ii", content, 18)
    else:
        raise ImageError(
            f"a BMP must start with a header of a known kind, but does not. {COPY_AGAIN}"
        )
    return Header(abs(height), width)


def decode(content: bytes) -> Pixels:
    """Decode 1- to 32-bit pixels, indexed or not.

    Raises
    ------
    ImageError
        The file is truncated or cannot be decoded.
    """
    return Pixels(decode_with_pillow(BmpImageFile, content), 255)
