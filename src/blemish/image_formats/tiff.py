"""TIFF: from its tags and strips (or tiles) to samples of any depth.

Libraries differ in what they make of less common TIFFs: OpenCV drops the alpha of gray images,
mixes up separate 16-bit planes and ignores "white is zero" beyond 8 bits; Pillow cannot open
deep colour. So strips are only decompressed elsewhere, in `tiff_strips`, and understood here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from blemish.errors import ImageError
from blemish.image_formats.ifd import TagFile, Values, orientation_of
from blemish.image_formats.pixels import COPY_AGAIN, Header, Pixels, Samples, over_black
from blemish.image_formats.tiff_strips import COMPRESSIONS, Strip, decompress

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _CHANNELS, _ROWS_PER_STRIP, _STRIP_SIZES = 266, 273, 277, 278, 279
_MAX_SAMPLE, _PLANAR, _T4_OPTIONS, _T6_OPTIONS, _PREDICTOR = 281, 284, 292, 293, 317
_PALETTE, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES = 320, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED, _CMYK = 0, 1, 2, 3, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _INDEXED: 1, _CMYK: 4}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_STRAIGHT_ALPHA = 2
_SAVE_AS = "Save it as PNG, or as gray or RGB TIFF without compression, with LZW or with deflate."


def read_header(content: bytes) -> Header:
    """Read size and orientation.

    Raises
    ------
    ImageError
        The tags are damaged, or the size is missing.
    """
    tags = _main_directory(content)
    width, height = (tags.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT))
    return Header(height, width, orientation_of(tags))


def decode(content: bytes) -> Pixels:
    """Decode gray, RGB, CMYK or indexed pixels of 1 to 64 bits per sample.

    The declared depth is BitsPerSample, or MaxSampleValue where that is ``2**n - 1`` (otherwise
    it is a statistic of this one image). Signed, float and wider than 16-bit samples have none.

    Raises
    ------
    ImageError
        The file is truncated, damaged or of a kind that is not supported, or holds several
        pages (reduced previews of the first do not count).
    """
    tags = _main_directory(content)
    layout = _Layout.of(tags, "<" if content[:2] == b"II" else ">")
    samples = _read_samples(content, tags, layout)
    return _interpret(samples, tags, layout)


def _main_directory(content: bytes) -> dict[int, Values]:
    """The directory of the one full image in the file."""
    source = TagFile(content)
    offset, pages, seen = source.first, [], set()
    while offset and offset not in seen:
        seen.add(offset)
        tags, offset = source.directory(offset)
        if not tags.get(_SUBFILE, (0,))[0] & 0b101:  # a preview or a transparency mask
            pages.append(tags)
    if len(pages) != 1:
        raise ImageError(
            f"it must hold one image, but has {len(pages)} pages. "
            "Save the page you mean as its own file."
        )
    return pages[0]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the samples of one page are stored."""

    height: int
    width: int
    channels: int
    bits: int
    kind: int
    photometric: int
    predictor: int
    order: Literal["<", ">"]

    @classmethod
    def of(cls, tags: Mapping[int, Values], order: Literal["<", ">"]) -> _Layout:
        """Read the layout, or refuse what is not supported and say what it is."""
        value = {tag: values[0] for tag, values in tags.items()}
        channels = value.get(_CHANNELS, 1)
        layout = cls(
            height=value.get(_HEIGHT, 0),
            width=value.get(_WIDTH, 0),
            channels=channels,
            bits=value.get(_BITS, 1),
            kind=value.get(_SAMPLE_FORMAT, _UNSIGNED),
            photometric=value.get(_PHOTOMETRIC, _BLACK_IS_ZERO),
            predictor=value.get(_PREDICTOR, 1),
            order=order,
        )
        colours = _COLOURS.get(layout.photometric, 0)
        if not colours or channels not in (colours, colours + (colours < 4)):
            _refuse(f"photometric interpretation {layout.photometric} with {channels} channels")
        if value.get(_COMPRESSION, 1) not in COMPRESSIONS:
            _refuse(f"compression {value[_COMPRESSION]}")
        if len(set(tags.get(_BITS, (1,)))) > 1 or len(set(tags.get(_SAMPLE_FORMAT, (1,)))) > 1:
            _refuse("channels of different depths")
        allowed = {
            _UNSIGNED: (*range(1, 17), 32),
            _SIGNED: (8, 16, 32),
            _FLOAT: (16, 32, 64),
        }
        if layout.bits not in allowed.get(layout.kind, ()):
            _refuse(f"{layout.bits}-bit samples of format {layout.kind}")
        if layout.predictor not in ((1, 2, 3) if layout.kind == _FLOAT else (1, 2)):
            _refuse(f"predictor {layout.predictor} with samples of format {layout.kind}")
        return layout

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that holds a sample, in the machine's byte order."""
        letter = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}[self.kind]
        return np.dtype(f"{letter}{next(size for size in (1, 2, 4, 8) if size * 8 >= self.bits)}")


def _refuse(what: str) -> None:
    raise ImageError(f"its kind of TIFF must be supported, but {what} is not. {_SAVE_AS}")


def _read_samples(content: bytes, tags: Mapping[int, Values], layout: _Layout) -> Samples:
    """All samples (H, W, channels), before any meaning is given to them."""
    is_separate = tags.get(_PLANAR, (1,))[0] == 2
    planes, depth = (layout.channels, 1) if is_separate else (1, layout.channels)
    is_tiled = _TILE_OFFSETS in tags
    rows, columns = _block_size(tags, layout, is_tiled)
    down, across = -(-layout.height // rows), -(-layout.width // columns)
    blocks = _blocks(content, tags, is_tiled, planes * down * across)
    grid = np.empty((planes, down * rows, across * columns, depth), layout.dtype)
    for number, data in enumerate(blocks):
        plane, place = divmod(number, down * across)
        top, left = place // across * rows, place % across * columns
        height = rows if is_tiled else min(rows, layout.height - top)
        strip = Strip(height, columns * depth, layout.bits)
        plain = decompress(data, strip, tags.get(_COMPRESSION, (1,))[0], _fax_options(tags))
        block = _samples_of(plain, layout, columns, depth)
        grid[plane, top : top + height, left : left + columns] = block
    grid = grid[:, : layout.height, : layout.width]
    return np.moveaxis(grid[..., 0], 0, -1) if is_separate else grid[0]


def _block_size(tags: Mapping[int, Values], layout: _Layout, is_tiled: bool) -> tuple[int, int]:
    """Rows and columns of a strip or tile."""
    if is_tiled:
        rows, columns = tags.get(_TILE_HEIGHT, (0,))[0], tags.get(_TILE_WIDTH, (0,))[0]
    else:
        rows = min(tags.get(_ROWS_PER_STRIP, (layout.height,))[0], layout.height)
        columns = layout.width
    if not (0 < rows <= layout.height + 65536 and 0 < columns <= layout.width + 65536):
        raise ImageError(f"its strips must have a sensible size, but have {rows}x{columns}.")
    return rows, columns


def _blocks(content: bytes, tags: Mapping[int, Values], is_tiled: bool, count: int) -> list[bytes]:
    """Compressed bytes of every strip or tile."""
    offsets = tags.get(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, ())
    sizes = tags.get(_TILE_SIZES if is_tiled else _STRIP_SIZES, ())
    if not len(offsets) == len(sizes) == count:
        raise ImageError(
            f"it must list {count} strips or tiles, but lists {len(offsets)} places and "
            f"{len(sizes)} sizes. {COPY_AGAIN}"
        )
    end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    if end > len(content):
        raise ImageError(
            f"its pixels must lie inside the file, but they end at byte {end} of {len(content)}. "
            f"{COPY_AGAIN}"
        )
    return [content[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]


def _fax_options(tags: Mapping[int, Values]) -> dict[int, int]:
    return {tag: tags[tag][0] for tag in (_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS) if tag in tags}


def _samples_of(plain: Samples, layout: _Layout, columns: int, depth: int) -> Samples:
    """Turn the bytes of a strip, uint8 (rows, row_bytes), into samples (rows, columns, depth)."""
    rows, bits, dtype = len(plain), layout.bits, layout.dtype
    samples: Samples
    if bits % 8:
        if layout.predictor != 1:
            _refuse(f"a predictor with {bits}-bit samples")
        unpacked = np.unpackbits(plain, axis=1)[:, : columns * depth * bits]
        weights = (1 << np.arange(bits - 1, -1, -1)).astype(dtype)
        samples = (unpacked.reshape(rows, columns, depth, bits) * weights).sum(-1, dtype=dtype)
        return samples
    if layout.predictor == 3:  # differences of bytes, the most significant bytes of a row first
        summed = plain.reshape(rows, -1, depth).cumsum(axis=1, dtype=np.uint8)
        shuffled = summed.reshape(rows, bits // 8, -1).swapaxes(1, 2)
        samples = np.ascontiguousarray(shuffled).view(dtype.newbyteorder(">"))
        return samples.reshape(rows, columns, depth)
    samples = plain.view(dtype.newbyteorder(layout.order)).reshape(rows, columns, depth)
    if layout.predictor == 2:  # differences between neighbours in a row, of their bits
        bit_patterns = np.ascontiguousarray(samples, dtype).view(f"u{dtype.itemsize}")
        samples = bit_patterns.cumsum(axis=1, dtype=bit_patterns.dtype).view(dtype)
    return samples


def _interpret(samples: Samples, tags: Mapping[int, Values], layout: _Layout) -> Pixels:
    """Give the samples their meaning: which value is white, palette, alpha."""
    white = (1 << layout.bits) - 1 if layout.kind == _UNSIGNED and layout.bits <= 16 else None
    highest = tags.get(_MAX_SAMPLE, (0,))[0]
    if layout.kind == _UNSIGNED and layout.bits > 8 and highest > 255 and not highest & highest + 1:
        white = highest
    if layout.photometric in (_WHITE_IS_ZERO, _CMYK) and white is None:
        _refuse(f"photometric interpretation {layout.photometric} of samples without a white")
    colours = _COLOURS[layout.photometric]
    colour = samples[..., :colours]
    if layout.photometric == _INDEXED:
        return Pixels(_look_up(colour[..., 0], tags, layout), 255)
    if layout.photometric in (_WHITE_IS_ZERO, _CMYK) and colour.max() > (white or 0):
        raise ImageError(
            f"its samples must not exceed the maximum it declares, {white}, but reach "
            f"{colour.max()}. {COPY_AGAIN}"
        )
    if layout.photometric == _WHITE_IS_ZERO:
        colour = layout.dtype.type(white) - colour
    elif layout.photometric == _CMYK:
        light = 1 - colour / float(white or 1)
        colour = np.rint(light[..., :3] * light[..., 3:] * (white or 1)).astype(layout.dtype)
    if layout.channels > colours and tags.get(_EXTRA_SAMPLES, (0,))[0] == _STRAIGHT_ALPHA:
        opaque = 1 if white is None else (1 << layout.bits) - 1
        colour = over_black(colour, samples[..., colours], opaque)
    if white is not None and layout.bits < 8:
        colour, white = (colour * np.float32(255 / white)).round().astype(np.uint8), 255
    colour = np.ascontiguousarray(colour[..., 0] if colour.shape[-1] == 1 else colour)
    return Pixels(colour, white)


def _look_up(index: Samples, tags: Mapping[int, Values], layout: _Layout) -> Samples:
    """Colours uint8 (H, W, 3) of palette indices; some writers store 8-bit colours."""
    palette = np.array(tags.get(_PALETTE, ()), np.uint16)
    if palette.size != 3 << layout.bits or layout.kind != _UNSIGNED:
        raise ImageError(
            f"its palette must have {3 << layout.bits} values, but has {palette.size}. {COPY_AGAIN}"
        )
    if palette.max() > 255:
        palette >>= 8
    colours: Samples = palette.astype(np.uint8).reshape(3, -1).T[index]
    return colours
