"""The commands update, forget, merge, calibrate, and fit --like, on folders of images."""

import json
import warnings

import cv2
import pytest
from click.testing import CliRunner

from blemish.cli.main import main
from blemish.errors import BlemishWarning
from blemish.lifecycle import steps
from blemish.model import load_model
from small_models import good_image

pytestmark = pytest.mark.usefixtures("in_f32")

SIZE = ["--size", "32x32", "--dims", "4,4,4"]


@pytest.fixture(autouse=True)
def few_images_are_enough_here():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlemishWarning)
        yield


def folder(place, first, count):
    place.mkdir()
    for number in range(first, first + count):
        cv2.imwrite(str(place / f"{number:03}.png"), good_image(number, (64, 48)))
    return str(place)


def run(*arguments, status=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images 0 to 19 in a, 20 to 29 in b, all in ab, and a model of a."""
    place = tmp_path_factory.mktemp("parts")
    folder(place / "a", 0, 20)
    folder(place / "b", 20, 10)
    folder(place / "ab", 0, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlemishWarning)
        run("fit", place / "a", *SIZE, "--quiet")
        run("fit", place / "b", "--like", place / "a.blemish", "--quiet")
        run("fit", place / "ab", *SIZE, "--quiet")
    return place


def value(path):
    return load_model(path).threshold().value


def line_of(path):
    """What every command says of the threshold of a model."""
    model = load_model(path)
    low, high = model.threshold().interval
    kind = "approximate leave-one-out" if model.calibration.approximate else "leave-one-out"
    return (
        f"{model.threshold().value:.6g}, for at most 5.00% false alarms; long-run rate {low:.2%} "
        f"to {high:.2%} with 95% confidence, from {model.count} {kind} scores."
    )


def test_update_says_what_changed(place, tmp_path):
    out = tmp_path / "n.blemish"
    old = (place / "a.blemish").read_bytes()
    said = run("update", place / "a.blemish", place / "ab", "--out", out)
    names = ", ".join(f"{number:03}.png" for number in range(5))
    assert said.splitlines()[-5:] == [
        "Added 10 images: 30 images.",
        f"Skipped 20 known already: {names} and 15 more.",
        f"Threshold {value(place / 'a.blemish'):.6g} before; now {line_of(out)}",
        "Calibrations put together, approximate until blemish calibrate is run.",
        f"Wrote {out}.",
    ]
    assert (place / "a.blemish").read_bytes() == old


def test_merge_and_calibrate_lead_to_the_thresholds_of_one_fit(place, tmp_path):
    out = tmp_path / "c.blemish"
    said = run("merge", place / "a.blemish", place / "b.blemish", "--out", out)
    assert said.splitlines()[-4:] == [
        "Merged models of 20 and 10 images: 30 images.",
        f"Threshold {value(place / 'a.blemish'):.6g} and {value(place / 'b.blemish'):.6g} before; "
        f"now {line_of(out)}",
        "Calibrations put together, approximate until blemish calibrate is run.",
        f"Wrote {out}.",
    ]
    before = value(out)
    listed = "for at most 5.00% false alarms; long-run rate 0.08% to 11.57% with 95% confidence, "
    assert f"{listed}from 30 approximate leave-one-out scores\n" in run("threshold", out)
    assert json.loads(run("threshold", out, "--json"))["points"][0]["approximate"] is True
    said = run("calibrate", out, place / "ab")
    assert said.splitlines()[-4:] == [
        "Looked at 30 images once more.",
        f"Threshold {before:.6g} before; now {line_of(out)}",
        "Calibrated on all images.",
        f"Wrote {out}.",
    ]
    assert value(out) == pytest.approx(value(place / "ab.blemish"), rel=1e-6)


def test_forget_replaces_the_model_and_info_tells(place, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    out = tmp_path / "d.blemish"
    run("forget", place / "ab.blemish", place / "b", "--training-images", place / "a", "-o", out)
    assert value(out) == pytest.approx(value(place / "a.blemish"), rel=1e-6)
    run("update", out, place / "b", "--quiet")
    journal = [line for line in run("info", out).splitlines() if line.startswith("journal")]
    assert journal[1:] == [
        "journal              2023-11-14 22:13  forgot 10 images: 20 images, calibrated on all "
        "images",
        "journal              2023-11-14 22:13  added 10 images: 30 images, calibrations put "
        "together, approximate until blemish calibrate is run",
    ]
    assert journal[0].endswith("fitted on 30 images, calibrated on all images")
    told = json.loads(run("info", out, "--json"))
    assert told["approximate"] is True
    assert [entry["action"] for entry in told["journal"]] == ["fit", "forget", "update"]
    assert ["020.png", told["journal"][1]["images"][0][1]] in told["journal"][2]["images"]


def test_a_change_names_the_points_that_were_set_before_it(place, tmp_path):
    model = tmp_path / "m.blemish"
    run("threshold", place / "a.blemish", "--name", "fixed", "--value", "2", "--out", model)
    run("threshold", model, "--name", "strict", "--false-alarm-rate", "0.01")
    said = run("update", model, place / "b")
    assert said.splitlines()[-2:] == [
        "Operating points older than the model now: fixed. Set them anew.",
        f"Wrote {model}.",
    ]
    assert "OLDER than the model" in run("threshold", model)
    warning = (
        "Warning: the operating point fixed is older than the model, which has changed since. Set "
        "it anew: blemish threshold.\n"
    )
    assert warning in run("inspect", model, place / "b", "--operating-point", "fixed")
    assert "Warning: the operating" not in run("inspect", model, place / "b")
    run("threshold", model, "--name", "fixed", "--value", "2")
    assert warning not in run("inspect", model, place / "b", "--operating-point", "fixed")


def test_kept_features_need_no_images(place, tmp_path):
    model = tmp_path / "k.blemish"
    run("fit", place / "a", *SIZE, "--keep-features", "--out", model, "--quiet")
    said = run("update", model, place / "b")
    assert "Calibrated on the features kept of all images.\n" in said
    said = run("calibrate", model)
    assert "Calibrated on the features kept of all images.\n" in said
    assert "features             kept of all 30 images" in run("info", model)


def test_an_update_that_fails_leaves_the_model_as_it_was(place, tmp_path, monkeypatch):
    model = tmp_path / "m.blemish"
    model.write_bytes((place / "a.blemish").read_bytes())
    old = model.read_bytes()

    def no_room(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("blemish.writing.os.replace", no_room)
        said = run("update", model, place / "b", status=1)
    assert "No space left on device" in said
    assert model.read_bytes() == old
    assert [each.name for each in tmp_path.iterdir()] == ["m.blemish"]


@pytest.mark.parametrize(
    ("option", "value"), [("--dims", "5"), ("--weights", "w.pth"), ("--keep-features", None)]
)
def test_like_decides_the_settings(place, option, value):
    arguments = [option] if value is None else [option, value]
    said = run("fit", place / "b", "--like", place / "a.blemish", *arguments, status=2)
    assert f"Error: --like decides {option}; leave one of them out." in said


def test_errors_are_one_line(place, tmp_path):
    said = run("forget", place / "a.blemish", place / "b", "--out", tmp_path / "x", status=1)
    assert said.splitlines()[-1] == (
        "Error: Only what was learned can be forgotten, but of 10 images 10 were not: 020.png, "
        "021.png, 022.png, 023.png, 024.png and 5 more. Leave them out."
    )
    run("fit", place / "b", "--size", "32x32", "--out", tmp_path / "other.blemish", "--quiet")
    said = run("merge", place / "a.blemish", tmp_path / "other.blemish", "-o", "x", status=1)
    assert said.splitlines()[-1] == (
        "Error: Models to be merged must have the same settings, but the first and number 2 "
        "differ: dims (4, 4, 4) and None. Fit one like the other (blemish fit --like)."
    )
    said = run("calibrate", place / "a.blemish", status=1)
    assert said.splitlines()[-1] == (
        "Error: To calibrate, the training images are needed, since the model does not keep their "
        "features. Give the folder that has them all."
    )


def test_a_model_that_something_else_has_changed_is_not_replaced(place, tmp_path, monkeypatch):
    model = tmp_path / "m.blemish"
    model.write_bytes((place / "a.blemish").read_bytes())
    found = steps.update

    def slowly(*arguments, **options):
        change = found(*arguments, **options)
        model.write_bytes((place / "ab.blemish").read_bytes())  # by another command meanwhile
        return change

    monkeypatch.setattr("blemish.cli.update.update_model", slowly)
    said = run("update", model, place / "b", status=1)
    assert said.splitlines()[-1] == (
        f"Error: {model} must be as it was read to be replaced, but something has changed it "
        "since. Run the command again, or name another file with --out."
    )
    assert model.read_bytes() == (place / "ab.blemish").read_bytes()


def test_added_images_that_are_still_unlike_the_others_are_named(place, tmp_path):
    (tmp_path / "odd").mkdir()
    cv2.imwrite(str(tmp_path / "odd" / "dark.png"), good_image(40, (64, 48)) // 3)
    said = run("update", place / "a.blemish", tmp_path / "odd", "--out", tmp_path / "n.blemish")
    assert "Added 1 image: 21 images.\n" in said
    assert (
        "Look at 1 image of those added, anomalous by the scores of the others: dark.png.\n" in said
    )


def test_models_that_are_standardised_say_that_scores_are_approximate(place, tmp_path):
    out = tmp_path / "s.blemish"
    run("fit", place / "a", "--size", "32x32", "--preset", "tiny", "--out", out, "--quiet")
    said = run("update", out, place / "b")
    assert (
        "Scores are standardised by what is normal, which is approximate too: calibrate before the "
        "model is relied on.\n" in said
    )
    assert "approximate too" not in run("calibrate", out, place / "ab")


def test_a_merge_has_the_operating_points_of_all(place, tmp_path):
    a, b, out = (tmp_path / f"{name}.blemish" for name in "abc")
    for model, names in ((a, ["strict"]), (b, ["strict", "loose"])):
        model.write_bytes((place / model.name).read_bytes())
        for number, name in enumerate(names, 1):
            rate = 0.1 * number if model == a else 0.3
            run("threshold", model, "--name", name, "--false-alarm-rate", rate)
        run("threshold", model, "--default", names[-1])
    run("merge", a, b, "--out", out)
    points = json.loads(run("threshold", out, "--json"))
    assert points["default"] == "strict"
    rates = {point["name"]: point["false_alarm_rate"] for point in points["points"]}
    assert rates == {"default": 0.05, "strict": 0.1, "loose": 0.3}
    told = run("info", out)
    assert "point default" in told and "point loose" in told


def test_an_option_that_takes_the_folder_for_its_share_says_so(place):
    said = run("fit", "--reject-outliers", place / "a", status=2)
    assert f"'{place / 'a'}' is no share. Write 0.2 after it, or put the option last." in said
