"""Regions against scipy's components, by laws, and in the frame of the source image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from blemish.errors import InputError, ShapeError
from blemish.preprocessing import Preprocessing
from blemish.regions import Region, Regions, RegionSettings, find_regions, outline

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: arrays(bool, s))
EIGHT = np.ones((3, 3))
ALL = RegionSettings(max_regions=100)


def values_like(mask):
    return np.random.default_rng(mask.size).random(mask.shape)


def area_of(polygon):
    """Shoelace formula; positive where it runs clockwise, with y downwards."""
    x, y = polygon.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def on_source(mask):
    """Source box of a mask that covers its image, a map pixel for a pixel."""
    return (0.0, 0.0, float(mask.shape[1]), float(mask.shape[0]))


@given(masks)
def test_regions_are_the_components_of_scipy(mask):
    values = values_like(mask)
    labels, count = ndimage.label(mask, structure=EIGHT)
    found = find_regions(mask, values, on_source(mask), ALL)
    assert (len(found), found.too_small, found.too_many) == (count, 0, 0)
    expected = {}
    for label in range(1, count + 1):
        one = labels == label
        rows, columns = np.nonzero(one)
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        middle = (columns.mean() + 0.5, rows.mean() + 0.5)
        expected[values[one].max()] = (box, middle, one.sum(), values[one].mean())
    assert [region.peak for region in found] == sorted(expected, reverse=True)
    for region in found:
        box, middle, area, mean = expected[region.peak]
        assert region.box == region.map_box == box
        assert region.centroid == pytest.approx(middle)
        assert region.area == area
        assert region.mean == pytest.approx(mean)


@given(masks)
def test_the_outline_encloses_the_filled_component(mask):
    labels, count = ndimage.label(mask, structure=EIGHT)
    for label in range(1, count + 1):
        one = labels == label
        corners = outline(one)
        steps = np.roll(corners, -1, axis=0) - corners
        assert ((steps == 0).sum(axis=1) == 1).all(), "along the edges of pixels"
        assert ((steps * np.roll(steps, -1, axis=0)).sum(axis=1) == 0).all(), "no corner is idle"
        assert area_of(corners) == ndimage.binary_fill_holes(one).sum()
        assert tuple(corners.min(axis=0)) == tuple(np.argwhere(one).min(axis=0)[::-1])
        assert tuple(corners.max(axis=0)) == tuple(np.argwhere(one).max(axis=0)[::-1] + 1)


@given(
    masks,
    st.floats(0, 50),
    st.floats(0, 50),
    st.floats(0.5, 40),
    st.floats(0.5, 40),
)
def test_the_source_frame_is_a_shift_and_a_scale(mask, x, y, across, down):
    values = values_like(mask)
    height, width = mask.shape
    plain = find_regions(mask, values, on_source(mask), ALL)
    moved = find_regions(mask, values, (x, y, width * across, height * down), ALL)
    for one, other in zip(plain, moved, strict=True):
        left, top, wide, high = one.box
        expected = (x + left * across, y + top * down, wide * across, high * down)
        assert other.box == pytest.approx(expected)
        middle = (x + one.centroid[0] * across, y + one.centroid[1] * down)
        assert other.centroid == pytest.approx(middle)
        assert other.area == pytest.approx(one.area * across * down)
        np.testing.assert_allclose(other.polygon, one.polygon * [across, down] + [x, y])
        assert (other.peak, other.mean, other.map_box) == (one.peak, one.mean, one.map_box)


@given(masks, st.floats(0, 12), st.integers(1, 5))
def test_small_and_surplus_regions_are_left_out_and_counted(mask, least, most):
    values = values_like(mask)
    every = list(find_regions(mask, values, on_source(mask), ALL))
    some = find_regions(
        mask, values, on_source(mask), RegionSettings(min_area=least, max_regions=most)
    )
    large = [region for region in every if region.area >= least]
    assert [region.box for region in some] == [region.box for region in large[:most]]
    assert some.too_small == len(every) - len(large)
    assert some.too_many == max(0, len(large) - most)


def test_a_square_of_the_source_image_is_found_where_it_is():
    how = Preprocessing(resize=64, crop=(48, 48), roi=(100, 60, 256, 128))
    source = np.zeros((300, 400), bool)
    source[100:140, 200:260] = True  # a multiple of the two source pixels per map pixel
    mask = how.apply_to_mask(source)
    scale = RegionSettings(mm_per_pixel=0.5)
    (region,) = find_regions(mask, mask * 3.0, how.source_box(source.shape), scale)
    assert region.box == (200.0, 100.0, 60.0, 40.0)
    assert region.centroid == (230.0, 120.0)
    assert (region.area, region.mm2) == (2400.0, 600.0)
    assert region.polygon.tolist() == [[200, 100], [260, 100], [260, 140], [200, 140]]


def test_a_hole_counts_in_the_outline_and_not_in_the_area():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    (region,) = find_regions(mask, mask * 1.0, on_source(mask))
    assert region.area == 8
    assert area_of(region.polygon) == 9


def test_equal_peaks_are_in_order_of_area_and_then_of_place():
    mask = np.zeros((5, 9), bool)
    mask[0, 0] = mask[0, 4] = mask[3:5, 7:9] = True
    found = find_regions(mask, np.ones(mask.shape), on_source(mask))
    assert [region.box[:2] for region in found] == [(7.0, 3.0), (0.0, 0.0), (4.0, 0.0)]


def test_no_region():
    mask = np.zeros((5, 9), bool)
    assert find_regions(mask, np.ones(mask.shape), on_source(mask)) == Regions()


def test_an_area_in_mm2_is_of_the_scale():
    mask = np.zeros((5, 9), bool)
    mask[1:3, 1:3] = mask[1, 6] = True
    settings = RegionSettings(min_area=0.05, area_unit="mm2", mm_per_pixel=0.2)
    found = find_regions(mask, mask * 1.0, on_source(mask), settings)
    assert [region.mm2 for region in found] == [pytest.approx(0.16)]
    assert found.too_small == 1


def test_plain_data():
    region = Region(
        box=(1 / 3, 2.0, 3.004, 4.0),
        centroid=(2.5, 4.0),
        area=12.0,
        mm2=1 / 3,
        peak=7.123456,
        mean=5.0,
        map_box=(5, 6, 1, 1),
        component=np.ones((1, 1), bool),
    )
    assert region.to_json() == {
        "box": [0.33, 2.0, 3.0, 4.0],
        "polygon": [[0.33, 2.0], [3.34, 2.0], [3.34, 6.0], [0.33, 6.0]],
        "centroid": [2.5, 4.0],
        "area_px": 12.0,
        "area_mm2": 0.333333,
        "peak": 7.123456,
        "mean": 5.0,
    }
    settings = RegionSettings(min_area=2.0, area_unit="mm2", max_regions=3, mm_per_pixel=0.1)
    assert RegionSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"min_area": -1.0},
            "The minimum area must be a number from 0, but is -1.0. Use 0 to keep all regions.",
        ),
        (
            {"min_area": float("nan")},
            "The minimum area must be a number from 0, but is nan. Use 0 to keep all regions.",
        ),
        (
            {"area_unit": "cm2"},
            "The unit of an area must be one of px, mm2, but is 'cm2'. Choose one.",
        ),
        (
            {"max_regions": 0},
            "The number of regions must be a whole number from 1, but is 0. Try 20.",
        ),
        (
            {"mm_per_pixel": 0.0},
            "The scale must be millimetres per pixel, a number above 0, but is 0.0. Measure "
            "something of known length in a photo.",
        ),
        (
            {"min_area": 0.5, "area_unit": "mm2"},
            "A minimum area in mm2 must come with a scale, but 0.5 mm2 has none. Give the "
            "millimetres per pixel, or the area in pixels.",
        ),
    ],
)
def test_settings_that_mean_nothing(values, text):
    with pytest.raises(InputError) as caught:
        RegionSettings(**values)
    assert str(caught.value) == text


def test_mask_and_map_of_two_shapes():
    with pytest.raises(ShapeError) as caught:
        find_regions(np.ones((2, 3), bool), np.ones((3, 2)), (0, 0, 3, 2))
    assert str(caught.value) == (
        "predicted_mask and anomaly_map must have one shape (H, W), but have (2, 3) and (3, 2). "
        "Pass those of one decision."
    )
