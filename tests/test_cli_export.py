"""`blemish export`, in-process: whole output, and errors in one line."""

import json
import re

import cv2
import pytest
from click.testing import CliRunner

from blemish.cli import main
from blemish.export import runtimes
from small_models import good_images, small_model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model file, and a folder of good images."""
    place = tmp_path_factory.mktemp("files")
    small_model().save(place / "disc.blemish")
    (place / "good").mkdir()
    for number, image in enumerate(good_images(5)):
        cv2.imwrite(str(place / "good" / f"{number}.png"), image[..., ::-1])
    return place


def run(*words):
    return CliRunner().invoke(main, ["export", *map(str, words)])


def test_an_export_prints_a_short_table(files, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "version", lambda name: "1.2.3")
    monkeypatch.setattr(runtimes, "has_onnxruntime", lambda: False)
    ran = run(files / "disc.blemish", "--images", files / "good", "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output
    shown = re.sub(r"\d\S* spreads \(\S+\)", "D spreads (D)", ran.output)
    shown = re.sub(r"[+-]\S+ spreads", "D spreads", re.sub(r" {2,}|-{3,}", "  ", shown))
    size = (tmp_path / "out" / "model.onnx").stat().st_size / 1e6
    assert [line.strip() for line in shown.splitlines()] == [
        "found  limit",
        "",
        "format  onnx, fp32",
        f"size  {size:.1f} MB (model.onnx)",
        "run by  openvino 1.2.3",
        "images compared  5 (real)",
        "spread of good images  0.3778; pixels 0.4952",
        "score difference  D spreads (D)  0.002 spreads",
        "map difference  D spreads (D)  0.01 spreads",
        "level difference  D spreads (D)  0.05 spreads",
        "correlation of maps  1.0000  at least 0.999",
        "mean shift of scores  D spreads",
        "changed decisions  0  0",
        f"Wrote {tmp_path / 'out'}.",
    ]


def test_json_says_the_same_as_the_file(files, tmp_path):
    ran = run(
        *(files / "disc.blemish", "--to", "openvino", "--precision", "fp16", "--json"),
        *("--images", files / "good", "--out", tmp_path / "out"),
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.output) == json.loads((tmp_path / "out" / "parity.json").read_text())


def test_without_images_the_error_says_what_to_give(files, tmp_path):
    ran = run(files / "disc.blemish", "--out", tmp_path / "out")
    assert ran.exit_code == 1
    assert ran.output == (
        "Error: An export is compared with its model on good images, but none were given. Give a "
        "folder of them: --images FOLDER, or images=[...] in Python. For want of any, "
        "--made-up-images (made_up=True) compares on made-up ones.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_made_up_images_are_said_to_be(files, tmp_path):
    ran = run(files / "disc.blemish", "--made-up-images", "--out", tmp_path / "out")
    assert ran.exit_code == 0, ran.output
    assert "16 (made up, no real images)" in ran.output


def test_a_labelled_data_set_is_ranked(files, tmp_path):
    data = tmp_path / "data"
    for place, images in (("train/good", good_images(4)), ("test/good", good_images(3, 50))):
        (data / place).mkdir(parents=True)
        for number, image in enumerate(images):
            cv2.imwrite(str(data / place / f"{number}.png"), image[..., ::-1])
    (data / "test" / "dark").mkdir()
    (data / "ground_truth" / "dark").mkdir(parents=True)
    for number, image in enumerate(good_images(3, 60)):
        cv2.imwrite(str(data / "test" / "dark" / f"{number}.png"), image // 3)
        mask = image[..., 0] * 0 + 255
        cv2.imwrite(str(data / "ground_truth" / "dark" / f"{number}_mask.png"), mask)
    ran = run(
        *(files / "disc.blemish", "--images", data, "--test", data, "--auroc-drop", "0.1"),
        *("--layout", "mvtec", "--out", tmp_path / "out", "--quiet"),
    )
    assert ran.exit_code == 0, ran.output
    assert "3 good and 3 defective test images" in ran.output
    assert "10 (real)" in ran.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--to", "tflite"], "Invalid value for '--to': 'tflite' is not one of 'onnx', 'openvino'"),
        (
            ["--auroc-drop", "2"],
            "Invalid value for '--auroc-drop': 2.0 is not in the range 0<=x<=1",
        ),
        (
            ["--made-up-images", "--images", "good"],
            "Error: --made-up-images is for want of real ones: leave it out, or --images and "
            "--test.\n",
        ),
        (
            ["--made-up-images", "--test", "good"],
            "Error: --made-up-images is for want of real ones: leave it out, or --images and "
            "--test.\n",
        ),
    ],
)
def test_wrong_usage_has_status_2(files, tmp_path, words, text):
    ran = run(files / "disc.blemish", "--out", tmp_path / "out", *words)
    assert ran.exit_code == 2
    assert text in ran.output
