import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish import scoring
from embeddings import PYRAMID, made_up_levels

FINITE = st.floats(-1e18, 1e18)


def one_channel(value, mean, variance, dtype=np.float64):
    """k^2 and bound of one channel at one position."""
    k2 = scoring.deviations(
        [np.array([[[value]]], dtype)],
        [np.array([[mean]], dtype)],
        # beside a channel of variance 1, whose level sets the floor
        [scoring.floored(np.array([[variance, 1.0]], dtype))[:, :1]],
    )[0]
    return scoring.chebyshev_bound(k2.max(axis=2))[0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "mean", "variance", "low", "high"),
    [
        (0.0, 0.0, 0.0, 0.0, 0.0),  # dead and stays dead: published code gives NaN
        (0.3, 0.0, 0.0, 0.999, 1.0),  # dead and wakes up: published code gives 0
        (1e15, 0.0, 1e-6, 0.999, 1.0),  # k^2 overflows float32
        (1.0, 1.0, 4.0, 0.0, 0.0),
        (5.0, 1.0, 4.0, 0.75, 0.75),
    ],
)
def test_chebyshev_at_the_edges(value, mean, variance, low, high, dtype):
    bound = one_channel(value, mean, variance, dtype)
    assert low <= bound <= high
    assert bound < 1
    assert bound.dtype == dtype


@given(arrays(np.float32, (2, 3), elements=st.floats(0, 2.0**99, width=32)))
def test_law_bound_is_in_0_to_1_and_grows_with_k(k2):
    bound = scoring.chebyshev_bound(k2)
    assert ((bound >= 0) & (bound < 1)).all()
    order = np.argsort(k2, axis=None)
    assert (np.diff(bound.ravel()[order]) >= 0).all()


@given(
    arrays(np.float64, (2, 1, 3), elements=FINITE),
    arrays(np.float64, (1, 3), elements=FINITE),
    arrays(np.float64, (1, 3), elements=st.floats(0, 1e18)),
)
def test_law_nothing_is_ever_nan_or_infinite(values, means, variances):
    k2 = scoring.deviations([values], [means], [scoring.floored(variances)])[0]
    bounds = -np.sort(-scoring.chebyshev_bound(k2), axis=2)
    assert np.isfinite(k2).all()
    assert np.isfinite(bounds).all()
    assert np.isfinite(scoring.two_stage(bounds, k2)).all()
    assert np.isfinite(scoring.log_deviation(k2)).all()


def test_largest_bound_is_the_bound_of_the_largest_deviation():
    levels = made_up_levels(4)
    zeros = [np.zeros(a.shape[1:]) for a in levels]
    ones = [np.ones(a.shape[1:]) for a in levels]
    k2 = scoring.deviations(levels, zeros, ones)
    largest = scoring.chebyshev_bound(scoring.largest_deviation(k2, PYRAMID))
    np.testing.assert_array_equal(largest, scoring.sorted_bounds(k2, PYRAMID)[:, :, 0])


def test_scale_multiplies_the_bound():
    assert scoring.chebyshev_bound(np.array([4.0]), scale=0.8) == pytest.approx(0.6)


def test_on_normal_data_distance_is_near_10_and_bound_near_86_percent():
    """reference.md, section 2: 100 channels of N(0, 1)."""
    z2 = np.random.default_rng(0).normal(size=(5000, 1, 100)) ** 2
    distance = np.sqrt(z2.sum(axis=2))
    bound = scoring.chebyshev_bound(z2.max(axis=2))
    assert distance.mean() == pytest.approx(10, abs=0.1)
    assert distance.std() == pytest.approx(0.7, abs=0.05)
    assert bound.mean() == pytest.approx(0.86, abs=0.01)
    assert bound.std() <= 0.05


def test_two_stage_by_the_dull_loop():
    generator = np.random.default_rng(3)
    bounds = -np.sort(-generator.uniform(0, 0.99, (4, 5, 6)), axis=2)
    rank_k2 = generator.uniform(0, 9, bounds.shape)
    expected = np.zeros((4, 5))
    for image in range(4):
        for position in range(5):
            kept = int(6 * bounds[image, position].max())
            second = [1 - 1 / max(rank_k2[image, position, r], 1) for r in range(kept)]
            expected[image, position] = max(second, default=0.0)
    np.testing.assert_allclose(scoring.two_stage(bounds, rank_k2), expected)


def test_two_stage_keeps_nothing_where_no_channel_deviates():
    assert scoring.two_stage(np.zeros((1, 1, 4)), np.full((1, 1, 4), 9.0)) == 0


def test_hybrid_calibrated_weighs_both_alike():
    """One standard deviation of either raises the score by half a standard deviation."""

    def score(distance, log_k):
        return scoring.hybrid_calibrated(
            np.array([distance]),
            np.array([np.exp(2 * log_k)]),
            distance_scale=(10.0, 0.5),
            deviation_scale=(1.0, 0.25),
        )[0]

    assert score(10.0, 1.0) == pytest.approx(10.0)
    assert score(10.5, 1.0) == pytest.approx(10.25)
    assert score(10.0, 1.25) == pytest.approx(10.25)


def test_hybrid_calibrated_is_never_negative():
    score = scoring.hybrid_calibrated(
        np.array([0.0]), np.array([0.0]), distance_scale=(1.0, 1.0), deviation_scale=(1.0, 0.1)
    )
    assert score == 0
