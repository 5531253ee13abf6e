"""The torch engine from the command line and from `fit`, on the CPU."""

import numpy as np
import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from blemish.cli import main
from blemish.engines.engine import EngineSettings
from blemish.fitting import fit
from blemish.generated import write_product
from blemish.model import Model, load_model
from blemish.settings import FitSettings
from small_models import SIZE, good_images, small_model, spoiled_image, tiny_backbone

ON_CPU = EngineSettings(engine="torch", device="cpu")


@pytest.mark.parametrize("score", ["gaussian", "chebyshev-two-stage"])
def test_a_model_scores_alike_with_both_engines(score):
    fitted = small_model(score=score).fitted
    f32 = Model(fitted, EngineSettings(precision="f32"))
    inputs = np.stack([f32.preprocessing.apply(spoiled_image(k)[0]) for k in range(5)])
    for found, expected in zip(
        Model(fitted, ON_CPU).score_inputs(inputs), f32.score_inputs(inputs), strict=True
    ):
        assert found.image_score == pytest.approx(expected.image_score, rel=1e-4)
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-3, atol=1e-4)


def test_a_fit_with_torch_learns_the_same():
    settings = FitSettings(size=SIZE, sigma=1.0)
    models = [
        fit(good_images(20), settings, backbone=tiny_backbone(), engine=engine)
        for engine in (None, ON_CPU)
    ]
    assert models[1].engine == ON_CPU
    np.testing.assert_allclose(
        models[0].calibration.scores, models[1].calibration.scores, rtol=1e-3
    )


def test_commands_take_the_engine(tmp_path):
    write_product(tmp_path / "plate", train=12, good=3, defective=1, size=(64, 64))
    how = ["--engine", "torch", "--device", "cpu", "--quiet"]
    model = tmp_path / "plate.blemish"
    for arguments in (
        ["fit", tmp_path / "plate", "--size", "64x64", "--dims", "20", "--out", model, *how],
        ["evaluate", model, tmp_path / "plate", *how],
        ["inspect", model, tmp_path / "plate" / "test" / "good", "--csv", *how],
    ):
        found = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert found.exit_code == 0, found.output
    name, by_torch = found.output.splitlines()[-1].split(",")[:2]
    score = load_model(model).score(tmp_path / "plate" / "test" / "good" / name).image_score
    assert float(by_torch) == pytest.approx(score, rel=0.02)
