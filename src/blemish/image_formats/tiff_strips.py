"""Decompresses one strip or tile of a TIFF to its plain bytes.

LZW, PackBits and fax strips go through OpenCV's TIFF reader as a made-up gray image whose pixels
are the bytes: the compression does not know what the bytes mean, so one route serves all depths.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from blemish.errors import ImageError
from blemish.image_formats.pixels import COPY_AGAIN, Samples

_NONE, _FAX, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, (2, 3, 4), 5, 8, 32946, 32773
COMPRESSIONS = (_NONE, *_FAX, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS)


@dataclass(frozen=True, slots=True)
class Strip:
    """Size of one strip or tile: rows, samples per row (all channels), and bits per sample."""

    rows: int
    samples: int
    bits: int

    @property
    def row_bytes(self) -> int:
        """Bytes per row; rows start on whole bytes."""
        return (self.samples * self.bits + 7) // 8


def decompress(data: bytes, strip: Strip, compression: int, fax: Mapping[int, int]) -> Samples:
    """Decompress one strip or tile.

    Parameters
    ----------
    compression : int
        One of `COMPRESSIONS`.
    fax : mapping of tag number to value
        Tags that fax compression needs (FillOrder, T4Options, T6Options).

    Returns
    -------
    uint8 (rows, row_bytes)

    Raises
    ------
    ImageError
        The data are damaged or too short.
    """
    size = strip.rows * strip.row_bytes
    if compression == _NONE:
        plain = data[:size]
    elif compression in (_DEFLATE, _OLD_DEFLATE):
        try:
            plain = zlib.decompressobj().decompress(data, size)
        except zlib.error:
            plain = b""
    elif compression in _FAX:
        if strip.bits != 1:
            raise ImageError(f"fax compression must hold 1-bit pixels, but does not. {COPY_AGAIN}")
        bits = _through_opencv(data, strip.rows, strip.samples, 1, {259: compression, **fax})
        return np.packbits(bits > 0, axis=1)
    else:
        return _through_opencv(data, strip.rows, strip.row_bytes, 8, {259: compression})
    if len(plain) < size:
        raise _damaged()
    return np.frombuffer(plain, np.uint8).reshape(strip.rows, strip.row_bytes)


def _through_opencv(
    data: bytes, rows: int, columns: int, bits: int, extra: Mapping[int, int]
) -> Samples:
    """Decode `data` as the only strip of a gray TIFF."""
    tags = {256: columns, 257: rows, 258: bits, 262: 1, 273: 8, 277: 1, 278: rows}
    tags |= {279: len(data), **extra}
    padded = data + bytes(len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    head = struct.pack("<2sHI", b"II", 42, 8 + len(padded))
    file = b"".join([head, padded, struct.pack("<H", len(tags)), entries, bytes(4)])
    decoded = None
    with _quiet_opencv(), contextlib.suppress(cv2.error):
        decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape != (rows, columns):
        raise _damaged()
    return decoded


def _damaged() -> ImageError:
    return ImageError(
        f"its compressed pixels must fill the image, but they are damaged or too few. {COPY_AGAIN}"
    )


_LOCK = threading.Lock()
_QUIET = {"threads": 0, "level": 0}


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing to the terminal while at least one thread is inside."""
    with _LOCK:
        if _QUIET["threads"] == 0:
            _QUIET["level"] = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(0)
        _QUIET["threads"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _QUIET["threads"] -= 1
            if _QUIET["threads"] == 0:
                cv2.utils.logging.setLogLevel(_QUIET["level"])
