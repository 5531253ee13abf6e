import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blemish.errors import InputError
from blemish.threshold import (
    ORDER_STATISTIC,
    TAIL_BOUND,
    PixelHistogram,
    beta_quantile,
    images_needed,
    rate_interval,
    tail_bound,
    threshold_for,
)


@given(a=st.integers(1, 300), b=st.integers(1, 300), p=st.floats(0.001, 0.999))
def test_beta_quantile_is_that_of_scipy(a, b, p):
    assert beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-6, abs=1e-12)


@given(count=st.integers(1, 400), data=st.data())
def test_rate_interval_is_clopper_pearson(count, data):
    alarms = data.draw(st.integers(0, count))
    expected = stats.binomtest(alarms, count).proportion_ci(0.95, "exact")
    assert rate_interval(alarms, count) == pytest.approx(
        (expected.low, expected.high), rel=1e-6, abs=1e-9
    )


@given(
    scores=st.lists(st.floats(0, 100), min_size=2, max_size=120),
    rate=st.floats(0.01, 0.5),
)
def test_law_training_scores_themselves_keep_the_rate(scores, rate):
    """Ties and all: (alarms + the new image) / (n + 1) is at most the rate."""
    found = threshold_for(np.array(scores), rate)
    alarms = int((np.array(scores) >= found.value).sum())
    if found.method == ORDER_STATISTIC:
        assert (alarms + 1) / (len(scores) + 1) <= rate + 1e-9
    assert found.images_needed == images_needed(rate)


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
def test_the_promised_rate_holds_for_any_distribution(draw):
    generator = np.random.default_rng(0)
    sample = getattr(generator, draw)
    rates = []
    covered = 0
    for _ in range(400):
        found = threshold_for(sample(size=200), 0.05)
        rate = float((sample(size=2000) >= found.value).mean())
        rates.append(rate)
        covered += found.interval[0] <= rate <= found.interval[1]
    assert np.mean(rates) == pytest.approx(0.0478, abs=0.004)  # 10 of 201, and at most 0.05
    assert covered / 400 >= 0.92


def test_interval_is_that_of_the_order_statistic():
    found = threshold_for(np.arange(209.0), 0.05)
    assert found.value == np.nextafter(199.0, np.inf)  # the 200th of 209
    low, high = stats.beta.ppf([0.025, 0.975], 10, 200)
    assert found.interval == pytest.approx((low, high))


def test_too_few_images_fall_back_on_the_tail_bound_and_say_how_many_are_needed():
    scores = np.random.default_rng(0).normal(10, 1, 50)
    found = threshold_for(scores, 0.01)
    assert found.method == TAIL_BOUND
    assert (found.images, found.images_needed) == (50, 99)
    assert found.value == pytest.approx(scores.mean() + scores.std(ddof=1) * np.sqrt(99))
    assert found.interval[0] == 0
    assert found.interval[1] == pytest.approx(1 - 0.025 ** (1 / 50))


def test_one_image_more_than_too_few_is_enough():
    assert threshold_for(np.arange(19.0), 0.05).method == ORDER_STATISTIC
    assert threshold_for(np.arange(18.0), 0.05).method == TAIL_BOUND


def test_images_that_all_score_the_same_are_no_alarms():
    found = threshold_for(np.full(30, 7.0), 0.05)
    assert not (np.full(30, 7.0) >= found.value).any()


@given(scores=st.lists(st.integers(-400, 400), min_size=3, max_size=30), rate=st.floats(0.01, 0.5))
def test_law_the_tail_bound_holds_for_the_scores_themselves(scores, rate):
    values = np.array(scores) / 8
    share = (values >= tail_bound(values, rate)).mean()
    assert share <= rate + 1e-9


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0])
def test_a_rate_is_between_0_and_1(rate):
    with pytest.raises(InputError) as caught:
        threshold_for(np.arange(30.0), rate)
    assert str(caught.value) == (
        f"false_alarm_rate must be between 0 and 1, but is {rate}. Try 0.05."
    )


def test_one_score_is_not_enough():
    with pytest.raises(InputError) as caught:
        threshold_for(np.array([1.0]), 0.05)
    assert str(caught.value) == (
        "A threshold needs the scores of at least 2 good images, but there are 1. "
        "Give more images of good parts."
    )


@given(
    values=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=300),
    share=st.floats(0.01, 1),
)
def test_law_histogram_quantile_is_right_to_a_two_thousandth(values, share):
    histogram = PixelHistogram()
    half = len(values) // 2
    histogram.add(np.array(values[:half]))
    histogram.add(np.array(values[half:]))
    exact = np.quantile(np.float32(values), share, method="inverted_cdf")
    assert exact <= histogram.quantile(share) <= exact * (1 + 1 / 2000) + 1e-37


def test_histogram_memory_does_not_grow():
    histogram = PixelHistogram()
    before = histogram.counts.nbytes
    for scale in (1e-20, 1.0, 1e20):
        histogram.add(scale * np.arange(1000.0))
    assert histogram.counts.nbytes == before
    assert histogram.counts.sum() == 3000
