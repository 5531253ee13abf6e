import warnings

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, oas

from blemish import scoring
from blemish.errors import FewImagesWarning, InputError
from blemish.gaussian import (
    Regularisation,
    gaussian_of,
    regularisation_of,
    squared_distances,
    whitened_squares,
)
from blemish.pyramid import Pyramid
from blemish.scorer import LeftOutScorer, ScoreSettings
from blemish.whitening import inverse_triangular
from embeddings import dull_distance, made_up_levels, moments_of, whole


def distance(levels, gaussian):
    return np.sqrt(
        scoring.total_distance(scoring.level_distances(levels, gaussian), gaussian.pyramid)
    )


@pytest.mark.parametrize("count", [3, 12, 200])
def test_pyramid_distance_is_that_of_a_full_covariance(count):
    fitted, judged = made_up_levels(count, seed=1), made_up_levels(20, seed=2)
    gaussian = gaussian_of(moments_of(fitted))
    expected = dull_distance(whole(fitted), whole(judged))
    np.testing.assert_allclose(distance(judged, gaussian), expected, rtol=1e-9)


def test_float32_distance_is_close_to_the_full_covariance():
    fitted, judged = made_up_levels(60, seed=1), made_up_levels(20, seed=2)
    gaussian = gaussian_of(moments_of(fitted)).astype(np.float32)
    expected = dull_distance(whole(fitted), whole(judged))
    got = distance([a.astype(np.float32) for a in judged], gaussian)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_large_pyramids_are_whitened_in_slices(monkeypatch):
    levels = made_up_levels(30)
    at_once = gaussian_of(moments_of(levels))
    monkeypatch.setattr("blemish.whitening.SLICE_BYTES", 1)
    monkeypatch.setattr("blemish.moments._SLICE_BYTES", 1)
    sliced = gaussian_of(moments_of(levels))
    for mine, other in zip(sliced.whitening, at_once.whitening, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("slice_bytes", [1, 32 << 20])
@pytest.mark.parametrize("held", [False, True])
def test_law_distances_are_the_same_whether_the_whitening_is_held_or_not(
    slice_bytes, held, monkeypatch
):
    moments, judged = moments_of(made_up_levels(12)), made_up_levels(5, seed=2)
    gaussian = gaussian_of(moments, Regularisation(ridge=0.3))
    expected = scoring.level_distances(judged, gaussian)
    monkeypatch.setattr("blemish.whitening.SLICE_BYTES", slice_bytes)
    found = squared_distances(
        judged, moments, Regularisation(ridge=0.3), gaussian if held else None
    )
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10)


def test_float32_whitening_is_the_float64_one_rounded():
    moments = moments_of(made_up_levels(12))
    halved, exact = gaussian_of(moments, dtype=np.float32), gaussian_of(moments)
    rounded = exact.astype(np.float32)
    for mine, other in zip(
        halved.means + halved.whitening, rounded.means + rounded.whitening, strict=True
    ):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, other)


def test_whitening_does_not_change_the_moments_and_shares_nothing_with_them():
    moments = moments_of(made_up_levels(12))
    before = moments.copy()
    gaussian = gaussian_of(moments)
    for mean in gaussian.means:
        mean += 1.0
    for mine, other in zip(
        moments.means + moments.scatters, before.means + before.scatters, strict=True
    ):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("slice_bytes", [1, 32 << 20])
@pytest.mark.parametrize("images", [0, 1, 3])
def test_squares_on_all_cores_are_those_of_one(images, slice_bytes, monkeypatch):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(11, images, 5)).astype(np.float32)
    rows = generator.normal(size=(11, 3, 5)).astype(np.float32)
    monkeypatch.setattr("blemish.gaussian.SLICE_BYTES", slice_bytes)
    found = whitened_squares(vectors, rows)
    expected = (np.einsum("pde,pne->npd", rows, vectors) ** 2).sum(axis=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_singular_slice_among_many_says_what_to_do(monkeypatch):
    monkeypatch.setattr("blemish.whitening.SLICE_BYTES", 1)
    moments = moments_of(made_up_levels(4))
    with pytest.raises(InputError, match="The covariance must be positive definite"):
        squared_distances(made_up_levels(2), moments, Regularisation(ridge=0.0))


def test_a_single_level_is_plain_padim():
    pyramid = Pyramid(grids=((3, 2),), dims=(5,))
    fitted, judged = made_up_levels(9, pyramid, 1), made_up_levels(4, pyramid, 2)
    moments = moments_of(fitted, pyramid)
    expected = dull_distance(fitted[0], judged[0])
    np.testing.assert_allclose(distance(judged, gaussian_of(moments)), expected, rtol=1e-9)


def test_shared_gaussian_is_one_covariance_of_all_positions():
    fitted, judged = made_up_levels(6, seed=1), made_up_levels(3, seed=2)
    gaussian = gaussian_of(moments_of(fitted, shared=True))
    pooled = np.broadcast_to(whole(fitted).reshape(-1, 1, 9), (6 * 32, 32, 9))
    expected = dull_distance(pooled, whole(judged))
    np.testing.assert_allclose(distance(judged, gaussian), expected, rtol=1e-9)


def test_law_moving_all_embeddings_alike_changes_no_distance():
    fitted, judged = made_up_levels(20, seed=1), made_up_levels(5, seed=2)
    before = distance(judged, gaussian_of(moments_of(fitted)))
    after = distance([a + 100 for a in judged], gaussian_of(moments_of([a + 100 for a in fitted])))
    np.testing.assert_allclose(after, before, rtol=1e-8)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
def test_inverse_triangular_is_the_inverse(size):
    generator = np.random.default_rng(size)
    lower = np.tril(generator.normal(size=(4, size, size))) + 3 * np.eye(size)
    inverse = inverse_triangular(lower)
    np.testing.assert_allclose(
        inverse @ lower, np.broadcast_to(np.eye(size), lower.shape), atol=1e-12
    )
    assert not np.triu(inverse, 1).any()


@pytest.mark.parametrize(("shrinkage", "oracle"), [("oas", oas), ("ledoit-wolf", ledoit_wolf)])
def test_shrinkage_of_one_position_is_that_of_sklearn(shrinkage, oracle):
    pyramid = Pyramid(grids=((1, 1), (1, 1)), dims=(4, 3))
    levels = made_up_levels(15, pyramid)
    moments = moments_of(levels, pyramid, norms=True)
    found = regularisation_of(moments, epsilon=0.0, shrinkage=shrinkage)
    samples = whole(levels, pyramid)[:, 0]
    covariance, intensity = oracle(samples)
    assert 1 - found.weight == pytest.approx(intensity, rel=1e-9)
    # sklearn divides by n, the paper by n - 1
    ours = found.weight * np.cov(samples, rowvar=False) + found.ridge * np.eye(7)
    np.testing.assert_allclose(ours, covariance * 15 / 14, rtol=1e-9, atol=1e-12)


def test_shrinkage_makes_few_images_usable_without_epsilon():
    levels = made_up_levels(4)
    moments = moments_of(levels, norms=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = regularisation_of(moments, epsilon=0.0, shrinkage="ledoit-wolf")
    assert np.isfinite(distance(levels, gaussian_of(moments, found))).all()


def test_few_images_without_shrinkage_warn():
    with pytest.warns(FewImagesWarning) as caught:
        regularisation_of(moments_of(made_up_levels(9)))
    assert str(caught[0].message) == (
        "9 images for 9 dimensions: fine to start with, but in some directions the covariance "
        "rests on epsilon alone. More images, shrinkage or fewer dimensions make it surer."
    )


def test_singular_covariance_says_what_to_do():
    moments = moments_of(made_up_levels(4))
    with pytest.raises(InputError) as caught:
        gaussian_of(moments, Regularisation(ridge=0.0))
    assert str(caught.value) == (
        "The covariance must be positive definite, but is singular at some position. "
        "Use a larger epsilon, shrinkage, fewer dimensions or more images."
    )


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf")])
def test_epsilon_must_be_a_number_of_at_least_0(epsilon):
    with pytest.raises(InputError, match="epsilon must be at least 0, but is"):
        regularisation_of(moments_of(made_up_levels(30)), epsilon=epsilon)


def test_unknown_shrinkage_lists_the_known():
    with pytest.raises(InputError) as caught:
        regularisation_of(moments_of(made_up_levels(30)), shrinkage="much")
    assert str(caught.value) == (
        "shrinkage must be one of none, oas, ledoit-wolf, but is 'much'. Choose one."
    )


def test_ledoit_wolf_needs_moments_gathered_for_it():
    with pytest.raises(InputError, match="Gather them with norms=True"):
        regularisation_of(moments_of(made_up_levels(30)), shrinkage="ledoit-wolf")


@pytest.mark.parametrize("score", ["gaussian", "hybrid"])
def test_law_left_out_scores_are_the_same_where_the_whitening_is_too_large_to_hold(
    score, monkeypatch
):
    levels = made_up_levels(7)
    moments, settings = moments_of(levels), ScoreSettings(score)
    held = LeftOutScorer(moments, Regularisation(), settings)(levels)
    monkeypatch.setattr("blemish.scorer.HELD_WHITENING_BYTES", 0)
    monkeypatch.setattr("blemish.whitening.SLICE_BYTES", 1)
    found = LeftOutScorer(moments, Regularisation(), settings)(levels)
    np.testing.assert_allclose(found, held, rtol=1e-10)
