"""PNG: its chunks are checked here, its pixels are decoded by OpenCV or, if indexed, by Pillow."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from blemish.errors import ImageError
from blemish.image_formats.exif import exif_orientation
from blemish.image_formats.pixels import (
    COPY_AGAIN,
    Header,
    Pixels,
    Samples,
    decode_with_pillow,
    over_black,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, COLOUR, INDEXED, GRAY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {
    GRAY: (1, 2, 4, 8, 16),
    COLOUR: (8, 16),
    INDEXED: (1, 2, 4, 8),
    GRAY_ALPHA: (8, 16),
    COLOUR_ALPHA: (8, 16),
}


def read_header(content: bytes) -> Header:
    """Read size and orientation.

    Raises
    ------
    ImageError
        The file is truncated, or its first chunk is not a valid image header.
    """
    chunks = _chunks(content)
    width, height, _, _ = _image_header(chunks)
    exif = [data for kind, data in chunks if kind == b"eXIf"]
    return Header(height, width, exif_orientation(bytes(exif[0])) if exif else 1)


def decode(content: bytes) -> Pixels:
    """Decode the pixels; 16-bit colour keeps all its bits.

    The sBIT chunk is the declared depth of 16-bit samples: see `_unpack_depth`.

    Raises
    ------
    ImageError
        The file is truncated, damaged (a checksum does not match) or animated.
    """
    chunks = _chunks(content)
    _check_checksums(content)
    _, _, depth, colour_type = _image_header(chunks)
    only = dict(reversed(chunks))
    if b"IDAT" not in only or (colour_type == INDEXED and b"PLTE" not in only):
        raise ImageError(f"a PNG must hold pixels and, if indexed, a palette. {COPY_AGAIN}")
    if b"acTL" in only and bytes(only[b"acTL"][:4]) != b"\0\0\0\1":
        raise ImageError(
            "it must hold one image, but is an animation. Save the frame you mean as its own file."
        )
    key = only.get(b"tRNS")
    if depth <= 8 and (key is not None or colour_type == INDEXED):
        clean = _rebuild(content, (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
        return Pixels(decode_with_pillow(PngImageFile, clean), 255)
    samples = _decode_with_opencv(_rebuild(content, (b"IHDR", b"IDAT", b"IEND")))
    if key is not None and len(key) in (2, 6):
        transparent = np.frombuffer(key, ">u2")
        is_key = samples == (transparent[0] if samples.ndim == 2 else transparent)
        samples[is_key if samples.ndim == 2 else is_key.all(axis=-1)] = 0
    if depth == 16:
        declared = bytes(only.get(b"sBIT", b""))[: 3 if colour_type & COLOUR else 1]
        return _unpack_depth(samples, max(declared, default=16))
    return Pixels(samples, 255)


def _chunks(content: bytes) -> list[tuple[bytes, memoryview]]:
    """Kind and data of every chunk up to IEND."""
    return [(kind, memoryview(content)[start:end]) for kind, start, end in _walk(content)]


def _walk(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    position, kind = len(SIGNATURE), b"IHDR"
    while kind != b"IEND":
        if position + 12 > len(content):
            raise ImageError(
                f"a PNG must end with an IEND chunk, but the file ends at byte {len(content)} "
                f"before it. {COPY_AGAIN}"
            )
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            raise ImageError(
                f"a PNG must hold all its chunks, but the file ends at byte {len(content)} "
                f"inside one that ends at byte {end + 4}. {COPY_AGAIN}"
            )
        yield kind, position + 8, end
        position = end + 4


def _check_checksums(content: bytes) -> None:
    for _, start, end in _walk(content):
        (stored,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(memoryview(content)[start - 4 : end]) != stored:
            raise ImageError(
                f"the checksum of each PNG chunk must match its data, but that of the chunk at "
                f"byte {start - 8} does not: the file is damaged. {COPY_AGAIN}"
            )


def _image_header(chunks: list[tuple[bytes, memoryview]]) -> tuple[int, int, int, int]:
    """Width, height, bit depth and colour type."""
    kind, data = chunks[0]
    if kind == b"IHDR" and len(data) == 13:
        width, height, depth, colour_type, *methods = struct.unpack(">IIBBBBB", data)
        if depth in _DEPTHS.get(colour_type, ()) and methods in ([0, 0, 0], [0, 0, 1]):
            return width, height, depth, colour_type
    raise ImageError(f"a PNG must start with a valid IHDR chunk, but does not. {COPY_AGAIN}")


def _rebuild(content: bytes, kinds: tuple[bytes, ...]) -> bytes:
    """Copy the chunks of the given kinds only, and of each kind but IDAT only the first."""
    parts: list[bytes | memoryview] = [SIGNATURE]
    seen = set()
    for kind, start, end in _walk(content):
        if kind in kinds and (kind == b"IDAT" or kind not in seen):
            seen.add(kind)
            parts.append(memoryview(content)[start - 8 : end + 4])
    return b"".join(parts)


def _decode_with_opencv(content: bytes) -> Samples:
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ImageError(
            f"its compressed pixels must fill the image, but they are damaged or too few. "
            f"{COPY_AGAIN}"
        )
    if decoded.ndim == 2:
        return decoded
    if decoded.shape[2] == 3:
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    rgb = cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGB)
    return over_black(rgb, decoded[..., 3], 255 if decoded.dtype == np.uint8 else 65535)


def _unpack_depth(samples: Samples, significant: int) -> Pixels:
    """Undo the scaling of fewer significant bits to 16.

    The PNG specification (section 11.3.2.4) has writers scale samples up to 16 bits, so the
    original ones are the upper `significant` bits. Some cameras store them unscaled in the lower
    bits all the same; such data stay below ``2**significant`` and use the bits that scaling
    leaves 0 (or 1, by rounding).

    Examples
    --------
    >>> _unpack_depth(np.array([[65520, 4096]], np.uint16), 12).samples
    array([[4095,  256]], dtype=uint16)
    >>> _unpack_depth(np.array([[4095, 123]], np.uint16), 12).samples
    array([[4095,  123]], dtype=uint16)
    """
    if not 1 <= significant < 16:
        return Pixels(samples, 65535)
    shift = 16 - significant
    white = (1 << significant) - 1
    highest_rounding = 1 if shift > 1 else 0
    low_bits = samples & np.uint16((1 << shift) - 1)
    is_unscaled = int(samples.max()) <= white and int(low_bits.max()) > highest_rounding
    return Pixels(samples if is_unscaled else samples >> np.uint16(shift), white)
