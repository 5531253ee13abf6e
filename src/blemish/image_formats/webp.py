"""WebP: its chunks are read here, its pixels are decoded by Pillow."""

from __future__ import annotations

import struct

from PIL.WebPImagePlugin import WebPImageFile

from blemish.errors import ImageError
from blemish.image_formats.exif import exif_orientation
from blemish.image_formats.pixels import COPY_AGAIN, Header, Pixels, decode_with_pillow

SIGNATURE = b"RIFF"
_ANIMATED = 0x02


def read_header(content: bytes) -> Header:
    """Read size, EXIF orientation and whether the compression is lossy.

    Raises
    ------
    ImageError
        The file is truncated, damaged or animated.
    """
    chunks = _chunks(content)
    orientation = exif_orientation(chunks.get(b"EXIF", b""))
    is_lossy = b"VP8 " in chunks
    extended = chunks.get(b"VP8X", b"")
    if len(extended) >= 10:
        if extended[0] & _ANIMATED:
            raise ImageError(
                "it must hold one image, but is an animation. "
                "Save the frame you mean as its own file."
            )
        width = int.from_bytes(extended[4:7], "little") + 1
        height = int.from_bytes(extended[7:10], "little") + 1
        return Header(height, width, orientation, is_lossy)
    if len(lossy := chunks.get(b"VP8 ", b"")) >= 10:
        width, height = struct.unpack_from("<HH", lossy, 6)
        return Header(height & 0x3FFF, width & 0x3FFF, orientation, is_lossy)
    if len(lossless := chunks.get(b"VP8L", b"")) >= 5:
        bits = int.from_bytes(lossless[1:5], "little")
        return Header((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, orientation, is_lossy)
    raise ImageError(f"a WebP must hold an image chunk, but does not. {COPY_AGAIN}")


def decode(content: bytes) -> Pixels:
    """Decode lossy or lossless pixels, with or without alpha.

    Raises
    ------
    ImageError
        The file is damaged and cannot be decoded.
    """
    return Pixels(decode_with_pillow(WebPImageFile, content), 255)


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Kind -> data of the first chunk of each kind."""
    if content[8:12] == b"AVI ":
        raise ImageError(
            "a single image is needed, but this is a video. Name a frame of it, such as "
            "clip.avi/000022."
        )
    if content[8:12] != b"WEBP":
        raise ImageError(f"a RIFF file must be a WebP image, but is not. {COPY_AGAIN}")
    size = struct.unpack_from("<I", content, 4)[0] + 8
    if size > len(content):
        raise ImageError(
            f"a WebP must be as long as it says, {size} bytes, but the file ends at byte "
            f"{len(content)}. {COPY_AGAIN}"
        )
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= size:
        kind, length = struct.unpack_from("<4sI", content, position)
        chunks.setdefault(kind, content[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return chunks
