"""The whole model on one device against the plain definitions."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from blemish.backbones import load_backbone  # noqa: E402
from blemish.engines.openvino import FeatureExtractor  # noqa: E402
from blemish.errors import InputError, ShapeError  # noqa: E402
from blemish.fitting import fit  # noqa: E402
from blemish.graph import FUSED_SCORES  # noqa: E402
from blemish.inference import PlainInference  # noqa: E402
from blemish.judge import Judge  # noqa: E402
from blemish.pooling import Running  # noqa: E402
from blemish.settings import FitSettings  # noqa: E402
from blemish.standardisation import Standardisation  # noqa: E402
from blemish.torch_runner import TorchRunner  # noqa: E402
from small_models import (  # noqa: E402
    SIZE,
    good_image,
    inputs_of,
    model_of,
    small_model,
)

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
    {"top_k": 10_000, "blur": "none", "upsampling": "nearest", "shrinkage": "oas"},
    {"averaging": (4, 3), "dims": (2, 3)},
    {"averaging": (3, 1), "reduction": "pca", "dims": (3, 2)},
    {"averaging": (1, 3), "shared": True},
    {"layer_sums": True, "averaging": (3, 3), "dims": (3, 3)},
    {"standardise": True},
    {"standardise": True, "ignore_mask": HALF, "top_k": 5},
    {"separate": True},
    {"separate": True, "shared": True, "standardise": True},
    {"separate": True, "ignore_mask": HALF, "top_k": 3},
    {"separate": True, "top_k": 10_000, "upsampling": "bicubic", "standardise": True},
    {"separate": True, "dims": (0, 4), "standardise": True},
    {"separate": True, "map_weights": (1, 0), "image_weights": (0, 1), "reduction": "none"},
    {"separate": True, "map_weights": (0.5, 2), "image_weights": (1, 3), "averaging": (4, 4)},
    {
        "separate": True,
        "standardise": True,
        "averaging": (4, 3),
        "reduction": "semi-orthogonal",
        "dims": (3, 4),
        "ignore_mask": HALF,
    },
    {"preset": "accurate"},
    {"preset": "accurate", "ignore_mask": HALF, "top_k": 3},
    {"preset": "tiny"},
]


def runner_of(model, device="cpu", **settings):
    return TorchRunner(model.fitted, model._judge, device=device, **settings)


def plain(model, inputs):
    """What `Embedding` and `Judge` say of the features."""
    extractor = FeatureExtractor(model.backbone, model.size)
    return PlainInference(extractor, model.embedding, model._judge)(inputs)


def assert_same(found, expected, most=1e-4):
    assert (found.maps.dtype, found.scores.dtype) == (np.float32, np.float64)
    assert_close(found.maps, expected.maps, most)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=most)
    for level, wanted in zip(found.levels, expected.levels, strict=True):
        assert level.dtype == np.float32
        assert_close(level, wanted, most)


def assert_close(found, expected, most):
    np.testing.assert_allclose(found, expected, rtol=most, atol=most * np.abs(expected).max())


# That a bound ends at 1 is not so where bounds are weighted or standardised.
@pytest.mark.parametrize("score", sorted(FUSED_SCORES))
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(s) or "default")
def test_scores_are_those_of_the_plain_definitions(settings, score):
    model = model_of(settings, score)
    inputs = inputs_of(model)
    assert_same(runner_of(model).score_inputs(inputs), plain(model, inputs))


@pytest.mark.parametrize("own", [{"dims": 16}, {"preset": "accurate"}, {"preset": "tiny"}])
def test_levels_of_a_real_network(own, real_weights):
    backbone = load_backbone("resnet18", weights=real_weights)
    settings = FitSettings(size=(64, 96), backbone="resnet18", **own)
    model = fit([good_image(k, (64, 96)) for k in range(20)], settings, backbone=backbone)
    inputs = np.random.default_rng(0).random((2, 3, 64, 96), dtype=np.float32)
    assert_same(runner_of(model).score_inputs(inputs), plain(model, inputs))


def test_bf16_moves_the_image_score_by_little():
    model = small_model()
    inputs = inputs_of(model)
    rough = runner_of(model, precision="bf16").score_inputs(inputs)
    np.testing.assert_allclose(rough.scores, plain(model, inputs).scores, rtol=0.05)


@pytest.mark.parametrize("preset", ["full", "accurate"])
def test_tensors_stay_tensors(preset):
    model = small_model(preset=preset)
    inputs = inputs_of(model)
    runner = runner_of(model)
    found = runner(torch.from_numpy(inputs))
    expected = runner.score_inputs(inputs)
    assert tuple(found.maps.shape) == (3, *SIZE)
    pairs = zip((found.maps, *found.levels), (expected.maps, *expected.levels), strict=True)
    for tensor, array in pairs:
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize(("preset", "positions"), [("full", [48, 192]), ("accurate", [12, 48])])
def test_no_images_give_no_scores(preset, positions):
    runner = runner_of(small_model(preset=preset))
    found = runner.score_inputs(np.zeros((0, 3, *SIZE), np.float32))
    assert (found.maps.shape, found.scores.shape) == ((0, *SIZE), (0,))
    assert [level.shape for level in found.levels] == [(0, count) for count in positions]


def test_standardised_scores_are_never_below_zero():
    model = small_model(separate=True)
    inputs = inputs_of(model)
    lowered = [
        Standardisation(np.full(count, 2.0), np.full(count, -4.0), Running((count,)))
        for count in map(model.pyramid.positions, range(2))
    ]
    combination = dataclasses.replace(model._judge.combination, standardisations=lowered)
    judge = Judge(model._judge.scorers, combination)
    extractor = FeatureExtractor(model.backbone, model.size)
    expected = PlainInference(extractor, model.embedding, judge)(inputs)
    assert all((level == 0).any() and (level > 0).any() for level in expected.levels)
    assert_same(TorchRunner(model.fitted, judge, device="cpu").score_inputs(inputs), expected)


def test_a_weight_of_zero_makes_no_map(monkeypatch):
    made = []
    monkeypatch.setattr(
        "blemish.torch_runner._Map", lambda _, operator, weight: made.append(weight)
    )
    model = small_model(separate=True, map_weights=(1, 0), image_weights=(0, 1))
    runner_of(model)
    assert made == [model.fitted.weights.map[1]]


def test_images_of_another_size_are_an_error():
    with pytest.raises(ShapeError) as caught:
        runner_of(small_model())(np.zeros((1, 3, 24, 32), np.float32))
    assert str(caught.value) == (
        "images must have shape (N, 3, 32, 24), but has shape (1, 3, 24, 32). "
        "Were they preprocessed for this model?"
    )


def test_a_score_without_fused_form_is_refused():
    with pytest.raises(InputError) as caught:
        runner_of(small_model(score="chebyshev-two-stage"))
    assert str(caught.value) == (
        "The torch engine can compute chebyshev, chebyshev-pooled, gaussian, hybrid, "
        "hybrid-calibrated on the device, but the score is chebyshev-two-stage. Score its "
        "features with Scorer instead."
    )


@pytest.mark.gpu
@pytest.mark.parametrize("score", sorted(FUSED_SCORES))
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(s) or "default")
def test_on_a_gpu_scores_are_those_of_the_plain_definitions(settings, score):
    model = model_of(settings, score)
    inputs = inputs_of(model)
    runner = runner_of(model, device="cuda")
    for count in (3, 1, 3):
        assert_same(runner.score_inputs(inputs[:count]), plain(model, inputs[:count]))
