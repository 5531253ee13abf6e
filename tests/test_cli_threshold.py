"""`blemish threshold`, and the operating points and regions that other commands use."""

import csv
import io
import json
import os

import cv2
import numpy as np
import pytest

from blemish import load
from blemish.datasets import read_dataset
from blemish.export import export_model, load_export
from blemish.generated import write_product
from export_files import change_description, copy_of
from test_cli import one_line, run

pytestmark = pytest.mark.usefixtures("in_f32")

SMALL = ["--size", "64x64", "--dims", "10"]


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    folder = tmp_path_factory.mktemp("product") / "plate"
    write_product(folder, train=24, good=4, defective=2, size=(64, 64))
    return folder


@pytest.fixture(scope="module")
def original(product, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "plate.blemish"
    run("fit", product, *SMALL, "--out", out, "--quiet")
    return out


@pytest.fixture
def model(original, tmp_path):
    path = tmp_path / "plate.blemish"
    path.write_bytes(original.read_bytes())
    return path


@pytest.fixture(scope="module")
def original_export(original, product, tmp_path_factory):
    place = tmp_path_factory.mktemp("exported") / "onnx"
    images = [sample.image for sample in read_dataset(product, split="train")]
    export_model(load(original), place, images=images[:4])
    return place


@pytest.fixture
def exported(original_export, tmp_path):
    return copy_of(original_export, tmp_path)


def listed(place):
    found = json.loads(run("threshold", place, "--json").stdout)
    return found["default"], {point["name"]: point for point in found["points"]}


def test_a_model_has_the_point_of_its_fit(model):
    before = model.read_bytes()
    result = run("threshold", model)
    threshold = load(model).threshold()
    low, high = threshold.interval
    assert result.stdout == (
        f"default  {threshold.value:.6g}, for at most 5.00% false alarms; long-run rate {low:.2%} "
        f"to {high:.2%} with 95% confidence, from 24 leave-one-out scores\n"
        f"         pixel threshold {load(model).pixel_threshold():.4g}, for 0.10% of the pixels of "
        "good images\n"
        "Used unless another one is named: default.\n"
    )
    assert result.stderr == ""
    assert model.read_bytes() == before


@pytest.mark.parametrize("kind", ["model", "exported"])
def test_set_use_and_remove(kind, request):
    place = request.getfixturevalue(kind)
    result = run("threshold", place, "--name", "loose", "--false-alarm-rate", "0.2")
    assert result.stderr == f"Wrote {place}.\n"
    run("threshold", place, "--name", "fixed", "--value", "9.5", "--pixel-value", "4")
    run("threshold", place, "--default", "loose", "-q")
    default, points = listed(place)
    assert (default, list(points)) == ("loose", ["default", "fixed", "loose"])
    assert (points["fixed"]["threshold"], points["fixed"]["pixel_threshold"]) == (9.5, 4)
    found = load_export(place) if place.is_dir() else load(place)
    assert points["loose"]["threshold"] == found.calibration.threshold(0.2).value
    used = found.threshold if place.is_dir() else found.threshold().value
    assert used == points["loose"]["threshold"]
    run("threshold", place, "--remove", "loose", "-q")
    default, points = listed(place)
    assert (default, list(points)) == ("default", ["default", "fixed"])


def test_a_model_and_its_export_tell_the_same(model, exported):
    for place in (model, exported):
        run("threshold", place, "--name", "strict", "--false-alarm-rate", "0.04", "-q")
    assert run("threshold", model, "--json").stdout == run("threshold", exported, "--json").stdout
    assert run("threshold", model).stdout == run("threshold", exported).stdout


def test_only_the_description_of_an_export_changes(exported, original_export):
    run("threshold", exported, "--name", "loose", "--false-alarm-rate", "0.2", "--default", "loose")
    changed = [
        path.name
        for path in original_export.iterdir()
        if path.read_bytes() != (exported / path.name).read_bytes()
    ]
    assert changed == ["model.json"]
    about = json.loads((exported / "model.json").read_text())
    assert about["operating_point"] == "loose"
    assert about["threshold"] == load_export(exported).calibration.threshold(0.2).value


def test_an_export_judges_as_the_model_at_every_point(model, exported, product):
    image = product / "test/chip/000.png"
    for place in (model, exported):
        run("threshold", place, "--name", "fixed", "--value", "1e9", "--min-area", "7", "-q")
    for name in ("default", "fixed"):
        one = load(model).classify(image, operating_point=name)
        other = load_export(exported).classify(image, operating_point=name)
        assert (one.is_anomalous, one.threshold) == (other.is_anomalous, other.threshold)
        assert (one.operating_point, one.source_box) == (other.operating_point, other.source_box)
        assert one.region_settings == other.region_settings
        assert len(one.regions()) == len(other.regions())


@pytest.mark.parametrize("kind", ["model", "exported"])
def test_out_leaves_what_was_there(kind, request, tmp_path):
    place = request.getfixturevalue(kind)
    before = listed(place)
    out = tmp_path / "other"
    run("threshold", place, "--name", "loose", "--false-alarm-rate", "0.2", "--out", out, "-q")
    assert listed(place) == before
    assert "loose" in listed(out)[1]


@pytest.mark.parametrize("kind", ["model", "exported"])
def test_labelled_images_choose_and_are_on_record(kind, request, product):
    place = request.getfixturevalue(kind)
    arguments = ("threshold", place, "--name", "cheap", "--labelled", product)
    result = run(*arguments, "--cost", "1:50", "--defect-share", "0.01")
    note = f"The images of {product} have chosen a threshold: measure the model on others."
    assert note in result.stderr.splitlines()
    text = result.stdout
    assert "for the least cost (false alarm 1, miss 50) with 1.00% defective parts, chosen" in text
    assert "chosen by 14 defective and 4 good images of plate and 24 leave-one-out" in text
    assert "by 5-fold cross-validation" in text
    point = listed(place)[1]["cheap"]
    estimate = point["cross_validation"]
    assert (estimate["folder"], estimate["defective"], estimate["left_out"]) == ("plate", 14, 24)
    assert estimate["cost_interval"][0] <= estimate["cost"] <= estimate["cost_interval"][1]
    assert estimate["missed"] == round(estimate["miss_rate"] * 14)
    run("threshold", place, "--name", "best", "--labelled", product, "--best", "f1", "-q")
    assert listed(place)[1]["best"]["recipe"]["aim"]["defect_share"] == 14 / 18


def test_evaluation_says_that_the_threshold_was_chosen_by_labelled_images(model, product):
    arguments = ("--name", "best", "--labelled", product, "--best", "f1", "--default", "best")
    run("threshold", model, *arguments, "-q")
    note = (
        "Warning: the threshold was chosen by 14 defective and 4 good images of plate. If these "
        "are among them, false alarms and misses are flattered: measure on others."
    )
    assert note in run("evaluate", model, product).stderr.splitlines()
    others = run("evaluate", model, product, "--operating-point", "default")
    assert "was chosen by" not in others.stderr


def test_a_plain_folder_of_labelled_images_is_used_whole(model, product, tmp_path):
    folder = tmp_path / "rejects"
    for name in ("good", "chip"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        image = cv2.imread(str(product / f"test/good/00{number}.png"))
        for copy in range(3):
            cv2.imwrite(str(folder / f"good/{number}{copy}.png"), image + np.uint8(copy))
    for number, path in enumerate(sorted((product / "test").glob("[!g]*/*.png"))):
        (folder / f"chip/{number}.png").write_bytes(path.read_bytes())
    run("threshold", model, "--name", "a", "--labelled", folder, "--best", "f1", "-q")
    estimate = listed(model)[1]["a"]["cross_validation"]
    assert (estimate["good"], estimate["defective"]) == (12, 14)


def test_a_point_takes_over_what_is_not_said(model):
    run("threshold", model, "--name", "default", "--mm-per-pixel", "0.1", "--min-area", "0.5mm2")
    run("threshold", model, "--name", "strict", "--false-alarm-rate", "0.04", "--pixel-value", "7")
    run("threshold", model, "--name", "strict", "--value", "8", "--max-regions", "3")
    point = listed(model)[1]["strict"]
    assert (point["kind"], point["threshold"], point["pixel_threshold"]) == ("value", 8.0, 7.0)
    assert point["recipe"]["regions"] == {
        "min_area": 0.5,
        "area_unit": "mm2",
        "max_regions": 3,
        "mm_per_pixel": 0.1,
    }
    lines = run("threshold", model).stdout.splitlines()
    assert [line.strip() for line in lines[-4:-1]] == [
        *("regions from 0.5 mm2", "at most 3 regions", "0.1 mm per pixel")
    ]


def test_info_lists_the_points(model):
    run("threshold", model, "--name", "fixed", "--value", "9", "--default", "fixed", "-q")
    shown = run("info", model).stdout
    assert "default point        fixed\n" in shown
    assert "point fixed          9, as given; reached by" in shown
    assert "image threshold      9, as given; reached by" in shown
    assert json.loads(run("info", model, "--json").stdout)["threshold"]["method"] == "fixed"


def test_a_value_is_marked_once_the_model_has_changed(exported):
    run("threshold", exported, "--name", "fixed", "--value", "9", "-q")
    about = json.loads((exported / "model.json").read_text())
    scores = {**about["calibration"], "scores": [1.0, *about["calibration"]["scores"][1:]]}
    change_description(exported, calibration=scores)
    lines = run("threshold", exported).stdout.splitlines()
    assert lines[-2] == "         OLDER than the model, which has changed since: set it anew"
    assert listed(exported)[1]["fixed"]["older_than_calibration"] is True


def test_a_threshold_out_of_reach_is_a_warning(product, tmp_path):
    out = tmp_path / "bounded.blemish"
    run("fit", product, *SMALL, "--score", "chebyshev", "--out", out, "--quiet")
    result = run("threshold", out, "--name", "never", "--value", "1.5", "-q")
    assert result.stderr == (
        "Warning: never: The threshold 1.5 cannot be reached: the score chebyshev ends at 1, so "
        "this model never raises an alarm. Use more images, a higher false-alarm rate, or another "
        "score.\n"
    )
    assert listed(out)[1]["never"]["reachable"] is False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--value", "3"], "--value must go with --name, the operating point."),
        (["--out", "x"], "--out must go with a change: --name, --remove or --default."),
        (["--name", "a", "--cost", "1:2"], "--cost must go with --labelled."),
        (["--name", "a", "--labelled", "x"], "--labelled needs either --cost or --best."),
        (["--name", "a", "--min-area", "3cm"], "'3cm' is not an area such as 25 or 0.5mm2"),
    ],
)
def test_wrong_usage(model, arguments, text):
    assert text in run("threshold", model, *arguments, status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--default", "strict"],
            "Error: The model must have the operating point 'strict', but has only default. Choose "
            "one of them, or make it: blemish threshold.",
        ),
        (
            ["--name", "a"],
            "Error: The operating point 'a' must be set in one way: by a false-alarm rate, a value "
            "or labelled images, but none of them is given. Give one.",
        ),
        (
            ["--name", "a", "--value", "3", "--false-alarm-rate", "0.1"],
            "Error: The operating point 'a' must be set in one way: by a false-alarm rate, a value "
            "or labelled images, but 2 of them are given. Give one.",
        ),
    ],
)
def test_what_cannot_be_set_changes_nothing(model, arguments, text):
    before = model.read_bytes()
    assert one_line(run("threshold", model, *arguments, status=1)) == text
    assert model.read_bytes() == before


def test_a_folder_that_is_no_export(tmp_path):
    assert one_line(run("threshold", tmp_path, status=1)) == (
        f"Error: {tmp_path} must be the folder of an export, but has no model.json. Make one: "
        "blemish export."
    )


@pytest.mark.parametrize("missing", ["operating_points", "calibration", "highest_score"])
def test_an_export_without_what_points_need(exported, missing):
    about = json.loads((exported / "model.json").read_text())
    del about[missing]
    (exported / "model.json").write_text(json.dumps(about))
    assert one_line(run("threshold", exported, status=1)) == (
        f"Error: {exported / 'model.json'} must hold operating points, but does not, or is "
        "damaged. Export the model again."
    )


@pytest.mark.parametrize("kind", ["model", "exported"])
def test_a_full_disk_leaves_what_was_there(kind, request, monkeypatch):
    place = request.getfixturevalue(kind)
    before = listed(place)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = one_line(run("threshold", place, "--name", "a", "--value", "3", status=1))
    assert "writing it failed: No space left on device" in line
    assert listed(place) == before
    assert not [path for path in place.parent.iterdir() if path.name.startswith(".")]


def test_inspect_at_a_point(model, product):
    run("threshold", model, "--name", "never", "--value", "1e9", "-q")
    result = run("inspect", model, product / "test", "--json", "--operating-point", "never")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {(row["operating_point"], row["decision"]) for row in rows} == {("never", "normal")}
    assert {row["threshold"] for row in rows} == {1e9}
    run("threshold", model, "--default", "never", "-q")
    usual = run("inspect", model, product / "test", "--json")
    assert usual.stdout == result.stdout
    by_rate = run("inspect", model, product / "test", "--json", "--false-alarm-rate", "0.1")
    assert json.loads(by_rate.stdout.splitlines()[0])["operating_point"] is None
    found = json.loads(run("evaluate", model, product, "--json").stdout)
    assert found["missed"] == found["anomalous_images"] == 14
    back = run("evaluate", model, product, "--json", "--operating-point", "default")
    assert json.loads(back.stdout)["missed"] < 14
    both = ("--operating-point", "never", "--false-alarm-rate", "0.1")
    text = run("inspect", model, product / "test", *both, status=2).stderr
    assert "--operating-point and --false-alarm-rate exclude each other." in text


def test_regions_in_json_csv_folder_and_pictures(model, product, tmp_path):
    folder = tmp_path / "photos"  # four times as wide, three times as high as the network's input
    folder.mkdir()
    for name in ("chip", "stain", "good"):
        image = cv2.imread(str(product / f"test/{name}/000.png"))
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(image, (256, 192)))
    scale = ("--mm-per-pixel", "0.5", "--min-area", "20mm2", "--max-regions", "2")
    result = run("inspect", model, folder, "--json", "--out", tmp_path / "out", *scale)
    rows = {row["image"]: row for row in map(json.loads, result.stdout.splitlines())}
    regions = rows["chip.png"]["regions"]
    assert regions
    for region in (region for row in rows.values() for region in row["regions"]):
        x, y, width, height = region["box"]
        assert 0 <= x <= x + width <= 256 and 0 <= y <= y + height <= 192
        assert (
            region["area_mm2"] == pytest.approx(region["area_px"] / 4) and region["area_px"] >= 80
        )
        polygon = np.array(region["polygon"])
        assert polygon.min(axis=0).tolist() == [x, y]
        assert polygon.max(axis=0).tolist() == [x + width, y + height]
    peaks = [region["peak"] for region in regions]
    assert peaks == sorted(peaks, reverse=True)
    told = list(csv.DictReader((tmp_path / "out/regions.csv").read_text().splitlines()))
    assert len(told) == sum(len(row["regions"]) for row in rows.values())
    first = next(row for row in told if row["image"] == "chip.png")
    assert [float(first[key]) for key in ("x", "y", "width", "height")] == regions[0]["box"]
    assert (first["region"], float(first["area_mm2"])) == ("1", regions[0]["area_mm2"])
    table = list(csv.DictReader((tmp_path / "out/results.csv").read_text().splitlines()))
    counts = {row["image"]: int(row["regions"]) for row in table}
    assert counts == {name: len(row["regions"]) for name, row in rows.items()}
    printed = csv.DictReader(io.StringIO(run("inspect", model, folder, "--csv", *scale).stdout))
    assert {row["image"]: int(row["regions"]) for row in printed} == counts
    many = run("inspect", model, folder, "--json", "--min-area", "0").stdout.splitlines()
    for row in map(json.loads, many):
        told_now, left_out = (
            len(rows[row["image"]]["regions"]),
            rows[row["image"]]["regions_left_out"],
        )
        assert len(row["regions"]) + row["regions_left_out"] == told_now + left_out
