"""The graph of a model against the plain definition of what it computes, in two runtimes."""

import dataclasses

import numpy as np
import onnx
import pytest

from blemish.engines.openvino import FeatureExtractor, GraphRunner
from blemish.errors import BackboneError
from blemish.graph import FUSED_SCORES, fuse, graph_outputs
from blemish.inference import FusedInference, PlainInference
from blemish.scoring import SCORES
from small_models import SIZE, good_image, inputs_of, model_of, small_model, spoiled_image

HALF = np.zeros(SIZE, bool)
HALF[:16] = True
SETTINGS = [
    {},
    {"shared": True},
    {"reduction": "pca", "dims": (2, 3)},
    {"reduction": "none"},
    {"dims": (0, 4)},
    {"layer_sums": True, "dims": (3, 3)},
    {"ignore_mask": HALF},
    {"top_k": 7, "blur": "box", "upsampling": "bicubic"},
    {"blur": "none", "upsampling": "nearest", "shrinkage": "oas"},
    {"standardise": True, "averaging": (3, 1)},
    {"separate": True, "dims": (4, 5)},
    {"separate": True, "standardise": True, "averaging": (4, 3), "dims": (4, 5)},
    {"separate": True, "map_weights": (1, 0), "image_weights": (0, 1), "dims": (3, 2)},
    {"separate": True, "standardise": True, "ignore_mask": HALF, "top_k": 5, "dims": (3, 2)},
    {"separate": True, "shared": True, "reduction": "pca", "averaging": (3, 3), "dims": (3, 2)},
]


def fused(model):
    return fuse(model.fitted, model._judge)


def plain(model, inputs):
    """What `Scorer`, `MapOperator` and `image_scores` say, with no graph but the backbone's."""
    extractor = FeatureExtractor(model.backbone, model.size)
    return PlainInference(extractor, model.embedding, model._judge)(inputs)


def in_one_graph(model, inputs, batch=1):
    names = graph_outputs(model.pyramid.levels)
    return FusedInference(
        lambda size: GraphRunner(fused(model), names, model.size, name="tiny", batch=size), batch
    )(inputs)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("score", sorted(FUSED_SCORES))
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(s) or "default")
def test_graph_gives_what_the_plain_definitions_give(settings, score, batch):
    model = model_of(settings, score)
    inputs = inputs_of(model)
    found, expected = in_one_graph(model, inputs, batch), plain(model, inputs)
    scale = np.abs(expected.maps).max()
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    for level, expected_level in zip(found.levels, expected.levels, strict=True):
        np.testing.assert_allclose(level, expected_level, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("score", sorted(FUSED_SCORES))
def test_onnx_runtime_runs_the_same_graph_unchanged(score):
    runtime = pytest.importorskip("onnxruntime")
    model = small_model(score=score)
    inputs = inputs_of(model)
    session = runtime.InferenceSession(fused(model), providers=["CPUExecutionProvider"])
    maps, scores = session.run(["map", "score"], {"image": inputs})
    expected = plain(model, inputs)
    np.testing.assert_allclose(maps[:, 0], expected.maps, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_graph_takes_one_image_or_many(batch):
    model = small_model()
    inputs = inputs_of(model)
    runner = GraphRunner(fused(model), graph_outputs(2), SIZE, name="tiny", batch=batch)
    together = runner(inputs)
    for k in range(len(inputs)):
        for whole, alone in zip(together, runner(inputs[k : k + 1]), strict=True):
            np.testing.assert_allclose(whole[k], alone[0], rtol=1e-5, atol=1e-5)


def test_graph_is_valid_onnx_with_the_outputs_it_names():
    model = onnx.load_model_from_string(fused(small_model()))
    onnx.checker.check_model(model)
    assert [output.name for output in model.graph.output] == ["map", "score", "level0", "level1"]


def test_same_model_gives_the_same_bytes():
    assert fused(small_model()) == fused(small_model())


@pytest.mark.parametrize("score", sorted(set(SCORES) - FUSED_SCORES))
def test_scores_without_a_graph_are_computed_plainly(score):
    model = small_model(score=score)
    assert isinstance(model._inference, PlainInference)
    with pytest.raises(BackboneError) as caught:
        fused(model)
    assert str(caught.value) == (
        "A graph can compute chebyshev, chebyshev-pooled, gaussian, hybrid, hybrid-calibrated, "
        f"but the score is {score}. Choose one of these."
    )


def test_a_large_model_is_not_compiled(monkeypatch):
    usual, model = small_model(), small_model()
    assert isinstance(usual._inference, FusedInference)
    monkeypatch.setattr("blemish.inference.LARGEST_GRAPH", 10)
    assert isinstance(model._inference, PlainInference)
    expected = usual.score(good_image(3)).image_score
    assert model.score(good_image(3)).image_score == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("change", ["old opset", "taken name"])
def test_a_graph_that_cannot_be_extended_is_run_alone(change):
    usual = small_model()
    onnx_model = onnx.load_model_from_string(usual.backbone.onnx)
    if change == "old opset":
        onnx_model.opset_import[0].version = 11
        found = "opset 11 and none of these"
    else:
        onnx_model.graph.node.append(onnx.helper.make_node("Identity", ["fine"], ["map"]))
        found = "opset 17 and map"
    backbone = dataclasses.replace(usual.backbone, onnx=onnx_model.SerializeToString())
    model = small_model(backbone=backbone)
    assert isinstance(model._inference, PlainInference)
    image, _ = spoiled_image(9)
    assert model.score(image).image_score == pytest.approx(usual.score(image).image_score, rel=1e-5)
    with pytest.raises(BackboneError, match=found):
        fused(model)
