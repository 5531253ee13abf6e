"""Writes image files that Pillow and OpenCV cannot: any PNG chunk, any TIFF tag."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def pillow_bytes(array, format_name, mode=None, **options):
    """Encode an array by Pillow."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, format_name, **options)
    return stream.getvalue()


def opencv_bytes(array, suffix, *options):
    """Encode an RGB or gray array by OpenCV."""
    stored = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
    done, encoded = cv2.imencode(suffix, np.ascontiguousarray(stored), list(options))
    assert done
    return encoded.tobytes()


def png_bytes(array, *, bits=None, colour_type=None, chunks=(), filter_byte=0, checksum=0):
    """A PNG of gray, gray+alpha, RGB or RGBA samples, with `chunks` before the pixels."""
    channels = 1 if array.ndim == 2 else array.shape[2]
    bits = bits or array.dtype.itemsize * 8
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour_type is None else colour_type
    height, width = array.shape[:2]
    if bits < 8:
        planes = (array[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(planes.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = array.astype(array.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    plain = b"".join(bytes([filter_byte]) + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    data = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(plain)), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(png_chunk(kind, content, checksum) for kind, content in data)


def png_chunk(kind, content, checksum=0):
    """One chunk; a `checksum` other than 0 makes it a wrong one."""
    crc = zlib.crc32(kind + content) ^ checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def tiff_bytes(array, *, data=None, order="<", tags=()):
    """An uncompressed one-strip TIFF; `tags` (number -> list of values) override or add."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    data = array.astype(array.dtype.newbyteorder(order)).tobytes() if data is None else data
    values = {256: [width], 257: [height], 258: [array.dtype.itemsize * 8] * channels}
    values |= {259: [1], 262: [1 if channels < 3 else 2], 273: [8], 277: [channels]}
    values |= {278: [height], 279: [len(data)], 339: [kind] * channels, **dict(tags)}
    data += bytes(len(data) % 2)
    return (
        {"<": b"II", ">": b"MM"}[order]
        + struct.pack(order + "HI", 42, 8 + len(data))
        + data
        + tag_directory(values, 8 + len(data), order)
    )


def tag_directory(values, start, order="<"):
    """A TIFF directory that will lie at byte `start`; every value as a 32-bit integer."""
    entries, extra = b"", b""
    end = start + 2 + 12 * len(values) + 4
    for tag in sorted(values):
        content = struct.pack(f"{order}{len(values[tag])}I", *values[tag])
        if len(content) > 4:
            extra, content = extra + content, struct.pack(order + "I", end + len(extra))
        entries += struct.pack(order + "HHI", tag, 4, len(values[tag])) + content
    return struct.pack(order + "H", len(values)) + entries + bytes(4) + extra


def exif_bytes(orientation, order=">"):
    """EXIF data that hold an orientation only."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    entry = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(order + "H", 1) + entry + bytes(4)
