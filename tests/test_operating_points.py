"""Operating points: chosen as brute force would, honest about errors, and kept by recipe."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import stats

from blemish.calibration import PIXEL_PROBABILITIES, Calibration
from blemish.datasets import Sample
from blemish.errors import DatasetError, InputError, ModelFileError, ShiftedImagesWarning
from blemish.labelled_points import LabelledScores, labelled_point, score_labelled
from blemish.lifecycle.steps import update
from blemish.model import Model, load_model
from blemish.operating_points import (
    OperatingPoint,
    OperatingPoints,
    make_point,
    point_of_fit,
    points_from_json,
)
from blemish.regions import RegionSettings
from blemish.threshold_choice import FOLDS, Aim, Estimate, choose_threshold, cross_validate
from small_models import good_image, small_model, spoiled_image
from test_model_file import rewrite

pytestmark = pytest.mark.usefixtures("in_f32")

COST = Aim(kind="cost", defect_share=0.01, false_alarm_cost=1.0, miss_cost=50.0)
F1 = Aim(kind="f1", defect_share=0.3)
scores = arrays(np.float64, st.integers(1, 12), elements=st.integers(0, 9).map(float))
aims = st.builds(
    Aim,
    kind=st.sampled_from(["cost", "f1"]),
    defect_share=st.floats(0.01, 0.9),
    false_alarm_cost=st.floats(0.1, 10),
    miss_cost=st.floats(0.1, 10),
)


def calibration_of(values, quantiles=1.0):
    return Calibration(np.asarray(values, float), PIXEL_PROBABILITIES * quantiles)


def loss_at(value, normal, anomalous, aim):
    return aim.loss(
        false_alarm_rate=float(np.mean(normal >= value)),
        miss_rate=float(np.mean(anomalous < value)),
    )


@given(scores, scores, aims)
def test_no_threshold_does_better_than_the_one_chosen(normal, anomalous, aim):
    found = loss_at(choose_threshold(normal, anomalous, aim), normal, anomalous, aim)
    every = [loss_at(value, normal, anomalous, aim) for value in np.arange(-0.5, 11, 0.5)]
    assert found == pytest.approx(min(every))


@given(scores, scores, aims)
def test_the_choice_moves_with_the_scores(normal, anomalous, aim):
    plain = choose_threshold(normal, anomalous, aim)
    moved = choose_threshold(normal * 4 + 8, anomalous * 4 + 8, aim)
    assert moved == pytest.approx(plain * 4 + 8)


def test_scores_that_are_apart_are_parted_in_the_middle():
    assert choose_threshold(np.array([1.0, 2.0]), np.array([8.0, 12.0]), COST) == 5.0


def test_of_equally_good_gaps_the_widest_is_taken():
    normal, anomalous = np.array([1.0, 5.0]), np.array([2.0, 9.0])
    even = Aim(kind="cost", defect_share=0.5)
    assert choose_threshold(normal, anomalous, even) == 7.0


def test_if_misses_are_cheap_nothing_is_anomalous():
    careless = Aim(kind="cost", defect_share=0.01, false_alarm_cost=100.0, miss_cost=0.1)
    value = choose_threshold(np.array([1.0, 2.0, 6.0]), np.array([3.0, 5.0]), careless)
    assert value == np.nextafter(6.0, np.inf)


@given(aims, st.floats(0, 1), st.floats(0, 1))
def test_f1_is_that_of_the_counts(aim, false_alarm_rate, miss_rate):
    aim = replace(aim, kind="f1")
    true = aim.defect_share * (1 - miss_rate)
    false = (1 - aim.defect_share) * false_alarm_rate
    missed = aim.defect_share * miss_rate
    expected = true / (true + (false + missed) / 2)
    figure = aim.figure(false_alarm_rate=false_alarm_rate, miss_rate=miss_rate)
    assert figure == pytest.approx(expected)


def drawn(generator, count, shift):
    return generator.normal(shift, 1.0, count)


def test_cross_validation_is_right_where_the_choice_flatters_itself():
    """Against the cost of a choice from 4/5 of the images on 20,000 new ones."""
    generator = np.random.default_rng(0)
    aim = Aim(kind="cost", defect_share=0.5)
    fresh = drawn(generator, 20_000, 0.0), drawn(generator, 20_000, 1.0)
    told, seen, true = [], [], []
    for _ in range(120):
        normal, anomalous = drawn(generator, 20, 0.0), drawn(generator, 20, 1.0)
        estimate = cross_validate(
            normal, normal[:0], anomalous, aim, defects=["d"] * 20, folder="f", seed=1
        )
        told.append(estimate.figure(aim))
        value = choose_threshold(normal, anomalous, aim)
        seen.append(loss_at(value, normal, anomalous, aim))
        part = choose_threshold(normal[:16], anomalous[:16], aim)
        true.append(loss_at(part, *fresh, aim))
    assert np.mean(seen) < np.mean(true) - 0.05, "flattery"
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.02)


def test_every_fold_has_its_share_of_every_kind():
    """A kind of five images is left out one image at a time: the others always show it."""
    normal = np.arange(10.0)
    kinds = ["far"] * 5 + ["near"] * 5
    anomalous = np.array([100.0] * 5 + [20.0] * 5)
    estimate = cross_validate(normal, normal, anomalous, F1, defects=kinds, folder="f")
    assert (estimate.missed, estimate.false_alarms, estimate.false_alarms_left_out) == (0, 0, 0)
    assert estimate.lowest == estimate.highest == 14.5
    assert (estimate.defective, estimate.good, estimate.left_out) == (10, 10, 10)


@pytest.mark.parametrize(("good", "bad"), [(4, 10), (10, 4)])
def test_too_few_images_to_choose_by(good, bad):
    few, kind = (good, "normal") if good < bad else (bad, "defective")
    with pytest.raises(InputError) as caught:
        cross_validate(
            np.arange(good), np.zeros(0), np.arange(bad), F1, defects=["d"] * bad, folder="new"
        )
    assert str(caught.value) == (
        f"Choosing a threshold by labelled images needs at least {FOLDS} {kind} ones, but new "
        f"gives {few}. Add some, or choose a false-alarm rate instead."
    )


def estimate_of(**changes):
    values = {
        "folder": "bottle",
        "defective": 60,
        "good": 20,
        "left_out": 200,
        "missed": 3,
        "false_alarms": 1,
        "false_alarms_left_out": 4,
        "folds": 5,
        "lowest": 6.0,
        "highest": 7.0,
    }
    return Estimate(**{**values, **changes})


def test_intervals_of_an_estimate_are_exact_binomial_ones():
    estimate = estimate_of()
    expected = stats.binomtest(5, 220).proportion_ci(0.95, method="exact")
    assert estimate.false_alarm_interval() == pytest.approx((expected.low, expected.high))
    expected = stats.binomtest(3, 60).proportion_ci(0.95, method="exact")
    assert estimate.miss_interval() == pytest.approx((expected.low, expected.high))
    both = [
        stats.binomtest(k, n).proportion_ci(0.975, method="exact") for k, n in ((5, 220), (3, 60))
    ]
    low = 0.99 * both[0].low + 0.01 * 50 * both[1].low
    high = 0.99 * both[0].high + 0.01 * 50 * both[1].high
    assert estimate.figure_interval(COST) == pytest.approx((low, high))
    assert estimate.figure(COST) == pytest.approx(0.99 * 5 / 220 + 0.5 * 3 / 60)
    assert low < estimate.figure(COST) < high


def test_no_error_seen_is_no_certainty():
    none = estimate_of(missed=0, false_alarms=0, false_alarms_left_out=0)
    assert none.figure(F1) == 1.0
    low, high = none.figure_interval(F1)
    assert low < 0.98
    assert high == 1.0


def test_a_rate_follows_the_calibration_and_a_value_gets_old():
    before, after = calibration_of(np.arange(100.0)), calibration_of(np.arange(100.0) + 5)
    by_rate = make_point("rate", before, false_alarm_rate=0.1, pixel_false_alarm_rate=0.01)
    by_value = make_point("value", before, value=80.0, pixel_false_alarm_rate=0.01)
    by_pixel = make_point("pixel", before, false_alarm_rate=0.1, pixel_value=0.5)
    assert by_rate.threshold(after) == after.threshold(0.1)
    assert by_rate.threshold(before).value == by_rate.threshold(after).value - 5
    assert by_value.threshold(after).value == 80.0
    old = [point.is_older_than(after) for point in (by_rate, by_value, by_pixel)]
    assert old == [False, True, True]
    assert not any(point.is_older_than(before) for point in (by_rate, by_value, by_pixel))
    assert by_pixel.pixel_threshold(after) == 0.5


def test_a_pixel_threshold_set_later_makes_no_old_value_young():
    before, after = calibration_of(np.arange(100.0)), calibration_of(np.arange(100.0) + 5)
    point = make_point("value", before, value=80.0, pixel_false_alarm_rate=0.01)
    assert point.changed(after, pixel_value=0.7).is_older_than(after)
    fresh = make_point("rate", before, false_alarm_rate=0.1, pixel_value=0.01)
    assert not fresh.changed(after, pixel_false_alarm_rate=0.01).is_older_than(after)
    kept = point.changed(after, regions=RegionSettings(min_area=3.0))
    assert (kept.pixel_false_alarm_rate, kept.regions.min_area) == (0.01, 3.0)


def test_a_given_value_is_told_with_the_scores_that_reach_it():
    calibration = calibration_of(np.arange(100.0))
    found = make_point("v", calibration, value=98.0, pixel_value=1.0).threshold(calibration)
    expected = stats.binomtest(2, 100).proportion_ci(0.95, method="exact")
    assert (found.value, found.false_alarm_rate, found.method) == (98.0, 0.02, "fixed")
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert (found.images, found.images_needed) == (100, 0)


def test_a_labelled_value_is_told_with_its_errors_and_not_with_those_on_its_own_images():
    calibration = calibration_of(np.arange(100.0))
    point = make_point(
        "l", calibration, value=500.0, aim=COST, estimate=estimate_of(), pixel_value=1.0
    )
    found = point.threshold(calibration)
    assert (found.method, found.false_alarm_rate, found.images) == ("labelled", 5 / 220, 220)
    assert found.interval == estimate_of().false_alarm_interval()


def all_kinds():
    calibration = calibration_of(np.arange(100.0))
    regions = RegionSettings(min_area=0.5, area_unit="mm2", max_regions=3, mm_per_pixel=0.05)
    pixel = {"pixel_false_alarm_rate": 0.001}
    labelled = {"value": 7.5, "estimate": estimate_of()}
    return [
        make_point("rate", calibration, false_alarm_rate=0.001, regions=regions, **pixel),
        make_point("value", calibration, value=7.5, pixel_value=3.25),
        make_point("cheap", calibration, aim=COST, **labelled, **pixel),
        make_point("best", calibration, aim=F1, **labelled, pixel_value=2.0),
    ]


def test_points_survive_a_file():
    points = OperatingPoints(point_of_fit(0.05, 0.001))
    for point in all_kinds():
        points = points.with_point(point)
    points = points.with_default("best")
    text = json.dumps([point.to_json() for point in points.stored])
    assert points_from_json(json.loads(text)) == points.stored
    assert [point.kind for point in points] == [
        *("false-alarm-rate", "f1", "cost", "false-alarm-rate", "value")
    ]


def test_the_default_is_that_of_the_fit_until_another_one_is():
    points = OperatingPoints(point_of_fit(0.05, 0.001))
    assert (points.default, points.get().false_alarm_rate) == ("default", 0.05)
    for point in all_kinds():
        points = points.with_point(point)
    points = points.with_default("cheap")
    assert points.get() == points.get("cheap")
    again = points.with_point(replace(all_kinds()[0], name="cheap"))
    assert (again.default, again.get().kind) == ("cheap", "false-alarm-rate")
    assert again.without("cheap").default == "default"
    assert points.with_default("default").get() == point_of_fit(0.05, 0.001)
    own = points.with_point(replace(all_kinds()[0], name="default"))
    assert (own.get("default").false_alarm_rate, own.default) == (0.001, "cheap")
    assert own.without("default").get("default").false_alarm_rate == 0.05


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            lambda points: points.get("loose"),
            "The model must have the operating point 'loose', but has only default, rate. Choose "
            "one of them, or make it: blemish threshold.",
        ),
        (
            lambda points: points.without("default"),
            "The operating point 'default' must be one that was added, but is that of the fit, "
            "which stays. Make another one the default, or set this one anew.",
        ),
        (
            lambda points: replace(points, stored=points.stored * 2),
            "Operating points must have different names, but they are rate, rate.",
        ),
    ],
)
def test_points_that_are_not_there(wrong, text):
    points = OperatingPoints(point_of_fit(0.05, 0.001)).with_point(all_kinds()[0])
    with pytest.raises(InputError) as caught:
        wrong(points)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"name": " strict"},
            "The name of an operating point must be 1 to 40 printable characters without spaces "
            "around them, but is ' strict'. Call it strict, for example.",
        ),
        (
            {"kind": "magic"},
            "The kind of an operating point must be one of false-alarm-rate, cost, f1, value, but "
            "is 'magic'. Choose one.",
        ),
        (
            {"value": 5.0},
            "The image threshold must be given by a false-alarm rate or as a value, but both are "
            "given. Give one of them.",
        ),
        (
            {"pixel_false_alarm_rate": None},
            "The pixel threshold must be given by a false-alarm rate or as a value, but neither "
            "is given. Give one of them.",
        ),
        (
            {"false_alarm_rate": 1.0},
            "The image false-alarm rate must be between 0 and 1, but is 1.0. Try 0.05.",
        ),
        (
            {"false_alarm_rate": None, "value": float("inf"), "kind": "value"},
            "The image threshold must be a finite number, but is inf. Scores that were seen are "
            "in `blemish inspect`.",
        ),
        (
            {"aim": COST},
            "The operating point 'strict' of kind false-alarm-rate must hold what that kind needs "
            "and nothing else, but does not. Make it with `make_point`.",
        ),
    ],
)
def test_a_point_that_means_nothing(values, text):
    usual = {"name": "strict", "false_alarm_rate": 0.01, "pixel_false_alarm_rate": 0.001}
    with pytest.raises(InputError) as caught:
        OperatingPoint(**{**usual, **values})
    assert str(caught.value) == text


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def pointed(model):
    points = model.operating_points
    for point in (
        make_point("strict", model.calibration, false_alarm_rate=0.025, pixel_value=2.5),
        make_point("fixed", model.calibration, value=9.0, pixel_false_alarm_rate=0.01),
    ):
        points = points.with_point(point)
    return model.with_operating_points(points)


def test_classify_says_which_point_it_used(pointed):
    image = spoiled_image(3)[0]
    usual, strict = pointed.classify(image), pointed.classify(image, operating_point="strict")
    assert (usual.operating_point, strict.operating_point) == ("default", "strict")
    assert usual.threshold == pointed.calibration.threshold(0.05)
    assert strict.threshold == pointed.calibration.threshold(0.025)
    assert strict.pixel_threshold == 2.5
    np.testing.assert_array_equal(strict.predicted_mask, strict.score.anomaly_map >= 2.5)
    by_rate = pointed.classify(image, false_alarm_rate=0.025)
    assert (by_rate.operating_point, by_rate.threshold) == (None, strict.threshold)
    assert pointed.at("fixed").classify(image).operating_point == "fixed"
    assert pointed.at("fixed").threshold().value == 9.0
    assert pointed.at("fixed").pixel_threshold() == pointed.calibration.pixel_threshold(0.01)


def test_a_point_and_a_rate_exclude_each_other(pointed):
    with pytest.raises(InputError) as caught:
        pointed.classify(good_image(0), operating_point="strict", false_alarm_rate=0.1)
    assert str(caught.value) == (
        "A threshold must be that of an operating point or of a false-alarm rate, but both "
        "'strict' and 0.1 are given. Give one of them."
    )


def test_points_are_in_the_model_file(pointed, tmp_path):
    path = tmp_path / "a.blemish"
    pointed.with_operating_points(pointed.operating_points.with_default("fixed")).save(path)
    loaded = load_model(path)
    assert list(loaded.operating_points)[1:] != list(pointed.operating_points)[1:]  # the default
    assert loaded.operating_points.default == "fixed"
    assert loaded.operating_points.with_default("default") == pointed.operating_points
    assert loaded.classify(good_image(3)).operating_point == "fixed"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "cost"}, "InputError: The operating point 'fixed' of kind cost must hold"),
        ({"value": "9"}, "InputError: The image threshold must be a finite number, but is '9'"),
        ({"regions": {}, "is_default": 1}, "TypeError: an operating point of other types"),
        ({"regions": {"min_area": -1.0}}, "InputError: The minimum area must be a number"),
        ({"bogus": 1}, "TypeError: "),
        ({"name": "strict"}, "InputError: Operating points must have different names"),
    ],
    ids=str,
)
def test_a_model_file_with_points_that_no_command_has_made(pointed, tmp_path, change, text):
    path = tmp_path / "a.blemish"
    pointed.save(path)
    rewrite(path, lambda header, _: header["operating_points"][0].update(change), sign=True)
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert text in str(caught.value)


def test_regions_of_a_decision_are_in_the_frame_of_the_photo():
    def enlarged(image):
        return np.asarray(Image.fromarray(image).resize((72, 160), Image.Resampling.NEAREST))

    model = small_model(images=[enlarged(good_image(k)) for k in range(40)])
    image, mask = spoiled_image(3)
    decision = model.classify(enlarged(image))
    region = decision.regions().told[0]
    assert decision.source_box == (0.0, 0.0, 72.0, 160.0)
    rows, columns = np.nonzero(mask)
    middle = ((columns.mean() + 0.5) * 3, (rows.mean() + 0.5) * 5)
    assert abs(region.centroid[0] - middle[0]) < 6
    assert abs(region.centroid[1] - middle[1]) < 10
    assert region.peak == decision.score.anomaly_map.max()
    scaled = model.at(None, RegionSettings(mm_per_pixel=0.1, max_regions=1))
    (told,) = scaled.classify(enlarged(image)).regions()
    assert told.mm2 == pytest.approx(region.area * 0.01)


def test_regions_need_the_size_of_the_photo(model):
    score = model.score(spoiled_image(3)[0])
    with pytest.raises(InputError) as caught:
        model.classify(score).regions()
    assert str(caught.value) == (
        "Regions must be told in the frame of the source image, but its size is not known. "
        "Classify the image itself, or give its size: classify(score, source_size=...)."
    )
    known = model.classify(score, source_size=(32, 24)).regions()
    boxes = [region.box for region in model.classify(spoiled_image(3)[0]).regions()]
    assert [region.box for region in known] == boxes


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of images, as (path, defect): learned from, good, and defective."""
    folder = tmp_path_factory.mktemp("labelled")
    drawn = {f"learned{k}": good_image(k) for k in range(20)}
    drawn |= {f"good{k}": good_image(100 + k) for k in range(8)}
    drawn |= {f"spot{k}": spoiled_image(200 + k)[0] for k in range(6)}
    for name, image in drawn.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def samples_of(folder):
    return [
        Sample(path, "spot" if path.name.startswith("spot") else "good")
        for path in sorted(folder.iterdir())
    ]


@pytest.fixture(scope="module")
def learned(labelled):
    return small_model(images=[labelled / f"learned{k}.png" for k in range(20)])


def test_images_that_were_learned_from_count_by_their_leave_one_out_scores(learned, labelled):
    found = score_labelled(learned, samples_of(labelled), folder="new")
    expected = [learned.score(labelled / f"good{k}.png").image_score for k in range(8)]
    assert found.good.tolist() == expected
    np.testing.assert_array_equal(found.left_out, learned.calibration.scores)
    expected = [learned.score(labelled / f"spot{k}.png").image_score for k in range(6)]
    assert found.anomalous.tolist() == expected
    assert found.defects == ("spot",) * 6


def test_a_labelled_point_has_its_record(learned, labelled):
    found = score_labelled(learned, samples_of(labelled), folder="new")
    point = labelled_point(
        "best", found, learned.calibration, kind="f1", pixel_false_alarm_rate=0.01
    )
    normal = np.concatenate([found.good, found.left_out])
    assert normal.max() < point.value < found.anomalous.min()
    assert point.aim == Aim(kind="f1", defect_share=6 / 14)
    estimate = point.estimate
    assert (estimate.folder, estimate.defective, estimate.good) == ("new", 6, 8)
    assert (estimate.left_out, estimate.missed, estimate.folds) == (20, 0, 5)


def test_a_defective_image_that_was_learned_from_is_an_error(learned, labelled):
    wrong = [Sample(labelled / "learned3.png", "spot"), *samples_of(labelled)]
    with pytest.raises(DatasetError) as caught:
        score_labelled(learned, wrong, folder="new")
    assert str(caught.value) == (
        "Defective images must not be among those that the model learned from, but 1 is: "
        f"{labelled / 'learned3.png'}. Correct the label, or make the model without them."
    )


def shown(good, left_out, anomalous):
    return LabelledScores(
        folder="new",
        good=np.asarray(good, float),
        left_out=np.asarray(left_out, float),
        anomalous=np.asarray(anomalous, float),
        defects=("d",) * len(anomalous),
    )


@pytest.mark.parametrize(
    ("kind", "good", "why"),
    [("cost", 9, ""), ("f1", 0, " and there are no good images to tell")],
)
def test_the_share_of_defective_parts_must_be_known(kind, good, why):
    found = shown(np.zeros(good), np.zeros(9), np.ones(9))
    with pytest.raises(InputError) as caught:
        labelled_point("a", found, calibration_of(np.zeros(9)), kind=kind, pixel_value=1.0)
    assert str(caught.value) == (
        f"A threshold by {kind} must know the share of defective parts to expect, but it is not "
        f"given{why}. Give what the line makes: --defect-share 0.01 (defect_share=0.01 in Python)."
    )


def test_good_images_unlike_those_learned_from_are_told():
    found = shown(np.arange(20) + 50.0, np.arange(100.0) / 10, np.arange(20) + 60.0)
    with pytest.warns(ShiftedImagesWarning) as caught:
        point = labelled_point(
            "a", found, calibration_of(np.zeros(9)), kind="f1", defect_share=0.9, pixel_value=1.0
        )
    alarms = point.estimate.false_alarms
    assert alarms > 10
    assert str(caught[0].message) == (
        f"Of the good images in new, {alarms} of 20 are false alarms, but only 0 of 100 of those "
        "the model learned from: they look different. Update the model with images of today."
    )


def test_points_survive_a_copy(pointed):
    state = pointed.__getstate__()
    copy = Model.__new__(Model)
    copy.__setstate__(state)
    assert copy.operating_points == pointed.operating_points


def test_after_an_update_rates_are_worked_out_anew_and_values_are_marked(pointed):
    updated = update(pointed, [good_image(300 + k) for k in range(12)]).model
    rate, value = (updated.operating_points.get(name) for name in ("default", "fixed"))
    assert updated.threshold() == updated.calibration.threshold(0.05) != pointed.threshold()
    assert not rate.is_older_than(updated.calibration)
    assert value.threshold(updated.calibration).value == 9.0
    assert value.is_older_than(updated.calibration)
    assert not value.is_older_than(pointed.calibration)
