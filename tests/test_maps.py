import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from blemish.errors import InputError
from blemish.maps import MapOperator, MapSettings, axis_operator, image_scores

GRID, SIZE = (14, 10), (56, 40)
SCORES = np.random.default_rng(0).uniform(1, 20, (3, 140))


def bilinear(grid, size):
    """Bilinear interpolation pixel by pixel, areas aligned (align_corners=False)."""
    out = np.empty(size)
    for y in range(size[0]):
        for x in range(size[1]):
            fy = min(max((y + 0.5) * grid.shape[0] / size[0] - 0.5, 0), grid.shape[0] - 1)
            fx = min(max((x + 0.5) * grid.shape[1] / size[1] - 0.5, 0), grid.shape[1] - 1)
            y0, x0 = int(fy), int(fx)
            y1, x1 = min(y0 + 1, grid.shape[0] - 1), min(x0 + 1, grid.shape[1] - 1)
            wy, wx = fy - y0, fx - x0
            top = grid[y0, x0] * (1 - wx) + grid[y0, x1] * wx
            low = grid[y1, x0] * (1 - wx) + grid[y1, x1] * wx
            out[y, x] = top * (1 - wy) + low * wy
    return out


def test_bilinear_and_gaussian_are_those_of_scipy():
    maps = MapOperator(GRID, SIZE, MapSettings(sigma=4.0))(SCORES)
    for scores, found in zip(SCORES, maps, strict=True):
        expected = ndimage.gaussian_filter(bilinear(scores.reshape(GRID), SIZE), 4.0)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_box_blur_is_that_of_scipy():
    maps = MapOperator(GRID, SIZE, MapSettings(blur="box", sigma=2.0))(SCORES)
    expected = ndimage.uniform_filter(bilinear(SCORES[0].reshape(GRID), SIZE), size=7)
    np.testing.assert_allclose(maps[0], expected, rtol=1e-10)


def test_bicubic_is_that_of_opencv():
    cv2 = pytest.importorskip("cv2")
    maps = MapOperator(GRID, SIZE, MapSettings(upsampling="bicubic", blur="none"))(SCORES)
    expected = cv2.resize(SCORES[0].reshape(GRID), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(maps[0], np.maximum(expected, 0), rtol=1e-5)


def test_nearest_repeats_cells():
    maps = MapOperator(GRID, SIZE, MapSettings(upsampling="nearest", blur="none"))(SCORES)
    expected = SCORES[0].reshape(GRID).repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(maps[0], expected)


@pytest.mark.parametrize("blur", ["gaussian", "box", "none"])
@pytest.mark.parametrize("upsampling", ["bilinear", "bicubic", "nearest"])
@given(cells=st.integers(1, 9), factor=st.integers(1, 5), sigma=st.floats(0.3, 20))
def test_law_an_even_score_gives_an_even_map(upsampling, blur, cells, factor, sigma):
    matrix = axis_operator(cells, cells * factor, MapSettings(upsampling, blur, sigma))
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)


def test_map_keeps_the_dtype():
    assert MapOperator(GRID, SIZE, MapSettings())(SCORES.astype(np.float32)).dtype == np.float32


def ignoring(positions, pixels):
    return MapOperator(
        GRID, SIZE, MapSettings(sigma=2.0), ignored=pixels, ignored_positions=positions
    )


def test_ignored_positions_leak_nothing_and_ignored_pixels_are_0():
    positions = np.zeros(GRID, bool)
    positions[:5] = True
    pixels = positions.repeat(4, axis=0).repeat(4, axis=1)
    operator = ignoring(positions, pixels)
    loud = np.where(positions.ravel(), 1e6, 3.0)[None]
    found = operator(loud)[0]
    np.testing.assert_allclose(found[~pixels], 3.0)  # neither the loud nor a zero leaks in
    assert (found[pixels] == 0).all()


def test_far_from_the_ignored_part_nothing_changes():
    positions = np.zeros(GRID, bool)
    positions[:3] = True
    pixels = positions.repeat(4, axis=0).repeat(4, axis=1)
    with_mask = ignoring(positions, pixels)(SCORES)
    without = MapOperator(GRID, SIZE, MapSettings(sigma=2.0))(SCORES)
    np.testing.assert_allclose(with_mask[:, 26:], without[:, 26:], rtol=1e-9)


def test_image_score_is_the_mean_of_the_highest_pixels():
    maps = np.random.default_rng(1).uniform(size=(4, 6, 5))
    flat = np.sort(maps.reshape(4, -1), axis=1)[:, ::-1]
    np.testing.assert_allclose(image_scores(maps), flat[:, 0])
    np.testing.assert_allclose(image_scores(maps, 7), flat[:, :7].mean(axis=1))
    np.testing.assert_allclose(image_scores(maps, 1000), flat.mean(axis=1))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"upsampling": "sinc"},
            "upsampling must be one of bilinear, bicubic, nearest, but is 'sinc'. Choose one.",
        ),
        (
            {"blur": "median"},
            "blur must be one of gaussian, box, none, but is 'median'. Choose one.",
        ),
        (
            {"sigma": 0.0},
            "sigma must be above 0 and at most 1000 pixels, but is 0.0. For no blur use "
            "blur='none'.",
        ),
    ],
)
def test_bad_map_settings_say_what_is_allowed(settings, text):
    with pytest.raises(InputError) as caught:
        MapSettings(**settings)
    assert str(caught.value) == text


def test_top_k_of_0_is_refused():
    with pytest.raises(InputError, match="top_k must be at least 1 pixel, but is 0"):
        image_scores(np.zeros((1, 2, 2)), 0)
