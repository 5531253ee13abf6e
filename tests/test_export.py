"""Exports say what their model says, in every format, or are refused."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blemish.datasets import read_dataset
from blemish.decision import Score
from blemish.engines.engine import EngineSettings
from blemish.errors import FewImagesWarning, InputError, OutputError
from blemish.export import export_model, exporting, load_export, runtimes
from blemish.export import onnx as onnx_target
from blemish.export.parity import LIMITS, Comparison, Limits
from blemish.fitting import fit
from blemish.model import Model
from blemish.settings import FitSettings
from export_files import FILES, PARTS, copy_of
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


@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_export_scores_as_its_model(model, target, precision, tmp_path):
    report = export_model(
        model, tmp_path / "out", target=target, precision=precision, images=good_images(6)
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == PARTS | FILES[target]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert (report.failures, report.parity.images, report.ranking) == ([], 6, None)
    found = load_export(tmp_path / "out")
    tolerance = 1e-5 if precision == "fp32" else 2e-3
    for image in (good_image(90), spoiled_image(91)[0]):
        expected, got = model.score(image), found.score(image)
        assert got.image_score == pytest.approx(expected.image_score, rel=tolerance)
        np.testing.assert_allclose(got.anomaly_map, expected.anomaly_map, rtol=0.01, atol=0.02)
        assert list(got.level_grids) == list(expected.level_grids)
        for name, grid in expected.level_grids.items():
            assert got.level_grids[name].shape == grid.shape
    assert found.threshold == model.threshold().value
    assert found.pixel_threshold == model.pixel_threshold()


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_any_number_of_images_may_be_scored_at_once(model, target, tmp_path):
    export_model(model, tmp_path / "out", target=target, images=good_images(3))
    found = load_export(tmp_path / "out")
    inputs = np.stack([model.preprocessing.apply(image) for image in good_images(5)])
    alone = [found.score_inputs(inputs[k : k + 1])[0].image_score for k in range(5)]
    together = [score.image_score for score in found.score_inputs(inputs)]
    assert together == pytest.approx(alone, rel=1e-5)
    assert found.score_inputs(inputs[:0]) == []


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_several_threads_may_score_at_once(model, target, tmp_path):
    export_model(model, tmp_path / "out", target=target, images=good_images(3))
    found = load_export(tmp_path / "out")
    images = good_images(40)
    alone = [found.score(image).image_score for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = [score.image_score for score in pool.map(found.score, images)]
    assert together == pytest.approx(alone, rel=1e-5)


def test_inputs_of_another_size_are_refused(exported):
    with pytest.raises(InputError) as caught:
        load_export(exported).score_inputs(np.zeros((1, 3, 8, 8), np.float32))
    assert str(caught.value) == (
        "inputs must have shape (N, 3, 32, 24), but has shape (1, 3, 8, 8). "
        "Were they preprocessed for this export?"
    )


@pytest.mark.parametrize("score", ["hybrid", "chebyshev", "hybrid-calibrated"])
def test_other_scores_are_exported_too(score, tmp_path):
    model = small_model(count=12, score=score, top_k=3)
    report = export_model(model, tmp_path / "out", precision="fp16", images=good_images(6))
    assert report.failures == []


def test_the_same_model_gives_the_same_bytes(model, exported, tmp_path):
    export_model(model, tmp_path / "again", images=good_images(5))
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_description_says_what_a_program_needs(model, exported):
    about = json.loads((exported / "model.json").read_text())
    assert (about["format"], about["version"]) == ("blemish-export", 1)
    assert about["input"]["shape"] == ["N", 3, 32, 24]
    assert list(about["outputs"]) == ["map", "score", "level0", "level1"]
    assert about["preprocessing"]["resize"] == [32, 24]
    assert about["threshold"] == model.threshold().value
    rates = {one["false_alarm_rate"]: one for one in about["thresholds"]["image"]}
    assert rates[0.05]["value"] == model.threshold(0.05).value
    assert (rates[0.05]["method"], rates[0.001]["method"]) == (
        "order-statistic",
        "one-sided-chebyshev",
    )
    pixel = {one["false_alarm_rate"]: one["value"] for one in about["thresholds"]["pixel"]}
    assert pixel[0.001] == model.pixel_threshold(0.001)
    assert about["backbone"]["licence"] == "CC0-1.0"


def test_half_as_many_bytes_in_16_bits(model, exported, tmp_path):
    report = export_model(model, tmp_path / "out", precision="fp16", images=good_images(3))
    whole = (exported / "model.onnx").stat().st_size
    assert sum(report.sizes.values()) < 0.75 * whole
    assert report.whole_constants == 0


def test_constants_that_16_bits_cannot_hold_stay_whole():
    from onnx import helper, numpy_helper

    def constant(name, values):
        return numpy_helper.from_array(np.array(values, np.float32), name)

    constants = [
        constant("usual", np.linspace(-3, 3, 40)),
        constant("large", [*range(39), 70000]),
        constant("faint", np.full(40, 1e-8)),
        constant("few", np.arange(5)),
    ]
    nodes = [helper.make_node("Identity", [c.name], [f"{c.name}.out"]) for c in constants]
    outputs = [helper.make_tensor_value_info(f"{c.name}.out", 1, None) for c in constants]
    graph = helper.make_model(helper.make_graph(nodes, "g", [], outputs, constants))
    assert onnx_target.halve_constants(graph) == ["large", "faint"]
    names = [c.name for c in graph.graph.initializer]
    assert names == ["usual.f16", "large", "faint", "few"]
    assert graph.graph.node[0].op_type == "Cast"


def test_made_up_images_are_said_to_be(model, tmp_path):
    report = export_model(model, tmp_path / "out", made_up=True)
    assert report.parity.made_up
    assert ("images compared", "16 (made up, no real images)", "") in report.rows()
    page = (tmp_path / "out" / "parity.md").read_text()
    assert "The images are made up: compare on real ones before you rely on it." in page


def test_many_images_are_thinned_out(model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "MOST_IMAGES", 4)
    assert export_model(model, tmp_path / "out", images=good_images(9)).parity.images == 4


def test_without_onnx_runtime_openvino_runs_the_onnx_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "has_onnxruntime", lambda: False)
    report = export_model(model, tmp_path / "out", images=good_images(3))
    assert report.runtime.startswith("openvino ")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"target": "tflite"},
            "target must be one of onnx, openvino, but is 'tflite'. Choose one.",
        ),
        (
            {"precision": "fp8"},
            "precision must be one of fp32, fp16, int8, but is 'fp8'. Choose one.",
        ),
        (
            {"auroc_drop": 2.0},
            "auroc_drop must be between 0 and 1, but is 2.0. The default is 0.005.",
        ),
        (
            {"images": None},
            "An export is compared with its model on good images, but none were given. Give a "
            "folder of them: --images FOLDER, or images=[...] in Python. For want of any, "
            "--made-up-images (made_up=True) compares on made-up ones.",
        ),
        (
            {"images": None, "made_up": True, "precision": "int8"},
            "INT8 needs good images to find its scales, but none were given. Give a folder of "
            "them: --images FOLDER, or images=[...] in Python.",
        ),
        (
            {"images": good_images(1)},
            "An export needs at least 3 good images, but there is 1. Give more; 50 are plenty.",
        ),
        (
            {"test": []},
            "The test images must be good and defective ones, but of 0 images 0 are defective. "
            "Give both kinds, or none.",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(model, tmp_path, wrong, text):
    with pytest.raises(InputError) as caught:
        export_model(model, tmp_path / "out", **{"images": good_images(3), **wrong})
    assert str(caught.value) == text
    assert list(tmp_path.iterdir()) == []


def test_a_graph_too_large_for_onnx_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_target, "LARGEST_FILE", 1)
    with pytest.raises(InputError) as caught:
        export_model(model, tmp_path / "out", images=good_images(3))
    assert str(caught.value) == (
        "An exported graph must have at most 0.0 GB, but this one would have 0.0 GB. "
        "Fit with fewer dimensions or a smaller size."
    )


def test_a_score_without_a_graph_is_refused(tmp_path):
    model = small_model(count=20, score="chebyshev-two-stage")
    with pytest.raises(InputError) as caught:
        export_model(model, tmp_path / "out", images=good_images(3))
    assert str(caught.value) == (
        "A model can be exported if its score is one of chebyshev, chebyshev-pooled, gaussian, "
        "hybrid, hybrid-calibrated, but it is chebyshev-two-stage, which sorts channels and has "
        "no graph. Fit with another score."
    )
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_drifts_is_refused_and_nothing_is_left(model, exported, tmp_path):
    place = copy_of(exported, tmp_path)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    limits = {
        **LIMITS,
        "fp16": Limits(score=0.0, map=10.0, level=10.0, decisions=0.0, correlation=0.0),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "LIMITS", limits)
        with pytest.raises(OutputError) as caught:
            export_model(model, place, precision="fp16", images=good_images(3))
    text = str(caught.value)
    assert text.startswith("The export must say what the model says, but scores differ by 0.00")
    assert text.endswith(" spreads, more than 0. Nothing was written. Use fp32.")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert list(tmp_path.iterdir()) == [place]


def scored(image_score, value):
    grids = {name: np.full((1, 1), value, np.float32) for name in ("fine", "coarse")}
    return Score(image_score, np.full((2, 2), value, np.float32), grids)


def test_differences_count_in_spreads_and_less_far_above_the_threshold(model):
    threshold, spread = model.threshold().value, float(np.std(model.calibration.scores))
    comparison = Comparison(
        model, Limits(score=0.5, map=0.5, level=0.5, decisions=0.0, correlation=0.0)
    )
    comparison.add([scored(0.0, 0.0)], [scored(spread, 0.0)])
    assert comparison.result().score_drift == pytest.approx(1.0)
    comparison.add([scored(threshold + 3 * spread, 0.0)], [scored(threshold - spread, 0.0)])
    found = comparison.result()
    assert found.score_drift == pytest.approx(1.0)
    assert found.score_difference == pytest.approx(4 * spread)
    assert found.score_shift == pytest.approx(-1.5)
    assert found.failures == [
        "scores differ by 1 spreads, more than 0.5",
        "1 of 2 decisions changed, more than 0",
    ]


def test_not_a_number_is_beyond_every_limit(model):
    comparison = Comparison(model, LIMITS["int8"])
    comparison.add([scored(1.0, 1.0)] * 2, [scored(np.nan, v) for v in (np.nan, 1.0)])
    assert [text.split()[0] for text in comparison.result().failures] == [
        "scores",
        "maps",
        "levels",
        "maps",
    ]


@pytest.fixture(scope="module")
def real_model(real_data, real_weights):
    settings = FitSettings(backbone="resnet18", preset="paper", dims=100)
    images = [
        sample.image for sample in read_dataset(real_data / "mvtec" / "bottle", split="train")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewImagesWarning)
        model = fit(images[:40], settings, weights=real_weights)
    return Model(model.fitted, EngineSettings(precision="f32"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_resnet18_with_100_dimensions_in_16_bits_needs_25_mb(
    real_model, real_data, target, tmp_path
):
    samples = read_dataset(real_data / "mvtec" / "bottle", split="test")
    images = [sample.image for sample in samples if not sample.is_anomalous]
    report = export_model(
        real_model,
        tmp_path / "out",
        target=target,
        precision="fp16",
        images=images,
        test=samples[::3],
        auroc_drop=0.002,
    )
    assert sum(report.sizes.values()) <= 25_000_000
    assert abs(report.ranking.drop) <= 0.002
    assert report.parity.changed_decisions == 0


@pytest.mark.slow
def test_resnet18_in_8_bits_finds_the_same(real_model, real_data, tmp_path):
    pytest.importorskip("onnxruntime")
    samples = read_dataset(real_data / "mvtec" / "bottle", split="test")
    images = [sample.image for sample in samples if not sample.is_anomalous]
    report = export_model(real_model, tmp_path / "out", precision="int8", images=images)
    assert 0.6 < report.ranking.model < 0.995
    assert report.ranking.drop <= 0.005
