"""Which input sizes are allowed and chosen, and which positions an ignore mask covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish.errors import InputError, ShapeError
from blemish.input_size import check_size, full_size_for, position_mask

STRIDES = (4, 8, 16)


@pytest.mark.parametrize("size", [(224, 224), (160, 400), (32, 32), (256, 48)])
def test_multiples_of_the_coarsest_stride_are_good(size):
    check_size(size, STRIDES)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((225, 400), "sizes are 224x400 and 240x400"),
        ((400, 225), "sizes are 400x224 and 400x240"),
        ((100, 100), "sizes are 96x96, 96x112, 112x96 and 112x112"),
        ((16, 64), "size is 32x64"),
        ((0, -5), "size is 32x32"),
        ((31, 33), "sizes are 32x32 and 32x48"),
    ],
)
def test_a_bad_size_names_the_nearest_good_ones(size, nearest):
    with pytest.raises(InputError) as caught:
        check_size(size, STRIDES)
    assert str(caught.value) == (
        "The input's height and width must be multiples of 16 and at least 32, "
        f"but are {size[0]}x{size[1]}. The nearest good {nearest}."
    )


@pytest.mark.parametrize(
    ("image_size", "strides", "expected"),
    [
        ((160, 400), STRIDES, (160, 400)),
        ((900, 900), STRIDES, (256, 256)),
        ((64, 64), STRIDES, (256, 256)),
        ((480, 856), STRIDES, (192, 336)),  # 191.7 x 341.9
        ((480, 856), (4, 8, 16, 32), (192, 352)),
        ((10, 100_000), STRIDES, (32, 25600)),
    ],
)
def test_the_default_size_keeps_the_aspect_ratio(image_size, strides, expected):
    assert full_size_for(image_size, strides) == expected


@given(
    image_size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    strides=st.sampled_from([(4,), (8, 4), (4, 8, 16), (4, 8, 16, 32)]),
)
def test_the_default_size_is_always_a_good_one(image_size, strides):
    check_size(full_size_for(image_size, strides), strides)


@given(
    ignored=st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
        lambda grid: arrays(np.bool_, (grid[0] * 4, grid[1] * 2))
    )
)
def test_a_position_is_ignored_where_half_of_its_pixels_are(ignored):
    h, w = ignored.shape[0] // 4, ignored.shape[1] // 2
    found = position_mask(ignored, (h, w))
    for row in range(h):
        for column in range(w):
            cell = ignored[row * 4 : row * 4 + 4, column * 2 : column * 2 + 2]
            assert found[row, column] == (2 * cell.sum() >= cell.size)


def test_the_finest_grid_gives_the_mask_itself():
    ignored = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(position_mask(ignored, (2, 2)), ignored)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (4,), (4, 4, 1)])
def test_a_grid_that_does_not_divide_the_mask_is_refused(shape):
    with pytest.raises(ShapeError) as caught:
        position_mask(np.zeros(shape, np.bool_), (2, 2))
    assert str(caught.value) == (
        f"ignored must have shape (multiple of 2, multiple of 2), but has shape {shape}. "
        "Is the grid its own?"
    )
