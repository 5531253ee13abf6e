"""Runs over categories, scores and seeds: all done, none repeated, means computed."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import blemish.benchmark
from benchmark_data import made_up_run, write_data, write_tiny_backbone
from blemish.benchmark import METRICS, Benchmark, Failed, run_benchmark
from blemish.benchmark_summary import Spread, Summary, runs_csv
from blemish.benchmark_tables import as_markdown, as_text, notes
from blemish.datasets import read_dataset
from blemish.errors import BackboneError, InputError, OutputError
from blemish.evaluation import evaluate
from blemish.fitting import fit
from blemish.published import MVTEC_CATEGORIES
from blemish.run_log import Run, RunLog
from blemish.settings import FitSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), "cup", "lid")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = write_tiny_backbone(tmp_path_factory.mktemp("net") / "tiny.onnx")
    return FitSettings(backbone=str(path), size=(32, 32), dims=4)


@pytest.fixture
def measured(monkeypatch):
    """Runs that were measured, without fitting anything."""
    done = []

    def measure(data, settings, backbone, identity, progress):
        progress and progress("moments", 0, 6)
        run = replace(made_up_run("any", "gaussian", 0), identity=identity)
        done.append(run)
        return run

    monkeypatch.setattr(blemish.benchmark, "_measure", measure)
    return done


def key(run):
    return run.category, run.settings.score, run.settings.seed


def test_every_category_score_and_seed_is_run_once(data, settings, measured):
    steps, told = [], []
    found = run_benchmark(
        data,
        settings,
        scores=("gaussian", "chebyshev"),
        seeds=(3, 5),
        progress=lambda step, stage, done, total: steps.append(step),
        on_run=lambda run, reused: told.append((key(run), reused)),
    )
    expected = set(product(["cup", "lid"], ["gaussian", "chebyshev"], [3, 5]))
    assert {key(run) for run in found.runs} == expected
    assert len(found.runs) == len(measured) == 8
    assert told == [(key(run), False) for run in found.runs]
    assert [step.number for step in dict.fromkeys(steps)] == list(range(1, 9))
    assert {step.total for step in steps} == {8}
    assert (found.failed, found.reused, found.layout) == ([], 0, "mvtec")


def test_a_run_is_what_fit_and_evaluate_give(data, settings):
    run = run_benchmark(data, settings, only=["lid"], seeds=(2,)).runs[0]
    train = [sample.image for sample in read_dataset(data / "lid", split="train")]
    model = fit(train, replace(settings, seed=2))
    expected = evaluate(model, read_dataset(data / "lid", split="test"))
    assert run.metrics == {name: getattr(expected, name) for name in METRICS}
    assert run.metrics["image_auroc"] is not None and run.metrics["pro"] is not None
    assert run.settings == replace(settings, seed=2)
    assert run.dims == 4
    assert run.counts["train_images"] == 6
    assert run.counts["good_images"] == expected.good_images == 3
    assert run.fit_seconds > 0 and run.ms_per_image > 0


def test_known_runs_are_not_repeated(data, settings, measured, tmp_path):
    path = tmp_path / "runs.jsonl"
    first = run_benchmark(data, settings, only=["cup"], seeds=(0, 1), log=RunLog(path))
    before = path.read_text()
    assert len(measured) == 2
    again = run_benchmark(data, settings, only=["cup"], seeds=(0, 1), log=RunLog(path))
    assert len(measured) == 2 and again.reused == 2 and again.runs == first.runs
    assert path.read_text() == before
    more = run_benchmark(data, settings, only=["cup"], seeds=(0, 1, 2), log=RunLog(path))
    assert len(measured) == 3 and more.reused == 2 and len(more.runs) == 3
    assert path.read_text().startswith(before)


@pytest.mark.parametrize(
    "change", [{"epsilon": 0.02}, {"dims": 5}, {"size": (48, 32)}, {"false_alarm_rate": 0.1}]
)
def test_other_settings_are_other_runs(change, data, settings, measured, tmp_path):
    log = RunLog(tmp_path / "runs.jsonl")
    run_benchmark(data, settings, only=["cup"], log=log)
    found = run_benchmark(data, replace(settings, **change), only=["cup"], log=log)
    assert (len(measured), found.reused) == (2, 0)


def test_other_versions_and_other_files_are_other_runs(settings, measured, tmp_path, monkeypatch):
    data = write_data(tmp_path / "data", "cup")
    log = RunLog(tmp_path / "runs.jsonl")
    run_benchmark(data, settings, log=log)
    image = data / "cup" / "test" / "good" / "000.png"
    image.write_bytes((image.parent / "001.png").read_bytes())
    run_benchmark(data, settings, log=log)
    assert len(measured) == 2
    monkeypatch.setattr(blemish.benchmark, "__version__", "99")
    run_benchmark(data, settings, log=log)
    assert len(measured) == 3


def test_an_interrupted_benchmark_goes_on(data, settings, measured, tmp_path):
    path = tmp_path / "runs.jsonl"

    def interrupt(run, reused):
        if len(measured) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(data, settings, seeds=(0, 1), log=RunLog(path), on_run=interrupt)
    found = run_benchmark(data, settings, seeds=(0, 1), log=RunLog(path))
    assert (found.reused, len(found.runs), len(measured)) == (3, 4, 4)


def test_a_category_that_fails_is_told_and_the_others_go_on(settings, tmp_path):
    data = write_data(tmp_path, "cup", "lid", "pot")
    (data / "cup" / "train" / "good" / "002.png").write_bytes(b"no image")
    for path in (data / "lid" / "ground_truth").rglob("*.png"):
        path.unlink()
    told = []
    found = run_benchmark(data, settings, seeds=(0, 1), on_failure=told.append)
    assert [key(run) for run in found.runs] == [("pot", "gaussian", 0), ("pot", "gaussian", 1)]
    assert [one.category for one in found.failed] == ["cup", "lid"]
    assert told == found.failed
    assert str(data / "cup" / "train" / "good" / "002.png") in found.failed[0].reason
    assert "must have a mask" in found.failed[1].reason


def test_unreadable_test_images_are_counted(settings, tmp_path):
    data = write_data(tmp_path, "cup")
    (data / "cup" / "test" / "good" / "000.png").write_bytes(b"no image")
    found = run_benchmark(data, settings)
    assert found.unreadable == {"cup": 1}
    assert "cup: 1 test images could not be read and do not count." in notes(Summary(found))


def test_one_category_and_a_plain_folder_are_data_sets_too(data, settings, tmp_path):
    one = run_benchmark(data / "lid", settings)
    assert (one.categories, one.layout) == (["lid"], "mvtec")
    folder = tmp_path / "parts"
    for name in ("good", "bad"):
        (folder / name).mkdir(parents=True)
    for number in range(8):
        source = data / "cup" / "train" / "good" / f"{number % 6:03d}.png"
        (folder / "good" / f"{number}.png").write_bytes(source.read_bytes())
    source = next((data / "cup" / "test" / "scratch").iterdir())
    (folder / "bad" / "0.png").write_bytes(source.read_bytes())
    plain = run_benchmark(folder, settings)
    assert (plain.categories, plain.layout) == (["parts"], "folder")
    assert plain.runs[0].metrics["image_auroc"] is not None
    assert plain.runs[0].metrics["pixel_auroc"] is None
    assert [row.metric for row in Summary(plain).rows] == [
        "image_auroc",
        "image_ap",
        "image_f1_max",
    ]
    with pytest.raises(InputError) as caught:
        run_benchmark(folder, settings, only=["bottle"])
    assert str(caught.value) == (
        f"{folder} must have categories to choose from, but its layout 'folder' has none. "
        "Leave the categories out."
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"only": ["cup", "jug"]},
            "Categories must be of those in {data}, but 'jug' is not. Choose from: cup, lid.",
        ),
        (
            {"only": ["cup", "cup"]},
            "Each category must be given once, but they are cup, cup. Remove the repeated ones: "
            "they would count twice in the mean.",
        ),
        (
            {"scores": ["hybrid", "hybrid"]},
            "Each score must be given once, but they are hybrid, hybrid. Remove the repeated "
            "ones: they would count twice in the mean.",
        ),
        (
            {"seeds": [1, 2, 1]},
            "Each seed must be given once, but they are 1, 2, 1. Remove the repeated ones: "
            "they would count twice in the mean.",
        ),
        (
            {"scores": ["best"]},
            "score must be one of gaussian, chebyshev, hybrid, hybrid-calibrated, "
            "chebyshev-pooled, chebyshev-two-stage, but is 'best'. Choose one.",
        ),
    ],
)
def test_wrong_questions_are_errors_before_any_run(options, expected, data, settings, measured):
    with pytest.raises(InputError) as caught:
        run_benchmark(data, settings, **options)
    assert str(caught.value) == expected.format(data=data)
    assert measured == []


def test_a_missing_backbone_ends_it_all(data, settings):
    with pytest.raises(BackboneError):
        run_benchmark(data, replace(settings, backbone="nothing.onnx"))


def test_a_log_that_cannot_be_written_ends_it_all(data, settings, measured, tmp_path, monkeypatch):
    log = RunLog(tmp_path / "runs.jsonl")

    def full(path, content):
        raise OutputError("The disk is full.")

    monkeypatch.setattr("blemish.run_log.write_bytes", full)
    with pytest.raises(OutputError) as caught:
        run_benchmark(data, settings, log=log)
    assert str(caught.value) == "The disk is full."
    assert len(log) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("5", "it is no object with the fields of a run"),
        ('{"score": 1}', "it is no object with the fields of a run"),
        ('{"identity": 1}', "it is no object with the fields of a run"),
    ],
)
def test_a_log_with_something_else_in_it_is_an_error(line, reason, tmp_path):
    path = tmp_path / "runs.jsonl"
    run = made_up_run("cup", "gaussian", 0)
    path.write_text(json.dumps(run.to_json()) + "\n" + line + "\n")
    with pytest.raises(InputError) as caught:
        RunLog(path)
    assert str(caught.value) == (
        f"{path} must hold one run of a benchmark per line, but line 2 holds something else: "
        f"{reason}. Remove the file, or name another folder."
    )


def test_a_run_survives_its_file(tmp_path):
    path = tmp_path / "runs.jsonl"
    run = made_up_run("cup", "hybrid", 4, image_auroc=0.1 + 0.2, pro=None)
    RunLog(path).add(run)
    known = RunLog(path).find(run.identity)
    assert known.metrics == run.metrics
    assert known.settings == run.settings
    assert RunLog(path).find({**run.identity, "category": "lid"}) is None
    assert Run.from_json(json.loads(json.dumps(run.to_json()))).to_json() == known.to_json()


def made_up_benchmark(names=("bottle", "screw"), scores=("gaussian",), seeds=(0, 1, 2)):
    """Image AUROC 0.9, 0.92, 0.94 for the first category, 0.1 less for every other."""
    return Benchmark(
        "mvtec",
        list(names),
        list(scores),
        list(seeds),
        [
            made_up_run(name, score, seed, image_auroc=0.9 - place / 10 + seed / 50, pro=0.9)
            for place, name in enumerate(names)
            for seed in seeds
            for score in scores
        ],
    )


def test_spread_is_the_sample_standard_deviation():
    values = [0.9, 0.93, 0.99, 0.4]
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1))
    assert Spread.of([0.5]).std is None


def test_the_mean_row_averages_the_categories_per_seed():
    found = made_up_benchmark()
    table = np.array([[run.metrics["image_auroc"] for run in found.runs]]).reshape(2, 3)
    row = Summary(found).of("image_auroc")[-1]
    assert row.label == "mean of 2"
    assert row.spread.mean == pytest.approx(table.mean())
    assert row.spread.std == pytest.approx(table.mean(axis=0).std(ddof=1))
    assert row.published == pytest.approx((0.994 + 0.759) / 2)
    assert row.difference == pytest.approx(table.mean() - row.published)


def test_a_category_that_is_not_whole_is_not_in_the_mean():
    found = made_up_benchmark()
    found.runs.pop()
    found.failed.append(Failed("screw", "Its disk broke."))
    summary = Summary(found)
    rows = summary.of("image_auroc")
    assert [(row.label, row.spread.seeds) for row in rows] == [
        ("bottle", 3),
        ("screw", 2),
        ("mean of 1 (of 2)", 3),
    ]
    assert rows[2].spread.mean == rows[0].spread.mean
    assert rows[2].published == rows[0].published == 0.994
    assert notes(summary)[-1] == "screw: not finished. Its disk broke."


def test_a_stated_average_stands_beside_the_mean_of_all_categories_only():
    whole = Summary(made_up_benchmark(MVTEC_CATEGORIES, seeds=(0,)))
    pro = whole.of("pro")
    assert {row.published for row in pro[:-1]} == {None}
    assert (pro[-1].published, pro[-1].system) == (0.901, "PaDiM paper R18-Rd100")
    assert Summary(made_up_benchmark()).of("pro")[-1].published is None


def test_claims_stand_below_a_benchmark_that_can_verify_them():
    found = made_up_benchmark(MVTEC_CATEGORIES, seeds=(0,))
    found.runs = [replace(run, metrics=run.metrics | {"pixel_auroc": 0.96}) for run in found.runs]
    expected = (
        "Claim for MVTec AD: Pixel AUROC 0.967 by PaDiM-R18-Rd100 (a public results page, "
        "unverified there). Here, with score gaussian: 0.9600. The mean of 10 random selections, "
        "on the files as published before the transistor images were revised."
    )
    claims = [note for note in notes(Summary(found)) if note.startswith("Claim")]
    assert claims == [expected]
    found.failed.append(Failed("screw", "Its disk broke."))
    assert not [note for note in notes(Summary(found)) if note.startswith("Claim")]


def test_nothing_is_compared_where_nothing_was_published():
    found = made_up_benchmark()
    found.runs = [replace(run, dims=99) for run in found.runs]
    summary = Summary(found)
    assert {row.published for row in summary.rows} == {None}
    assert (
        "Published: nothing known for this data set with resnet18.tv_in1k, random 99 dimensions."
    ) in notes(summary)
    chosen = Summary(found, against="xiahaifeng R18-100")
    assert [row.published for row in chosen.of("image_auroc")][:2] == [0.996, 0.745]
    found.layout = "folder"  # a folder of screws is not MVTec AD's
    assert {row.published for row in Summary(found).rows} == {None}


def test_an_unknown_system_is_an_error():
    with pytest.raises(InputError, match=r"^The system must be one of .*; but is 'mine'\. Choose"):
        Summary(made_up_benchmark(), against="mine")


def test_the_text_has_tables_and_what_must_be_known():
    found = made_up_benchmark(scores=("gaussian", "hybrid"), seeds=(0, 1))
    found.reused = 3
    assert (
        as_text(Summary(found))
        == """\
Image AUROC

category    score       mean     std    published    difference
----------  --------  ------  ------  -----------  ------------
bottle      gaussian  0.9100  0.0141        0.994        -0.084
bottle      hybrid    0.9100  0.0141        0.994        -0.084
screw       gaussian  0.8100  0.0141        0.759        +0.051
screw       hybrid    0.8100  0.0141        0.759        +0.051
mean of 2   gaussian  0.8600  0.0141        0.877        -0.016
mean of 2   hybrid    0.8600  0.0141        0.877        -0.016

PRO (FPR <= 0.3)

category    score       mean     std    published    difference
----------  --------  ------  ------  -----------  ------------
bottle      gaussian  0.9000  0.0000            -             -
bottle      hybrid    0.9000  0.0000            -             -
screw       gaussian  0.9000  0.0000            -             -
screw       hybrid    0.9000  0.0000            -             -
mean of 2   gaussian  0.9000  0.0000            -             -
mean of 2   hybrid    0.9000  0.0000            -             -

Decisions and time, medians over the seeds

category    score       false alarms    missed    fit s    ms/image
----------  --------  --------------  --------  -------  ----------
bottle      gaussian       1.5 of 20   0 of 63      5.5        20.0
bottle      hybrid         1.5 of 20   0 of 63      5.5        20.0
screw       gaussian       1.5 of 20   0 of 63      5.5        20.0
screw       hybrid         1.5 of 20   0 of 63      5.5        20.0

std: sample standard deviation over 2 seeds (divisor n - 1). A mean row averages the categories \
per seed, computed from the rows.
PRO: mean overlap per connected defect region, integrated over false-positive rates from 0 to 0.3 \
and divided by 0.3.
fit s: from files to model, calibration included, backbone loaded before. ms/image: median over \
20 images, one at a time, from file to score and map.
Published Image AUROC: anomalib 0.3.6 R18-100 (README of anomalib 0.3.6; repeated in the README \
of the hybrid Gaussian-Chebyshev code).
Published PRO (FPR <= 0.3): PaDiM paper R18-Rd100 (arXiv:2011.08785, stated average; its \
reduction study has 0.905). Only its average over all 15 categories, 0.901.
Published figures are of PaDiM (score gaussian), on MVTec AD files of the original size; they are \
compared by the name of the category. Other sizes, selections and machines give other figures.
3 of 8 runs were known from before: same data, settings and versions. Their times are those of \
then."""
    )


def test_one_seed_has_no_spread():
    text = as_text(Summary(made_up_benchmark(["bottle"], seeds=(0,))))
    assert "bottle      gaussian  0.9000      -        0.994        -0.094\n" in text
    assert (
        "One seed shows no spread: another choice of channels can move an image AUROC by several "
        "points.\n"
    ) in text
    assert "mean of" not in text


def test_markdown_is_the_same_tables():
    text = as_markdown(Summary(made_up_benchmark(["bottle"], seeds=(0,))))
    assert text.startswith(
        "# Benchmark\n\n## Image AUROC\n\n"
        "| category   | score    |   mean |   std |   published |   difference |\n"
        "|------------|----------|--------|-------|-------------|--------------|\n"
        "| bottle     | gaussian | 0.9000 |     - |       0.994 |       -0.094 |\n"
    )
    assert "\n- PRO: mean overlap per connected defect region, integrated" in text


def test_a_benchmark_without_runs_says_why():
    found = Benchmark("mvtec", ["cup"], ["gaussian"], [0], failed=[Failed("cup", "Broken.")])
    assert as_text(Summary(found)) == "cup: not finished. Broken."
    assert runs_csv([]) == ""


def test_the_csv_has_a_line_per_run_with_all_settings():
    found = made_up_benchmark(["bottle"], seeds=(0, 1))
    header, first, second = runs_csv(found.runs).splitlines()
    names = header.split(",")
    assert names[:5] == ["category", "score", "seed", "backbone", "dims"]
    assert set(METRICS) <= set(names)
    for setting in FitSettings().to_json():
        assert setting in ("score", "seed") or f"setting:{setting}" in names
    cells = dict(zip(names, first.split(","), strict=True))
    assert (cells["image_auroc"], cells["pro"], cells["pixel_auroc"]) == ("0.9", "0.9", "")
    assert (cells["version:numpy"], cells["setting:preset"]) == ("2", "paper")
    assert dict(zip(names, second.split(","), strict=True))["seed"] == "1"
