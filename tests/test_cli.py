"""The command line as a user meets it: whole commands on files, and every way they can fail."""

import csv
import io
import json
import os
import subprocess
import sys
import warnings
from dataclasses import fields

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from blemish import __version__, load, results
from blemish.cli import main
from blemish.cli.fit import fit as fit_command
from blemish.cli.sources import find_images
from blemish.datasets import read_dataset
from blemish.evaluation import evaluate
from blemish.generated import write_product
from blemish.settings import FitSettings

SMALL = ["--size", "64x64", "--dims", "10"]
# Keys of a fit that say where things are, and are not settings.
NOT_SETTINGS = {
    "images",
    "out",
    "weights",
    "like",
    "reference",
    "ignore_mask",
    "check_report",
    "layout",
    "category",
    "every",
    "quiet",
    "engine",
    "device",
    "threads",
}


def run(*arguments, status=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def one_line(result):
    """The only line of an error, beside the notes on what is being done."""
    notes = ("Plan: ", "Test images: ", "Warning: ")
    lines = [line for line in result.stderr.splitlines() if not line.startswith(notes)]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(scope="session")
def product(tmp_path_factory):
    folder = tmp_path_factory.mktemp("product") / "plate"
    write_product(folder, train=24, good=4, defective=1, size=(64, 64))
    return folder


@pytest.fixture(scope="session")
def model(product, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "plate.blemish"
    run("fit", product, *SMALL, "--out", out)
    return out


def test_options_of_fit_are_the_settings():
    options = {p.name: p for p in fit_command.params if p.name not in NOT_SETTINGS}
    settings = {f.name: f.default for f in fields(FitSettings)}
    assert set(options) == set(settings)
    assert {name: option.default for name, option in options.items()} == settings


def test_every_command_is_listed_and_every_option_explained():
    listed = run("--help").stdout
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        assert f"  {name} " in listed
        assert command.help
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert [p.name for p in options if not p.help] == []


def test_help_imports_neither_numpy_nor_openvino_nor_torch():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from blemish.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'openvino', 'onnx', 'cv2', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_in_the_package_imports_torch():
    code = (
        "import importlib, pkgutil, sys, blemish\n"
        "for m in pkgutil.walk_packages(blemish.__path__, 'blemish.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_version():
    assert run("--version").stdout == f"blemish, version {__version__}\n"


def test_fit_says_what_it_learned_and_what_the_threshold_promises(product, tmp_path):
    out = tmp_path / "a.blemish"
    result = run("fit", product, *SMALL, "--out", out)
    learned, threshold = result.stdout.splitlines()
    assert learned == f"Learned from 24 images, wrote {out}."
    assert "for at most 5.00% false alarms; long-run rate" in threshold
    assert result.stderr.startswith("Plan: 24 images, 10 dimensions at 16x16 positions: about")
    assert load(out).count == 24


def test_fit_without_out_writes_beside_the_folder(product, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in sorted((product / "train/good").iterdir())[:5]:
        (folder / path.name).write_bytes(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run("fit", folder, "--size", "64x64", "--dims", "3", "--quiet")
    assert (tmp_path / "mine.blemish").is_file()


def test_quiet_is_quiet(product, tmp_path):
    result = run("fit", product, *SMALL, "--out", tmp_path / "a.blemish", "--quiet")
    assert result.output == ""


def test_settings_reach_the_model(product, tmp_path):
    out = tmp_path / "a.blemish"
    run(
        *("fit", product, "--out", out, "--size", "64x48", "--layers", "1,2", "--dims", "4,3"),
        *("--score", "hybrid", "--sigma", "2.5", "--epsilon", "0.02", "--seed", "7"),
        *("--roi", "2,4,48,56", "--false-alarm-rate", "0.1", "--top-k", "5", "--shared"),
    )
    model = load(out)
    expected = FitSettings(
        size=(64, 48),
        layers=(1, 2),
        dims=(4, 3),
        score="hybrid",
        sigma=2.5,
        epsilon=0.02,
        seed=7,
        roi=(2, 4, 48, 56),
        false_alarm_rate=0.1,
        top_k=5,
        shared=True,
    )
    assert model.settings == expected.resolved(model.backbone)


def test_inspect_prints_a_line_per_image(model, product):
    result = run("inspect", model, product / "test")
    lines = result.stdout.splitlines()
    assert len(lines) == 11
    assert all(line.split()[0] in ("normal", "anomalous") for line in lines)
    assert lines[0].endswith("chip/000.png")
    assert "Inspected 11 of 11 images" in result.stderr


def test_inspect_json_is_one_object_per_line(model, product):
    result = run("inspect", model, product / "test", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["image"] for row in rows][:2] == ["chip/000.png", "contamination/000.png"]
    fitted = load(model)
    for row in rows:
        score = fitted.score(product / "test" / row["image"]).image_score
        assert row["score"] == score
        assert row["decision"] == ("anomalous" if score >= row["threshold"] else "normal")


def test_inspect_csv_reads_back(model, product):
    result = run("inspect", model, product / "test/good", "--csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 4
    assert float(rows[0]["score"]) > 0


def test_inspect_writes_pictures_table_and_report(model, product, tmp_path):
    out = tmp_path / "results"
    kinds = "five-panel,levels,heat-map,overlay,mask,contour"
    result = run("inspect", model, product / "test", "--out", out, "--pictures", kinds)
    assert result.stdout.splitlines()[-1] == f"Report: {out / 'report.html'}"
    assert len(result.stdout.splitlines()) == 12
    for kind in kinds.split(","):
        assert cv2.imread(str(out / kind / "stain/000.png")) is not None
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(rows) == 11
    html = (out / "report.html").read_text()
    assert "stain/000.png" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


def test_another_rate_at_inspection(model, product):
    strict = run("inspect", model, product / "test/good", "--json", "--false-alarm-rate", "0.5")
    usual = run("inspect", model, product / "test/good", "--json")
    first, second = (json.loads(r.stdout.splitlines()[0]) for r in (strict, usual))
    assert first["threshold"] < second["threshold"]
    assert first["score"] == second["score"]


def test_exit_code_tells_of_an_anomaly(model, product):
    run("inspect", model, product / "test/missing_part", "--exit-code", status=3)
    rate = "0.045"  # so that at least the most normal of the training images is normal
    run(
        *("inspect", model, product / "train/good/000.png", "--exit-code"),
        *("--false-alarm-rate", rate),
    )


def test_what_cannot_be_read_is_listed_and_the_rest_inspected(model, product, tmp_path):
    folder = tmp_path / "line"
    folder.mkdir()
    good = (product / "test/good/000.png").read_bytes()
    (folder / "a.png").write_bytes(good)
    (folder / "b.png").write_bytes(good[: len(good) // 2])
    (folder / "c.png").write_bytes(b"")
    (folder / "d.png").write_text("hello")
    (folder / "e.png").write_bytes(good)
    (folder / "notes.txt").write_text("no image")
    result = run("inspect", model, folder, "--out", tmp_path / "out", status=1)
    assert "Inspected 2 of 5 images" in result.stderr
    assert "3 unreadable; 1 other files are no images." in result.stderr
    for name in ("b.png", "c.png", "d.png"):
        assert f"Error: {folder / name} cannot be read" in result.stderr
    rows = list(csv.DictReader((tmp_path / "out/results.csv").read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False, True, True, True, False]
    html = (tmp_path / "out/report.html").read_text()
    assert "d.png" in html


def test_evaluate_json_has_the_metrics(model, product):
    found = json.loads(run("evaluate", model, product, "--json").stdout)
    assert set(found) >= {"image_auroc", "pixel_auroc", "pro", "aupimo", "image_ap", "missed"}
    measured = evaluate(load(model), read_dataset(product, split="test"))
    assert found["image_auroc"] == measured.image_auroc
    assert found["pro"] == measured.pro
    assert found["pixel_auroc"] == measured.pixel_auroc > 0.7
    assert (found["images"], found["good_images"]) == (11, 4)
    assert found["recall_per_defect"]["stain"]["images"] == 1


def test_evaluate_for_people_and_its_report(model, product, tmp_path):
    result = run("evaluate", model, product, "--out", tmp_path / "e")
    assert "image AUROC" in result.stdout
    assert "PRO (FPR <= 0.3)" in result.stdout
    curve = np.loadtxt(tmp_path / "e/pro.csv", delimiter=",", skiprows=1)
    assert (np.diff(curve[:, 0]) >= 0).all()
    assert "<svg" in (tmp_path / "e/report.html").read_text()


def test_evaluate_lists_unreadable_images_and_measures_the_rest(model, product, tmp_path):
    folder = tmp_path / "damaged"
    write_product(folder, train=3, good=2, defective=1, size=(64, 64))
    (folder / "test/good/001.png").write_bytes(b"")
    result = run("evaluate", model, folder, "--json", status=1)
    assert json.loads(result.stdout)["unreadable"] == 1
    assert "001.png" in one_line(result)


def test_a_mask_of_another_size_is_named(model, product, tmp_path):
    folder = tmp_path / "odd"
    write_product(folder, train=3, good=2, defective=1, size=(64, 64))
    mask = folder / "ground_truth/dent/000_mask.png"
    cv2.imwrite(str(mask), np.zeros((32, 64), np.uint8))
    line = one_line(run("evaluate", model, folder, status=1))
    assert str(mask) in line
    assert "64" in line and "32" in line


def test_info_for_people_and_machines(model):
    text = run("info", model).stdout
    assert "images learned from  24" in text
    found = json.loads(run("info", model, "--json").stdout)
    assert found["settings"]["dims"] == 10
    assert found["images"] == 24
    assert found["file_bytes"] == model.stat().st_size
    assert found["threshold"]["method"] == "order-statistic"
    assert found["threshold"]["images_needed"] == 19


def test_ignore_mask_by_file(product, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    out = tmp_path / "a.blemish"
    run("fit", product, *SMALL, "--out", out, "--ignore-mask", tmp_path / "mask.png")
    assert load(out).ignored.mean() == 0.5
    assert "ignored              50.0% of the pixels" in run("info", out).stdout


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_images(tmp_path, name):
    (tmp_path / "empty").mkdir()
    line = one_line(run("fit", tmp_path / name, status=1))
    assert line.startswith("Error: ")
    assert name in line
    assert list(tmp_path.glob("*.blemish")) == []


def test_one_image(product, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "0.png").write_bytes((product / "test/good/000.png").read_bytes())
    assert one_line(run("fit", folder, status=1)) == (
        "Error: A model needs at least 3 images of good parts, but there is 1. "
        "Give more; 20 to 300 are usual."
    )


def test_images_of_one_colour(tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 64, 3), 128, np.uint8))
    line = one_line(run("fit", folder, *SMALL, "--quiet", status=1))
    assert line.startswith("Error: The good images must differ a little, but all 4 look the same")
    assert not (tmp_path / "grey.blemish").exists()


def test_unwritable_output_is_found_before_the_work(product, tmp_path):
    (tmp_path / "file").write_text("")
    line = one_line(run("fit", product, "--out", tmp_path / "file" / "a.blemish", status=1))
    assert "must be a file that can be written, but cannot" in line
    result = run("fit", product, "--out", tmp_path, status=1)
    assert "but is a folder. Name a file in it." in one_line(result)


def test_unwritable_results_folder(model, product, tmp_path):
    (tmp_path / "file").write_text("")
    line = one_line(run("inspect", model, product / "test/good", "-o", tmp_path / "file", status=1))
    assert "must be a folder to write to" in line


def test_a_mistyped_folder_leaves_nothing_behind(tmp_path):
    one_line(run("fit", tmp_path / "typo" / "sub" / "good", status=1))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(product, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "a.blemish"
    result = run("fit", product, *SMALL, "--out", out, "--quiet", status=1)
    assert one_line(result) == (
        f"Error: {out} must be a file that can be written, but writing it failed: No space left "
        "on device. Name another place, or make room."
    )
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_fit_leaves_the_old_model(product, model, tmp_path, monkeypatch):
    out = tmp_path / "a.blemish"
    out.write_bytes(model.read_bytes())

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.normal.calibrate", interrupt)
    result = run("fit", product, *SMALL, "--out", out, "--quiet", status=1)
    assert one_line(result) == (
        "Error: Interrupted. Files written before are whole; nothing is half-written."
    )
    assert out.read_bytes() == model.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.blemish"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "x", "--score", "magic"],
        ["fit", "x", "--size", "64"],
        ["fit", "x", "--dims", "many"],
        ["fit", "x", "--false-alarm-rate", "2"],
        ["inspect", "only-a-model"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(arguments):
    result = run(*arguments, status=2)
    assert "Error: " in result.stderr


def test_settings_that_do_not_fit_together(product, tmp_path):
    line = one_line(run("fit", product, "--preset", "paper", "--size", "64x64", status=1))
    assert line == (
        "Error: Preset 'paper' is 224x224 by definition, but size is 64x64. "
        "Use preset 'full' with a size."
    )


def test_bad_size_names_good_ones(product, tmp_path):
    out = tmp_path / "a.blemish"
    line = one_line(run("fit", product, "--size", "70x64", "--out", out, status=1))
    assert "64x64" in line
    assert "80x64" in line


def test_a_damaged_model_is_one_line(model, product, tmp_path):
    broken = tmp_path / "b.blemish"
    broken.write_bytes(model.read_bytes()[:1000])
    line = one_line(run("inspect", broken, product / "test/good", status=1))
    assert "damaged" in line


def test_a_note_about_few_images_is_one_line(product, tmp_path):
    result = run("fit", product, "--size", "64x64", "--dims", "30", "-o", tmp_path / "a.blemish")
    notes = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(notes) == 1
    assert notes[0].startswith("Warning: 24 images for 30 dimensions: fine to start with")


def test_images_of_the_same_name_keep_apart(product):
    named, others = find_images([product / "test/good", product / "train/good"])
    names = [name for _, name in named]
    assert len(set(names)) == len(names) == 28
    assert names[0] == "test/good/000.png"
    assert names[-1] == "train/good/023.png"
    assert others == 0


def test_an_image_given_twice_is_one(product):
    named, _ = find_images([product / "test/good", product / "test/good/000.png"])
    assert [name for _, name in named] == ["000.png", "001.png", "002.png", "003.png"]


def test_an_interrupted_inspection_keeps_what_was_decided(model, product, tmp_path, monkeypatch):
    out = tmp_path / "r"
    seen = []

    def interrupt(path, content, **_):
        seen.append(path)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return write(path, content)

    write = results.write_bytes
    monkeypatch.setattr(results, "write_bytes", interrupt)
    result = run("inspect", model, product / "test", "--out", out, status=1)
    summary, interrupted = result.stderr.splitlines()
    assert summary.startswith("Inspected 3 of 3 images: ")
    assert interrupted.startswith("Error: Interrupted.")
    assert len(result.stdout.splitlines()) == 4
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(rows) >= 3
    assert all(row["decision"] for row in rows)


def test_pictures_of_an_evaluation_keep_apart(model, product, tmp_path):
    rows = ["image,label,split"]
    rows += [f"{product}/test/{kind}/000.png,{kind},test" for kind in ("good", "dent", "stain")]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    run("evaluate", model, tmp_path / "list.csv", "--layout", "csv", "--out", tmp_path / "out")
    pictures = sorted((tmp_path / "out" / "five-panel").rglob("*.png"))
    assert len(pictures) == 3
    table = list(csv.DictReader((tmp_path / "out/results.csv").read_text().splitlines()))
    assert len({row["image"] for row in table}) == len(table) == len(pictures)


def test_one_file_under_two_spellings_can_be_evaluated(model, product, tmp_path):
    names = ("test/good/000.png", "test/dent/../good/000.png", "test/dent/000.png")
    rows = [f"{product}/{name},{kind},test" for name, kind in zip(names, "ggd", strict=True)]
    text = "\n".join(["image,label,split", *rows]).replace(",g,", ",good,").replace(",d,", ",dent,")
    (tmp_path / "list.csv").write_text(text)
    run("evaluate", model, tmp_path / "list.csv", "--out", tmp_path / "out")
    table = list(csv.DictReader((tmp_path / "out/results.csv").read_text().splitlines()))
    assert [row["label"] for row in table].count("good") == 2


@pytest.mark.parametrize("command", ["inspect", "evaluate"])
def test_a_rate_that_needs_more_images_is_said(model, product, command):
    data = product / "test/good" if command == "inspect" else product
    result = run(command, model, data, "--false-alarm-rate", "0.001", "--quiet")
    assert result.stderr.startswith("Warning: threshold ")
    assert "from 24 images: too few for 0.10% false alarms, which need 999;" in result.stderr


def test_results_are_not_inspected_themselves(model, product, tmp_path):
    folder = tmp_path / "line"
    folder.mkdir()
    (folder / "a.png").write_bytes((product / "test/good/000.png").read_bytes())
    for _ in range(2):
        result = run("inspect", model, folder, "--out", folder / "results")
        assert "Inspected 1 of 1 images" in result.stderr
        assert "0 other files are no images" in result.stderr


def test_a_file_name_that_is_no_text_is_kept(model, product, tmp_path):
    name = os.fsdecode(b"\xff bad.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes((product / "test/good/000.png").read_bytes())
    run("inspect", model, tmp_path / "in", "--out", tmp_path / "out")
    assert b"\xff bad.png" in (tmp_path / "out" / "results.csv").read_bytes()
    assert (tmp_path / "out" / "report.html").is_file()


def test_all_unreadable_training_images_are_named_at_once(product, tmp_path):
    folder = tmp_path / "good"
    folder.mkdir()
    for path in sorted((product / "train/good").iterdir())[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    for number in (1, 5):
        (folder / f"{number:03}.png").write_bytes(b"")
    line = one_line(run("fit", folder, *SMALL, status=1))
    assert line.startswith("Error: 2 of 8 images cannot be used.")
    assert "001.png" in line and "005.png" in line


def test_images_of_another_shape_are_noted(product, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in sorted((product / "train/good").iterdir())[:12]:
        (folder / path.name).write_bytes(path.read_bytes())
    cv2.imwrite(str(folder / "wide.png"), np.random.default_rng(0).integers(0, 255, (64, 99, 3)))
    result = run("fit", folder, "--size", "64x64", "--dims", "8")
    assert "Warning: 1 of 13 images have another shape (height / width) than the first" in (
        result.stderr
    )


def test_a_threshold_that_cannot_be_reached_is_said(product, tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted((product / "train/good").iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    result = run("fit", folder, "--size", "64x64", "--dims", "8", "--score", "chebyshev")
    assert "cannot be reached: the score chebyshev ends at 1, so this model never" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--pictures", "mask"], ["--json", "--csv"], ["--out", "x", "--pictures", "oil"]],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_wrong_usage(model, product, arguments):
    result = run("inspect", model, product / "test/good", *arguments, status=2)
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--roi=0,0,0,0"], "roi must be (x, y, width, height), none negative, the last two at"),
        (["--dims", "-1"], "Choose a number in that range."),
        (["--sigma", "1e9"], "sigma must be above 0 and at most 1000 pixels, but is 1000000000.0."),
        (["--size", "100000x100000"], "A network on 100000x100000 pixels needs about 3000.3 GB"),
        (["--epsilon", "1e300"], "epsilon must be a number from 0 to 1e6, but is 1e+300."),
        (["--value-range", "5,5"], "value_range must be (low, high), but is (5.0, 5.0)."),
    ],
    ids=str,
)
def test_settings_out_of_range_are_one_line(product, tmp_path, options, text):
    line = one_line(run("fit", product, "--out", tmp_path / "a.blemish", *options, status=1))
    assert text in line


def test_demo_works_and_can_be_run_again(tmp_path):
    sizes = ["--train", "22", "--good", "3", "--defective", "1", "--no-open"]
    first = run("demo", "--out", tmp_path, "--product", "fabric", *sizes)
    report = tmp_path / "fabric-results" / "report.html"
    assert first.stdout.splitlines()[-1] == f"Report: {report}"
    assert report.is_file()
    again = run("demo", "--out", tmp_path, "--product", "fabric", *sizes)
    assert "already" in again.stdout
    other = run("demo", "--out", tmp_path, "--product", "fabric", "--seed", "1", status=1)
    assert "Name another folder with --out" in one_line(other)


def test_python_m_blemish_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "blemish", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"blemish, version {__version__}\n"
