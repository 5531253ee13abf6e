import warnings

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, oas

from blemish import scoring
from blemish.errors import FewImagesWarning, InputError
from blemish.gaussian import (
    Regularisation,
    gaussian_of,
    inverse_triangular,
    regularisation_of,
)
from blemish.pyramid import Pyramid
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
    monkeypatch.setattr("blemish.gaussian._SLICE_BYTES", 1)
    monkeypatch.setattr("blemish.moments._SLICE_BYTES", 1)
    sliced = gaussian_of(moments_of(levels))
    for mine, other in zip(sliced.whitening, at_once.whitening, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


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
