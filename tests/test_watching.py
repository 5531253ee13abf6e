"""The watch: its guarantee by enumeration, its laws, what it notices, and what it says."""

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.drift.alarm import Alarm
from blemish.drift.report import Course
from blemish.drift.sequential_test import ODDS, DriftTest, GapBets, ShareBets, noticed_after
from blemish.drift.watch import DEFAULT_FALSE_ALARMS_PER, Watch
from blemish.errors import InputError, NotFittedError

pytestmark = pytest.mark.usefixtures("in_f32")

NAMES = ("score", "brightness", "focus")


def rows_of(seed, count, shift=0.0, column=2):
    rows = np.random.default_rng([3, seed]).normal(size=(count, len(NAMES)))
    rows[:, column] += shift
    return rows


def watch_on(rows, *, threshold=None, per=DEFAULT_FALSE_ALARMS_PER):
    training = dict(zip(NAMES, np.transpose(rows), strict=True))
    if threshold is None:
        threshold = float(np.nextafter(np.sort(training["score"])[-2], np.inf))
    return Watch(training, threshold=threshold, false_alarms_per=per)


def feed(watch, rows, **more):
    return [
        alarm
        for row in np.asarray(rows).tolist()
        for alarm in watch.add(dict(zip(NAMES, row, strict=True)), **more)
    ]


# The guarantee: evidence less the number of values has mean 0 over all orders of the values.


def test_evidence_is_on_average_the_number_of_values_over_all_orders():
    evidence = []
    for order in permutations(range(6)):
        test = DriftTest(GapBets(np.array(order[:2], float)), 1e9)
        for number, value in enumerate(order[2:], 1):
            test.add(value, (value,), number)
        evidence.append(test.evidence)
    assert np.mean(evidence) == pytest.approx(4, rel=1e-12)
    assert np.std(evidence) > 1


def test_so_is_that_of_a_rising_share_of_anomalous_images_and_of_the_normal_scores():
    normal, share, score = [], [], []
    for order in permutations(range(6)):
        training, stream = np.array(order[:4], float), order[4:]
        watch = Watch({"score": training}, threshold=np.sort(training)[2] + 0.5)
        for value in stream:
            watch.add({"score": value})
        normal.append(watch.images - watch.anomalous)
        share.append(watch.evidence["anomalous"] * 2 * DEFAULT_FALSE_ALARMS_PER)
        score.append(watch.evidence["score"] * 2 * DEFAULT_FALSE_ALARMS_PER)
    assert np.mean(share) == pytest.approx(2, rel=1e-12)
    assert np.mean(score) == pytest.approx(np.mean(normal), rel=1e-12)


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy", "ties"])
def test_no_more_false_alarms_than_stated_from_20_images_of_any_distribution(draw):
    per, length, alarms = 250, 250, 0
    for seed in range(40):
        generator = np.random.default_rng([5, seed])
        size = (20 + length, len(NAMES))
        rows = (
            np.floor(generator.normal(size=size))
            if draw == "ties"
            else getattr(generator, draw)(size=size)
        )
        watch = watch_on(rows[:20], per=per)
        for row in rows[20:]:
            alarms += len(feed(watch, [row]))
            watch.acknowledge()
    assert alarms <= 40 * length / per
    assert alarms > 0  # else the limit would be far too careful, or nothing tested


def test_a_stream_that_differs_from_few_training_images_by_chance_raises_no_alarm():
    for seed in range(10):
        rows = rows_of(seed, 60)
        again = np.random.default_rng(seed).integers(20, 60, 1500)
        assert feed(watch_on(rows[:20], threshold=9.0), rows[again[:1000]]) == []


# What it notices.


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_of_one_standard_deviation_is_noticed_within_50_images(sign):
    found = []
    for seed in range(20):
        watch = watch_on(rows_of(seed, 200), threshold=9.0)
        assert feed(watch, rows_of(100 + seed, 200)) == []
        found += feed(watch, rows_of(200 + seed, 100, shift=sign))
    assert {(alarm.statistic, alarm.direction) for alarm in found} == {
        ("focus", "up" if sign > 0 else "down")
    }
    assert len(found) == 20
    delays = [alarm.number - 200 for alarm in found]
    assert np.median(delays) <= 40
    assert np.mean(np.array(delays) <= 50) >= 0.75
    assert abs(np.median([alarm.since for alarm in found]) - 201) <= 5
    assert np.median([alarm.shift for alarm in found]) == pytest.approx(sign, abs=0.25)


@pytest.mark.parametrize(("training", "shift"), [(200, 2.0), (30, 3.0), (1000, 1.0)])
def test_the_stated_delay_is_that_of_simulations(training, shift):
    delays = []
    for seed in range(15):
        watch = watch_on(rows_of(seed, training), threshold=9.0)
        delays.append(feed(watch, rows_of(500 + seed, 150, shift))[0].number)
    stated = noticed_after(training, shift, 4 * DEFAULT_FALSE_ALARMS_PER, most=150)
    assert stated == watch.noticed_after(shift)
    assert stated == pytest.approx(np.median(delays), rel=0.25, abs=2)


def test_other_statistics_stay_quiet_and_the_alarm_stays_open_until_acknowledged():
    watch = watch_on(rows_of(0, 200), threshold=9.0)
    (alarm,) = feed(watch, rows_of(1, 300, shift=3.0))
    assert watch.open_alarms == {"focus": alarm}
    assert watch.evidence["focus"] >= 1 > watch.evidence["brightness"]
    assert watch.acknowledge(["brightness"]) == []
    assert watch.acknowledge() == [alarm]
    assert watch.open_alarms == {}
    assert watch.evidence["focus"] == 0
    assert feed(watch, rows_of(2, 300)) == []  # it was repaired
    (again,) = feed(watch, rows_of(3, 50, shift=3.0))  # it was not
    assert again.statistic == "focus"
    assert again.number - 600 < 15


def test_anomalous_parts_are_counted_and_not_taken_for_a_drift():
    watch, generator = watch_on(rows_of(0, 200)), np.random.default_rng(0)
    rows = rows_of(1, 400)
    bad = generator.random(400) < 0.3
    rows[bad, 0], rows[bad, 2] = 9.0, -4.0
    (alarm,) = feed(watch, rows)
    assert (alarm.statistic, alarm.differing, alarm.shift) == ("anomalous", "focus", None)
    assert alarm.before == 1 / 200
    assert watch.anomalous >= bad.sum()
    assert alarm.text.endswith(
        "they differ also in focus: look at the parts first, then at the camera and the light"
    )


def test_a_part_that_cannot_be_scored_counts_as_anomalous():
    watch = watch_on(rows_of(0, 200))
    found = [alarm for _ in range(20) for alarm in watch.add({}, anomalous=True)]
    assert [alarm.statistic for alarm in found] == ["anomalous"]
    assert found[0].number < 10
    assert found[0].text == (
        "the share of anomalous images rose from 0.5% to 100.0% since about image 1; they differ "
        "in the score only: look at the parts first, then at the camera and the light"
    )


def test_a_statistic_that_was_constant_may_stay_so_but_not_move():
    constant = {"score": np.arange(100.0), "clipped": np.zeros(100)}
    watch = Watch(constant, threshold=200.0)
    generator = np.random.default_rng(0)
    for _ in range(300):
        assert watch.add({"score": generator.uniform(0, 100), "clipped": 0.0}) == []
    assert watch.evidence["clipped"] < 0.01
    found = [a for k in range(20) for a in watch.add({"score": 50 + k, "clipped": 0.01})]
    assert found[0].text == (
        "clipped rose from 0 to 0.01 since about image 301: check the exposure and for reflections"
    )


# Laws.


@given(seed=st.integers(0, 50), power=st.sampled_from([1, 3]), scale=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_only_the_order_of_the_values_counts(seed, power, scale):
    rows, stream = rows_of(seed, 30), rows_of(seed + 1, 40, 0.5)
    plain, changed = watch_on(rows, threshold=9.0), watch_on(scale * rows**power, threshold=1e9)
    feed(plain, stream)
    feed(changed, scale * stream**power)
    assert plain.evidence == changed.evidence


@given(cut=st.integers(0, 120), acknowledged=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_saved_state_goes_on_as_if_nothing_had_happened(cut, acknowledged):
    rows = np.concatenate([rows_of(1, 60), rows_of(2, 60, 2.5)])
    whole, first, second = (watch_on(rows_of(0, 100)) for _ in range(3))
    feed(whole, rows[:cut])
    feed(first, rows[:cut])
    second.resume(json.loads(json.dumps(first.state())))
    if acknowledged:
        whole.acknowledge()
        second.acknowledge()
    assert feed(second, rows[cut:]) == feed(whole, rows[cut:])
    assert second.state() == whole.state()
    assert second.levels == whole.levels


def test_neither_state_nor_course_grow_with_the_stream():
    watch, course = watch_on(rows_of(0, 200)), Course(most=50)
    sizes = []
    for row in rows_of(1, 1000):
        feed(watch, [row])
        course.add(watch)
        sizes.append(len(json.dumps(watch.state())))
    assert max(sizes[500:]) < 1.1 * max(sizes[:500]) < 8000
    assert len(course.numbers) <= 50
    assert course.numbers[-1] > 950


def test_levels_are_in_standard_deviations_and_bounded():
    watch = watch_on(rows_of(0, 500), threshold=9.0)
    feed(watch, rows_of(1, 300, shift=1.5))
    assert watch.levels["focus"] == pytest.approx(1.5, abs=0.5)
    assert watch.levels["brightness"] == pytest.approx(0, abs=0.6)
    feed(watch, rows_of(2, 300, shift=1e6))
    assert watch.levels["focus"] == pytest.approx(10, abs=1e-3)
    assert watch.levels["anomalous"] == 0


def test_of_many_bets_the_first_alarm_of_a_low_limit_says_something():
    watch = watch_on(rows_of(0, 50), per=1)
    found = feed(watch, rows_of(1, 30))
    assert {alarm.statistic for alarm in found} == {"score", "brightness", "focus", "anomalous"}
    assert all(1 <= alarm.since <= alarm.number + 1 for alarm in found)


def test_bets_of_a_share_start_from_the_training_images():
    bets = ShareBets(hits=4, count=99)
    assert bets.balls == 100
    assert bets.total == tuple(95 + 5 * odds for odds in ODDS)


# Texts.


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"statistic": "focus", "direction": "down", "shift": -1.1234},
            "focus fell by 1.1 standard deviations since about image 212: check the lens and the "
            "distance",
        ),
        (
            {"statistic": "score", "direction": "up", "shift": 0.96},
            "score rose by 1.0 standard deviations since about image 212: look at the parts, the "
            "camera and the light; if all is well, update the model",
        ),
        (
            {"statistic": "temperature", "direction": "up", "shift": 200.0},
            "temperature rose by more than 10 standard deviations since about image 212: check "
            "what it measures",
        ),
    ],
)
def test_an_alarm_says_what_moved_how_far_since_when_and_what_to_check(fields, text):
    alarm = Alarm(number=240, image="a.png", since=212, before=0.0, now=1.0, **fields)
    assert alarm.text == text
    assert alarm.as_json()["text"] == text


ROWS = rows_of(0, 10)
GOOD = dict(zip(NAMES, ROWS.T, strict=True))


@pytest.mark.parametrize(
    ("training", "options", "text"),
    [
        (
            {"focus": [1.0]},
            {},
            "training must hold 'score' and other statistics, none of them called 'anomalous', but "
            "holds focus. Rename them.",
        ),
        (
            {"score": [1.0, 2.0], "focus": [1.0]},
            {},
            "The statistics must hold one number per training image each, but have shapes score "
            "(2,), focus (1,). Give float (n,).",
        ),
        (
            {**GOOD, "focus": np.full(10, np.nan)},
            {},
            "The threshold and the statistics of the training images must be finite numbers, but "
            "focus is not. Fit the model again.",
        ),
        (
            GOOD,
            {"false_alarms_per": 0},
            "false_alarms_per must be at least 1 image, but is 0. Try 1000000.",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused(training, options, text):
    with pytest.raises(InputError) as caught:
        Watch(training, **{"threshold": 9.0, **options})
    assert str(caught.value) == text


def test_too_few_training_images_are_refused():
    with pytest.raises(NotFittedError) as caught:
        Watch(GOOD, threshold=np.sort(GOOD["score"])[2])
    assert str(caught.value) == (
        "A watch needs at least 3 training images below the threshold, but there are 2. Fit the "
        "model on more images, or raise the threshold."
    )


def test_a_missing_or_unusable_statistic_is_refused_and_changes_nothing():
    watch = Watch(GOOD, threshold=9.0)
    for values, found in (
        ({"score": 1.0, "brightness": 1.0}, "focus is missing"),
        ({"score": float("nan")}, "score is nan"),
    ):
        with pytest.raises(InputError) as caught:
            watch.add(values)
        assert str(caught.value) == (
            f"The statistics of an image must be finite numbers, but {found}. Give all of them, or "
            "anomalous=True for a part that could not be scored."
        )
    assert watch.state() == Watch(GOOD, threshold=9.0).state()


def test_an_unknown_statistic_cannot_be_acknowledged():
    with pytest.raises(InputError) as caught:
        Watch(GOOD, threshold=9.0).acknowledge(["motion"])
    assert str(caught.value) == (
        "A statistic must be one of score, brightness, focus, anomalous, but is 'motion'. Name one "
        "of these."
    )


@pytest.mark.parametrize(
    ("change", "other"),
    [({"threshold": 8.0}, "model or threshold"), ({"false_alarms_per": 7}, "rate")],
)
def test_a_state_of_another_watch_is_refused(change, other):
    state = Watch(GOOD, **{"threshold": 9.0, **change}).state()
    with pytest.raises(InputError) as caught:
        Watch(GOOD, threshold=9.0).resume(state, source="s.json")
    assert str(caught.value) == (
        "s.json must be that of a watch with this model, threshold and rate of false alarms, but "
        f"is one with another {other}. Use these again, or begin a new state in another file."
    )


@pytest.mark.parametrize("path", [(), ("images",), ("tests", "focus"), ("tests", "focus", "urn")])
@pytest.mark.parametrize("damage", [None, "x", [1.0], {}])
def test_a_damaged_state_is_refused_and_changes_nothing(path, damage):
    state = json.loads(json.dumps(Watch(GOOD, threshold=9.0).state()))
    place = state
    for key in path[:-1]:
        place = place[key]
    if path:
        place[path[-1]] = damage
    watch = Watch(GOOD, threshold=9.0)
    feed(watch, ROWS[:5])
    before = watch.state()
    with pytest.raises(InputError) as caught:
        watch.resume(state if path else damage)
    assert str(caught.value) == (
        "The state must be what a watch has saved, but is damaged or something else. Begin a new "
        "state in another file."
    )
    assert watch.state() == before
