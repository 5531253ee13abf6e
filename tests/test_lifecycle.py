"""Update, forget, merge and calibrate: the scores of one fit, and where thresholds come from."""

import warnings
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from blemish.errors import BlemishWarning, InputError, NotFittedError, ShapeError
from blemish.lifecycle.steps import calibrate, fit_like, forget, merge, update
from blemish.model import Model, load_model
from small_models import good_image, good_images, small_model, spoiled_image

FIRST, SECOND = 24, 12
PROBES = [good_image(900 + k) for k in range(3)] + [spoiled_image(950)[0]]
EXACT = {  # scores that follow from the moments alone
    "gaussian": {},
    "features kept": {"keep_features": True},
    "hybrid": {"score": "hybrid"},
    "pooled": {"score": "chebyshev-pooled"},
    "shrunken": {"shrinkage": "ledoit-wolf"},
    "shared": {"shared": True},
}
CALIBRATED = {  # scores that are standardised or weighed by what is normal
    "layers apart": {"separate": True},
    "standardised": {"separate": True, "standardise": True},
    "hybrid-calibrated": {"score": "hybrid-calibrated"},
    "two-stage": {"score": "chebyshev-two-stage"},
}


@pytest.fixture(autouse=True)
def few_images_and_plain_scores_are_enough_here(monkeypatch):
    """The fused graph says the same, but takes long to compile; see test_inference."""
    monkeypatch.setattr("blemish.inference.can_fuse", lambda fitted: False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlemishWarning)
        yield


def images():
    return good_images(FIRST), good_images(SECOND, start=FIRST)


def models(**settings):
    """Of the first images, of the second, and of all."""
    return _models(tuple(settings.items()))


@lru_cache(maxsize=16)
def _models(settings):
    first, second = images()
    return tuple(
        small_model(images=some, **dict(settings)) for some in (first, second, first + second)
    )


def scores(model):
    return [model.score(probe).image_score for probe in PROBES]


def assert_same(found, expected):
    """Scores, thresholds and everything that the two know of their images."""
    assert scores(found) == pytest.approx(scores(expected), rel=1e-6)
    for rate in (0.05, 0.1, 0.3):
        assert found.threshold(rate).value == pytest.approx(expected.threshold(rate).value, 1e-6)
    assert found.pixel_threshold() == pytest.approx(expected.pixel_threshold(), rel=1e-3)
    assert found.count == expected.count
    np.testing.assert_allclose(found.fitted.mean_image, expected.fitted.mean_image, atol=1e-6)
    assert set(map(bytes, found.fitted.records.digests)) == set(
        map(bytes, expected.fitted.records.digests)
    )
    assert not found.calibration.approximate


@pytest.mark.parametrize("settings", [*EXACT.values(), *CALIBRATED.values()], ids=str)
def test_with_the_images_every_way_leads_to_one_fit(settings):
    first, second = images()
    a, b, both = models(**settings)
    everything = [*second, *first]
    assert_same(update(a, second, training_images=first).model, both)
    assert_same(merge([a, b], training_images=everything).model, both)
    assert_same(calibrate(merge([b, a]).model, everything).model, both)
    assert_same(forget(both, second, training_images=everything).model, a)


@pytest.mark.parametrize("settings", EXACT.values(), ids=EXACT)
def test_without_the_images_scores_are_still_those_of_one_fit(settings):
    _, second = images()
    a, b, both = models(**settings)
    for found, expected in (
        (update(a, second).model, both),
        (merge([a, b]).model, both),
        (forget(both, second).model, a),
    ):
        assert scores(found) == pytest.approx(scores(expected), rel=1e-6)
        assert found.calibration.approximate is not found.settings.keep_features


@pytest.mark.parametrize("settings", [{}, CALIBRATED["standardised"]], ids=str)
def test_kept_features_stand_for_the_images(settings):
    _, second = images()
    a, b, both = models(keep_features=True, **settings)
    for change, expected in (
        (update(a, second), both),
        (merge([a, b]), both),
        (forget(both, second), a),
        (calibrate(both), both),
    ):
        assert_same(change.model, expected)
        assert change.entry.calibration == "features"
        np.testing.assert_array_equal(
            np.asarray(change.model.fitted.kept.levels[0][0:3]),
            np.asarray(expected.fitted.kept.levels[0][0:3]),
        )


@pytest.mark.parametrize(
    "settings", [{}, EXACT["hybrid"], EXACT["shrunken"], *CALIBRATED.values()], ids=str
)
def test_without_the_images_thresholds_are_near(settings):
    """In units of the scores of a good part: these follow what they are standardised by."""
    _, second = images()
    a, b, both = models(**settings)

    def threshold(model):
        return model.threshold().value / scores(model)[0]

    for found, expected in (
        (update(a, second).model, both),
        (merge([a, b]).model, both),
        (forget(both, second).model, a),
    ):
        assert threshold(found) == pytest.approx(threshold(expected), rel=0.2)


def test_the_images_of_the_highest_scores_are_looked_at_again():
    a, b, both = models()
    merged = merge([a, b]).model
    again = merged.fitted.unusual.numbers
    highest = np.argsort(-both.calibration.scores)[:3]
    assert set(highest) <= set(again)
    np.testing.assert_allclose(
        merged.calibration.scores[again], both.calibration.scores[again], rtol=2e-3
    )


@lru_cache(maxsize=1)
def third_parts():
    return [small_model(images=good_images(8, start=8 * k)) for k in range(3)], small_model(
        count=24
    )


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_law_the_order_of_a_merge_does_not_matter(order):
    parts, whole = third_parts()
    found = merge([parts[k] for k in order]).model
    assert scores(found) == pytest.approx(scores(whole), rel=1e-6)


def test_law_what_is_added_and_forgotten_leaves_no_trace():
    first, second = images()
    model = small_model(images=first)
    assert_same(forget(update(model, second).model, second, training_images=first).model, model)


def test_a_fit_like_another_can_be_merged_with_it(tmp_path):
    first, second = images()
    model = small_model(images=first, seed=3)
    like = fit_like(model, second)
    assert like.settings == model.settings and like.count == SECOND
    merge([model, like]).model.save(tmp_path / "merged.blemish")
    assert load_model(tmp_path / "merged.blemish").count == FIRST + SECOND


def test_images_known_already_are_skipped_under_any_name():
    first, second = images()
    model = small_model(images=first)
    change = update(model, [first[3], second[0], second[0].copy(), second[1]])
    assert change.model.count == FIRST + 2
    assert change.skipped == ("image 1", "image 3")
    assert change.entry.added == 2
    with pytest.raises(InputError) as caught:
        update(change.model, second[:2])
    assert str(caught.value) == (
        "There must be new images to add, but the model has learned all 2 already. Give others."
    )


@pytest.mark.parametrize("settings", [{}, {"keep_features": True}], ids=str)
def test_copies_among_the_training_images_are_calibrated_and_forgotten_together(settings):
    first, _ = images()
    copied = [*first, first[3].copy(), first[7].copy(), first[3].copy()]
    model = small_model(images=copied, **settings)
    assert calibrate(model, copied).model.threshold() == model.threshold()
    gone = forget(model, [first[3], first[7]])
    assert (gone.entry.removed, gone.model.count) == (5, FIRST - 2)
    rest = first[:3] + first[4:7] + first[8:]
    assert_same(calibrate(gone.model, first).model, small_model(images=rest, **settings))


def test_a_model_that_forgot_all_unusual_images_lives_on(tmp_path):
    first, second = images()
    model = small_model(images=first)
    unusual = model.fitted.unusual.numbers
    rest = [image for k, image in enumerate(first) if k not in unusual]
    forget(model, [first[k] for k in unusual]).model.save(tmp_path / "m.blemish")
    loaded = load_model(tmp_path / "m.blemish")
    assert len(loaded.fitted.unusual.numbers) == 0 and loaded.calibration.approximate
    assert forget(loaded, rest[:2]).model.count == len(rest) - 2
    added = update(loaded, second).model
    assert added.fitted.unusual.numbers.min() >= len(rest)
    assert scores(added) == pytest.approx(scores(small_model(images=rest + second)), rel=1e-6)


def test_what_a_fit_rejected_is_so_no_more_once_it_is_learned():
    spoiled = [spoiled_image(k)[0] for k in (990, 991, 992)]
    a = small_model(images=good_images(40) + spoiled[:2], reject_outliers=0.2)
    b = fit_like(a, good_images(40, start=100) + spoiled[1:])
    assert (len(a.fitted.rejected.names), len(b.fitted.rejected.names)) == (2, 2)
    merged = merge([a, b]).model.fitted.rejected
    assert merged.records.find(a.fitted.rejected.records.digests).tolist() == [0, 1]
    assert merged.records.find(b.fitted.rejected.records.digests).tolist() == [1, 2]
    assert merged.limit == min(a.fitted.rejected.limit, b.fitted.rejected.limit)
    assert len(merged.scores) == 3
    added = update(a, spoiled[:1])
    assert added.entry.added == 1
    np.testing.assert_array_equal(
        added.model.fitted.rejected.records.digests, a.fitted.rejected.records.digests[1:]
    )
    assert merge([added.model, b]).model.fitted.rejected.records.find(
        a.fitted.rejected.records.digests
    ).tolist() == [-1, 0]


def test_a_fit_like_another_tries_bf16_on_its_own_images(monkeypatch):
    first, second = images()
    tried = Model(replace(small_model(images=first).fitted, bf16_drift=123.0))
    monkeypatch.setattr(Model, "bf16_drift", lambda model, inputs: len(inputs) + model.count)
    assert fit_like(tried, second).fitted.bf16_drift == 8 + SECOND


def test_the_old_model_is_not_changed():
    first, second = images()
    model = small_model(images=first)
    before, threshold = scores(model), model.threshold()
    forget(update(model, second).model, first[:3])
    assert scores(model) == before and model.threshold() == threshold and model.count == FIRST


def test_a_journal_tells_everything(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first, second = images()
    a, b, _ = models()
    merged = merge([a, b])
    gone = forget(merged.model, second[:2])
    done = calibrate(gone.model, first + second)
    told = [
        (e.action, e.added, e.removed, e.count, e.calibration, len(e.images))
        for e in done.model.fitted.journal
    ]
    assert told == [
        ("merge", SECOND, 0, 36, "combined", 0),
        ("forget", 0, 2, 34, "combined", 2),
        ("calibrate", 0, 0, 34, "images", 0),
    ]
    assert [j[0].count for j in merged.entry.merged] == [FIRST, SECOND]
    digests = {digest for _, digest in gone.entry.images}
    assert digests <= {digest for _, digest in merged.entry.merged[1][0].images}
    assert gone.entry.when == "2023-11-14T22:13:20+00:00"


def test_a_changed_model_saves_and_loads_as_it_is(tmp_path):
    a, b, _ = models(separate=True, standardise=True)
    model = merge([a, b]).model
    model.save(tmp_path / "m.blemish")
    loaded = load_model(tmp_path / "m.blemish")
    assert scores(loaded) == pytest.approx(scores(model), rel=1e-7)
    assert loaded.fitted.journal == model.fitted.journal
    assert loaded.calibration.approximate
    np.testing.assert_array_equal(loaded.fitted.unusual.numbers, model.fitted.unusual.numbers)
    first, second = images()
    np.testing.assert_allclose(
        calibrate(loaded, first + second).model.calibration.scores,
        calibrate(model, first + second).model.calibration.scores,
    )


def test_what_was_never_learned_is_not_forgotten():
    model = small_model(images=good_images(FIRST))
    with pytest.raises(InputError) as caught:
        forget(model, [good_image(3), good_image(500), good_image(501)])
    assert str(caught.value) == (
        "Only what was learned can be forgotten, but of 3 images 2 were not: image 2, image 3. "
        "Leave them out."
    )


def test_a_few_images_must_remain():
    model = small_model(count=5)
    with pytest.raises(InputError) as caught:
        forget(model, good_images(3))
    assert str(caught.value) == (
        "A model needs at least 3 images, but only 2 of 5 would remain. Fit a new model."
    )


def test_missing_training_images_are_named():
    first, second = images()
    model = small_model(images=first)
    with pytest.raises(InputError) as caught:
        calibrate(model, first[:-2] + second)
    assert str(caught.value) == (
        f"To calibrate, all {FIRST} images of the model are needed, but 2 are not among the "
        f"{FIRST - 2 + SECOND} given: image 23, image 24. Give the folder that has them all, or "
        "leave it out and calibrate later."
    )
    with pytest.raises(InputError, match="all 24 images of the model are needed"):
        update(model, second, training_images=first[1:])


def test_nothing_to_calibrate_with_is_said():
    with pytest.raises(InputError) as caught:
        calibrate(small_model(count=8))
    assert str(caught.value) == (
        "To calibrate, the training images are needed, since the model does not keep their "
        "features. Give the folder that has them all."
    )


def test_models_that_share_images_are_not_merged_unless_features_are_kept():
    first, second = images()
    a, b = small_model(images=first), small_model(images=first[:1] + second)
    with pytest.raises(InputError) as caught:
        merge([a, b])
    assert str(caught.value) == (
        "Models to be merged must have no image in common, but 1 are in two of them: an array. "
        "Forget them in one of the two first (blemish forget)."
    )
    a, b, both = (
        small_model(images=some, keep_features=True)
        for some in (first, first[:5] + second, first + second)
    )
    merged = merge([a, b]).model
    assert scores(merged) == pytest.approx(scores(both), rel=1e-6)
    assert merged.threshold().value == pytest.approx(both.threshold().value, rel=1e-6)
    assert merged.count == FIRST + SECOND


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        ({"seed": 1}, "seed 0 and 1"),
        ({"score": "hybrid", "sigma": 2.0}, "score gaussian and hybrid; sigma 1.0 and 2.0"),
        ({"epsilon": 0.1}, "epsilon 0.01 and 0.1"),
        ({"size": (24, 24)}, "size (32, 24) and (24, 24)"),
    ],
)
def test_models_of_other_settings_are_not_merged(other, differing):
    first, second = images()
    with pytest.raises(InputError) as caught:
        merge([small_model(images=first), small_model(images=second, **other)])
    assert str(caught.value) == (
        "Models to be merged must have the same settings, but the first and number 2 differ: "
        f"{differing}. Fit one like the other (blemish fit --like)."
    )


def test_models_of_other_channels_or_masks_are_not_merged():
    first, second = images()
    mask = np.zeros((32, 24), bool)
    mask[:8] = True
    with pytest.raises(InputError, match=r"number 2 differ: the ignore mask\. Fit"):
        merge([small_model(images=first), small_model(images=second, ignore_mask=mask)])
    pca = {"reduction": "pca", "dims": 3}
    with pytest.raises(InputError, match=r"differ: the channels kept \(chosen from other images\)"):
        merge([small_model(images=first, **pca), small_model(images=second, **pca)])


def test_one_model_is_no_merge():
    with pytest.raises(InputError) as caught:
        merge([small_model(count=5)])
    assert str(caught.value) == "There must be 2 models to merge, but there is 1. Name more."


def test_bad_lists_are_refused():
    model = small_model(count=5)
    with pytest.raises(InputError) as caught:
        update(model, [])
    assert str(caught.value) == "There must be images, but the list is empty. Give at least one."
    with pytest.raises(ShapeError, match="Put the images into a list, even one"):
        update(model, good_image(0))
    with pytest.raises(NotFittedError, match="at least 3 images of good parts, but there is 1"):
        fit_like(model, [good_image(0)])


def test_merging_keeps_features_only_if_all_do():
    first, second = images()
    a, b = small_model(images=first, keep_features=True), small_model(images=second)
    merged = merge([a, b]).model
    assert merged.fitted.kept is None and not merged.settings.keep_features
    assert merged.fitted.unusual is not None and merged.calibration.approximate
