"""The program beside an export judges as the model does, without this package."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blemish.export import export_model, exporting
from blemish.export.description import describe, example
from blemish.model import Model
from blemish.preprocessing import Preprocessing
from export_files import change_description, copy_of
from small_models import good_image, good_images, small_model, spoiled_image


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """One export, for tests that only read it."""
    place = tmp_path_factory.mktemp("exported") / "onnx"
    export_model(model, place, images=good_images(5))
    return place


def enlarged(image):
    return np.asarray(Image.fromarray(image).resize((71, 90)))


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_example_judges_as_the_model(target, tmp_path):
    pytest.importorskip("onnxruntime")
    model = small_model(images=[enlarged(image) for image in good_images(40)])
    export_model(model, tmp_path / "out", target=target, images=good_images(5))
    program = tmp_path / "out" / "example.py"
    text = program.read_text()
    assert len(text.splitlines()) <= 30
    assert max(map(len, text.splitlines())) <= 100
    assert "blemish" not in "".join(line for line in text.splitlines() if "import" in line)
    for number, image in enumerate([good_image(90), spoiled_image(91)[0]]):
        larger = enlarged(image)
        np.save(tmp_path / "image.npy", larger)
        command = [sys.executable, str(program), str(tmp_path / "image.npy")]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        decision = model.classify(larger)
        assert decision.is_anomalous == bool(number)
        assert ran.stdout == (
            f"score {decision.score.image_score:.6g}, threshold {decision.threshold.value:.6g}: "
            f"{'anomalous' if decision.is_anomalous else 'normal'}\n"
        )


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(resize=(32, 24)),
        Preprocessing(resize=(32, 24), interpolation="bilinear"),
        Preprocessing(resize=37, crop=(32, 24)),
        Preprocessing(resize=(32, 24), roi=(5, 9, 40, 33)),
        Preprocessing(resize=None, crop=(32, 24), roi=(5, 9, 40, 37)),
        Preprocessing(resize=None, roi=(5, 9, 24, 32)),
    ],
    ids=str,
)
def test_the_example_prepares_an_image_to_the_last_bit(model, exported, how, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    place = copy_of(exported, tmp_path)
    changed = Model(replace(model.fitted, preprocessing=how))
    about = describe(changed, place, ["model.onnx"], target="onnx", precision="fp32")
    (place / "model.json").write_text(json.dumps(about))
    (place / "example.py").write_text(example(changed, "onnx"))
    generator = np.random.default_rng(0)
    for size in ((61, 83), (47, 45), (300, 211)):
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        np.save(tmp_path / "image.npy", pixels)
        monkeypatch.setattr(sys, "argv", ["example.py", str(tmp_path / "image.npy")])
        found = runpy.run_path(str(place / "example.py"))
        np.testing.assert_array_equal(found["image"][0], how.apply(pixels))


def test_the_example_refuses_what_it_does_not_understand(exported, tmp_path):
    pytest.importorskip("onnxruntime")
    place = copy_of(exported, tmp_path)
    np.save(place / "deep.npy", np.zeros((9, 9, 3), np.uint16))

    def said():
        command = [sys.executable, str(place / "example.py"), str(place / "deep.npy")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        return ran.stderr

    assert said() == "The pixels must be uint8, but are uint16.\n"
    (place / "model.onnx").write_bytes(b"other")
    assert said() == ("model.onnx is damaged: its checksum differs. Export the model again.\n")
    change_description(place, version=2)
    assert said() == "Made by a newer blemish: use the example that came with it.\n"


def test_the_example_of_every_target_compiles(model):
    for target in exporting.TARGETS:
        compile(example(model, target), "example.py", "exec")
