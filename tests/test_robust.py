"""Outliers among the training images: found, left out as if never given, named; good ones stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish import FitSettings, fit, fit_like, load
from blemish.descriptions import journal_lines
from blemish.errors import InputError
from blemish.outliers import outliers_among, usual_range
from blemish.records import digests_of
from blemish.rejected import Rejected
from small_models import SIZE, good_image, good_images, small_model, spoiled_image, tiny_backbone

pytestmark = pytest.mark.usefixtures("in_f32")

CLEAN, DIRTY = 30, 4


def spotted_image(number):
    """A good image with a dark spot, each at another place."""
    image = good_image(100 + number).copy()
    top, left = 3 + 7 * (number % 4), 4 + 9 * (number % 2)
    image[top : top + 5, left : left + 5] = 10
    return image


def mixed(clean=CLEAN, dirty=DIRTY):
    """Good images with a spoiled one after every few, and which are spoiled."""
    images = good_images(clean) + [spotted_image(k) for k in range(dirty)]
    order = np.random.default_rng(3).permutation(len(images))
    return [images[k] for k in order], order >= clean


def digests(model, images):
    inputs = np.stack([model.preprocessing.apply(image) for image in images])
    return digests_of(inputs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"separate": True, "standardise": True},
        {"score": "hybrid-calibrated"},
        {"score": "chebyshev"},
        {"keep_features": True},
    ],
)
def test_a_fit_that_rejects_is_a_fit_of_the_kept_images(settings):
    images, is_dirty = mixed()
    robust = small_model(images=images, reject_outliers=0.2, **settings)
    rejected = robust.fitted.rejected
    np.testing.assert_array_equal(
        rejected.records.digests,
        digests(robust, [i for i, d in zip(images, is_dirty, strict=True) if d]),
    )
    assert (rejected.scores >= rejected.limit).all()
    kept = [image for image, dirty in zip(images, is_dirty, strict=True) if not dirty]
    plain = small_model(images=kept, **settings)
    np.testing.assert_allclose(robust.calibration.scores, plain.calibration.scores, rtol=1e-6)
    np.testing.assert_allclose(robust.fitted.mean_image, plain.fitted.mean_image, atol=1e-6)
    np.testing.assert_array_equal(robust.fitted.records.digests, plain.fitted.records.digests)
    spoiled = spoiled_image(7)[0]
    assert robust.score(spoiled).image_score == pytest.approx(plain.score(spoiled).image_score)
    assert (robust.count, robust.threshold().images) == (CLEAN, CLEAN)
    if settings.get("keep_features"):
        assert len(robust.fitted.kept) == CLEAN


def test_of_clean_images_none_is_rejected():
    model = small_model(reject_outliers=0.2)
    assert (model.count, model.fitted.rejected.names) == (40, ())


def test_no_more_than_the_share_is_rejected_and_the_worst_first():
    images, is_dirty = mixed()
    model = small_model(images=images, reject_outliers=0.06)
    assert (model.count, len(model.fitted.rejected.names)) == (32, 2)
    found = {d.tobytes() for d in model.fitted.rejected.records.digests}
    dirty = digests(model, [i for i, d in zip(images, is_dirty, strict=True) if d])
    assert found <= {d.tobytes() for d in dirty}


def test_without_the_setting_all_are_kept():
    images, _ = mixed()
    model = small_model(images=images)
    assert (model.count, model.fitted.rejected) == (CLEAN + DIRTY, None)


def test_rejected_images_are_in_the_journal_and_in_the_file(tmp_path):
    images, _ = mixed()
    model = small_model(images=images, reject_outliers=0.2)
    (entry,) = model.fitted.journal
    assert (entry.added, entry.count, len(entry.rejected)) == (CLEAN, CLEAN, DIRTY)
    assert not set(entry.rejected) & set(entry.images)
    model.save(tmp_path / "m.blemish")
    loaded = load(tmp_path / "m.blemish").fitted
    before = model.fitted.rejected
    assert loaded.journal == model.fitted.journal
    assert loaded.rejected.names == before.names
    assert loaded.rejected.limit == before.limit
    np.testing.assert_array_equal(loaded.rejected.scores, before.scores)
    np.testing.assert_array_equal(loaded.rejected.records.digests, before.records.digests)
    np.testing.assert_array_equal(loaded.rejected.records.statistics, before.records.statistics)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"scores": [1.0]}, "1 scores of 2 rejected images"),
        ({"scores": [1.0, float("nan")]}, "rejected images with scores or statistics that are not"),
        ({"limit": float("inf")}, "rejected images with scores or statistics that are not"),
        ({"digests": ["00"] * 2}, "cannot reshape array of size 2"),
        ({"statistics": [[0.0] * 3] * 2}, "cannot reshape array of size 6"),
    ],
)
def test_what_no_fit_has_rejected_is_refused(change, why):
    data = {
        "names": ["a", "b"],
        "digests": ["00" * 16, "01" * 16],
        "statistics": [[0.0] * 4] * 2,
        "scores": [3.0, 4.0],
        "limit": 2.0,
    }
    assert Rejected.from_json(data).to_json() == data
    with pytest.raises(ValueError, match=why):
        Rejected.from_json(data | change)


def test_a_fit_like_another_rejects_too_and_names_its_own():
    images, _ = mixed()
    first = small_model(reject_outliers=0.2)
    second = fit_like(first, images)
    assert (first.fitted.rejected.names, len(second.fitted.rejected.names)) == ((), DIRTY)
    assert (second.count, len(second.fitted.journal[0].rejected)) == (CLEAN, DIRTY)
    assert journal_lines(second.fitted.journal)[0].endswith(
        "fitted on 30 images, 4 rejected as outliers, calibrated on all images"
    )


def test_too_few_images_to_say_what_is_usual():
    with pytest.raises(InputError) as caught:
        fit(
            good_images(9),
            FitSettings(size=SIZE, reject_outliers=0.1),
            backbone=tiny_backbone(),
        )
    assert str(caught.value) == (
        "To reject outliers there must be at least 10 images, but there are 9: too few to say "
        "what is usual. Give more images, or keep them all."
    )


def test_a_share_of_less_than_one_image():
    with pytest.raises(InputError) as caught:
        small_model(reject_outliers=0.02)
    assert str(caught.value) == (
        "The share of outliers must be at least one of 40 images, but is 0.02. Give 0.03, or 0 to "
        "keep them all."
    )


@pytest.mark.parametrize("share", [-0.1, 0.3, True, "0.1"])
def test_the_share_is_at_most_a_fifth(share):
    with pytest.raises(InputError) as caught:
        FitSettings(reject_outliers=share)
    assert str(caught.value) == (
        f"reject_outliers must be a share from 0 to 0.2, but is {share!r}. "
        "Try 0.1; 0 keeps all images."
    )


def test_a_bright_good_part_is_not_lost_to_one_that_is_spoiled():
    images, _ = mixed(dirty=1)
    bright = np.clip(good_image(55) * 1.02, 0, 255).astype(np.uint8)
    model = small_model(images=[*images, bright], reject_outliers=0.2)
    assert model.count == CLEAN + 1


def gumbel(count, seed):
    return 10 + 2 * np.random.default_rng(seed).gumbel(size=count)


def test_of_good_scores_hardly_any_is_an_outlier():
    found = [outliers_among(gumbel(200, seed), 0.2).rejected.sum() for seed in range(200)]
    assert np.mean(np.array(found) > 0) <= 0.12
    assert max(found) <= 5


@pytest.mark.parametrize("share", [0.02, 0.1, 0.19])
def test_of_those_called_outliers_few_are_none(share):
    false, missed = [], []
    for seed in range(100):
        scores = gumbel(200, seed)
        dirty = round(share * 200)
        scores[:dirty] += 20
        rejected = outliers_among(scores, 0.2).rejected
        false.append(rejected[dirty:].sum() / max(rejected.sum(), 1))
        missed.append(1 - rejected[:dirty].mean())
    assert np.mean(false) <= 0.07
    assert np.mean(missed) <= 0.05


SCORES = arrays(np.float64, st.integers(10, 60), elements=st.floats(0.1, 1e3))


@given(scores=SCORES, factor=st.sampled_from([0.25, 2.0, 64.0]), most=st.sampled_from([0.1, 0.2]))
def test_outliers_do_not_depend_on_the_unit_or_the_order(scores, factor, most):
    found = outliers_among(scores, most)
    np.testing.assert_array_equal(outliers_among(scores * factor, most).rejected, found.rejected)
    np.testing.assert_array_equal(outliers_among(scores[::-1], most).rejected[::-1], found.rejected)


@given(scores=SCORES, most=st.sampled_from([0.0, 0.05, 0.1, 0.2]))
def test_outliers_reach_the_limit_and_are_no_more_than_allowed(scores, most):
    found = outliers_among(scores, most)
    np.testing.assert_array_equal(found.rejected, scores >= found.limit)
    untied = len(np.unique(scores)) == len(scores)
    assert not untied or found.rejected.sum() <= most * len(scores)


def test_copies_of_one_image_are_no_yardstick():
    assert not outliers_among(np.array([10.0] * 30 + [10.2]), 0.2).rejected.any()
    assert outliers_among(np.array([10.0] * 30 + [15.0]), 0.2).rejected.sum() == 1


def test_of_fewer_than_ten_scores_none_is_an_outlier():
    assert not outliers_among(np.array([1.0] * 8 + [1e6]), 0.2).rejected.any()


def test_usual_values_of_normal_ones_are_nearly_all():
    generator = np.random.default_rng(0)
    for count, most in ((8, 0.02), (50, 0.005), (300, 0.002)):
        sets = generator.normal(5, 1, (1000, count))
        ranges = np.array([usual_range(values, 1e-9) for values in sets])
        beyond = ((sets < ranges[:, :1]) | (sets > ranges[:, 1:])).any(axis=1)
        assert beyond.mean() <= most


def test_the_least_spread_is_a_floor():
    low, high = usual_range(np.array([5.0] * 12), 0.1)
    assert (low, high) == pytest.approx((5 - 0.8, 5 + 0.8))
    assert usual_range(np.array([1.0] * 7), 0.1) == (-np.inf, np.inf)
