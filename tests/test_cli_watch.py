"""`blemish watch` as a user meets it: whole commands on files."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from blemish import load
from blemish.cli import main
from blemish.drift.images import Place, caveats, images_to_watch, watch_images, watch_of
from blemish.model import Model
from blemish.sources import ImageList
from small_models import good_image, small_model, spoiled_image

pytestmark = pytest.mark.usefixtures("in_f32")

COUNT = 60  # images that the model learns
BUDGET = (
    "At most one false alarm is to be expected in 1,000,000 images.",
    "Watched {seen} images ({bad} unreadable, {over} passed over as watched before). Open alarms: "
    "{open}. ",
)


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["watch", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def summary(seen, *, bad=0, over=0, alarms=0):
    return BUDGET[1].format(seen=seen, bad=bad, over=over, open=alarms) + BUDGET[0]


def write(folder, number, pixels, time=None):
    path = folder / f"{number:03d}.png"
    Image.fromarray(pixels).save(path)
    if time is not None:
        os.utime(path, (time, time))


def darker(number):
    return np.round(good_image(number) * 0.9).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "disc.blemish"
    small_model(COUNT).save(path)
    return path


@pytest.fixture
def calm(tmp_path):
    """Forty new good images."""
    folder = tmp_path / "line"
    folder.mkdir()
    for number in range(40):
        write(folder, number, good_image(500 + number))
    return folder


@pytest.fixture
def drifting(calm):
    """The same, and then thirty that are darker."""
    for number in range(40, 70):
        write(calm, number, darker(500 + number))
    return calm


def test_good_images_raise_no_alarm(model, calm):
    result = run(model, calm, "--exit-code")
    assert result.stdout == ""
    note, last = result.stderr.splitlines()
    assert note == (
        "Note: With 60 training images only shifts of 1.5 standard deviations and more are noticed "
        "within 50 images if they are there from the first image on. Later ones are noticed "
        "sooner, as the stream itself shows what is normal."
    )
    assert last == summary(40)


def test_an_alarm_says_which_statistic_moved(model, drifting):
    result = run(model, drifting, "--exit-code", "--quiet", status=3)
    lines = result.stdout.splitlines()
    found = [
        re.fullmatch(
            r"Image (\d+) \((\d+)\.png\): brightness fell by (\d\.\d) standard deviations since "
            r"about image (\d+): check the lamp, the exposure and dirt on the lens\.",
            line,
        )
        for line in lines
        if "brightness" in line
    ]
    (match,) = found
    number, name, shift, since = match.groups()
    assert int(number) == int(name) + 1
    assert 41 < int(number) <= 55
    assert 38 <= int(since) <= 43
    assert 1.5 < float(shift) < 5
    assert result.stderr == ""


def test_json_gives_one_object_per_alarm(model, drifting):
    lines = run(model, drifting, "--json").stdout.splitlines()
    alarms = {alarm["statistic"]: alarm for alarm in map(json.loads, lines)}
    assert len(alarms) == len(lines)
    brightness = alarms["brightness"]
    assert brightness["direction"] == "down"
    assert brightness["image"] == f"{brightness['number'] - 1:03d}.png"
    assert brightness["now"] < brightness["before"]
    assert brightness["text"].startswith("brightness fell by")


def test_two_runs_with_a_state_see_what_one_run_sees(model, drifting, tmp_path):
    whole, state = tmp_path / "whole.json", tmp_path / "state.json"
    at_once = run(model, drifting, "--state", whole, "--quiet").stdout
    later = tmp_path / "later"
    later.mkdir()
    for path in sorted(drifting.iterdir())[45:]:
        path.rename(later / path.name)
    first = run(model, drifting, "--state", state)
    assert first.stderr.splitlines()[-1] == summary(45, alarms=first.stdout.count("\n"))
    for path in later.iterdir():
        path.rename(drifting / path.name)
    second = run(model, drifting, "--state", state)
    assert second.stderr.splitlines()[-1].startswith(
        "Watched 25 images (0 unreadable, 45 passed over as watched before)."
    )
    assert first.stdout + second.stdout == at_once
    assert {**json.loads(state.read_text()), "last": 0} == {
        **json.loads(whole.read_text()),
        "last": 0,
    }


def test_an_alarm_stays_open_until_it_is_acknowledged(model, drifting, tmp_path):
    state = tmp_path / "state.json"
    alarms = run(model, drifting, "--state", state).stdout.splitlines()
    again = run(model, drifting, "--state", state, "--exit-code", status=3)
    assert again.stdout == ""
    assert again.stderr.splitlines()[1:] == [
        *(f"Open: {line}" for line in alarms),
        summary(0, over=70, alarms=len(alarms)),
    ]
    done = run(model, drifting, "--state", state, "--acknowledge", "all", "--exit-code")
    assert done.stderr.splitlines()[-1] == summary(0, over=70)


def test_order_by_time(model, calm):
    for number in range(40):
        os.utime(calm / f"{number:03d}.png", (1000 + number, 1000 + number))
    for number in range(40, 60):  # their names are last, but they were written first
        write(calm, number, darker(500 + number), time=number)
    lines = run(model, calm, "--by", "time", "--json", "--quiet").stdout.splitlines()
    numbers = [json.loads(line)["number"] for line in lines if "brightness" in line]
    assert numbers[0] < 20


def test_order_by_name_takes_numbers_by_their_value(tmp_path):
    for name in ("9.png", "10.png", "b/1.png", "a1.png", "010.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [name for _, name in images_to_watch(tmp_path, "name")[0]]
    assert names == ["9.png", "010.png", "10.png", "a1.png", "b/1.png"]
    for count, last in enumerate(names, 1):
        later, passed_over = images_to_watch(tmp_path, "name", Place(0, last))
        assert ([name for _, name in later], passed_over) == (names[count:], count)


def test_a_folder_that_is_being_filled_goes_on_from_a_state(model, drifting, tmp_path):
    state = tmp_path / "state.json"
    times = {path: k for k, path in enumerate(sorted(drifting.iterdir()))}
    for path, time in times.items():
        os.utime(path, (1000 + time, 1000 + time))
    expected = run(model, drifting, "--by", "time", "--quiet").stdout
    follow = ("--follow", "--idle-timeout", "0.2", "--state", state, "--quiet")
    assert run(model, drifting, *follow).stdout == expected
    assert run(model, drifting, *follow).stdout == ""
    assert json.loads(state.read_text())["images"] == 70


def test_an_unreadable_image_is_reported_and_does_not_count(model, calm):
    (calm / "010.png").write_bytes(b"no image")
    result = run(model, calm, status=1)
    lines = result.stderr.splitlines()
    assert lines[1] == summary(39, bad=1)
    assert lines[2].startswith("Error: ")
    assert "010.png" in lines[2]


def test_defective_parts_raise_the_alarm_of_their_share_only(model, calm):
    for number in range(40, 70):
        write(calm, number, spoiled_image(500 + number)[0])
    lines = run(model, calm, "--json").stdout.splitlines()
    assert [json.loads(line)["statistic"] for line in lines] == ["anomalous"]


def test_the_page_shows_every_statistic_and_the_alarms(model, drifting, tmp_path):
    page = tmp_path / "page.html"
    result = run(model, drifting, "--out", page)
    assert result.stdout.splitlines()[-1] == f"Report: {page}"
    text = page.read_text()
    for name in ("score", "brightness", "contrast", "focus", "clipped", "share of anomalous"):
        assert f">{name}" in text
    for line in result.stdout.splitlines()[:-1]:
        assert f"<li>{line}</li>" in text
    assert text.count("<svg") == 12
    assert "nan" not in text
    empty = tmp_path / "empty"
    empty.mkdir()
    said = run(model, empty, "--out", page).stdout
    assert said == f"No new images: {page} is left as it is.\n" and page.read_text() == text
    run(model, empty, "--out", tmp_path / "other.html")
    assert "No alarm." in (tmp_path / "other.html").read_text()


def test_another_rate_of_false_alarms_is_kept(model, drifting, tmp_path):
    state = tmp_path / "state.json"
    many = run(model, drifting, "--false-alarms-per", 1000, "--state", state, "--json", "--quiet")
    few = run(model, drifting, "--json", "--quiet")
    first, second = (json.loads(found.stdout.splitlines()[0])["number"] for found in (many, few))
    assert first < second
    refused = run(model, drifting, "--state", state, status=1)
    assert refused.stderr == (
        f"Error: {state} must be that of a watch with this model, threshold and rate of false "
        "alarms, but is one with another rate. Use these again, or begin a new state in another "
        "file.\n"
    )


@pytest.mark.parametrize(
    "text", ["{", "null", "[1]", '{"last": [null, 3]}', '{"last": [1e999, ""]}']
)
def test_a_file_that_is_no_state_is_refused(model, calm, tmp_path, text):
    state = tmp_path / "state.json"
    state.write_text(text)
    assert run(model, calm, "--state", state, status=1).stderr == (
        f"Error: {state} must be what a watch has saved, but is damaged or something else. Begin "
        "a new state in another file.\n"
    )
    assert state.read_text() == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--acknowledge", "all"), "--acknowledge needs --state, where the alarms are."),
        (("--idle-timeout", "1"), "--idle-timeout needs --follow."),
    ],
)
def test_wrong_usage(model, calm, options, text):
    assert run(model, calm, *options, status=2).stderr.splitlines()[-1] == f"Error: {text}"


def test_of_aligned_parts_where_they_lie_is_watched_too(tmp_path):
    loaded = small_model(30, align="shift")
    for number in range(60):
        image = good_image(500 + number)
        write(tmp_path, number, image if number < 30 else np.roll(image, 2, axis=1))
    noise = np.random.default_rng(0).integers(0, 255, (32, 24, 3), np.uint8)
    write(tmp_path, 60, noise)
    watch = watch_of(loaded)
    images, _ = images_to_watch(tmp_path, "name")
    seen = list(watch_images(watch, loaded, ImageList([path for path, _ in images])))
    alarms = {alarm.statistic: alarm for one in seen for alarm in one.alarms}
    assert alarms["motion"].direction == "up"
    assert alarms["motion"].now == pytest.approx(2, abs=0.2)
    assert alarms["motion"].since == pytest.approx(31, abs=1)
    assert (seen[-1].anomalous, seen[-1].error) == (True, None)  # it could not be aligned
    assert watch.images == 61


def test_a_folder_that_is_missing_is_said_before_the_model_is_read(tmp_path):
    assert run(tmp_path / "no.blemish", tmp_path / "none", status=1).stderr == (
        f"Error: {tmp_path / 'none'} must be a folder that can be listed, but the system says: No "
        "such file or directory. Check the path and its permissions.\n"
    )


def test_approximate_scores_of_the_training_images_are_said(model):
    loaded = load(model)
    calibration = replace(loaded.calibration, approximate=True)
    changed = Model(replace(loaded.fitted, calibration=calibration))
    assert caveats(watch_of(changed), changed)[-1] == (
        "The scores of the training images are approximate, so the rate of false alarms of the "
        "score and of the share of anomalous images is, too. Run blemish calibrate."
    )


def test_the_library_watches_with_the_model_and_its_threshold(model):
    loaded = load(model)
    watch = watch_of(loaded, false_alarm_rate=0.1, false_alarms_per=50)
    assert watch.threshold == loaded.threshold(0.1).value
    assert watch.statistics == (
        *("score", "brightness", "contrast", "focus", "clipped"),
        "anomalous",
    )
    assert (watch.training_images, watch.false_alarms_per) == (COUNT, 50)
