"""Pixels of every kind of file, against what was written; and damage of every kind."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import ImageError
from blemish.image_formats import bmp, jpeg, png, tiff, webp
from blemish.image_formats.exif import exif_orientation
from blemish.images import image_size, read_image
from image_files import (
    exif_bytes,
    opencv_bytes,
    pillow_bytes,
    png_bytes,
    png_chunk,
    tiff_bytes,
)

H, W = 13, 21
RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:H, :W]
SMOOTH = np.stack([COLUMNS * 9, ROWS * 15, (COLUMNS + ROWS) * 5], axis=-1).astype(np.uint8)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (H, W, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)
BITS = RNG.random((H, W)) > 0.5
INDEXED = Image.fromarray(SMOOTH).quantize(16)
COPY = "Copy the file again from its source, or take it out."


def on_black(rgba, opaque):
    """The dull formula, rounded to nearest."""
    light = rgba[..., :-1] * (rgba[..., -1:] / opaque)
    return np.floor(light + 0.5).astype(rgba.dtype)


EXACT = {
    "PNG gray": (png_bytes(RGB[..., 0]), RGB[..., 0], 255),
    "PNG RGB": (png_bytes(RGB), RGB, 255),
    "PNG RGBA": (png_bytes(RGBA), on_black(RGBA, 255), 255),
    "PNG gray and alpha": (png_bytes(RGBA[..., 2:]), on_black(RGBA[..., 2:], 255)[..., 0], 255),
    "PNG 1-bit": (png_bytes(BITS.astype(np.uint8), bits=1), BITS * np.uint8(255), 255),
    "PNG 2-bit": (png_bytes(RGB[..., 0] >> 6, bits=2), (RGB[..., 0] >> 6) * np.uint8(85), 255),
    "PNG 4-bit": (png_bytes(RGB[..., 0] >> 4, bits=4), (RGB[..., 0] >> 4) * np.uint8(17), 255),
    "PNG palette": (pillow_bytes(INDEXED, "PNG"), np.asarray(INDEXED.convert("RGB")), 255),
    "PNG 16-bit gray": (png_bytes(DEEP[..., 0]), DEEP[..., 0], 65535),
    "PNG 16-bit RGB": (png_bytes(DEEP), DEEP, 65535),
    "BMP RGB": (pillow_bytes(RGB, "BMP"), RGB, 255),
    "BMP gray": (pillow_bytes(RGB[..., 0], "BMP"), RGB[..., 0], 255),
    "BMP palette": (pillow_bytes(INDEXED, "BMP"), np.asarray(INDEXED.convert("RGB")), 255),
    "BMP 1-bit": (pillow_bytes(BITS, "BMP"), BITS * np.uint8(255), 255),
    "WebP lossless": (pillow_bytes(RGB, "WEBP", lossless=True), RGB, 255),
    "WebP RGBA": (pillow_bytes(RGBA, "WEBP", lossless=True, exact=True), on_black(RGBA, 255), 255),
}


def pixels_of(content):
    for module in (png, jpeg, bmp, tiff, webp):
        signatures = getattr(module, "SIGNATURES", None) or (module.SIGNATURE,)
        if content.startswith(signatures):
            return module.decode(content)
    raise AssertionError(content[:8])


@pytest.mark.parametrize("name", EXACT)
def test_lossless_files_give_back_exactly_what_was_written(name):
    content, expected, white = EXACT[name]
    pixels = pixels_of(content)
    assert pixels.white == white
    assert pixels.samples.dtype == expected.dtype
    shown = pixels.samples
    if shown.ndim != expected.ndim:  # Pillow gives indexed gray as RGB, or the other way round
        shown, expected = (a if a.ndim == 3 else np.stack([a] * 3, -1) for a in (shown, expected))
    np.testing.assert_array_equal(shown, expected)


def test_cmyk_is_shown_as_pillow_shows_it():
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    decoded = jpeg.decode(pillow_bytes(cmyk, "JPEG", quality=100, subsampling=0)).samples
    assert np.abs(decoded.astype(int) - np.asarray(cmyk.convert("RGB"))).mean() < 2


def test_jpeg_pixels_are_those_of_libjpeg():
    for mode in ("RGB", "L"):
        content = pillow_bytes(SMOOTH, "JPEG", mode, exif=exif_bytes(6)[6:], comment=b"x")
        flag = cv2.IMREAD_COLOR_RGB if mode == "RGB" else cv2.IMREAD_GRAYSCALE
        oracle = cv2.imdecode(
            np.frombuffer(content, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION
        )
        np.testing.assert_array_equal(jpeg.decode(content).samples, oracle)


@pytest.mark.parametrize("significant", range(9, 16))
def test_declared_png_depth_is_undone_whether_or_not_samples_were_scaled_up(significant):
    samples = RNG.integers(0, 1 << significant, (H, W), dtype=np.uint16)
    samples[0, 0] = (1 << significant) - 1
    chunk = [(b"sBIT", bytes([significant]))]
    missing = 16 - significant
    ways = {
        "unscaled": samples,
        "shifted": samples << missing,
        "repeated": samples << missing | samples >> (significant - missing),
        "rounded": np.rint(samples * (65535 / samples[0, 0])).astype(np.uint16),
    }
    for way, stored in ways.items():
        pixels = png.decode(png_bytes(stored, chunks=chunk))
        np.testing.assert_array_equal(pixels.samples, samples, err_msg=way)
        assert pixels.white == samples[0, 0]


def test_a_declared_depth_that_makes_no_sense_counts_as_none():
    for chunk in (b"", b"\0", b"\x10", b"\x20"):
        pixels = png.decode(png_bytes(DEEP[..., 0], chunks=[(b"sBIT", chunk)]))
        np.testing.assert_array_equal(pixels.samples, DEEP[..., 0])
        assert pixels.white == 65535


def test_a_transparent_colour_becomes_black():
    for array, key in ((RGB, RGB[2, 3]), (DEEP, DEEP[2, 3]), (DEEP[..., 0], DEEP[2, 3, :1])):
        chunk = (b"tRNS", struct.pack(f">{len(key)}H", *key.tolist()))
        expected = array.copy()
        expected[(array == key).all(-1) if array.ndim == 3 else array == key] = 0
        np.testing.assert_array_equal(
            png.decode(png_bytes(array, chunks=[chunk])).samples, expected
        )


def test_a_transparent_palette_entry_becomes_black():
    content = pillow_bytes(INDEXED, "PNG", transparency=3)
    expected = np.asarray(INDEXED.convert("RGB")).copy()
    expected[np.asarray(INDEXED) == 3] = 0
    np.testing.assert_array_equal(png.decode(content).samples, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_states_its_orientation(orientation):
    exif = exif_bytes(orientation)
    image = Image.fromarray(RGB)
    assert jpeg.read_header(pillow_bytes(image, "JPEG", exif=exif)).orientation == orientation
    assert webp.read_header(pillow_bytes(image, "WEBP", exif=exif)).orientation == orientation
    assert png.read_header(pillow_bytes(image, "PNG", exif=exif)).orientation == orientation
    assert tiff.read_header(tiff_bytes(RGB, tags={274: [orientation]})).orientation == orientation
    assert exif_orientation(exif_bytes(orientation, "<")) == orientation


def test_damaged_or_senseless_exif_data_count_as_none():
    whole = exif_bytes(6)
    for exif in (whole[:12], whole[:20], b"", b"Exif\0\0XX", exif_bytes(9), exif_bytes(0)):
        assert exif_orientation(exif) == 1


FRAMES = [Image.fromarray(RGB), Image.fromarray(SMOOTH)]
SAVE_FRAME = "Save the frame you mean as its own file."
DAMAGED = {
    "animated PNG": (
        pillow_bytes(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        f"it must hold one image, but is an animation. {SAVE_FRAME}",
    ),
    "animated WebP": (
        pillow_bytes(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
        f"it must hold one image, but is an animation. {SAVE_FRAME}",
    ),
    "checksum": (
        png_bytes(RGB, checksum=1),
        "the checksum of each PNG chunk must match its data, but that of the chunk at byte 8 "
        f"does not: the file is damaged. {COPY}",
    ),
    "no pixels": (
        png_bytes(RGB)[:33] + png_chunk(b"IEND", b""),
        f"a PNG must hold pixels and, if indexed, a palette. {COPY}",
    ),
    "no size": (
        b"\xff\xd8\xff\xda\0\2\0\0",
        f"a JPEG must state its size before its pixels, but does not. {COPY}",
    ),
    "unknown BMP": (
        b"BM" + bytes(40),
        f"a BMP must start with a header of a known kind, but does not. {COPY}",
    ),
    "a video": (
        b"RIFF\0\0\0\0AVI LIST",
        "a single image is needed, but this is a video. Name a frame of it, such as "
        "clip.avi/000022.",
    ),
    "another RIFF": (
        b"RIFF\0\0\0\0WAVEfmt ",
        f"a RIFF file must be a WebP image, but is not. {COPY}",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_or_not_supported_is_refused_with_the_reason(name):
    content, message = DAMAGED[name]
    module = {b"\x89": png, b"\xff": jpeg, b"B": bmp, b"R": webp}[content[:1]]
    with pytest.raises(ImageError) as caught:
        (module.read_header(content), module.decode(content))
    assert str(caught.value) == message


WHOLE = {
    "PNG": png_bytes(SMOOTH),
    "PNG palette": pillow_bytes(INDEXED, "PNG"),
    "JPEG": pillow_bytes(SMOOTH, "JPEG"),
    "progressive JPEG": pillow_bytes(SMOOTH, "JPEG", progressive=True, exif=exif_bytes(6)),
    "BMP": pillow_bytes(SMOOTH, "BMP"),
    "WebP": pillow_bytes(SMOOTH, "WEBP"),
    "WebP lossless": pillow_bytes(SMOOTH, "WEBP", lossless=True, exif=exif_bytes(3)),
    "TIFF": pillow_bytes(SMOOTH, "TIFF"),
    "TIFF LZW": opencv_bytes(SMOOTH.astype(np.uint16), ".tif"),
    "TIFF deflate": pillow_bytes(SMOOTH, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF PackBits": pillow_bytes(SMOOTH, "TIFF", compression="packbits"),
    "TIFF fax": pillow_bytes(BITS, "TIFF", compression="group4"),
}


def attempt(path):
    """Image, or None and the message."""
    try:
        return read_image(path, max_pixels=100_000), ""
    except ImageError as error:
        return None, str(error)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_anywhere_is_an_error_or_lacks_only_padding(name, tmp_path, capfd):
    whole = WHOLE[name]
    path = tmp_path / "image"
    path.write_bytes(whole)
    image = read_image(path)
    for length in {*range(0, len(whole), 5), *range(len(whole) - 40, len(whole))}:
        path.write_bytes(whole[:length])
        cut, message = attempt(path)
        if cut is None:
            assert message.startswith(f"{path} cannot be read: ")
        else:
            assert name == "BMP" and len(whole) - length <= 3
            np.testing.assert_array_equal(cut, image)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_bytes_give_an_image_error_or_an_image_of_the_declared_size(name, tmp_path, capfd):
    whole = WHOLE[name]
    places = st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255))

    @given(flips=st.lists(places, min_size=1, max_size=4))
    def law(flips):
        content = bytearray(whole)
        for place, flip in flips:
            content[place] ^= flip
        path = tmp_path / "image"
        path.write_bytes(content)
        image, message = attempt(path)
        if image is None:
            assert message.startswith(f"{path} cannot be read: ")
        else:
            assert image.shape == (*image_size(path), 3) and image.size <= 300_000

    law()
    assert capfd.readouterr() == ("", "")


def test_too_few_compressed_png_pixels_are_an_error():
    content = png_bytes(RGB)
    plain = zlib.compress(b"\0" * 50)
    parts = content[:33] + png_chunk(b"IDAT", plain) + png_chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="damaged or too few"):
        png.decode(parts)
