"""TIFFs of every kind against what was written, and what is refused with which reason."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish.errors import ImageError
from blemish.image_formats import tiff
from image_files import opencv_bytes, pillow_bytes, png_bytes, tag_directory, tiff_bytes

H, W = 13, 21
RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:H, :W]
SMOOTH = np.stack([COLUMNS * 9, ROWS * 15, (COLUMNS + ROWS) * 5], axis=-1).astype(np.uint8)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)
GRAY12 = RNG.integers(0, 4096, (H, W), dtype=np.uint16)
BITS = RNG.random((H, W)) > 0.5
INDEXED = Image.fromarray(SMOOTH).quantize(16)
OVER_BLACK = np.floor(RGBA[..., :3] * (RGBA[..., 3:] / 255) + 0.5).astype(np.uint8)
COPY = "Copy the file again from its source, or take it out."
SAVE_PAGE = "Save the page you mean as its own file."
SAVE_AS = "Save it as PNG, or as gray or RGB TIFF without compression, with LZW or with deflate."


def big_tiff(array, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, bigtiff=True, photometric="rgb", metadata=None, **options)
    return stream.getvalue()


EXACT = {
    "gray": (tiff_bytes(RGB[..., 0]), RGB[..., 0], 255),
    "RGB": (tiff_bytes(RGB), RGB, 255),
    "16-bit": (tiff_bytes(DEEP), DEEP, 65535),
    "16-bit big-endian": (tiff_bytes(DEEP, order=">"), DEEP, 65535),
    "declared 12-bit": (tiff_bytes(GRAY12, tags={281: [4095]}), GRAY12, 4095),
    "with a statistic": (tiff_bytes(GRAY12, tags={281: [4000]}), GRAY12, 65535),
    "float": (tiff_bytes(DEEP.astype(np.float32)), DEEP.astype(np.float32), None),
    "double": (tiff_bytes(DEEP.astype(np.float64)), DEEP.astype(np.float64), None),
    "signed": (tiff_bytes(RGB.astype(np.int16)), RGB.astype(np.int16), None),
    "32-bit": (tiff_bytes(DEEP.astype(np.uint32)), DEEP.astype(np.uint32), None),
    "white is 0": (tiff_bytes(DEEP[..., 0], tags={262: [0]}), 65535 - DEEP[..., 0], 65535),
    "alpha": (tiff_bytes(RGBA, tags={338: [2]}), OVER_BLACK, 255),
    "premultiplied alpha": (tiff_bytes(RGBA, tags={338: [1]}), RGBA[..., :3], 255),
    "unspecified channel": (tiff_bytes(RGBA, tags={338: [0]}), RGBA[..., :3], 255),
    "fax": (pillow_bytes(BITS, "TIFF", compression="group4"), BITS * np.uint8(255), 255),
    "1-bit": (pillow_bytes(BITS, "TIFF"), BITS * np.uint8(255), 255),
    "1-bit white is 0": (
        tiff_bytes(
            BITS.view(np.uint8), data=np.packbits(BITS, 1).tobytes(), tags={258: [1], 262: [0]}
        ),
        ~BITS * np.uint8(255),
        255,
    ),
    "big": (big_tiff(DEEP), DEEP, 65535),
    "big, big-endian": (big_tiff(DEEP, byteorder=">"), DEEP, 65535),
    "palette": (pillow_bytes(INDEXED, "TIFF"), np.asarray(INDEXED.convert("RGB")), 255),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_tiff_gives_back_exactly_what_was_written(name):
    content, expected, white = EXACT[name]
    pixels = tiff.decode(content)
    assert pixels.white == white
    assert pixels.samples.dtype == expected.dtype
    np.testing.assert_array_equal(pixels.samples, expected)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("array", [SMOOTH, DEEP, DEEP[..., 0], DEEP.astype(np.float32)])
def test_compressed_tiffs_give_back_exactly_what_was_written(array, compression, predictor):
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    content = opencv_bytes(array, ".tif", *options, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 5)
    np.testing.assert_array_equal(tiff.decode(content).samples, array)


def lzw(plain):
    """Compress bytes by libtiff, as a gray image of one row."""
    row = np.frombuffer(plain, np.uint8)[None]
    content = pillow_bytes(row, "TIFF", compression="tiff_lzw")
    with Image.open(io.BytesIO(content)) as image:
        (start,), (size,) = image.tag_v2[273], image.tag_v2[279]
    return content[start : start + size]


COMPRESSORS = {1: bytes, 5: lzw, 8: zlib.compress}


def in_blocks(blocks, tags, compression, predictor, order):
    """A TIFF of DEEP from its strips or tiles (rows, columns, channels)."""
    data, places, sizes = b"", [], []
    for block in blocks:
        stored = block.copy()
        if predictor == 2:
            stored[:, 1:] -= block[:, :-1]
        packed = COMPRESSORS[compression](stored.astype(stored.dtype.newbyteorder(order)).tobytes())
        places.append(8 + len(data))
        sizes.append(len(packed))
        data += packed
    place, size = (324, 325) if 322 in tags else (273, 279)
    tags = {259: [compression], 317: [predictor], place: places, size: sizes, **tags}
    return tiff_bytes(DEEP, data=data, order=order, tags=tags)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("compression", COMPRESSORS)
def test_separate_planes_and_strips_and_tiles_are_put_in_place(compression, predictor, order):
    how = compression, predictor, order
    strips = [DEEP[top : top + 5] for top in (0, 5, 10)]
    planes = [strip[..., channel : channel + 1] for channel in range(3) for strip in strips]
    padded = np.pad(DEEP, ((0, 3), (0, 11), (0, 0)), mode="edge")  # one row of two 16x16 tiles
    tiles = [padded[:, :16], padded[:, 16:]]
    for content in (
        in_blocks(strips, {278: [5]}, *how),
        in_blocks(planes, {278: [5], 284: [2]}, *how),
        in_blocks(tiles, {322: [16], 323: [16]}, *how),
    ):
        np.testing.assert_array_equal(tiff.decode(content).samples, DEEP)


def test_a_strip_is_not_inflated_beyond_the_image():
    data = zlib.compress(RGB.tobytes() + bytes(20_000_000))
    content = tiff_bytes(RGB, data=data, tags={259: [8]})
    tiff.decode(content)
    tracemalloc.start()
    np.testing.assert_array_equal(tiff.decode(content).samples, RGB)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_packed_12_bit_samples_are_unpacked_and_rows_start_on_whole_bytes():
    bits = (GRAY12[..., None] >> np.arange(11, -1, -1)) & 1
    data = np.packbits(bits.reshape(H, -1).astype(np.uint8), axis=1).tobytes()
    pixels = tiff.decode(tiff_bytes(GRAY12, data=data, tags={258: [12]}))
    np.testing.assert_array_equal(pixels.samples, GRAY12)
    assert pixels.white == 4095


def test_packed_4_bit_palette_indices_are_unpacked():
    index = np.asarray(INDEXED)
    palette = np.asarray(INDEXED.getpalette("RGB"))[: 3 * 16].reshape(16, 3)
    nibbles = np.pad(index, ((0, 0), (0, 1)))
    data = (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).tobytes()
    tags = {258: [4], 262: [3], 320: (palette.T.ravel() * 257).tolist()}
    np.testing.assert_array_equal(
        tiff.decode(tiff_bytes(index, data=data, tags=tags)).samples, palette[index]
    )


def test_cmyk_is_shown_as_pillow_shows_it():
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    expected = np.asarray(cmyk.convert("RGB"))
    np.testing.assert_array_equal(tiff.decode(pillow_bytes(cmyk, "TIFF")).samples, expected)


def with_page(first, second, link=None):
    """`first` with a second directory that has the tags `second`, or with any `link` to one."""
    start = struct.unpack_from("<I", first, 4)[0]
    pointer = start + 2 + 12 * struct.unpack_from("<H", first, start)[0]
    content = bytearray(first + tag_directory(second, len(first)))
    struct.pack_into("<I", content, pointer, len(first) if link is None else link)
    return bytes(content)


def two_pages(second_subfile):
    return with_page(tiff_bytes(RGB), {254: [second_subfile], 256: [1], 257: [1]})


def many_pages(count):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for _ in range(count):
            writer.write(RGB[:1, :1, 0], photometric="minisblack", metadata=None)
    return stream.getvalue()


def test_a_preview_beside_the_image_does_not_count_as_a_page():
    np.testing.assert_array_equal(tiff.decode(two_pages(1)).samples, RGB)


REFUSED = {
    "pages": (two_pages(0), f"it must hold one image, but has 2 pages. {SAVE_PAGE}"),
    "many pages": (
        many_pages(150),
        f"it must hold one image, but has 99 or more pages. {SAVE_PAGE}",
    ),
    "previews only": (
        tiff_bytes(RGB, tags={254: [1]}),
        f"it must hold one image, but has 0 pages. {SAVE_PAGE}",
    ),
    "a second page cut off": (
        with_page(tiff_bytes(RGB), {}, link=5000),
        "its list of pages must end inside the file, but goes on at byte 5000 of "
        f"{len(tiff_bytes(RGB)) + 6}. {COPY}",
    ),
    "a list of pages without end": (
        with_page(tiff_bytes(RGB), {}, link=8 + RGB.size + 1),
        f"it must hold one image, but has 99 or more pages. {SAVE_PAGE}",
    ),
    "a tag outside": (
        tiff_bytes(RGB)[:-4],
        f"its 10 tags must be whole and lie inside the file, but only 9 do. {COPY}",
    ),
    "float predictor": (
        tiff_bytes(DEEP.astype(np.float32), tags={317: [3]}),
        "its kind of TIFF must be supported, but predictor 3 with 32-bit samples is not. "
        f"{SAVE_AS}",
    ),
    "float white is 0": (
        tiff_bytes(DEEP[..., 0].astype(np.float32), tags={262: [0]}),
        "its kind of TIFF must be supported, but photometric interpretation 0 of samples without "
        f"a white is not. {SAVE_AS}",
    ),
    "bits in reverse": (
        tiff_bytes(
            BITS.view(np.uint8), data=np.packbits(BITS, 1).tobytes(), tags={258: [1], 266: [2]}
        ),
        f"its kind of TIFF must be supported, but fill order 2 is not. {SAVE_AS}",
    ),
    "volume": (
        tiff_bytes(RGB, tags={32997: [2]}),
        "its kind of TIFF must be supported, but planar configuration 1 with 2 layers is not. "
        f"{SAVE_AS}",
    ),
    "beyond white": (
        tiff_bytes(DEEP[..., 0] | 4096, tags={262: [0], 281: [4095]}),
        "its samples must not exceed the maximum it declares, 4095, but reach "
        f"{(DEEP[..., 0] | 4096).max()}. {COPY}",
    ),
    "endless tiles": (
        tiff_bytes(RGB, tags={322: [1 << 20], 323: [1 << 20], 324: [8], 325: [1]}),
        f"its tiles must have at most 16777216 pixels, but have 1048576x1048576. {COPY}",
    ),
    "a directory cut off": (
        tiff_bytes(RGB)[:850],
        "its tags and pixels must be readable, but the decoder says: corrupted IFD structure. "
        f"{COPY}",
    ),
    "JPEG in TIFF": (
        pillow_bytes(SMOOTH, "TIFF", compression="jpeg"),
        f"its kind of TIFF must be supported, but compression 7 is not. {SAVE_AS}",
    ),
    "five channels": (
        tiff_bytes(np.zeros((2, 2, 5), np.uint8)),
        "its kind of TIFF must be supported, but photometric interpretation 2 with 5 channels "
        f"is not. {SAVE_AS}",
    ),
    "unequal depths": (
        tiff_bytes(RGB, tags={258: [8, 8, 16]}),
        f"its kind of TIFF must be supported, but channels of different depths is not. {SAVE_AS}",
    ),
    "64-bit integers": (
        tiff_bytes(RGB.astype(np.uint64)),
        f"its kind of TIFF must be supported, but 64-bit samples of format 1 is not. {SAVE_AS}",
    ),
    "pixels outside": (
        tiff_bytes(RGB, tags={273: [10000]}),
        "its pixels must lie inside the file, but they end at byte 10819 of "
        f"{len(tiff_bytes(RGB))}. {COPY}",
    ),
    "strips missing": (
        tiff_bytes(RGB, tags={278: [5]}),
        f"it must list 3 strips or tiles, but lists 1 places and 1 sizes. {COPY}",
    ),
    "pixels missing": (
        tiff_bytes(RGB, tags={279: [100]}),
        f"its compressed pixels must fill the image, but they are damaged or too few. {COPY}",
    ),
    "palette missing": (
        tiff_bytes(RGB[..., 0], tags={262: [3]}),
        f"its palette must have 768 values, but has 0. {COPY}",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_damaged_or_not_supported_is_refused_with_the_reason(name):
    content, message = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        (tiff.read_header(content), tiff.decode(content))
    assert str(caught.value) == message


def test_only_tiffs_load_tifffile_and_damage_is_not_logged_to_the_terminal(tmp_path):
    (tmp_path / "image.png").write_bytes(png_bytes(RGB))
    (tmp_path / "image.tif").write_bytes(tiff_bytes(RGB)[:-4])
    program = """
import sys
from pathlib import Path
from blemish.errors import ImageError
from blemish.images import read_image
read_image(Path("image.png"))
assert "tifffile" not in sys.modules
try:
    read_image(Path("image.tif"))
except ImageError:
    assert "tifffile" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
