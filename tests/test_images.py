"""What callers of `blemish.images` see: values, sizes, masks, listings and the text of errors."""

import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageOps

from blemish.errors import DatasetError, ImageError, InputError, ShapeError
from blemish.images import image_size, list_images, read_image, read_mask, to_rgb
from image_files import exif_bytes, pillow_bytes, png_bytes, png_chunk, tiff_bytes

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY12 = RNG.integers(0, 4096, (6, 9), dtype=np.uint16)
GRAY12[0, :2] = 0, 4095


@pytest.fixture
def file(tmp_path):
    def write(content, name="image"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def as_rgb(gray):
    return np.stack([gray] * 3, axis=-1)


def refusal(function, *arguments, **options):
    with pytest.raises(ImageError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_8_bit_files_stay_8_bit_and_gray_is_repeated(file):
    color, gray = read_image(file(png_bytes(RGB))), read_image(file(png_bytes(RGB[..., 0])))
    assert color.dtype == gray.dtype == np.uint8
    np.testing.assert_array_equal(color, RGB)
    np.testing.assert_array_equal(gray, as_rgb(RGB[..., 0]))
    assert color.flags.c_contiguous and gray.flags.c_contiguous


@pytest.mark.parametrize("array", [RGB.astype(np.uint16) * 257, GRAY12])
def test_16_bit_files_are_scaled_by_all_16_bits(file, array):
    expected = array / 65535 if array.ndim == 3 else as_rgb(array / 65535)
    for content in (png_bytes(array), tiff_bytes(array)):
        image = read_image(file(content))
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_a_declared_or_stated_depth_makes_white_1(file):
    expected = as_rgb(GRAY12 / 4095)
    declared = [
        png_bytes(GRAY12 << 4, chunks=[(b"sBIT", b"\x0c")]),
        tiff_bytes(GRAY12, tags={281: [4095]}),
    ]
    for content in declared:
        np.testing.assert_allclose(read_image(file(content)), expected, rtol=1e-6)
    stated = read_image(file(png_bytes(GRAY12)), value_range=(0, 4095))
    np.testing.assert_allclose(stated, expected, rtol=1e-6)
    assert stated.max() == 1 and stated.min() == 0


def test_float_files_are_scaled_by_the_stated_range_only(file):
    path = file(tiff_bytes(np.array([[-1.0, 0.0, 3.0]], np.float32)))
    np.testing.assert_array_equal(
        read_image(path, value_range=(-1, 3)), as_rgb(np.array([[0.0, 0.25, 1.0]], np.float32))
    )
    assert refusal(read_image, path) == (
        f"{path} cannot be read: float32 samples need a stated range of values, but none is "
        "given. State the values that mean black and white: --value-range LOW,HIGH of blemish fit, "
        "or value_range=(low, high) in Python."
    )


@pytest.mark.parametrize(
    ("value", "value_range", "reason"),
    [
        (5000, (0, 4095), "values must lie in 0 to 4095, but reach from 0 to 5000"),
        (np.nan, (0, 1), "values must lie in 0 to 1, but reach from nan to nan"),
        (np.inf, (0, 1), "values must lie in 0 to 1, but reach from 0 to inf"),
    ],
)
def test_a_value_out_of_range_is_an_error_and_never_cut_off(file, value, value_range, reason):
    path = file(tiff_bytes(np.array([[0, value]], np.float32)))
    assert refusal(read_image, path, value_range=value_range) == (
        f"{path} cannot be read: {reason}. State the range of values the camera can give: "
        "--value-range LOW,HIGH of blemish fit, or value_range=(low, high) in Python."
    )


def test_a_range_that_cannot_apply_is_refused(file):
    path = file(png_bytes(RGB))
    assert refusal(read_image, path, value_range=(0, 4095)) == (
        f"{path} cannot be read: images must have more than 8 bits per sample, since the model or "
        "the call states a range of values, but this one has 8. Give a deep image, or leave the "
        "range out."
    )
    path = file(png_bytes(GRAY12))
    for wrong in ((1, 1), (2, 1), (0, np.nan), (-np.inf, 1)):
        assert refusal(read_image, path, value_range=wrong) == (
            f"{path} cannot be read: value_range must be (low, high) with low < high, "
            f"but is {wrong}."
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_applies_it(file, orientation):
    exif = exif_bytes(orientation)
    path = file(pillow_bytes(RGB, "PNG", exif=exif))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    for content in (path.read_bytes(), tiff_bytes(RGB, tags={274: [orientation]})):
        path = file(content)
        np.testing.assert_array_equal(read_image(path), expected)
        assert image_size(path) == expected.shape[:2]


def test_the_bytes_count_and_not_the_suffix(file):
    path = file(pillow_bytes(RGB, "BMP"), "photo.png")
    np.testing.assert_array_equal(read_image(path), RGB)


def test_a_file_that_is_no_image_is_refused_with_the_reason(file, tmp_path):
    advice = "Replace the file, or take it out."
    must = "it must be a PNG, JPEG, BMP, TIFF or WebP image, but"
    text, empty = file(b"Dear colleague", "text.png"), file(b"", "empty.png")
    missing = tmp_path / "missing.png"
    cases = {
        text: f"{must} starts with b'Dear col'. {advice}",
        empty: f"{must} is empty. {advice}",
        missing: "the system says: No such file or directory. Check the path and its permissions.",
        tmp_path: "it must be a file, but is a folder. Name an image file.",
    }
    for path, reason in cases.items():
        for function in (read_image, read_mask, image_size):
            assert refusal(function, path) == f"{path} cannot be read: {reason}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    assert refusal(read_image, path) == (
        f"{path} cannot be read: it must be a file, but is not a regular file. Name an image file."
    )


def test_a_file_without_permission_is_refused(file, monkeypatch):
    path = file(png_bytes(RGB))

    def deny(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", deny)
    assert refusal(read_image, path) == (
        f"{path} cannot be read: the system says: Permission denied. "
        "Check the path and its permissions."
    )


def huge(side):
    """Files of a few bytes that declare side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", b""), png_chunk(b"IEND", b"")]
    yield b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    yield tiff_bytes(RGB, tags={256: [side], 257: [side]})
    yield b"BM" + bytes(12) + struct.pack("<IiiHH", 40, side, -side, 1, 24) + bytes(60)


def test_an_absurd_declared_size_is_refused_before_decoding(file):
    for content in huge(60000):
        path = file(content)
        assert refusal(read_image, path) == (
            f"{path} cannot be read: it must have at most 100000000 pixels, but declares "
            "60000x60000. Use a smaller image, or read it in Python: "
            "read_image(path, max_pixels=...)."
        )
        assert image_size(path) == (60000, 60000)
    path = file(png_bytes(RGB))
    assert "at most 53 pixels, but declares 6x9" in refusal(read_image, path, max_pixels=53)
    assert read_image(path, max_pixels=54).shape == (6, 9, 3)


def test_a_file_far_too_long_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as stream:
        stream.truncate(5_000_000_000)
    assert refusal(read_image, path) == (
        f"{path} cannot be read: an image of at most 100000000 pixels must have at most 3267108864 "
        "bytes, but the file has 5000000000. Use a smaller image, or read it in Python: "
        "read_image(path, max_pixels=...)."
    )


def test_a_size_of_zero_is_refused(file):
    for content in huge(0):
        path = file(content)
        assert refusal(image_size, path) == (
            f"{path} cannot be read: its height and width must be at least 1, but are 0 and 0. "
            "The file is damaged."
        )


def test_a_mask_is_true_where_it_is_not_black(file):
    mask = np.array([[0, 1, 127, 128, 255]], np.uint8)
    expected = [[False, True, True, True, True]]
    color = np.zeros((1, 5, 3), np.uint8)
    color[..., 2] = mask
    clear = np.stack([np.full_like(mask, 255), mask], axis=-1)
    wide = mask.astype(np.float32) - 1
    for content in (
        png_bytes(mask),
        png_bytes(color),
        png_bytes(clear),
        png_bytes(mask.astype(np.uint16)),
        pillow_bytes(mask, "WEBP", "RGB", lossless=True),
    ):
        found = read_mask(file(content))
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(read_mask(file(tiff_bytes(wide))), wide != 0)


@pytest.mark.parametrize("format_name", ["JPEG", "WEBP"])
def test_the_noise_of_lossy_compression_is_no_defect(file, format_name):
    mask = np.zeros((64, 64), np.uint8)
    mask[17:30, 25:45] = 255
    content = pillow_bytes(mask, format_name, "RGB", quality=80)
    stored = read_image(file(content))
    assert ((stored > 0) & (stored < 255)).any()
    found = read_mask(file(content))
    assert (found != (mask > 0)).mean() < 0.01
    assert not found[:8].any()


def test_images_are_listed_by_suffix_and_the_rest_is_counted(tmp_path):
    images = ["b.PNG", "a.jpg", "deep/er/c.TiFf", "deep/d.webp", "e.bmp", "f.jpeg", "g.tif"]
    others = [".hidden.png", "Thumbs.db", "deep/notes.txt", "png", "._a.jpg"]
    for name in images + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found, count = list_images(tmp_path)
    assert found == sorted(tmp_path / name for name in images)
    assert count == len(others)


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "a.png").touch()
    (inside / "link").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (outside / "self").symlink_to(outside)
    assert list_images(inside) == ([inside / "link" / "a.png"], 0)


def test_an_empty_folder_has_no_images(tmp_path):
    assert list_images(tmp_path) == ([], 0)


def test_a_folder_that_is_missing_or_a_file_is_an_error(tmp_path):
    path = tmp_path / "nowhere"
    with pytest.raises(DatasetError) as caught:
        list_images(path)
    assert str(caught.value) == (
        f"{path} must be a folder that can be listed, but the system says: No such file or "
        "directory. Check the path and its permissions."
    )
    path.touch()
    with pytest.raises(DatasetError) as caught:
        list_images(path)
    assert str(caught.value) == (
        f"{path} must be a folder that can be listed, but the system says: Not a directory. "
        "Check the path and its permissions."
    )


SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=5)


@given(gray=arrays(np.uint8, SHAPES))
def test_every_gray_array_is_what_reading_its_file_gives(gray):
    np.testing.assert_array_equal(to_rgb(gray), as_rgb(gray))
    np.testing.assert_array_equal(to_rgb(gray[..., None]), as_rgb(gray))
    np.testing.assert_array_equal(to_rgb(as_rgb(gray)), as_rgb(gray))
    opaque = np.concatenate([as_rgb(gray), np.full((*gray.shape, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(to_rgb(opaque), as_rgb(gray))


def test_arrays_are_scaled_like_files(file):
    deep = RNG.integers(0, 65536, (6, 9, 4), dtype=np.uint16)
    np.testing.assert_array_equal(to_rgb(deep), read_image(file(png_bytes(deep))))
    np.testing.assert_array_equal(
        to_rgb(GRAY12, value_range=(0, 4095)),
        read_image(file(png_bytes(GRAY12)), value_range=(0, 4095)),
    )
    for dtype in (np.float16, np.float32, np.float64):
        image = to_rgb(np.array([[0, 0.25, 1]], dtype))
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, as_rgb(np.array([[0, 0.25, 1]])))
    half_clear = np.array([[[1.0, 0.5, 0.0, 0.5]]], np.float32)
    np.testing.assert_array_equal(to_rgb(half_clear), [[[0.5, 0.25, 0.0]]])


@pytest.mark.parametrize("shape", [(3,), (3, 8, 8), (1, 8, 8, 3), (8, 8, 2), (0, 8, 3), (8, 0)])
def test_an_array_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError) as caught:
        to_rgb(np.zeros(shape, np.uint8))
    assert str(caught.value) == (
        "An image array must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), but has shape "
        f"{shape}. Is it a batch, or are its channels first?"
    )


@pytest.mark.parametrize("dtype", ["bool", "int64", "int16", "complex128", "U1"])
def test_an_array_of_another_type_is_refused(dtype):
    with pytest.raises(InputError) as caught:
        to_rgb(np.zeros((2, 2), dtype))
    assert str(caught.value) == (
        f"An image array must be uint8, uint16 or float, but is {np.dtype(dtype)}. "
        "Convert it so that its black and white are known."
    )


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ([[0, 255]], "a list"),
        (None, "None"),
        (b"\x89PNG", "a bytes"),
        (5, "an int"),
        (Image, "a module"),
    ],
)
def test_what_is_no_array_is_refused(image, kind):
    with pytest.raises(InputError) as caught:
        to_rgb(image)
    assert str(caught.value) == (
        f"An image must be a path or an array, but is {kind}. "
        "Give one image: its file, or its pixels as uint8, uint16 or float."
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_an_image_of_pillow_is_what_reading_its_file_gives(file, mode):
    if mode == "I;16":
        image = Image.fromarray(GRAY12.astype(np.uint16))
    else:
        image = Image.fromarray(RGB).convert(mode)
    assert image.mode == mode
    path = file(b"")
    image.save(path, "PNG")
    found = to_rgb(image)
    np.testing.assert_array_equal(found, read_image(path))
    with Image.open(path) as opened:  # not decoded before
        np.testing.assert_array_equal(to_rgb(opened), found)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "LAB", "HSV", "LA", "I"])
def test_an_image_of_pillow_whose_numbers_are_no_colours_is_refused(mode):
    with pytest.raises(InputError) as caught:
        to_rgb(Image.new(mode, (3, 2)))
    assert str(caught.value) == (
        "An image of Pillow must have one of the modes L, RGB, RGBA, I;16, F, "
        f'but has {mode}. Call its convert("RGB").'
    )


def test_an_image_of_pillow_that_cannot_be_decoded_is_refused(file):
    path = file(pillow_bytes(np.zeros((64, 64, 3), np.uint8), "BMP")[:-100])
    with Image.open(path) as image, pytest.raises(InputError) as caught:
        to_rgb(image)
    assert str(caught.value).startswith("An image must have pixels to give, but its decoder says: ")


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan, np.inf, -np.inf])
def test_a_float_array_must_be_finite_and_in_0_to_1(value):
    with pytest.raises(InputError, match=r"values must lie in 0 to 1, but reach from "):
        to_rgb(np.array([[0.5, value]]))


@given(low=st.integers(0, 1000), width=st.integers(1, 60000))
def test_the_ends_of_a_stated_range_are_exactly_0_and_1(low, width):
    image = to_rgb(np.array([[low, low + width]], np.uint16), value_range=(low, low + width))
    np.testing.assert_array_equal(image[0, :, 0], [0, 1])
