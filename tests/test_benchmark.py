"""Runs over categories, scores and seeds: all done, none repeated, means computed."""

import json
import os
from dataclasses import replace
from itertools import product

import pytest

import blemish.benchmark
from benchmark_data import made_up_run, write_data, write_tiny_backbone
from blemish.benchmark import METRICS, run_benchmark
from blemish.benchmark_summary import Summary
from blemish.benchmark_tables import notes
from blemish.datasets import read_dataset
from blemish.errors import BackboneError, BlemishWarning, InputError, OutputError
from blemish.evaluation import evaluate
from blemish.fitting import fit
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

    def measure(data, settings, backbone, engine, identity, progress):
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
        scores=("gaussian", "hybrid"),
        seeds=(3, 5),
        progress=lambda step, stage, done, total: steps.append(step),
        on_run=lambda run, reused: told.append((key(run), reused)),
    )
    expected = set(product(["cup", "lid"], ["gaussian", "hybrid"], [3, 5]))
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
    assert "cup: 1 test images could not be read or aligned and do not count." in notes(
        Summary(found)
    )


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
        ("x", "Expecting value: line 1 column 1 (char 0)"),
        ("{\n5", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
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


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_last_line_that_is_cut_off_is_dropped(end, data, settings, measured, tmp_path):
    path = tmp_path / "runs.jsonl"
    run_benchmark(data, settings, only=["cup"], seeds=(0, 1), log=RunLog(path))
    first, second = path.read_text().splitlines()
    for length in (1, 2, 100, len(second) - 1):
        path.write_text(f"{first}\n{second[:length]}{end}")
        with pytest.warns(BlemishWarning) as told:
            log = RunLog(path)
        assert [str(one.message) for one in told] == [
            f"{path}: the last line is incomplete. Its run is measured again."
        ]
        assert len(log) == 1
    found = run_benchmark(data, settings, only=["cup"], seeds=(0, 1), log=log)
    assert (found.reused, len(measured), len(RunLog(path))) == (1, 3, 2)
    path.write_text(f"{first}\n{second}")
    assert len(RunLog(path)) == 2


def test_names_that_are_no_text_are_measured(settings, measured, tmp_path):
    data = write_data(tmp_path, "cup")
    image = data / "cup" / "test" / "good" / "000.png"
    try:
        image.rename(image.with_name(os.fsdecode(b"\xff.png")))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    log = RunLog(tmp_path / "runs.jsonl")
    run_benchmark(data, settings, log=log)
    assert run_benchmark(data, settings, log=log).reused == 1


def test_a_run_survives_its_file(tmp_path):
    path = tmp_path / "runs.jsonl"
    run = made_up_run("cup", "hybrid", 4, image_auroc=0.1 + 0.2, pro=None)
    RunLog(path).add(run)
    known = RunLog(path).find(run.identity)
    assert known.metrics == run.metrics
    assert known.settings == run.settings
    assert RunLog(path).find({**run.identity, "category": "lid"}) is None
    assert Run.from_json(json.loads(json.dumps(run.to_json()))).to_json() == known.to_json()
