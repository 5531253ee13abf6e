import hashlib

import numpy as np
import onnx
import pytest
from scipy.signal import correlate2d

import blemish
from blemish.backbones import Layer, load_backbone
from blemish.backbones.builtin import builtin_backbone, gabor_pairs
from blemish.datasets import read_dataset
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import BackboneError
from blemish.evaluation import evaluate

LAYERS = (
    Layer("layer1", 11, 4),
    Layer("layer2", 59, 8),
    Layer("layer3", 235, 16),
    Layer("layer4", 315, 32),
)
OPPONENT_COLOURS = ((1 / 3, 1 / 3, 1 / 3), (1 / 2, -1 / 2, 0), (1 / 4, 1 / 4, -1 / 2))
# sha256 of the graph of layers 1, 2, 3; from `blemish backbone show builtin`, 2026-11-23.
# A model file names it: with another graph, every stored model would be of no use.
GOLDEN = "ed0364d10b03932bae63a45c56e7808f27487c0d69712b60973f33f607c14308"


def features(images, layers=None):
    """Feature maps of images (N, 3, H, W)."""
    return FeatureExtractor(builtin_backbone(layers), images.shape[2:])(images)


def random_images(n, height, width, seed=0):
    return np.random.default_rng(seed).random((n, 3, height, width), dtype=np.float32)


def filtered(plane, kernel, stride):
    """The dull correlation of one plane with one kernel, zeros around, every `stride`-th pixel."""
    margin = (len(kernel) - 1) // 2
    return correlate2d(np.pad(plane, margin), kernel, mode="valid")[::stride, ::stride]


def modulus(plane, k, orientations, stride):
    even, odd = gabor_pairs(orientations)
    answers = [filtered(plane, kernel, stride) for kernel in (even[k], odd[k])]
    return np.sqrt(answers[0] ** 2 + answers[1] ** 2 + 1 / 255**2)


def halved(plane):
    """Mean over windows of 4x4 that start one pixel before every second; outside does not count."""
    ones = np.ones((4, 4))
    return filtered(plane, ones, 2) / filtered(np.ones_like(plane), ones, 2)


def averaged(planes, times):
    for _ in range(times):
        planes = [halved(plane) for plane in planes]
    return planes


def plain_bank(image):
    """The features of layers 1, 2, 3 of one image (3, H, W), plane by plane."""
    colours = [[np.tensordot(row, image, 1) for row in OPPONENT_COLOURS]]
    blur = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    for _ in range(4):
        colours.append([filtered(plane, blur, 2) for plane in colours[-1]])
    first = [[modulus(colours[0][0], k, 8, 2) for k in range(8)]]
    for octave in range(1, 5):
        stride = 2 if octave < 4 else 1
        brightness, *hues = colours[octave]
        first.append([modulus(brightness, k, 8, stride) for k in range(8)])
        first[-1] += [modulus(hue, k, 4, stride) for hue in hues for k in range(4)]
    second = [[modulus(p, k, 4, 2) for p in first[octave] for k in range(4)] for octave in range(3)]
    moduli = [
        averaged(first[0], 1),
        averaged(first[0], 2) + averaged(first[1], 1) + averaged(second[0], 1),
        [p for octave in range(5) for p in averaged(first[octave], max(3 - octave, 0))]
        + [p for octave in range(3) for p in averaged(second[octave], 2 - octave)],
    ]
    return [
        np.stack([20 * plane for plane in colours[k + 2]] + [5 * np.sqrt(m) for m in moduli[k]])
        for k in range(3)
    ]


def test_features_are_those_of_the_plain_definition():
    image = random_images(1, 48, 80)
    for found, expected in zip(features(image), plain_bank(image[0]), strict=True):
        np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-3)


def test_graph_is_the_same_everywhere():
    backbone = builtin_backbone()
    assert backbone.sha256 == GOLDEN
    assert hashlib.sha256(builtin_backbone([3, 2, 1]).onnx).hexdigest() == GOLDEN


def test_description():
    backbone = builtin_backbone()
    assert backbone.name == "builtin"
    assert backbone.layers == LAYERS[:3]
    assert backbone.licence == "Apache-2.0"
    assert backbone.default_dims == 100
    assert backbone.mean is None and backbone.std is None
    assert load_backbone("builtin") == backbone
    assert load_backbone("builtin", layers=[2]) == builtin_backbone([2])


def test_graph_is_small_plain_onnx():
    backbone = builtin_backbone([1, 2, 3, 4])
    model = onnx.load_from_string(backbone.onnx)
    onnx.checker.check_model(model, full_check=True)
    assert len(backbone.onnx) < 300_000
    assert model.opset_import[0].version == 17
    assert {node.op_type for node in model.graph.node} == {
        "Add", "AveragePool", "Concat", "Conv", "Mul", "Sqrt",
    }  # fmt: skip


@pytest.mark.parametrize("layers", [None, [1], [4], [2, 4], [1, 2, 3, 4]])
def test_each_layer_has_its_channels_and_grid(layers):
    images = random_images(2, 64, 96)
    backbone = builtin_backbone(layers)
    assert backbone.layers == tuple(LAYERS[k - 1] for k in layers or (1, 2, 3))
    for layer, found in zip(backbone.layers, features(images, layers), strict=True):
        assert found.shape == (2, layer.channels, 64 // layer.stride, 96 // layer.stride)
        assert found.dtype == np.float32


def test_a_layer_is_the_same_whichever_others_are_asked_for():
    images = random_images(1, 64, 64)
    together = features(images, [1, 2, 3, 4])
    for number, expected in enumerate(together, start=1):
        np.testing.assert_allclose(features(images, [number])[0], expected, rtol=1e-5, atol=1e-5)


def test_images_of_a_batch_do_not_mix():
    images = random_images(3, 32, 32)
    for whole, alone in zip(features(images), features(images[1:2]), strict=True):
        np.testing.assert_allclose(whole[1:2], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_one_colour_gives_the_colour_and_no_contrast_away_from_the_border(level):
    image = np.full((1, 3, 64, 64), level, np.float32)
    fine = features(image)[0][0, :, 4:-4, 4:-4]
    np.testing.assert_allclose(fine[0], 20 * level, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fine[1:3], 0, atol=1e-4)
    np.testing.assert_allclose(fine[3:], 5 / np.sqrt(255), rtol=2e-2)


def test_the_negative_has_the_same_moduli_away_from_the_border():
    image = random_images(1, 64, 64)
    fine, negative = (features(one)[0][0, 3:, 4:-4, 4:-4] for one in (image, 1 - image))
    np.testing.assert_allclose(fine, negative, rtol=1e-3)


def test_a_grey_image_has_no_hue():
    image = np.repeat(random_images(1, 32, 32)[:, :1], 3, axis=1)
    for found in features(image):
        np.testing.assert_allclose(found[:, 1:3], 0, atol=1e-4)


@pytest.mark.parametrize(("axis", "orientation"), [(3, 0), (2, 4)])
def test_stripes_excite_the_filter_across_them(axis, orientation):
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * np.arange(64) / 4)
    image = np.zeros((1, 3, 64, 64), np.float32)
    image += np.expand_dims(wave, tuple({0, 1, 2, 3} - {axis})).astype(np.float32)
    brightness = features(image)[0][0, 3:, 8, 8]
    assert int(brightness.argmax()) == orientation


def test_hue_shows_where_brightness_does_not():
    grey = np.full((1, 3, 64, 64), 0.5, np.float32)
    spot = grey.copy()
    spot[0, :, 24:40, 24:40] += np.array([0.3, -0.3, 0.0], np.float32)[:, None, None]
    before, after = (features(image)[0][0, :3, 8, 8] for image in (grey, spot))
    np.testing.assert_allclose(after - before, [0, 6, 0], atol=1e-3)


def test_standard_deviations_are_of_the_order_that_epsilon_expects():
    rng = np.random.default_rng(0)
    spectrum = 1 / np.maximum(
        np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))), 1e-2
    )
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((4, 3, 256, 256))) * spectrum).real
    images = np.clip(0.5 + 0.2 * noise / noise.std(), 0, 1).astype(np.float32)
    for found in features(images):
        assert 0.2 < np.median(found.std(axis=(0, 2, 3))) < 2


@pytest.mark.parametrize("orientations", [1, 4, 8])
def test_gabor_filters_have_no_mean_and_unit_norm(orientations):
    for filters in gabor_pairs(orientations):
        assert filters.shape == (orientations, 7, 7)
        np.testing.assert_allclose(filters.sum(axis=(1, 2)), 0, atol=1e-12)
        np.testing.assert_allclose((filters**2).sum(axis=(1, 2)), 1)


@pytest.mark.parametrize(
    ("layers", "found"), [([], "none"), ([0], "0"), ([5, 1], "5, 1"), ([2, 2], "2, 2")]
)
def test_unknown_layers_are_an_error(layers, found):
    with pytest.raises(BackboneError) as caught:
        builtin_backbone(layers)
    assert str(caught.value) == (
        f"layers must be one or more different numbers of 1 to 4, but are {found}. "
        "Choose for example 1,2,3."
    )


@pytest.mark.slow
@pytest.mark.parametrize(("category", "bar"), [("bottle", 0.985), ("screw", 0.8)])
def test_real_defects_are_found(real_data, category, bar):
    root = real_data / "mvtec" / category
    model = blemish.fit(root, blemish.FitSettings(seed=0))
    found = evaluate(model, read_dataset(root, split="test"))
    assert found.image_auroc is not None and found.image_auroc >= bar
    assert found.pixel_auroc is not None and found.pixel_auroc >= 0.955
