"""Decompresses one strip or tile of a TIFF to its plain bytes, all of them or none.

tifffile lacks LZW and fax compression, fills up what is missing, and sets no limit to what a
deflated strip may grow to. So zlib and OpenCV's TIFF reader do it; the latter as a made-up gray
image whose pixels are the bytes: compression does not know what the bytes mean.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Mapping

import cv2
import numpy as np

from blemish.errors import ImageError
from blemish.image_formats.pixels import COPY_AGAIN, Samples

NONE, FAX, LZW, DEFLATE, PACKBITS = (1,), (2, 3, 4), (5,), (8, 32946), (32773,)

_LOCK = threading.Lock()
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, 5


def decompress(
    data: bytes, compression: int, rows: int, row_bits: int, fax: Mapping[int, int]
) -> bytes:
    """Decompress one strip or tile.

    Parameters
    ----------
    compression : int
        One of `NONE`, `FAX`, `LZW`, `DEFLATE` and `PACKBITS`.
    row_bits : int
        Bits per row; rows start on whole bytes.
    fax : mapping of tag number to value
        Tags that fax compression needs (FillOrder, T4Options, T6Options).

    Returns
    -------
    bytes
        `rows` times the whole bytes of a row.

    Raises
    ------
    ImageError
        The data are damaged or too short.
    """
    row_bytes = (row_bits + 7) // 8
    size = rows * row_bytes
    plain = b""
    if compression in NONE:
        plain = data[:size]
    elif compression in DEFLATE:
        with contextlib.suppress(zlib.error):
            plain = zlib.decompressobj().decompress(data, size)
    elif compression in FAX:
        bits = _through_opencv(data, rows, row_bits, {258: 1, 259: compression, **fax})
        plain = np.packbits(bits > 0, axis=1).tobytes()
    else:
        plain = _through_opencv(data, rows, row_bytes, {258: 8, 259: compression}).tobytes()
    if len(plain) != size:
        raise ImageError(
            "its compressed pixels must fill the image, but they are damaged or too few. "
            f"{COPY_AGAIN}"
        )
    return plain


def _through_opencv(data: bytes, rows: int, columns: int, extra: Mapping[int, int]) -> Samples:
    """Decode `data` as the only strip of a gray TIFF; an empty array if they are damaged."""
    tags = {256: columns, 257: rows, 262: 1, 273: 8, 277: 1, 278: rows, 279: len(data), **extra}
    padded = data + bytes(len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    head = struct.pack("<2sHI", b"II", 42, 8 + len(padded))
    file = b"".join([head, padded, struct.pack("<H", len(tags)), entries, bytes(4)])
    decoded = None
    with _LOCK, contextlib.suppress(cv2.error):
        level = _set_log_level(0)  # one for all threads
        try:
            decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            _set_log_level(level)
    return np.empty((0, 0), np.uint8) if decoded is None else decoded
