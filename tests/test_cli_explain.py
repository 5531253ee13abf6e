"""`blemish explain`: whole outputs on files."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from blemish.cli import main
from blemish.explanation.explaining import explain
from blemish.model import load_model
from small_models import good_image, good_images, small_model, spoiled_image

pytestmark = pytest.mark.usefixtures("in_f32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, the images it learned from, and one with a defect."""
    place = tmp_path_factory.mktemp("explain")
    (place / "good").mkdir()
    for number, image in enumerate(good_images(40)):
        Image.fromarray(image).save(place / "good" / f"{number:03}.png")
    Image.fromarray(spoiled_image(3)[0]).save(place / "bad.png")
    Image.fromarray(good_image(60)).save(place / "fine.png")
    small_model().save(place / "part.blemish")
    return place


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["explain", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def test_it_says_where_by_what_how_rarely_and_unlike_what(folder):
    out = folder / "why.png"
    result = run(
        folder / "part.blemish", folder / "bad.png", "--good", folder / "good", "--out", out
    )
    found = explain(load_model(folder / "part.blemish"), folder / "bad.png")
    text = result.stdout.splitlines()
    assert text[0] == (
        f"anomalous  Score {found.image_score:.4g} reaches the threshold {found.threshold:.4g}: "
        f"anomalous. Good images score {found.median_score:.4g} in the middle, "
        f"{found.good_scores.max():.4g} at most."
    )
    assert text[1] == (
        "rarity     0 of 40 good images score as high: a good part does with a chance of about "
        "2.4 % at most."
    )
    starts = [line[:10].strip() for line in text[:-1] if line[0] != " "]
    assert starts == ["anomalous", "rarity", "where", "layers", "channels", "similar"]
    assert text[-1] == f"Picture: {out}"
    peak = found.peaks[0]
    where = next(line for line in text if line.startswith("where"))
    assert where.startswith(f"where      x {peak.x:.0f}, y {peak.y:.0f} (box x ")
    assert "100% of the score" in where
    with Image.open(out) as picture:
        assert (picture.format, picture.width) == ("PNG", 1400)


def test_json_is_one_object_with_the_same_numbers(folder):
    result = run(folder / "part.blemish", folder / "bad.png", "--json")
    values = json.loads(result.stdout)
    found = explain(load_model(folder / "part.blemish"), folder / "bad.png")
    assert values == json.loads(json.dumps(found.to_json()))
    total = sum(layer["image"] for layer in values["layers"]) + values["constant"]
    assert total == pytest.approx(values["score"], rel=1e-4)


def test_a_good_image_is_normal_and_a_higher_rate_lowers_the_threshold(folder):
    usual = json.loads(run(folder / "part.blemish", folder / "fine.png", "--json").stdout)
    strict = json.loads(
        run(
            folder / "part.blemish", folder / "fine.png", "--json", "--false-alarm-rate", "0.4"
        ).stdout
    )
    assert usual["decision"] == "normal"
    assert strict["threshold"] < usual["threshold"]
    assert strict["score"] == usual["score"]


def test_the_most_similar_patch_anywhere_is_named(folder):
    arguments = (folder / "part.blemish", folder / "bad.png", "--good", folder / "good")
    values = json.loads(run(*arguments, "--anywhere", "--json").stdout)
    assert values["similar_anywhere"]["distance"] <= values["similar"]["distance"] * (1 + 1e-5)
    assert values["similar"]["image"] in {f"{number:03}.png" for number in range(40)}
    assert values["position_p_values"] == {"all layers": pytest.approx(1 / 41)}


def test_what_is_no_image_is_one_line(folder):
    (folder / "text.png").write_text("no image")
    result = run(folder / "part.blemish", folder / "text.png", status=1)
    assert len(result.stderr.splitlines()) == 1
    assert str(folder / "text.png") in result.stderr


def test_a_picture_that_cannot_be_written_is_one_line(folder):
    (folder / "file").write_text("in the way")
    out = folder / "file" / "why.png"
    result = run(folder / "part.blemish", folder / "bad.png", "--out", out, status=1)
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_nothing_is_left_of_numpy_in_the_json(folder):
    text = run(folder / "part.blemish", folder / "bad.png", "--json").stdout
    assert "NaN" not in text and "Infinity" not in text
    assert isinstance(json.loads(text)["peaks"][0]["pixel"][0], int)
    assert np.isfinite(json.loads(text)["good_images"]["p_value"])


def test_a_picture_is_a_png_that_can_be_written(folder):
    said = run(folder / "part.blemish", folder / "bad.png", "--out", "why.jpg", status=2).output
    assert "--out must name a .png file, but is why.jpg." in said
    (folder / "taken.png").mkdir()
    said = run(
        folder / "part.blemish", folder / "bad.png", "--out", folder / "taken.png", status=1
    ).output
    assert "taken.png must be a file to write, but is a folder. Name a file in it." in said
