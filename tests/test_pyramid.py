import numpy as np
import pytest

from blemish.errors import InputError, ShapeError
from blemish.pyramid import Pyramid
from embeddings import PYRAMID, made_up_levels


def test_ancestors_are_the_nearest_upsampling_of_cell_numbers():
    coarse = np.arange(2).reshape(1, 2)
    repeated = coarse.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(PYRAMID.ancestors(2, 0), repeated.ravel())


def test_a_grid_that_does_not_divide_the_next_is_refused():
    with pytest.raises(InputError) as caught:
        Pyramid(grids=((7, 7), (15, 14)), dims=(1, 1))
    assert str(caught.value) == (
        "Each layer's grid must divide that of the finer one, but 7x7 does not divide 15x14. "
        "Use an input size that is a multiple of the coarsest stride."
    )


def test_a_level_without_dimensions_is_refused():
    with pytest.raises(InputError, match="at least 1 dimension"):
        Pyramid(grids=((1, 1), (2, 2)), dims=(1, 0))


def test_two_layers_may_have_one_grid():
    pyramid = Pyramid(grids=((2, 2), (2, 2)), dims=(1, 2))
    np.testing.assert_array_equal(pyramid.ancestors(1, 0), np.arange(4))


def test_check_names_the_level_and_both_shapes():
    levels = made_up_levels(3)
    levels[1] = levels[1][:, :-1]
    with pytest.raises(ShapeError) as caught:
        PYRAMID.check(levels)
    assert str(caught.value) == (
        "embeddings of level 1 must have shape (3, 8, 2), but has shape (3, 7, 2). "
        "Were they made with the same image size and backbone?"
    )


def test_check_counts_levels():
    with pytest.raises(ShapeError) as caught:
        PYRAMID.check(made_up_levels(3)[:2])
    assert str(caught.value) == (
        "There must be embeddings for 3 levels, but there are 2. "
        "Were they made with the same layers?"
    )
