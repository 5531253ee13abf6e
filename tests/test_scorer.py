import numpy as np
import pytest

from blemish.errors import InputError, NotFittedError
from blemish.gaussian import Regularisation
from blemish.score_statistics import learn_statistics
from blemish.scorer import (
    WITH_STATISTICS,
    LeftOutScorer,
    Scorer,
    ScoreSettings,
    ScoreStatistics,
)
from blemish.scoring import SCORES
from embeddings import PYRAMID, made_up_levels, moments_of, subset

RIDGE = Regularisation(ridge=0.01)
SHRUNK = Regularisation(weight=0.7, ridge=0.4)
CLOSED = ["gaussian", "chebyshev", "hybrid", "chebyshev-pooled"]


def without(levels, image):
    return [np.delete(array, image, axis=0) for array in levels]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("score", CLOSED)
@pytest.mark.parametrize("regularisation", [RIDGE, SHRUNK], ids=["epsilon", "shrinkage"])
@pytest.mark.parametrize("count", [3, 8, 40])
def test_left_out_score_is_that_of_really_leaving_out(score, regularisation, count, shared):
    levels, settings = made_up_levels(count), ScoreSettings(score)
    left_out = LeftOutScorer(moments_of(levels, shared=shared), regularisation, settings)(levels)
    for image in range(0, count, max(1, count // 4)):
        rest = moments_of(without(levels, image), shared=shared)
        refitted = Scorer(rest, regularisation, settings, dtype=np.float64)
        expected = refitted(subset(levels, [image])).total
        np.testing.assert_allclose(left_out[[image]], expected, rtol=1e-8, atol=1e-12)


def test_left_out_two_stage_second_stage_is_downdated_exactly():
    """With the first stage held fixed, leaving a row out of the rank statistics is exact."""
    from blemish import scoring

    rows = np.random.default_rng(0).uniform(0, 1, (9, 4, 6))
    mean, squares = rows.mean(axis=0), ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
    got = scoring.left_out_deviations([rows], [mean], [squares], 9)[0]
    rest = np.delete(rows, 3, axis=0)
    expected = (rows[3] - rest.mean(axis=0)) ** 2 / rest.var(axis=0, ddof=1)
    np.testing.assert_allclose(got[3], expected, rtol=1e-10)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("shared", [False, True])
def test_every_score_is_finite_and_finds_an_outlier(score, shared):
    levels, settings = made_up_levels(60), ScoreSettings(score)
    moments = moments_of(levels, shared=shared)
    left_out = LeftOutScorer(moments, RIDGE, settings)
    statistics = (
        learn_statistics([subset(levels, slice(0, 25)), subset(levels, slice(25, 60))], left_out)
        if score in WITH_STATISTICS
        else ScoreStatistics()
    )
    normal = left_out(levels, statistics)
    scorer = Scorer(moments, RIDGE, settings, statistics)
    odd = [array[:1].copy() for array in made_up_levels(60, seed=5)]
    odd[2][0, 7] += 1e4
    found = scorer(odd)
    assert np.isfinite(normal).all() and np.isfinite(found.total).all()
    assert found.total.dtype == np.float32
    assert found.total[0].argmax() == 7
    # The second stage asks how unusual a rank's bound is, and bounds end at 1: it saturates early.
    rarity = 0.9 if score == "chebyshev-two-stage" else 0.99
    assert found.total[0, 7] >= np.quantile(normal, rarity)
    assert [level.shape for level in found.levels] == [(1, 2), (1, 8), (1, 32)]
    assert found.levels[2][0].argmax() == 7  # the fine level is the anomalous one


def test_dead_channel_that_wakes_up_scores_high():
    levels = made_up_levels(50)
    levels[0][:, :, 1] = 0.0
    moments = moments_of(levels)
    woken = subset(made_up_levels(50, seed=3), [0])
    woken[0][:, :, 1] = 0.0
    asleep = [array.copy() for array in woken]
    woken[0][0, 1, 1] = 0.5
    scorer = Scorer(moments, RIDGE, ScoreSettings("chebyshev"))
    reached = PYRAMID.ancestors(2, 0) == 1
    assert (scorer(woken).total[0, reached] > 0.9999).all()
    assert (scorer(asleep).total < 0.9999).all()
    gaussian = Scorer(moments, RIDGE, ScoreSettings("gaussian"))
    assert (gaussian(woken).total[0, reached] > gaussian(asleep).total[0, reached]).all()


def test_float32_scores_are_those_of_float64():
    levels = made_up_levels(40)
    moments = moments_of(levels)
    for score in CLOSED:
        single = Scorer(moments, RIDGE, ScoreSettings(score))(levels).total
        double = Scorer(moments, RIDGE, ScoreSettings(score), dtype=np.float64)(levels).total
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


def test_pooled_statistics_leave_out_ignored_positions():
    levels = made_up_levels(10)
    weights = [np.bincount(PYRAMID.ancestors(2, k), np.arange(32) > 3) for k in range(3)]
    settings = ScoreSettings("chebyshev-pooled")
    wild = [array.copy() for array in levels]
    wild[2][:, :4] += 1e3 * np.random.default_rng(0).normal(size=(10, 4, 4))
    calm = Scorer(moments_of(levels), RIDGE, settings, position_weights=weights)
    same = Scorer(moments_of(wild), RIDGE, settings, position_weights=weights)
    np.testing.assert_allclose(same.means[2], calm.means[2], rtol=1e-6)


@pytest.mark.parametrize("score", sorted(WITH_STATISTICS))
def test_score_that_needs_statistics_says_so(score):
    moments = moments_of(made_up_levels(20))
    scorer = Scorer(moments, RIDGE, ScoreSettings(score))
    with pytest.raises(InputError, match=r"Call learn_statistics\(\) first"):
        scorer(made_up_levels(1))


def test_leaving_out_needs_three_images():
    with pytest.raises(NotFittedError, match="at least 3 images, but 2 were seen"):
        LeftOutScorer(moments_of(made_up_levels(2)), RIDGE, ScoreSettings())


def test_unknown_score_lists_the_known():
    with pytest.raises(InputError) as caught:
        ScoreSettings("euclid")
    assert str(caught.value) == (
        "score must be one of gaussian, chebyshev, hybrid, hybrid-calibrated, chebyshev-pooled, "
        "chebyshev-two-stage, but is 'euclid'. Choose one."
    )


@pytest.mark.parametrize("scale", [0.0, 1.5, -1.0])
def test_chebyshev_scale_is_above_0_and_at_most_1(scale):
    with pytest.raises(InputError, match="chebyshev_scale must be above 0 and at most 1"):
        ScoreSettings("chebyshev", chebyshev_scale=scale)
