"""Positions judged by the Gaussians around them: against dull loops, and really leaving out."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish import FitSettings, nearest, neighbourhood
from blemish.errors import InputError
from blemish.export import export_model
from blemish.gaussian import Regularisation
from blemish.inference import PlainInference
from blemish.judge import neighbourhoods_of
from blemish.model import load_model
from blemish.neighbourhood import Neighbourhood, reach_of
from blemish.plan import plan_fit
from blemish.pyramid import Pyramid
from blemish.score_statistics import learn_statistics
from blemish.scorer import LeftOutScorer, Scorer, ScoreSettings
from blemish.scoring import LARGEST_BOUND
from blemish.torch_runner import TorchRunner
from embeddings import PYRAMID, made_up_levels, moments_of, subset, whole
from small_models import (
    good_image,
    good_images,
    inputs_of,
    small_model,
    spoiled_image,
    tiny_backbone,
)

RIDGE = Regularisation(ridge=0.01)
SHRUNK = Regularisation(weight=0.7, ridge=0.4)
SCORES = ["gaussian", "chebyshev", "hybrid"]
FLAT = Pyramid(grids=((3, 5),), dims=(3,))
HALF = np.arange(32) % 3 > 0


def around(pyramid, reach, candidates=None):
    """All (p, q) that are at most `reach` apart, q first by p's own."""
    height, width = pyramid.finest
    for p in range(height * width):
        near = [
            q
            for q in range(height * width)
            if abs(q // width - p // width) <= reach[0]
            and abs(q % width - p % width) <= reach[1]
            and (q == p or candidates is None or candidates[q])
        ]
        yield p, near


def dull_pair(x, samples, how, score):
    """Score of the embedding x judged by the Gaussian of these samples (n, D)."""
    away = x - samples.mean(axis=0)
    covariance = how.weight * np.cov(samples, rowvar=False) + how.ridge * np.eye(len(x))
    distance = np.sqrt(away @ np.linalg.solve(covariance, away))
    k2 = (away**2 / samples.var(axis=0, ddof=1)).max()
    bound = min(1 - 1 / max(k2, 1), LARGEST_BOUND)
    return {"gaussian": distance, "chebyshev": bound, "hybrid": (distance + bound) / 2}[score]


def dull_score(levels, judged, pyramid, reach, how, score, candidates=None):
    """One image's scores (P,), pair by pair."""
    fitted, x = whole(levels, pyramid), whole(judged, pyramid)[0]
    return np.array(
        [
            min(dull_pair(x[p], fitted[:, q], how, score) for q in near)
            for p, near in around(pyramid, reach, candidates)
        ]
    )


@pytest.mark.parametrize("how", [RIDGE, SHRUNK], ids=["epsilon", "shrinkage"])
@pytest.mark.parametrize("reach", [(1, 1), (3, 3), (0, 2), (9, 9)])
@pytest.mark.parametrize("score", SCORES)
def test_score_is_the_least_over_all_gaussians_around(score, reach, how):
    levels, judged = made_up_levels(30), made_up_levels(1, seed=4)
    near = Neighbourhood(PYRAMID, reach)
    scorer = Scorer(
        moments_of(levels), how, ScoreSettings(score), neighbourhood=near, dtype=np.float64
    )
    expected = dull_score(levels, judged, PYRAMID, reach, how, score)
    np.testing.assert_allclose(scorer(judged).total[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_one_layer_alone_and_ignored_candidates(score):
    for pyramid, candidates in ((FLAT, None), (PYRAMID, HALF)):
        levels, judged = made_up_levels(20, pyramid), made_up_levels(1, pyramid, seed=4)
        near = Neighbourhood(pyramid, (1, 2), candidates)
        moments = moments_of(levels, pyramid)
        scorer = Scorer(moments, RIDGE, ScoreSettings(score), neighbourhood=near, dtype=np.float64)
        expected = dull_score(levels, judged, pyramid, (1, 2), RIDGE, score, candidates)
        np.testing.assert_allclose(scorer(judged).total[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", [RIDGE, SHRUNK], ids=["epsilon", "shrinkage"])
@pytest.mark.parametrize("count", [3, 8, 25])
@pytest.mark.parametrize("score", SCORES)
def test_left_out_score_is_that_of_really_leaving_out(score, count, how, monkeypatch):
    monkeypatch.setattr(neighbourhood, "PAIR_BYTES", 100_000)  # a few images at a time
    levels, near = made_up_levels(count), Neighbourhood(PYRAMID, (2, 1), HALF)
    settings = ScoreSettings(score)
    left_out = LeftOutScorer(moments_of(levels), how, settings, neighbourhood=near)(levels)
    for image in range(0, count, max(1, count // 4)):
        rest = moments_of([np.delete(array, image, axis=0) for array in levels])
        refitted = Scorer(rest, how, settings, neighbourhood=near, dtype=np.float64)
        expected = refitted(subset(levels, [image])).total
        np.testing.assert_allclose(left_out[[image]], expected, rtol=1e-8, atol=1e-12)


def test_left_out_is_the_same_when_whitening_is_not_held(monkeypatch):
    from blemish import scorer

    levels, near = made_up_levels(9), Neighbourhood(PYRAMID, (1, 1))
    moments, settings = moments_of(levels), ScoreSettings("hybrid")
    held = LeftOutScorer(moments, RIDGE, settings, neighbourhood=near)(levels)
    monkeypatch.setattr(scorer, "HELD_WHITENING_BYTES", 0)
    monkeypatch.setattr(neighbourhood, "_PIECE_BYTES", 1)
    made_anew = LeftOutScorer(moments, RIDGE, settings, neighbourhood=near)(levels)
    np.testing.assert_allclose(made_anew, held, rtol=1e-12)


def test_hybrid_calibrated_is_the_least_of_what_each_gaussian_says():
    """Scales are learned from each position's own Gaussian; the minimum is over the score."""
    levels, judged, pyramid = made_up_levels(20, FLAT), made_up_levels(1, FLAT, seed=4), FLAT
    moments, settings = moments_of(levels, FLAT), ScoreSettings("hybrid-calibrated")
    near = Neighbourhood(FLAT, (1, 1))
    statistics = learn_statistics(
        [levels], LeftOutScorer(moments, RIDGE, settings, neighbourhood=near)
    )
    assert statistics == learn_statistics([levels], LeftOutScorer(moments, RIDGE, settings))

    def by(q):
        """Scores of x_p by the Gaussian of q, for all p: moments with all positions alike."""
        alike = moments_of([array[:, [q] * 15] for array in levels], FLAT)
        return Scorer(alike, RIDGE, settings, statistics, dtype=np.float64)(judged).total[0]

    # The floor of sigma is relative to all positions of a layer, and far below all sigma here.
    said = np.array([by(q) for q in range(15)])
    expected = [said[q, p].min() for p, q in around(pyramid, (1, 1))]
    scorer = Scorer(moments, RIDGE, settings, statistics, neighbourhood=near, dtype=np.float64)
    np.testing.assert_allclose(scorer(judged).total[0], expected, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(0, 3),
    columns=st.integers(0, 3),
    seed=st.integers(0, 99),
    score=st.sampled_from(SCORES),
)
def test_a_larger_neighbourhood_never_raises_a_score(rows, columns, seed, score):
    levels, judged = made_up_levels(12, FLAT, seed), made_up_levels(2, FLAT, seed + 1)
    moments, how = moments_of(levels, FLAT), ScoreSettings(score)
    totals = [
        Scorer(moments, RIDGE, how, neighbourhood=near)(judged).total
        for near in (None, Neighbourhood(FLAT, (rows, columns)), Neighbourhood(FLAT, (4, 4)))
    ]
    slack = 1e-4
    assert (totals[1] <= totals[0] + slack).all()
    assert (totals[2] <= totals[1] + slack).all()


@pytest.mark.parametrize("score", SCORES)
def test_reach_zero_is_the_score_without_a_neighbourhood(score):
    levels, judged = made_up_levels(12), made_up_levels(3, seed=1)
    moments, how = moments_of(levels), ScoreSettings(score)
    near = Neighbourhood(PYRAMID, (0, 0))
    plain, zero = (
        Scorer(moments, RIDGE, how, neighbourhood=each, dtype=np.float64)(judged)
        for each in (None, near)
    )
    for expected, found in zip(
        [plain.total, *plain.levels], [zero.total, *zero.levels], strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    plain, zero = (
        LeftOutScorer(moments, RIDGE, how, neighbourhood=each)(levels) for each in (None, near)
    )
    np.testing.assert_allclose(zero, plain, rtol=1e-10, atol=1e-12)


def test_levels_are_those_of_the_winners():
    """Squares of the levels, averaged over each coarse cell, sum to the squared distances."""
    levels, judged = made_up_levels(30), made_up_levels(2, seed=4)
    scorer = Scorer(
        moments_of(levels),
        RIDGE,
        ScoreSettings("gaussian"),
        neighbourhood=Neighbourhood(PYRAMID, (2, 2)),
        dtype=np.float64,
    )
    found = scorer(judged)
    assert [level.shape for level in found.levels] == [(2, 2), (2, 8), (2, 32)]

    def of_coarsest(squares, level):
        cells = PYRAMID.ancestors(level, 0)
        return np.stack([squares[:, cells == cell].mean(axis=1) for cell in range(2)], axis=1)

    sums = sum(of_coarsest(array**2, level) for level, array in enumerate(found.levels))
    np.testing.assert_allclose(sums, of_coarsest(found.total**2, 2), rtol=1e-9)
    bounds = Scorer(
        moments_of(levels),
        RIDGE,
        ScoreSettings("chebyshev"),
        neighbourhood=Neighbourhood(PYRAMID, (2, 2)),
        dtype=np.float64,
    )(judged)
    largest = np.maximum.reduce(
        [
            np.stack(
                [array[:, PYRAMID.ancestors(k, 0) == cell].max(axis=1) for cell in range(2)], axis=1
            )
            for k, array in enumerate(bounds.levels)
        ]
    )
    cells = PYRAMID.ancestors(2, 0)
    most = np.stack([bounds.total[:, cells == cell].max(axis=1) for cell in range(2)], axis=1)
    np.testing.assert_allclose(largest, most, rtol=1e-9)


def test_a_shifted_image_is_usual_again_inside():
    """Smooth positions moved by one: judged by its neighbour, each inner one scores as before."""
    pyramid = Pyramid(grids=((8, 8),), dims=(2,))
    levels = made_up_levels(40, pyramid)
    levels[0] += 50 * np.random.default_rng(1).normal(size=(1, 64, 2))  # unlike its neighbours
    image = levels[0][:1]
    moved = [np.roll(image.reshape(1, 8, 8, 2), 1, axis=2).reshape(1, 64, 2)]
    moments, how = moments_of(levels, pyramid), ScoreSettings("gaussian")
    plain = Scorer(moments, RIDGE, how, dtype=np.float64)
    near = Scorer(
        moments, RIDGE, how, neighbourhood=Neighbourhood(pyramid, (1, 1)), dtype=np.float64
    )
    inside = (np.arange(64) % 8) >= 1
    before = np.roll(plain([image]).total.reshape(8, 8), 1, axis=1).ravel()
    np.testing.assert_allclose(near(moved).total[0, inside], before[inside], rtol=1e-9)
    assert (plain(moved).total[0, inside] > 3 * before[inside]).mean() > 0.9


def test_float32_is_float64_and_batches_are_single_images():
    levels, judged = made_up_levels(40), made_up_levels(3, seed=2)
    near = Neighbourhood(PYRAMID, (2, 2))
    for score in SCORES:
        single, double = (
            Scorer(moments_of(levels), RIDGE, ScoreSettings(score), neighbourhood=near, dtype=kind)
            for kind in (np.float32, np.float64)
        )
        found = single(judged)
        assert found.total.dtype == np.float32
        np.testing.assert_allclose(found.total, double(judged).total, rtol=1e-4, atol=1e-5)
        one_by_one = [single(subset(judged, [k])).total for k in range(3)]
        np.testing.assert_allclose(found.total, np.concatenate(one_by_one), rtol=1e-5, atol=1e-6)
        assert single(subset(judged, [])).total.shape == (0, 32)


def test_reach_is_the_same_distance_on_every_layer():
    finest = (64, 48)
    assert [reach_of((r, r), finest, (16, 12)) for r in (0, 1, 4, 5)] == [
        (0, 0),
        (1, 1),
        (1, 1),
        (2, 2),
    ]
    assert reach_of((3, 3), (2, 8), (2, 8)) == (1, 3)


def test_left_out_pair_distance_of_a_position_itself_is_the_known_form():
    from blemish.scoring import left_out_distance

    squared = np.array([0.5, 3.0])
    np.testing.assert_allclose(
        nearest.left_out_pair_distance(squared, squared, squared, count=7, weight=0.8),
        left_out_distance(squared, 7, 0.8),
        rtol=1e-12,
    )


# --- whole models ------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["gaussian", "hybrid"])
def test_calibration_scores_are_those_of_models_without_the_image(score):
    images, settings = good_images(12), {"neighbourhood": 2, "score": score}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = small_model(images=images, **settings).calibration.scores
        for number in (0, 7):
            rest = small_model(images=images[:number] + images[number + 1 :], **settings)
            found = rest.score(images[number]).image_score
            assert found == pytest.approx(scores[number], rel=1e-4)


def test_a_model_is_scored_plainly_and_saved_whole(tmp_path):
    model = small_model(neighbourhood=1, tries_bf16=True)
    assert isinstance(model._inference, PlainInference)
    assert model.fitted.bf16_drift is None
    model.save(tmp_path / "near.blemish")
    again = load_model(tmp_path / "near.blemish")
    assert again.settings.neighbourhood == 1
    for mine, its in zip(
        model.score_inputs(inputs_of(model)), again.score_inputs(inputs_of(model)), strict=True
    ):
        assert mine.image_score == pytest.approx(its.image_score, rel=1e-6)
        np.testing.assert_allclose(mine.anomaly_map, its.anomaly_map, rtol=1e-4, atol=1e-5)
    good, spoiled = (model.score(each) for each in (good_image(99), spoiled_image(99)[0]))
    assert spoiled.image_score > model.threshold().value > good.image_score


def test_separate_layers_reach_the_same_distance_and_are_standardised():
    model = small_model(neighbourhood=3, separate=True, standardise=True)
    coarse, fine = (part.moments.pyramid for part in model.parts)
    assert (coarse.finest, fine.finest) == ((8, 6), (16, 12))
    near = neighbourhoods_of([coarse, fine], model.settings, None)
    assert [len(each.judges) for each in near] == [5 * 5, 7 * 7]  # 2 and 3 cells to each side
    assert all(part.standardisation is not None for part in model.parts)
    usual = small_model(separate=True, standardise=True)
    assert not np.allclose(model.parts[0].standardisation.gain, usual.parts[0].standardisation.gain)
    good, spoiled = (model.score(each) for each in (good_image(99), spoiled_image(99)[0]))
    assert spoiled.image_score > model.threshold().value > good.image_score


def test_gaussians_of_ignored_positions_judge_only_themselves():
    mask = np.zeros((32, 24), bool)
    mask[:, 12:] = True
    model = small_model(neighbourhood=1, ignore_mask=mask)
    (near,) = neighbourhoods_of([model.pyramid], model.settings, model.ignored)
    judging = near.judges[near.valid] % 12
    judged = np.broadcast_to(np.arange(16 * 12) % 12, near.judges.shape)[near.valid]
    assert (judging[judged < 6] < 6).all()
    assert ((judging < 6) | (judging == judged)).all()


def test_what_has_no_code_for_it_refuses(tmp_path):
    model = small_model(neighbourhood=2)

    def said(what):
        return (
            f"{what} can judge a position by its own Gaussian alone, but the model was fitted with "
            "a neighbourhood of 2. Fit with neighbourhood 0."
        )

    for what, call in (
        ("An export", lambda: export_model(model, tmp_path / "out", made_up=True)),
        ("A graph", model.graph),
        ("The torch runner", lambda: TorchRunner(model.fitted, model._judge)),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == said(what)
    assert list(tmp_path.iterdir()) == []


def test_the_plan_counts_what_is_kept_about_pairs():
    usual, near = (
        plan_fit([PYRAMID], 20, backbone=tiny_backbone(), neighbourhood=r).memory_bytes
        for r in (0, 1)
    )
    assert near - usual == neighbourhood.PAIR_BYTES


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"neighbourhood": -1},
            "neighbourhood must be a whole number of at least 0, but is -1. Try 1; the default is "
            "0.",
        ),
        (
            {"neighbourhood": 1, "shared": True},
            "A neighbourhood needs one Gaussian per position, but shared is True, which has one "
            "for all. Leave out one of the two.",
        ),
        (
            {"neighbourhood": 1, "score": "chebyshev-pooled"},
            "A neighbourhood needs a score by which each position's Gaussian judges, but the score "
            "is chebyshev-pooled. Use gaussian, chebyshev, hybrid or hybrid-calibrated.",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, text):
    with pytest.raises(InputError) as caught:
        FitSettings(**wrong)
    assert str(caught.value) == text
