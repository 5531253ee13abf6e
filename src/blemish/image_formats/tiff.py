"""TIFF: tifffile reads tags, places strips and tiles, and undoes predictors; meaning is given here.

tifffile is chosen since it gives the stored samples of any depth: OpenCV drops the alpha of gray
images, mixes up separate 16-bit planes and ignores "white is zero" beyond 8 bits; Pillow cannot
open deep colour. But it repairs and guesses where a file is damaged, which is refused here.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from blemish.errors import ImageError
from blemish.image_formats.exif import known_orientation
from blemish.image_formats.pixels import COPY_AGAIN, Header, Pixels, Samples, over_black
from blemish.image_formats.tiff_compression import (
    DEFLATE,
    FAX,
    LZW,
    NONE,
    PACKBITS,
    decompress,
)

if TYPE_CHECKING:
    import tifffile

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, _MAX_SAMPLE = 262, 266, 274, 281
_STRIP_SIZES, _T4_OPTIONS, _T6_OPTIONS, _PALETTE, _TILE_SIZES = 279, 292, 293, 320, 325
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED, _CMYK = 0, 1, 2, 3, 5
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _INDEXED: 1, _CMYK: 4}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_BITS = {_UNSIGNED: (*range(1, 17), 32), _SIGNED: (8, 16, 32), _FLOAT: (16, 32, 64)}
_STRAIGHT_ALPHA = 2
_MOST_DIRECTORIES, _LARGEST_SMALL_TILE = 99, 1 << 24
_SAVE_AS = "Save it as PNG, or as gray or RGB TIFF without compression, with LZW or with deflate."

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else Python prints its errors


def read_header(content: bytes) -> Header:
    """Read size and orientation.

    Raises
    ------
    ImageError
        The tags are damaged, the size is missing, or the file holds several pages (reduced
        previews of the first do not count).
    """
    with _main_page(content) as page:
        orientation = known_orientation(page.tags.valueof(_ORIENTATION))
        return Header(int(page.imagelength), int(page.imagewidth), orientation)


def decode(content: bytes) -> Pixels:
    """Decode gray, RGB, CMYK or indexed pixels of 1 to 64 bits per sample.

    The declared depth is BitsPerSample, or MaxSampleValue where that is ``2**n - 1`` (otherwise
    it is a statistic of this one image). Signed, float and wider than 16-bit samples have none.

    Raises
    ------
    ImageError
        As in `read_header`; or the pixels are truncated, damaged or of a kind that is not
        supported.
    """
    with _main_page(content) as page:
        _check_kind(page)
        return _interpret(_read_samples(page, content), page)


@contextlib.contextmanager
def _main_page(content: bytes) -> Iterator[tifffile.TiffPage]:
    """The one full image in the file; whatever fails on it is an `ImageError`."""
    import tifffile  # noqa: PLC0415 - slow to load, and only TIFFs need it

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as source:
            directories = list(itertools.islice(source.pages, _MOST_DIRECTORIES))
            pages = [page for page in directories if not page.subfiletype & 0b101]
            if len(pages) != 1:
                more = " or more" if len(directories) == _MOST_DIRECTORIES else ""
                raise ImageError(
                    f"it must hold one image, but has {len(pages)}{more} pages. "
                    "Save the page you mean as its own file."
                )
            _check_directories(directories, source.tiff, content)
            yield pages[0]
    except ImageError:
        raise
    except Exception as error:  # tifffile raises many kinds on damaged bytes
        reason = str(error).rstrip(".") or type(error).__name__
        raise ImageError(
            f"its tags and pixels must be readable, but the decoder says: {reason}. {COPY_AGAIN}"
        ) from error


def _check_directories(
    directories: list[tifffile.TiffPage], form: tifffile.TiffFormat, content: bytes
) -> None:
    """Refuse what tifffile leaves out in silence: unreadable tags, and the pages after damage."""
    following = 0
    for directory in directories:
        (count,) = struct.unpack_from(form.tagnoformat, content, directory.offset)
        end = directory.offset + form.tagnosize + count * form.tagsize
        (following,) = struct.unpack_from(form.offsetformat, content, end)
        if count != len(directory.tags):
            raise ImageError(
                f"its {count} tags must be whole and lie inside the file, but only "
                f"{len(directory.tags)} do. {COPY_AGAIN}"
            )
    if following:
        raise ImageError(
            f"its list of pages must end inside the file, but goes on at byte {following} "
            f"of {len(content)}. {COPY_AGAIN}"
        )


def _check_kind(page: tifffile.TiffPage) -> None:
    """Refuse what is not supported and say what it is."""
    bits, kind, channels = page.bitspersample, page.sampleformat, page.samplesperpixel
    photometric, is_fax = page.tags.valueof(_PHOTOMETRIC), page.compression in FAX
    colours = _COLOURS.get(photometric, 0)
    what = ""
    if not colours or channels not in (colours, colours + (colours < 4)):
        what = f"photometric interpretation {photometric} with {channels} channels"
    elif page.compression not in NONE + FAX + LZW + DEFLATE + PACKBITS:
        what = f"compression {page.compression}"
    elif isinstance(bits, tuple) or isinstance(kind, tuple):
        what = "channels of different depths"
    elif bits not in _BITS.get(kind, ()) or (is_fax and bits != 1):
        what = f"{bits}-bit samples of format {kind}"
    elif photometric in (_WHITE_IS_ZERO, _CMYK) and _white(page) is None:
        what = f"photometric interpretation {photometric} of samples without a white"
    elif page.predictor not in ((1, 2) if bits % 8 == 0 else (1,)):
        what = f"predictor {page.predictor} with {bits}-bit samples"
    elif page.fillorder != 1 and not is_fax:
        what = f"fill order {page.fillorder}"
    elif page.imagedepth != 1 or page.planarconfig not in (1, 2):
        what = f"planar configuration {page.planarconfig} with {page.imagedepth} layers"
    if what:
        raise ImageError(f"its kind of TIFF must be supported, but {what} is not. {_SAVE_AS}")


def _read_samples(page: tifffile.TiffPage, content: bytes) -> Samples:
    """All samples (H, W, channels), before any meaning is given to them."""
    _check_blocks(page, len(content))
    fax = {tag: page.tags.valueof(tag) for tag in (_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS)}
    fax = {tag: value for tag, value in fax.items() if value is not None}
    compression, page.compression = page.compression, 1  # tifffile gets the plain bytes
    bits = page.bitspersample
    samples = np.empty(page.shaped, np.uint8 if bits == 1 else page.dtype)
    for number, (start, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        _, (plane, _, top, left, _), (_, rows, columns, depth) = page.decode(None, number)
        data = content[start : start + size]
        plain = decompress(data, int(compression), rows, columns * depth * bits, fax)
        if bits % 8:
            block = _unpack(plain, (rows, columns, depth), bits)
        else:
            block = np.asarray(page.decode(plain, number)[0])[0]
        place = samples[plane, 0, top : top + rows, left : left + columns]
        place[...] = block[: place.shape[0], : place.shape[1]]
    return samples[0, 0] if len(samples) == 1 else np.moveaxis(samples[:, 0, ..., 0], 0, -1)


def _check_blocks(page: tifffile.TiffPage, length: int) -> None:
    """Refuse a wrong number of strips or tiles, absurdly large ones, and those outside the file."""
    count = int(np.prod(page.chunked))
    sizes = page.tags.valueof(_TILE_SIZES if page.is_tiled else _STRIP_SIZES, ())
    if not len(page.dataoffsets) == len(sizes) == count:
        raise ImageError(
            f"it must list {count} strips or tiles, but lists {len(page.dataoffsets)} places and "
            f"{len(sizes)} sizes. {COPY_AGAIN}"
        )
    end = max(start + size for start, size in zip(page.dataoffsets, sizes, strict=True))
    if end > length:
        raise ImageError(
            f"its pixels must lie inside the file, but they end at byte {end} of {length}. "
            f"{COPY_AGAIN}"
        )
    largest = max(page.imagelength * page.imagewidth, _LARGEST_SMALL_TILE)
    if page.is_tiled and page.tilelength * page.tilewidth > largest:
        raise ImageError(
            f"its tiles must have at most {largest} pixels, but have "
            f"{page.tilelength}x{page.tilewidth}. {COPY_AGAIN}"
        )


def _unpack(plain: bytes, shape: tuple[int, int, int], bits: int) -> Samples:
    """Samples of `bits` bits, packed without gaps in rows that start on whole bytes."""
    rows, columns, depth = shape
    packed = np.frombuffer(plain, np.uint8).reshape(rows, -1)
    unpacked = np.unpackbits(packed, axis=1)[:, : columns * depth * bits]
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    samples: Samples = (unpacked.reshape(*shape, bits) * weights).sum(-1, dtype=np.uint16)
    return samples


def _interpret(samples: Samples, page: tifffile.TiffPage) -> Pixels:
    """Give the samples their meaning: which value is white, palette, alpha."""
    photometric, bits = page.photometric, page.bitspersample
    colours = _COLOURS[photometric]
    colour, white = samples[..., :colours], _white(page)
    if photometric == _INDEXED:
        return Pixels(_look_up(colour[..., 0], page), 255)
    if white is not None and photometric in (_WHITE_IS_ZERO, _CMYK):
        if colour.max() > white:
            raise ImageError(
                f"its samples must not exceed the maximum it declares, {white}, but reach "
                f"{colour.max()}. {COPY_AGAIN}"
            )
        colour = samples.dtype.type(white) - colour  # light, where there was ink
        if photometric == _CMYK:
            colour = np.rint(colour[..., :3] * (colour[..., 3:] / white)).astype(samples.dtype)
    if samples.shape[-1] > colours and page.extrasamples[:1] == (_STRAIGHT_ALPHA,):
        opaque = 1 if white is None else (1 << bits) - 1
        colour = over_black(colour, samples[..., colours], opaque)
    if white is not None and bits < 8:
        colour, white = (colour * np.float32(255 / white)).round().astype(np.uint8), 255
    return Pixels(np.ascontiguousarray(colour[..., 0] if colours == 1 else colour), white)


def _white(page: tifffile.TiffPage) -> int | None:
    """The sample value of full brightness; None if none is declared."""
    bits = page.bitspersample
    if page.sampleformat != _UNSIGNED or bits > 16:
        return None
    highest = int(np.ravel(page.tags.valueof(_MAX_SAMPLE, 0))[0])
    is_depth = bits > 8 and highest > 255 and not highest & highest + 1
    return highest if is_depth else (1 << bits) - 1


def _look_up(index: Samples, page: tifffile.TiffPage) -> Samples:
    """Colours uint8 (H, W, 3) of palette indices; some writers store 8-bit colours."""
    palette = np.ravel(page.tags.valueof(_PALETTE, ())).astype(np.uint16)
    size = 3 << page.bitspersample
    if palette.size != size:
        raise ImageError(
            f"its palette must have {size} values, but has {palette.size}. {COPY_AGAIN}"
        )
    if palette.max() > 255:
        palette >>= 8
    colours: Samples = palette.astype(np.uint8).reshape(3, -1).T[index]
    return colours
