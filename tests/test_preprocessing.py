"""Preprocessing against Pillow itself and against cases worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import InputError, ShapeError
from blemish.preprocessing import Preprocessing, check_mask_size

RNG = np.random.default_rng(2)
METHODS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
sides = st.integers(1, 60)


def random_image(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_input(pixels):
    return np.asarray(pixels, np.float32).transpose(2, 0, 1) / np.float32(255)


def torchvision_pipeline(image, shorter, crop):
    """Resize(shorter) and CenterCrop(crop) on a Pillow image, as torchvision documents them."""
    height, width = image.shape[:2]
    if width <= height:
        new_width, new_height = shorter, int(shorter * height / width)
    else:
        new_width, new_height = int(shorter * width / height), shorter
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC)
    left = round((new_width - crop[1]) / 2.0)
    top = round((new_height - crop[0]) / 2.0)
    return resized.crop((left, top, left + crop[1], top + crop[0]))


@pytest.mark.parametrize("size", [(900, 900), (256, 256), (300, 301), (160, 400), (640, 333)])
def test_paper_is_the_torchvision_pipeline_to_the_bit(size):
    image = random_image(*size)
    expected = as_input(torchvision_pipeline(image, 256, (224, 224)))
    found = Preprocessing.paper().apply(image)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@given(height=sides, width=sides, shorter=st.integers(1, 30), data=st.data())
def test_any_shorter_side_and_crop_are_torchvisions(height, width, shorter, data):
    crop = (data.draw(st.integers(1, shorter)), data.draw(st.integers(1, shorter)))
    image = random_image(height, width)
    found = Preprocessing(resize=shorter, crop=crop).apply(image)
    np.testing.assert_array_equal(found, as_input(torchvision_pipeline(image, shorter, crop)))


@pytest.mark.parametrize(
    ("size", "shorter", "box"),
    [  # 7 - 4 = 3 rows to spare: 1.5 rounds to 2; 9 - 4 = 5: 2.5 rounds to 2 (half to even)
        ((7, 9), None, (2.0, 2.0, 4.0, 4.0)),
        ((5, 8), None, (2.0, 0.0, 4.0, 4.0)),  # 0.5 rounds to 0
        ((8, 16), 4, (12 / 2.0 - 2.0, 0.0, 8.0, 8.0)),  # to 4x8: columns 2 to 6
        ((10, 25), 4, (3 * 2.5, 0.0, 10.0, 10.0)),  # to 4x10
    ],
)
def test_crops_lie_where_they_do_by_hand(size, shorter, box):
    settings = Preprocessing(resize=shorter, crop=(4, 4))
    assert settings.source_box(size) == box


def test_without_resizing_pixels_stay_as_they_are():
    image = random_image(7, 9)
    np.testing.assert_array_equal(Preprocessing.full((7, 9)).apply(image), as_input(image))
    crop = Preprocessing(resize=None, crop=(4, 4)).apply(image)
    np.testing.assert_array_equal(crop, as_input(image[2:6, 2:6]))
    region = Preprocessing(resize=None, roi=(1, 2, 5, 3)).apply(image)
    np.testing.assert_array_equal(region, as_input(image[2:5, 1:6]))
    exact = RNG.random((7, 9, 3), dtype=np.float32)
    np.testing.assert_array_equal(Preprocessing.full((7, 9)).apply(exact), exact.transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", METHODS)
def test_full_is_pillows_resize(interpolation):
    image = random_image(31, 50)
    settings = Preprocessing(resize=(16, 24), interpolation=interpolation)
    expected = Image.fromarray(image).resize((24, 16), METHODS[interpolation])
    np.testing.assert_array_equal(settings.apply(image), as_input(expected))


@pytest.mark.parametrize("interpolation", METHODS)
def test_float_images_are_resized_alike_but_without_rounding(interpolation):
    # Mid-gray, so that 8-bit resizing cuts nothing off between its two passes; each pass rounds
    # by up to half a level, the first one's error weighed by at most 1.3 (bicubic) in the second.
    image = np.random.default_rng(0).integers(64, 192, (31, 50, 3), dtype=np.uint8)
    settings = Preprocessing(resize=(16, 24), interpolation=interpolation)
    exact = settings.apply(image.astype(np.float32) / 255)
    np.testing.assert_allclose(exact, settings.apply(image), rtol=0, atol=1.2 / 255)
    assert not np.array_equal(exact, np.rint(exact * 255) / np.float32(255))


def test_what_bicubic_overshoots_is_cut_off():
    edge = np.zeros((8, 8, 3), np.float32)
    edge[:, 4:] = 1
    found = Preprocessing.full((16, 16)).apply(edge)
    assert found.min() == 0 and found.max() == 1


def test_downscaling_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    found = Preprocessing.full((16, 16)).apply(stripes)
    assert np.abs(found - 0.5).max() < 0.05


def test_a_region_of_interest_comes_first():
    image = random_image(40, 60)
    x, y, width, height = roi = (5, 7, 31, 22)
    inside = image[y : y + height, x : x + width]
    for settings in (Preprocessing(resize=16, crop=(12, 12)), Preprocessing.full((16, 16))):
        with_roi = Preprocessing(settings.resize, settings.crop, roi)
        np.testing.assert_array_equal(with_roi.apply(image), settings.apply(inside))
    assert Preprocessing.full((16, 16), roi=roi).source_box((40, 60)) == (5, 7, 31, 22)
    assert Preprocessing.paper(roi=roi).roi == roi


def test_the_size_is_known_without_an_image():
    assert Preprocessing.paper().size == (224, 224)
    assert Preprocessing.full((160, 400)).size == (160, 400)
    assert Preprocessing(resize=None, roi=(1, 2, 30, 40)).size == (40, 30)
    assert Preprocessing(resize=(100, 90), crop=(64, 32)).size == (64, 32)


settings_strategy = st.one_of(
    st.builds(
        Preprocessing,
        resize=st.integers(8, 30),
        crop=st.tuples(st.integers(1, 8), st.integers(1, 8)),
        interpolation=st.sampled_from(["bicubic", "bilinear"]),
    ),
    st.builds(Preprocessing, resize=st.tuples(sides, sides)),
    st.builds(
        Preprocessing,
        resize=st.none(),
        roi=st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(1, 15)] * 2),
    ),
)
images = st.tuples(st.integers(20, 60), st.integers(20, 60))


@given(settings=settings_strategy, size=images)
def test_what_comes_out_has_the_size_that_was_promised(settings, size):
    image, mask = random_image(*size), np.ones(size, np.bool_)
    assert settings.apply(image).shape == (3, *settings.size)
    assert settings.apply_to_mask(mask).shape == settings.size


@given(settings=settings_strategy)
def test_settings_survive_a_json_file(settings):
    assert Preprocessing.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_the_json_is_plain():
    assert Preprocessing.paper(roi=(1, 2, 300, 400)).to_json() == {
        "resize": 256,
        "crop": [224, 224],
        "roi": [1, 2, 300, 400],
        "interpolation": "bicubic",
    }


@given(settings=settings_strategy, size=images)
def test_a_mask_takes_the_pixel_at_the_centre_of_each_pixel(settings, size):
    mask = RNG.random(size) > 0.5
    x, y, width, height = settings.source_box(size)
    rows, columns = settings.size
    at_row = [int(y + (row + 0.5) * height / rows + 1e-9) for row in range(rows)]
    at_column = [int(x + (column + 0.5) * width / columns + 1e-9) for column in range(columns)]
    np.testing.assert_array_equal(
        settings.apply_to_mask(mask),
        [[mask[row, column] for column in at_column] for row in at_row],
    )


@pytest.mark.parametrize("size", [(900, 900), (256, 256), (500, 307)])
def test_paper_masks_are_pillows_nearest(size):
    mask = RNG.random(size) > 0.5
    rgb = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)
    height, width = size
    shorter = min(size)
    new = (int(256 * width / shorter), int(256 * height / shorter))
    resized = Image.fromarray(rgb).resize(new, Image.Resampling.NEAREST)
    left, top = round((new[0] - 224) / 2), round((new[1] - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)))[..., 0] > 0
    np.testing.assert_array_equal(Preprocessing.paper().apply_to_mask(mask), expected)


def test_a_mask_and_its_image_stay_aligned():
    mask = np.zeros((90, 150), np.bool_)
    mask[30:60, 50:90] = True
    image = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)
    settings = Preprocessing(resize=32, crop=(30, 48), roi=(10, 5, 130, 80))
    agree = (settings.apply(image)[0] > 0.5) == settings.apply_to_mask(mask)
    assert agree.all()


def refusal(kind, function, *arguments, **options):
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 0, "crop": (1, 1)}, "resize must be at least 1, but is 0."),
        (
            {"resize": (4,)},
            "resize must be an int, or (height, width) in whole pixels, sizes at least 1, "
            "but is (4,).",
        ),
        (
            {"resize": 8, "crop": (4, 0)},
            "crop must be (height, width) in whole pixels, sizes at least 1, but is (4, 0).",
        ),
        (
            {"resize": (8, 8), "roi": (-1, 0, 4, 4)},
            "roi must be (x, y, width, height) in whole pixels, sizes at least 1, "
            "but is (-1, 0, 4, 4).",
        ),
        (
            {"resize": (8, 8), "interpolation": "nearest"},
            "interpolation must be one of bicubic, bilinear, but is 'nearest'.",
        ),
        (
            {"resize": 256},
            "resize, crop and roi must fix the size the network sees, but leave it to the image. "
            "Give resize as (height, width), or a crop.",
        ),
        (
            {"resize": (8, 8), "crop": (9, 8)},
            "crop must fit into the resized image, but crop is (9, 8) and resize is (8, 8). "
            "Choose a smaller crop, or resize to a larger size.",
        ),
        (
            {"resize": 8, "crop": (9, 10)},
            "crop must fit into the resized image, but crop is (9, 10) and resize is 8. "
            "Choose a smaller crop, or resize to a larger size.",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    assert refusal(InputError, Preprocessing, **options) == message


def test_settings_missing_from_json_are_refused():
    assert refusal(InputError, Preprocessing.from_json, {"resize": 256, "size": 3}) == (
        "preprocessing must have the settings resize, crop, roi, interpolation, "
        "but has resize, size."
    )
    wrong = {"resize": "256", "crop": None, "roi": None, "interpolation": "bicubic"}
    assert refusal(InputError, Preprocessing.from_json, wrong) == (
        "resize must be an int, or (height, width) in whole pixels, sizes at least 1, but is '256'."
    )


def test_images_that_do_not_fit_the_settings_are_refused():
    roi = Preprocessing(resize=(8, 8), roi=(10, 0, 30, 20))
    for function, argument in (
        (roi.apply, random_image(20, 39)),
        (roi.apply_to_mask, np.zeros((20, 39), np.bool_)),
        (roi.source_box, (20, 39)),
    ):
        assert refusal(InputError, function, argument) == (
            "The region of interest must lie inside the image, but reaches to x = 40, y = 20 and "
            "the image is 20x39 pixels (height x width). Are all images from the same camera?"
        )
    long_crop = Preprocessing(resize=8, crop=(8, 16))
    assert long_crop.apply(random_image(10, 20)).shape == (3, 8, 16)
    assert refusal(InputError, long_crop.apply, random_image(10, 19)) == (
        "The resized image must be at least as large as the crop, 8x16 pixels (height x width), "
        "but is 8x15. Choose a smaller crop, or resize to a larger size."
    )


def test_a_thin_strip_is_not_blown_up():
    assert refusal(InputError, Preprocessing.paper().apply, random_image(1, 2000)) == (
        "The resized image must have at most 100000000 pixels, but would be 256x512000 (height x "
        "width). Is the image, or the region of interest, a thin strip? Give resize as "
        "(height, width)."
    )


def test_arrays_that_are_no_images_or_masks_are_refused():
    paper = Preprocessing.paper()
    assert refusal(ShapeError, paper.apply, np.zeros((3, 8, 8), np.uint8)) == (
        "image must have shape (H, W, 3), but has shape (3, 8, 8). Call to_rgb() on it first."
    )
    assert refusal(InputError, paper.apply, np.zeros((8, 8, 3))) == (
        "image must be uint8 or float32, but is float64. Call to_rgb() on it first."
    )
    assert refusal(ShapeError, paper.apply_to_mask, np.zeros((8, 8, 3), np.bool_)) == (
        "mask must have shape (H, W), but has shape (8, 8, 3). Is it an image? Use read_mask()."
    )
    assert refusal(InputError, paper.apply_to_mask, np.zeros((8, 8), np.uint8)) == (
        "mask must be bool, but is uint8. Use mask != 0."
    )


def test_a_mask_of_another_size_than_its_image_is_refused():
    check_mask_size((90, 120), (90, 120, 3), Path("mask.png"))
    assert refusal(ShapeError, check_mask_size, (45, 60), (90, 120, 3), Path("mask.png")) == (
        "mask.png must have the size of its image, 90x120 pixels (height x width), but is 45x60. "
        "Does it belong to another image?"
    )
