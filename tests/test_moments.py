import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import InputError, NotFittedError, ShapeError
from blemish.moments import Moments
from blemish.pyramid import Pyramid
from embeddings import PYRAMID, made_up_levels, moments_of, subset, whole

WEIGHTS = np.ones(32)
WEIGHTS[[5, 17]] = 0
KINDS = [
    pytest.param({}, id="per position"),
    pytest.param({"shared": True}, id="shared"),
    pytest.param({"shared": True, "weights": WEIGHTS}, id="shared, weighted"),
]


def full_covariance(moments, position):
    """Put the whole covariance of a finest position together from the rows of the levels."""
    dims = sum(PYRAMID.dims)
    covariance = np.zeros((dims, dims))
    for level, rows in enumerate(moments.scatters):
        cell = 0 if moments.shared else PYRAMID.ancestors(2, level)[position]
        visible, own = rows.shape[2], rows.shape[1]
        covariance[visible - own : visible, :visible] = rows[cell]
    covariance = np.tril(covariance) + np.tril(covariance, -1).T
    return covariance / (moments.samples - 1)


def assert_close(first, second, tolerance=1e-10):
    assert first.count == second.count
    for mine, other in zip(
        first.means + first.scatters, second.means + second.scatters, strict=True
    ):
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance * scale)


def test_covariance_is_that_of_numpy_at_every_position():
    levels = made_up_levels(12)
    moments, together = moments_of(levels), whole(levels)
    for position in range(32):
        np.testing.assert_allclose(
            full_covariance(moments, position), np.cov(together[:, position], rowvar=False)
        )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_shared_covariance_is_that_of_all_counted_positions(weights):
    levels = made_up_levels(5)
    moments = moments_of(levels, shared=True, weights=weights)
    counted = whole(levels)[:, WEIGHTS > 0 if weights is not None else slice(None)]
    expected = np.cov(counted.reshape(-1, 9), rowvar=False)
    np.testing.assert_allclose(full_covariance(moments, 0), expected)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(count=st.integers(2, 14), data=st.data())
def test_law_parts_merged_in_any_order_are_one_pass(kind, count, data):
    levels = made_up_levels(count, seed=count)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), min_size=1, max_size=4)))
    bounds = [0, *cuts, count]
    parts = [
        moments_of(subset(levels, slice(low, high)), **kind)
        for low, high in itertools.pairwise(bounds)
    ]
    merged = Moments(PYRAMID, **kind)
    for part in data.draw(st.permutations(parts)):
        merged.merge(part)
    assert_close(merged, moments_of(levels, **kind))


@pytest.mark.parametrize("kind", KINDS)
def test_law_batches_of_any_size_are_one_pass(kind):
    levels = made_up_levels(9)
    moments = Moments(PYRAMID, norms=True, **kind)
    for start in (0, 1, 4, 9):
        moments.update(subset(levels, slice(start, {0: 1, 1: 4, 4: 9, 9: 9}[start])))
    once = moments_of(levels, norms=True, **kind)
    assert_close(moments, once)
    np.testing.assert_allclose(moments.norms.quartics, once.norms.quartics, rtol=1e-10)
    np.testing.assert_allclose(moments.norms.cubes, once.norms.cubes, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_law_what_is_removed_was_never_there(kind):
    levels = made_up_levels(11)
    moments = moments_of(levels, norms=True, **kind)
    gone = [2, 3, 7]
    moments.remove(subset(levels, gone))
    kept = moments_of([np.delete(a, gone, axis=0) for a in levels], norms=True, **kind)
    assert_close(moments, kept)
    np.testing.assert_allclose(moments.norms.quartics, kept.norms.quartics, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_sums_of_powers_of_the_deviations(kind):
    levels = made_up_levels(7)
    merged = moments_of(subset(levels, slice(0, 3)), norms=True, **kind)
    merged.merge(moments_of(subset(levels, slice(3, 7)), norms=True, **kind))
    together = whole(levels)
    if kind:
        counted = together[:, kind.get("weights", np.ones(32)) > 0]
        together = counted.reshape(-1, 1, 9)
    deviations = together - together.mean(axis=0)
    lengths = (deviations**2).sum(axis=2)
    np.testing.assert_allclose(merged.norms.quartics, (lengths**2).sum(axis=0))
    expected = (lengths[..., None] * deviations).sum(axis=0)
    np.testing.assert_allclose(merged.norms.cubes, expected, rtol=1e-9, atol=1e-8)


def test_removing_everything_leaves_exactly_nothing():
    levels = made_up_levels(4)
    moments = moments_of(levels, norms=True)
    moments.remove(levels)
    assert moments.count == 0
    assert not any(array.any() for array in moments.means + moments.scatters)
    assert not moments.norms.quartics.any()


def test_law_moving_all_embeddings_alike_changes_no_scatter():
    levels = made_up_levels(10)
    moved = [array + 1e3 for array in levels]
    for mine, other in zip(moments_of(levels).scatters, moments_of(moved).scatters, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-8)


def test_memory_does_not_grow_with_the_number_of_images():
    moments = moments_of(made_up_levels(2))
    before = [array.nbytes for array in moments.means + moments.scatters]
    moments.update(made_up_levels(50))
    assert before == [array.nbytes for array in moments.means + moments.scatters]


def test_float32_embeddings_are_summed_in_float64():
    levels = [(a + 1000).astype(np.float32) for a in made_up_levels(40)]
    exact = [a.astype(np.float64) for a in levels]
    assert_close(moments_of(levels), moments_of(exact), tolerance=1e-12)


def test_an_empty_batch_changes_nothing():
    moments = moments_of(made_up_levels(3))
    before = moments.copy()
    moments.update(made_up_levels(0))
    assert_close(moments, before, tolerance=0)


def test_a_copy_is_independent():
    moments = moments_of(made_up_levels(3))
    twin = moments.copy()
    twin.update(made_up_levels(2))
    assert (moments.count, twin.count) == (3, 5)
    assert_close(moments, moments_of(made_up_levels(3)), tolerance=0)


def test_merging_another_pyramid_is_an_error_and_not_a_broadcast():
    other = Moments(Pyramid(grids=((1, 1),), dims=(3,)))
    with pytest.raises(ShapeError, match=r"Did both workers use the same settings\?"):
        Moments(PYRAMID).merge(other)


def test_merging_shared_with_unshared_is_an_error():
    with pytest.raises(ShapeError, match="one value of shared, but one has False"):
        Moments(PYRAMID).merge(Moments(PYRAMID, shared=True))


def test_removing_more_than_was_seen_is_an_error_and_changes_nothing():
    moments = moments_of(made_up_levels(2))
    with pytest.raises(InputError) as caught:
        moments.remove(made_up_levels(3))
    assert str(caught.value) == (
        "At most the 2 images seen can be removed, but 3 were given. "
        "Give only images that were added before."
    )
    assert moments.count == 2


def test_variance_of_one_image_is_an_error():
    with pytest.raises(NotFittedError) as caught:
        moments_of(made_up_levels(1)).variances()
    assert str(caught.value) == (
        "This needs at least 2 images, but 1 were seen. Give more images of good parts."
    )


def test_merging_other_ignored_positions_is_an_error():
    other = np.ones(32)
    other[[1, 2]] = 0
    with pytest.raises(ShapeError, match="one set of positions, but one has 30"):
        Moments(PYRAMID, shared=True, weights=WEIGHTS).merge(
            Moments(PYRAMID, shared=True, weights=other)
        )


def test_merging_with_and_without_norms_is_an_error():
    with pytest.raises(ShapeError, match="one value of norms, but one has True"):
        Moments(PYRAMID, norms=True).merge(Moments(PYRAMID))
