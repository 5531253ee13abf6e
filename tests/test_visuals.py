import colorsys
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from blemish.errors import InputError, ShapeError
from blemish.panels import five_panel
from blemish.visuals import (
    CONTOUR_COLOUR,
    ColourScale,
    boxed,
    colour_at,
    contour,
    displayable,
    heat_map,
    jpeg_bytes,
    mask_picture,
    overlay,
    png_bytes,
    resized,
)

SCALE = ColourScale(low=1.0, threshold=3.0, high=7.0)
GREY = np.full((40, 60, 3), 128, np.uint8)
values = st.floats(-1e6, 1e6)


def luminance(colours):
    """Relative luminance (WCAG): what is left of a colour in grey print."""
    linear = np.where(
        colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


# --- the scale -----------------------------------------------------------------------------


@given(arrays(np.float64, 12, elements=values))
def test_law_a_higher_value_is_never_lower_on_the_scale(anomaly):
    position = SCALE.position(np.sort(anomaly))
    assert (np.diff(position) >= 0).all()
    assert ((position >= 0) & (position <= 1)).all()


@given(median=values, threshold=values)
def test_law_any_normal_scores_give_a_scale_with_the_threshold_in_its_middle(median, threshold):
    scale = ColourScale.from_normal(median=median, threshold=threshold)
    assert scale.low < scale.threshold < scale.high
    assert scale.position(np.array([threshold]))[0] == 0.5


def test_colours_get_lighter_with_the_value_so_that_the_order_survives_grey_print():
    colours = np.array([colour_at(position) for position in np.linspace(0, 1, 256)])
    light = luminance(colours)
    assert light[0] < 0.001 and light[-1] > 0.9
    assert (np.diff(light) > -0.001).all()
    # evenly: no stretch of the scale looks all alike
    assert (np.diff(light[::32] ** (1 / 3)) > 0.05).all()


@pytest.mark.parametrize(
    "wrong", [(1.0, 1.0, 2.0), (2.0, 1.0, 3.0), (0.0, 2.0, 2.0), (0.0, float("nan"), 2.0)]
)
def test_a_scale_out_of_order_is_refused(wrong):
    with pytest.raises(InputError) as caught:
        ColourScale(*wrong)
    assert str(caught.value) == (
        "A colour scale must have low < threshold < high, all finite, but has "
        f"{wrong[0]}, {wrong[1]} and {wrong[2]}. Use ColourScale.from_normal."
    )


# --- heat map and overlay ------------------------------------------------------------------


def test_the_same_value_has_the_same_colour_in_every_image():
    calm, loud = np.full((4, 4), 2.0), np.full((4, 4), 2.0)
    loud[0, 0] = 100.0
    np.testing.assert_array_equal(heat_map(calm, SCALE)[1:], heat_map(loud, SCALE)[1:])
    assert tuple(heat_map(loud, SCALE)[0, 0]) == colour_at(1.0)


def test_a_good_part_stays_as_it_is_under_the_overlay():
    normal = np.full(GREY.shape[:2], 0.5 * (SCALE.low + SCALE.threshold))
    np.testing.assert_array_equal(overlay(GREY, normal, SCALE), GREY)


def test_the_overlay_gets_nearer_to_the_heat_map_as_the_value_rises():
    anomaly = np.linspace(SCALE.low, SCALE.high, 60)[None].repeat(40, axis=0)
    drawn = overlay(GREY, anomaly, SCALE, opacity=1.0).astype(float)
    coloured = heat_map(anomaly, SCALE).astype(float)
    share = np.abs(drawn - GREY).sum(-1) / np.abs(coloured - GREY).sum(-1)
    assert share[0, 0] == 0 and share[0, -1] == 1
    assert (np.diff(share[0]) > -0.02).all()


@given(arrays(np.float32, (3, 5), elements=st.floats(0, 10, width=32)), st.floats(0, 1))
def test_law_an_overlay_lies_between_the_image_and_the_heat_map(anomaly, opacity):
    image = np.arange(45, dtype=np.uint8).reshape(3, 5, 3) * 5
    drawn = overlay(image, anomaly, SCALE, opacity).astype(int)
    ends = np.stack([image, heat_map(anomaly, SCALE)]).astype(int)
    assert ((drawn >= ends.min(0) - 1) & (drawn <= ends.max(0) + 1)).all()


def test_a_nan_in_a_map_is_an_error_and_not_a_colour():
    with pytest.raises(InputError) as caught:
        heat_map(np.array([[1.0, np.nan]]), SCALE)
    assert str(caught.value) == (
        "anomaly_map must hold numbers, but holds NaN. Score the image again."
    )


# --- masks and contours --------------------------------------------------------------------


def test_a_contour_follows_the_edge_of_the_mask_and_nothing_else():
    mask = np.zeros((100, 100), bool)
    mask[30:70, 20:80] = True
    image = np.full((100, 100, 3), 128, np.uint8)
    changed = (contour(image, mask) != image).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 25 and rows.max() <= 74 and columns.min() >= 15 and columns.max() <= 84
    assert changed[28:33, 25:75].any(0).all(), "the upper edge has no gap"
    assert not changed[38:62, 28:72].any(), "the inside stays as it is"
    assert (image == 128).all(), "the image of the caller is not drawn into"


def test_the_contour_has_a_hue_that_no_heat_map_colour_has():
    hue = colorsys.rgb_to_hsv(*(value / 255 for value in CONTOUR_COLOUR))[0]
    for position in np.linspace(0.3, 1, 50):
        other = colorsys.rgb_to_hsv(*(value / 255 for value in colour_at(position)))[0]
        assert min(abs(hue - other), 1 - abs(hue - other)) > 0.2


def test_an_empty_mask_has_no_contour_and_a_black_picture():
    empty = np.zeros(GREY.shape[:2], bool)
    np.testing.assert_array_equal(contour(GREY, empty), GREY)
    assert not mask_picture(empty).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: overlay(GREY, np.zeros((40, 61)), SCALE),
            "anomaly_map must have shape (40, 60), but has shape (40, 61). "
            "It must have the size of the image it lies on.",
        ),
        (
            lambda: contour(GREY, np.zeros((1, 2), bool)),
            "predicted_mask must have shape (40, 60), but has shape (1, 2). "
            "It must have the size of the image it lies on.",
        ),
        (
            lambda: heat_map(np.zeros((1, 2, 3)), SCALE),
            "anomaly_map must have shape (H, W), but has shape (1, 2, 3). "
            "Pass the map of one image.",
        ),
        (
            lambda: displayable(np.zeros((3, 40, 60), np.float32)),
            "image must have shape (H, W, 3), but has shape (3, 40, 60). Pass one RGB image.",
        ),
        (
            lambda: mask_picture(np.zeros((2, 3, 1), bool)),
            "mask must have shape (H, W), but has shape (2, 3, 1). Pass the mask of one image.",
        ),
        (
            lambda: png_bytes(np.zeros((2, 3), np.uint8)),
            "picture must have shape (H, W, 3), but has shape (2, 3). Pass one RGB picture.",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ShapeError) as caught:
        call()
    assert str(caught.value) == message


# --- files ---------------------------------------------------------------------------------


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_law_a_png_read_back_by_another_library_is_the_same_picture(picture):
    with Image.open(io.BytesIO(png_bytes(picture))) as read:
        assert read.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_a_jpeg_is_never_higher_than_asked_and_keeps_its_proportions():
    picture = np.zeros((900, 450, 3), np.uint8)
    picture[..., 0] = 200
    with Image.open(io.BytesIO(jpeg_bytes(picture, max_height=320))) as read:
        assert read.size == (160, 320)
        assert np.abs(np.asarray(read, int).mean((0, 1)) - [200, 0, 0]).max() < 4
    with Image.open(io.BytesIO(jpeg_bytes(GREY, max_height=320))) as read:
        assert read.size == (60, 40)


def test_deep_images_are_shown_by_their_float_values():
    np.testing.assert_array_equal(
        displayable(np.array([[[0.0, 0.5, 1.0]]], np.float32)), [[[0, 128, 255]]]
    )
    assert resized(GREY, (20, 30)).shape == (20, 30, 3)


# --- five panels ---------------------------------------------------------------------------


def panels(truth=None, **settings):
    anomaly = np.ones((64, 64))
    anomaly[20:30, 20:30] = 9.0
    image = np.full((64, 64, 3), 90, np.uint8)
    return five_panel(image, truth, anomaly, anomaly >= 3, SCALE, panel_height=128, **settings)


def test_five_panels_show_image_truth_map_mask_and_contour_from_left_to_right():
    truth = np.zeros((64, 64), bool)
    truth[20:30, 20:30] = True
    drawn = panels(truth)
    lefts = np.flatnonzero((drawn[200] != 255).any(-1))  # a row through all panels
    starts = lefts[np.flatnonzero(np.diff(lefts, prepend=-9) > 1)]
    assert len(starts) == 5
    top = np.flatnonzero((drawn[:, starts[0] + 2] == 90).all(-1))[0]
    middle = [drawn[top + 50, start + 50] for start in starts]  # within the defect
    np.testing.assert_array_equal(middle[0], [90] * 3)
    np.testing.assert_array_equal(middle[1], [255] * 3)
    np.testing.assert_array_equal(middle[2], colour_at(1.0))
    np.testing.assert_array_equal(middle[3], [255] * 3)
    np.testing.assert_array_equal(middle[4], [90] * 3)
    last = drawn[top : top + 128, starts[4] : starts[4] + 128]
    assert (last == CONTOUR_COLOUR).all(-1).any()


def test_five_panels_work_without_truth_and_with_any_title():
    with_truth, without = panels(np.zeros((64, 64), bool)), panels()
    assert with_truth.shape == without.shape and (with_truth != without).any()
    long = panels(title="a/very/long/path/" * 40 + "ü\n.png", decision="anomalous", score=1e9)
    assert long.shape == without.shape
    assert (long[:50] != without[:50]).any()


@given(st.integers(1, 80), st.integers(1, 80))
def test_any_image_shape_fits_into_five_panels(height, width):
    drawn = five_panel(
        np.zeros((height, width, 3), np.float32),
        None,
        np.ones((height, width)),
        np.ones((height, width), bool),
        SCALE,
        panel_height=64,
    )
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3


def test_five_panels_refuse_a_mask_of_another_size():
    with pytest.raises(ShapeError) as caught:
        five_panel(GREY, None, np.ones((40, 60)), np.ones((60, 40), bool), SCALE)
    assert str(caught.value) == (
        "predicted_mask must have shape (40, 60), but has shape (60, 40). "
        "It must have the size of the image it lies on."
    )


def test_boxes_are_drawn_around_and_numbered_and_never_outside():
    picture = np.full((64, 96, 3), 90, np.uint8)
    drawn = boxed(picture, [(20, 30, 10, 8), (80, 50, 16, 14)])
    np.testing.assert_array_equal(drawn[31:37, 21:29], 90)  # what the box holds
    assert (drawn[28, 20:30] == 255).all(), "upper line"
    assert (drawn[30:38, 18] == 255).all(), "left line"
    assert (drawn[50:62, 94] == 255).all(), "a line at the edge of the picture"
    assert (drawn[15:26, 18:30] != 90).any(), "its number"
    assert (picture == 90).all()
    np.testing.assert_array_equal(boxed(picture, []), picture)


def test_the_last_panel_shows_the_boxes_of_the_map_at_its_own_size():
    image, mask = np.full((32, 24, 3), 90, np.uint8), np.zeros((32, 24), bool)
    mask[8:16, 6:12] = True
    values, scale = mask * 5.0, ColourScale(0.0, 1.0, 4.0)
    plain = five_panel(image, None, values, mask, scale)
    shown = five_panel(image, None, values, mask, scale, boxes=[(6, 8, 6, 8)])
    rows, columns = np.nonzero((plain != shown).any(axis=-1))
    # eight times as large, in the fifth panel: 78 px below the top, 64 px below the upper edge
    assert abs(rows.max() - (78 + 8 * 16)) < 8
    assert columns.min() > plain.shape[1] * 0.7
