"""`blemish benchmark`: whole outputs."""

import json
import os
from dataclasses import fields, replace

import pytest
from click.testing import CliRunner

import blemish.benchmark
from benchmark_data import made_up_run, write_data, write_tiny_backbone
from blemish.cli.benchmark import benchmark
from blemish.cli.main import main
from blemish.published import CLAIMS
from blemish.settings import FitSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), "cup", "lid")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_tiny_backbone(tmp_path_factory.mktemp("net") / "tiny.onnx")


def run(*arguments):
    return CliRunner().invoke(main, ["benchmark", *(str(argument) for argument in arguments)])


def small(data, network, *arguments):
    return run(data, "--backbone", network, "--size", "32x32", "--dims", 4, *arguments)


def test_tables_go_to_standard_output_and_runs_to_standard_error(data, network, tmp_path):
    out = tmp_path / "out"
    result = small(data, network, "--scores", "gaussian,hybrid", "--out", out)
    assert result.exit_code == 0
    titles = [line for line in result.stdout.splitlines() if line and line[0].isupper()]
    assert titles[:6] == [
        "Image AUROC",
        "Pixel AUROC",
        "PRO (FPR <= 0.3)",
        "Image F1-max",
        "Other metrics",
        "Decisions and time, medians over the seeds",
    ]
    lines = result.stderr.splitlines()
    assert lines[0] == f"{out}: 0 runs known."
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"{name} {score} seed 0" for name in ("cup", "lid") for score in ("gaussian", "hybrid")
    ]
    assert sorted(path.name for path in out.iterdir()) == ["results.csv", "runs.jsonl", "table.md"]
    assert len((out / "results.csv").read_text().splitlines()) == 5
    assert (out / "table.md").read_text().startswith("# Benchmark\n\n## Image AUROC\n")

    again = small(data, network, "--scores", "gaussian", "--out", out)
    lines = again.stderr.splitlines()
    assert lines[0] == f"{out}: 4 runs known."
    assert all(line.endswith("known from before") for line in lines[1:]) and len(lines) == 3
    assert again.stdout.endswith(
        "2 of 2 runs were known from before: same data, settings and versions. Their times are "
        "those of then.\n"
    )


def test_json_is_one_object(data, network):
    result = small(data, network, "--categories", "lid", "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert [one["identity"]["category"] for one in found["runs"]] == ["lid"]
    assert found["pro_fpr_limit"] == 0.3
    assert (found["failed"], found["reused"], found["layout"]) == ({}, 0, "mvtec")
    first = found["summary"][0]
    assert first == {
        "metric": "image_auroc",
        "category": "lid",
        "score": "gaussian",
        "seeds": 1,
        "mean": found["runs"][0]["metrics"]["image_auroc"],
        "std": None,
        "published": None,
        "difference": None,
        "system": None,
    }
    assert found["notes"]


def test_a_failure_gives_status_1_after_all_is_done(network, tmp_path):
    data = write_data(tmp_path, "cup", "lid")
    broken = data / "cup" / "train" / "good" / "000.png"
    broken.write_bytes(b"no image")
    unread = data / "lid" / "test" / "good" / "000.png"
    unread.write_bytes(b"no image")
    result = small(data, network)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"cup: failed. {broken} cannot be read: ")
    assert lines[1].startswith("lid gaussian seed 0: image AUROC ")
    assert lines[2] == f"Error: {lines[0].replace(' failed. ', ' ')}"
    assert lines[3] == "Error: lid: 1 test images could not be read or aligned."
    assert f"\n{lines[0].replace('failed.', 'not finished.')}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "Missing argument 'ROOT'."),
        (
            ("x", "--scores", "gaussian,best"),
            "Invalid value for '--scores': 'best' is not one of gaussian, chebyshev, hybrid, "
            "hybrid-calibrated, chebyshev-pooled, chebyshev-two-stage",
        ),
        (
            ("x", "--categories", "a,,b"),
            "Invalid value for '--categories': 'a,,b' is not words with ',' between them",
        ),
        (("x", "--seed", "1"), "No such option '--seed'"),
    ],
)
def test_wrong_usage_is_status_2(arguments, expected):
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"Error: {expected}" in result.stderr.replace("option: --seed", "option '--seed'")


def test_wrong_input_is_one_line_and_status_1(data, network, tmp_path):
    result = small(data, network, "--categories", "jug")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: Categories must be of those in {data}, but 'jug' is not. Choose from: cup, lid.\n",
    )
    (tmp_path / "runs.jsonl").write_text("[]\n")
    result = small(data, network, "--out", tmp_path)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {tmp_path / 'runs.jsonl'} must hold one run of a benchmark per line, but line 1 "
        "holds something else: it is no object with the fields of a run. Remove the file, or "
        "name another folder.\n",
    )


def test_every_setting_of_a_fit_is_an_option_here():
    here = {option.name for option in benchmark.params}
    assert {field.name for field in fields(FitSettings)} - here == {"score", "seed"}


def test_a_protocol_has_five_versions_and_its_parameters(data, network, tmp_path, monkeypatch):
    def measure(data, settings, backbone, engine, identity, progress):
        return replace(made_up_run("any", "gaussian", 0), identity=identity)

    monkeypatch.setattr(blemish.benchmark, "_measure", measure)
    out = tmp_path / "out"
    words = (
        "--categories lid --protocol rd-mvtec --protocol-size 36 --protocol-crop 32 "
        "--max-rotation 5 --border reflect --rotation bicubic --rotate-first --centre-crop "
        "--channel-seed 3"
    )
    result = run(data, "--backbone", network, "--dims", 4, *words.split(), "--out", out)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"lid gaussian seed {seed}" for seed in range(5)
    ]
    assert (
        "\nProtocol rd-mvtec: a seed is one version of the data, training and test. Every image is "
        "resized to a shorter side of 36, turned by up to 5 degrees (bicubic, rotate-first), and "
        "cut to 32x32 up to 0 pixels from its centre; border reflect. All figures are of what is "
        "left in the square.\nPaDiM paper WR50-Rd550 reports for this protocol a pixel AUROC of "
        "0.922 (0.975 on the data as they are), the mean of all 15 categories.\n"
    ) in result.stdout
    kept = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert [one["identity"]["protocol"] for one in kept] == [
        {
            "name": "rd-mvtec",
            "max_rotation": 5.0,
            "size": 36,
            "crop": 32,
            "random_crop": False,
            "border": "reflect",
            "order": "rotate-first",
            "rotation": "bicubic",
            "channel_seed": 3,
            "seed": seed,
        }
        for seed in range(5)
    ]


def test_a_parameter_without_its_protocol_is_wrong_usage(data, network):
    result = small(data, network, "--rotate-first", "--border", "black")
    assert result.exit_code == 2
    assert "Error: --border needs --protocol rd-mvtec.\n" in result.stderr


def test_another_precision_is_another_run(data, network, tmp_path, monkeypatch):
    seen = []

    def measure(data, settings, backbone, engine, identity, progress):
        seen.append(engine)
        return replace(made_up_run("any", "gaussian", 0), identity=identity)

    monkeypatch.setattr(blemish.benchmark, "_measure", measure)
    words = ("--categories", "lid", "--out", tmp_path / "out", "--threads", 1)
    for precision in ("auto", "f32", "f32"):
        assert small(data, network, *words, "--precision", precision).exit_code == 0
    assert [(one.engine, one.precision, one.threads) for one in seen] == [
        ("openvino", "auto", 1),
        ("openvino", "f32", 1),
    ]
    result = small(data, network, "--device", "cuda")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: The engine openvino runs on the CPU, but the device is cuda. Use the engine torch "
        "for it.\n",
    )


def test_a_category_whose_name_is_no_text_is_shown(network, tmp_path):
    name = os.fsdecode(b"c\xffp")
    try:
        data = write_data(tmp_path / "data", name, "lid")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    out = tmp_path / "out"
    result = small(data, network, "--out", out)
    assert result.exit_code == 0
    assert "\nc\\udcffp " in result.stdout
    assert b"\nc\xffp," in (out / "results.csv").read_bytes()
    assert b"\n| c\xffp " in (out / "table.md").read_bytes()


def test_claims_can_be_json():
    found = json.loads(run("--claims", "--json").stdout)
    assert [one["value"] for one in found] == [claim.value for claim in CLAIMS]
