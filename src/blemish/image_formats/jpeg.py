"""JPEG: its segments are read here, its pixels are decoded by Pillow.

OpenCV is about a third faster, but writes to the terminal about damaged files and fills what
is missing with gray.
"""

from __future__ import annotations

import struct

from PIL.JpegImagePlugin import JpegImageFile

from blemish.errors import ImageError
from blemish.image_formats.exif import exif_orientation
from blemish.image_formats.pixels import COPY_AGAIN, Header, Pixels, decode_with_pillow

SIGNATURE = b"\xff\xd8\xff"
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_APP1, _APP14, _APP15, _COMMENT = 0xE1, 0xEE, 0xEF, 0xFE


def read_header(content: bytes) -> Header:
    """Read size and EXIF orientation.

    Raises
    ------
    ImageError
        The file ends, or is damaged, before the pixels start.
    """
    size = None
    orientation = 1
    for marker, start, end in _segments(content)[0]:
        if marker in _FRAME_HEADERS and end - start >= 8:
            size = struct.unpack_from(">HH", content, start + 5)
        elif marker == _APP1 and content[start + 4 : start + 10] == b"Exif\0\0":
            orientation = exif_orientation(content[start + 4 : end])
    if size is None:
        raise ImageError(
            f"a JPEG must state its size before its pixels, but does not. {COPY_AGAIN}"
        )
    height, width = size
    return Header(height, width, orientation, lossy=True)


def decode(content: bytes) -> Pixels:
    """Decode gray, YCbCr, RGB, CMYK or YCCK pixels; a phone's extra previews are left out.

    Raises
    ------
    ImageError
        The file is truncated or cannot be decoded.
    """
    segments, scan = _segments(content)
    dropped = {*range(_APP1, _APP15 + 1), _COMMENT} - {_APP14}  # metadata and previews
    kept = [content[start:end] for marker, start, end in segments if marker not in dropped]
    clean = b"".join([content[:2], *kept, content[scan:]])
    return Pixels(decode_with_pillow(JpegImageFile, clean), 255)


def _segments(content: bytes) -> tuple[list[tuple[int, int, int]], int]:
    """Marker, start and end of every segment before the first scan, and where that starts."""
    position = 2
    segments: list[tuple[int, int, int]] = []
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            raise ImageError(
                f"a JPEG must hold a marker at byte {position}, but does not: the file is "
                f"damaged. {COPY_AGAIN}"
            )
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _START_OF_SCAN:
            return segments, position
        (length,) = struct.unpack_from(">H", content, position + 2)
        segments.append((marker, position, position + 2 + length))
        position += 2 + length
    raise ImageError(
        f"a JPEG must hold pixels, but the file ends at byte {len(content)} before them. "
        f"{COPY_AGAIN}"
    )
