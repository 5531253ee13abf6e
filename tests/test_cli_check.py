"""`blemish check` and what `blemish fit` says of suspicious images, whole output."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from blemish import load
from blemish.cli import main
from small_models import good_image

pytestmark = pytest.mark.usefixtures("in_f32")

SIZE = (64, 64)


def run(*arguments, status=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "parts"
    root.mkdir()
    for k in range(20):
        Image.fromarray(good_image(k, SIZE)).save(root / f"{k:03}.png")
    spoiled = good_image(50, SIZE).copy()
    spoiled[20:44, 20:44] = (250, 0, 0)
    Image.fromarray(spoiled).save(root / "spoiled.png")
    Image.fromarray(good_image(4, SIZE)).save(root / "twin.png")
    return root


def test_check_without_scores(parts):
    result = run("check", parts, "--no-scores")
    lines = result.stdout.splitlines()
    assert lines[0] == "2 of 22 images are suspicious."
    assert lines[1] == "twin.png: copy of another image: the same pixels as 004.png"
    assert lines[2].startswith("spoiled.png: ")


def test_check_as_data_with_a_report(parts, tmp_path):
    result = run("check", parts, "--json", "--no-scores", "--out", tmp_path / "look")
    data = json.loads(result.stdout)
    assert (data["images"], data["suspicious"]) == (22, 2)
    assert data["copies"] == [["004.png", "twin.png"]]
    assert (tmp_path / "look" / "check.csv").is_file()
    assert (tmp_path / "look" / "check.html").is_file()
    assert result.stderr == f"Report: {tmp_path / 'look' / 'check.html'}\n"


def test_fit_names_what_it_rejects_and_check_and_info_know_it(parts, tmp_path):
    model, look = tmp_path / "m.blemish", tmp_path / "look"
    fitted = run(
        "fit", parts, "--out", model, "--dims", "6,6,6", "--reject-outliers", "--check-report", look
    )
    rejected = load(model).fitted.rejected
    score = f"{rejected.scores[0]:.4g}"
    said = (
        f"1 image as outliers, with image scores from {rejected.limit:.4g} on: "
        f"spoiled.png ({score})"
    )
    assert fitted.stdout.splitlines()[0] == f"Learned from 21 images, wrote {model}."
    assert fitted.stdout.splitlines()[2:] == [
        f"Rejected {said}.",
        "Look at 1 suspicious image: twin.png (copy of another image).",
        f"Report: {look / 'check.html'}",
    ]
    assert f"{'rejected':<20} {said}\n" in run("info", model).stdout
    header = json.loads(run("info", model, "--json").stdout)
    assert header["rejected"]["names"] == ["spoiled.png"]
    lines = run("check", parts, "--model", model).stdout.splitlines()
    assert lines[0] == "2 of 22 images are suspicious."
    limit = f"{rejected.limit:.4g}"
    assert lines[1].startswith(
        f"spoiled.png: left out of the fit: image score {score} reaches {limit}"
    )


def test_the_share_can_be_given(parts, tmp_path):
    out = tmp_path / "m.blemish"
    run("fit", parts, "--out", out, "--dims", "6,6,6", "--reject-outliers", "0.1", "--quiet")
    model = load(out)
    assert (model.settings.reject_outliers, model.count) == (0.1, 21)
    wrong = run("fit", parts, "--reject-outliers", "0.5", status=2)
    assert "0.5 is not in the range 0<=x<=0.2" in wrong.stderr


def test_a_model_of_no_images(tmp_path):
    (tmp_path / "m.blemish").write_bytes(np.zeros(9).tobytes())
    missing = run("check", tmp_path, "--no-scores", status=1)
    assert missing.stderr.startswith("Error: ")
