import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from blemish.errors import InputError, ShapeError
from blemish.metrics import Curve, auroc, average_precision, f1_max, roc_curve, thin_curve

METRICS = [auroc, average_precision, f1_max, roc_curve]


@st.composite
def scored_images(draw, unique=False):
    """Scores (few values, so many ties, unless unique) and labels of both classes."""
    size = draw(st.integers(2, 30))
    values = st.integers(-4, 4) if not unique else st.integers(-1000, 1000)
    scores = draw(st.lists(values, min_size=size, max_size=size, unique=unique))
    labels = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    labels[0], labels[1] = True, False
    order = draw(st.permutations(range(size)))
    return np.array(scores, float)[order] / 7, np.array(labels)[order]


def brute_f1_max(scores, labels):
    found = [(oracle.f1_score(labels, scores >= t), t) for t in np.unique(scores)]
    best = max(f1 for f1, _ in found)
    return best, max(t for f1, t in found if f1 > best - 1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_auroc_is_that_of_scikit_learn(data):
    scores, labels = data
    assert auroc(scores, labels) == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_auroc_is_the_chance_of_a_right_order_with_ties_one_half(data):
    scores, labels = data
    gaps = scores[labels][:, None] - scores[~labels][None]
    assert auroc(scores, labels) == pytest.approx(np.mean((np.sign(gaps) + 1) / 2), abs=1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_average_precision_is_that_of_scikit_learn(data):
    scores, labels = data
    expected = oracle.average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_f1_max_is_the_best_of_all_thresholds_and_the_highest_of_the_best(data):
    scores, labels = data
    assert f1_max(scores, labels) == pytest.approx(brute_f1_max(scores, labels), abs=1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_f1_max_is_the_best_point_of_the_precision_recall_curve(data):
    scores, labels = data
    precision, recall, _ = oracle.precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = 2 * precision * recall / np.where(total > 0, total, 1)
    assert f1_max(scores, labels)[0] == pytest.approx(f1.max(), abs=1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_roc_curve_is_that_of_scikit_learn(data):
    scores, labels = data
    curve = roc_curve(scores, labels)
    x, y, thresholds = oracle.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.x, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curve.y, y, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_area_under_the_roc_curve_is_the_auroc(data):
    curve = roc_curve(*data)
    assert oracle.auc(curve.x, curve.y) == pytest.approx(auroc(*data), abs=1e-12)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_law_negated_scores_give_one_minus_the_auroc(data):
    scores, labels = data
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)


@given(scored_images(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_law_the_order_of_images_does_not_matter(data, random):
    scores, labels = data
    order = np.array(random.sample(range(len(scores)), len(scores)))
    for metric in (auroc, average_precision, f1_max):
        assert metric(scores[order], labels[order]) == metric(scores, labels)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_law_a_rising_function_of_the_scores_changes_nothing(data):
    scores, labels = data
    moved = np.exp(3 * scores) - 5
    assert auroc(moved, labels) == auroc(scores, labels)
    assert average_precision(moved, labels) == average_precision(scores, labels)
    f1, threshold = f1_max(scores, labels)
    assert f1_max(moved, labels) == (f1, np.exp(3 * threshold) - 5)


@given(scored_images())
@settings(max_examples=40, deadline=None)
def test_law_perfect_scores_give_one(data):
    _, labels = data
    assert auroc(labels, labels) == average_precision(labels, labels) == 1
    assert f1_max(labels, labels) == (1, 1)


def test_scores_that_are_all_equal_give_one_half():
    assert auroc([3, 3, 3], [0, 1, 1]) == 0.5
    assert average_precision([3, 3, 3], [0, 1, 1]) == pytest.approx(2 / 3)
    assert f1_max([3, 3, 3], [0, 1, 1]) == (0.8, 3)


def test_negative_and_positive_zero_are_a_tie():
    assert auroc([-0.0, 0.0], [0, 1]) == auroc([0.0, -0.0], [0, 1]) == 0.5


def test_tiny_differences_between_scores_count():
    assert auroc([1.0, np.nextafter(1.0, 2.0)], [0, 1]) == 1


@given(scored_images(unique=True), st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_law_a_thinned_curve_keeps_its_ends_and_stays_close(data, max_points):
    curve = roc_curve(*data)
    thin = thin_curve(curve, max_points)
    assert len(thin.x) <= max_points
    whole = list(zip(curve.x, curve.y, curve.thresholds, strict=True))
    kept = list(zip(thin.x, thin.y, thin.thresholds, strict=True))
    assert kept[0] == whole[0] and kept[-1] == whole[-1]
    assert set(kept) <= set(whole)
    following = np.searchsorted(-thin.thresholds, -curve.thresholds)
    away = np.abs(thin.x[following] - curve.x) + np.abs(thin.y[following] - curve.y)
    assert away.max() <= 2 / (max_points - 1) + 1e-12


def test_a_short_curve_is_left_as_it_is():
    curve = roc_curve([1, 2], [0, 1])
    assert thin_curve(curve, 3) is curve


def test_a_curve_without_height_can_be_thinned():
    x = np.linspace(0, 1, 11)
    assert list(thin_curve(Curve(x, np.zeros(11), 1 - x), 3).x) == [0, 0.5, 1]


def test_thinning_to_one_point_is_refused():
    with pytest.raises(InputError) as caught:
        thin_curve(roc_curve([1, 2], [0, 1]), 1)
    assert str(caught.value) == (
        "max_points must be at least 2, but is 1. A curve has a beginning and an end."
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("scores", "labels", "kind", "text"),
    [
        (
            [1.0, np.nan],
            [0, 1],
            InputError,
            "Scores must be finite, but score 1 is nan. "
            "Find out why the model gave it; it cannot be ranked.",
        ),
        (
            [np.inf, 1.0],
            [0, 1],
            InputError,
            "Scores must be finite, but score 0 is inf. "
            "Find out why the model gave it; it cannot be ranked.",
        ),
        (
            [1.0, 2.0],
            [0, 2],
            InputError,
            "Labels must be 0 (normal) or 1 (anomalous), but label 1 is 2. "
            "Convert them to bool first.",
        ),
        (
            [1.0, 2.0],
            ["good", "bent"],
            InputError,
            "Labels must be 0 (normal) or 1 (anomalous), but label 0 is 'good'. "
            "Convert them to bool first.",
        ),
        (
            [1.0, 2.0],
            [False, False],
            InputError,
            "A comparison of normal and anomalous images needs both, but 0 of 2 images are "
            "anomalous. Add anomalous images to the test set.",
        ),
        (
            [1.0, 2.0],
            [1, 1],
            InputError,
            "A comparison of normal and anomalous images needs both, but 2 of 2 images are "
            "anomalous. Add normal images to the test set.",
        ),
        (
            [],
            [],
            InputError,
            "A comparison of normal and anomalous images needs both, but 0 of 0 images are "
            "anomalous. Add anomalous images to the test set.",
        ),
        (
            [[1.0, 2.0]],
            [[0, 1]],
            ShapeError,
            "scores must have shape (N,), but has shape (1, 2). Give one score per image.",
        ),
        (
            [1.0, 2.0],
            [0, 1, 1],
            ShapeError,
            "labels must have shape (2,), but has shape (3,). Give one label for every score.",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(metric, scores, labels, kind, text):
    with pytest.raises(kind) as caught:
        metric(scores, labels)
    assert str(caught.value) == text
