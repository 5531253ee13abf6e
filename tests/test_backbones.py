"""ResNets against a plain NumPy one, and what `load_backbone` accepts."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from blemish.backbones import Backbone, Layer, load_backbone
from blemish.backbones.layer_numbers import check_layers
from blemish.backbones.resnet import build_resnet
from blemish.backbones.weights import PINNED
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import BackboneError
from plain_resnet import features, random_weights

REAL_WEIGHTS = (
    Path(__file__).parents[2] / "shared" / "weights" / "resnet18.tv_in1k.layers1-3.safetensors"
)
IMAGES = np.random.default_rng(5).random((2, 3, 32, 48), dtype=np.float32)


@pytest.fixture(scope="module")
def r18_weights():
    return random_weights("resnet18", layers=3)


@pytest.fixture(scope="module")
def r18_file(r18_weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "r18.safetensors"
    save_file(r18_weights, path, {"source": "made up", "licence": "CC0-1.0"})
    return path


def run(backbone, images):
    return FeatureExtractor(backbone, images.shape[2:], threads=2)(images)


def backbone_of(name, weights, layers):
    graph, outputs = build_resnet(name, weights, layers=layers)
    return Backbone(name, graph, outputs, "random", "none")


def message(caught):
    return str(caught.value)


# --- ResNets -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers"),
    [("resnet18", 4), ("resnet34", 2), ("resnet50", 2), ("wide_resnet50_2", 2)],
)
def test_features_equal_those_of_a_plain_numpy_resnet(name, layers):
    weights = random_weights(name, layers)
    expected = features(name, weights, IMAGES.astype(float), layers)
    found = run(backbone_of(name, weights, range(1, layers + 1)), IMAGES)
    for ours, oracle in zip(found, expected, strict=True):
        assert ours.shape == oracle.shape
        np.testing.assert_allclose(ours, oracle, atol=1e-5 * np.abs(oracle).max())


def test_layers_have_the_channels_and_strides_of_the_paper():
    weights = random_weights("resnet50", 2)
    _, layers = build_resnet("resnet50", weights, layers=(2,))
    assert layers == (Layer("layer2", 512, 8),)
    _, layers = build_resnet("resnet18", random_weights("resnet18", 3))
    assert layers == (Layer("layer1", 64, 4), Layer("layer2", 128, 8), Layer("layer3", 256, 16))


def test_a_subset_of_layers_gives_the_same_maps_and_a_shorter_graph(r18_weights):
    whole = backbone_of("resnet18", r18_weights, (1, 2, 3))
    part = backbone_of("resnet18", r18_weights, (2,))
    np.testing.assert_array_equal(run(part, IMAGES)[0], run(whole, IMAGES)[1])
    assert len(part.onnx) < 0.3 * len(whole.onnx)


def test_the_same_weights_give_the_same_bytes_in_any_order_and_with_any_prefix(r18_weights):
    backwards = {f"module.{name}": r18_weights[name] for name in reversed(r18_weights)}
    first, _ = build_resnet("resnet18", r18_weights)
    second, _ = build_resnet("resnet18", backwards)
    assert first == second


def test_the_graph_is_valid_and_takes_any_number_and_size_of_images(r18_weights):
    graph, _ = build_resnet("resnet18", r18_weights)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    sizes = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, sizes) == ("image", ["N", 3, "H", "W"])


def test_a_missing_layer_is_named_with_what_the_file_has(r18_weights):
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", r18_weights, layers=(1, 4), origin="w.pth")
    assert message(caught) == (
        "The weights of resnet18 must hold layer4.0.conv1.weight, but w.pth lacks it. "
        "It has layer1, layer2, layer3: choose layers among these, or give a file with all layers."
    )


def test_a_missing_name_is_named(r18_weights):
    del (weights := dict(r18_weights))["layer1.1.bn2.running_var"]
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", weights, origin="w.pth")
    assert message(caught) == (
        "The weights of resnet18 must hold layer1.1.bn2.running_var, but w.pth lacks it. "
        "Give a complete state dict with the names that torchvision and timm use."
    )


def test_names_of_something_else_are_an_error():
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", {"head.weight": np.ones(3)}, origin="w.pth")
    assert message(caught) == (
        "The weights of resnet18 must hold layer1.0.conv1.weight, but w.pth has no such name among "
        "its 1. Give a state dict with the names that torchvision and timm use."
    )


def test_two_networks_in_one_file_are_an_error(r18_weights):
    both = {f"{net}.{name}": r18_weights[name] for net in "ab" for name in r18_weights}
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", both, origin="w.pth")
    assert message(caught) == (
        "The weights must be those of one network, but w.pth holds several, with the prefixes "
        "'a.', 'b.'. Save the state dict of one of them."
    )


def test_weights_of_a_deeper_network_are_not_cut_silently():
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", random_weights("resnet34", 1), layers=(1,), origin="w.pth")
    assert message(caught) == (
        "layer1 of resnet18 must have 2 blocks, but w.pth has more (layer1.2.conv1.weight). "
        "Name the network the weights belong to."
    )


def test_another_width_is_an_error():
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet50", random_weights("wide_resnet50_2", 1), layers=(1,), origin="w.pth")
    assert message(caught) == (
        "layer1.0.conv1.weight of resnet50 must have shape (64, 64, 1, 1), but in w.pth it has "
        "shape (128, 64, 1, 1). Name the network the weights belong to."
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_an_error(r18_weights, bad):
    weights = dict(r18_weights)
    weights["layer1.0.conv2.weight"] = np.full((64, 64, 3, 3), bad, np.float32)
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", weights, origin="w.pth")
    assert message(caught) == (
        "Weights must be finite numbers, but layer1.0.conv2.weight in w.pth holds NaN or infinity. "
        "Get the file again, or save the weights again."
    )


def test_a_negative_variance_is_an_error(r18_weights):
    weights = dict(r18_weights)
    weights["bn1.running_var"] = np.full(64, -0.5, np.float32)
    with pytest.raises(BackboneError) as caught:
        build_resnet("resnet18", weights, origin="w.pth")
    assert message(caught) == (
        "A variance must be at least 0, but bn1.running_var in w.pth has -0.5. "
        "Get the file again, or save the weights again."
    )


@pytest.mark.parametrize(
    ("layers", "found"), [((), "none"), ((0, 1), "0, 1"), ((2, 2), "2, 2"), ((5,), "5")]
)
def test_impossible_layers_are_an_error(layers, found):
    with pytest.raises(BackboneError) as caught:
        check_layers(layers, 4)
    assert message(caught) == (
        f"layers must be one or more different numbers of 1 to 4, but are {found}. "
        "Choose for example 1,2,3."
    )


@given(st.sets(st.integers(1, 4), min_size=1).flatmap(lambda s: st.permutations(sorted(s))))
def test_law_the_order_of_the_layer_numbers_does_not_matter(layers):
    assert check_layers(layers, 4) == tuple(sorted(layers))


# --- load_backbone -----------------------------------------------------------------------


def test_weights_from_a_file(r18_file, r18_weights):
    backbone = load_backbone("resnet18", weights=r18_file)
    digest = hashlib.sha256(r18_file.read_bytes()).hexdigest()
    assert backbone.name == "resnet18"
    assert backbone.source == f"made up; r18.safetensors, sha256 {digest}"
    assert backbone.licence == "CC0-1.0"
    assert backbone.default_dims == 100
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert backbone.onnx == build_resnet("resnet18", r18_weights)[0]
    assert backbone.sha256 == hashlib.sha256(backbone.onnx).hexdigest()
    assert (backbone.channels, backbone.coarsest_stride) == (448, 16)


def test_default_dims_are_left_open_when_there_are_too_few_channels(r18_file):
    assert load_backbone("resnet18", weights=r18_file, layers=(1,)).default_dims is None
    assert load_backbone("resnet18", weights=r18_file, layers=(2,)).default_dims == 100


def test_other_number_formats_are_read(r18_weights, tmp_path):
    halves = {name: array.astype(np.float16) for name, array in r18_weights.items()}
    save_file(halves, tmp_path / "half.safetensors")
    expected, _ = build_resnet("resnet18", halves, layers=(1,))
    found = load_backbone("resnet18.other", weights=tmp_path / "half.safetensors", layers=(1,))
    assert found.onnx == expected
    assert (found.name, found.licence) == ("resnet18.other", "not stated")


def test_bfloat16_of_safetensors_is_read(tmp_path):
    header = {"a": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = tmp_path / "b.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes([0x80, 0x3F, 0, 0xC0]))
    from blemish.backbones.state_dict import read_state_dict

    np.testing.assert_array_equal(read_state_dict(path)["a"], np.array([[1.0], [-2.0]]))


@pytest.mark.parametrize("name", ["resnet18", "resnet18.tv_in1k"])
def test_a_pinned_name_takes_the_cached_file(name, r18_file, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path))
    content = r18_file.read_bytes()
    pinned = replace(
        PINNED["resnet18.tv_in1k"], sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )
    monkeypatch.setitem(PINNED, "resnet18.tv_in1k", pinned)
    (tmp_path / "resnet18-f37072fd.pth").write_bytes(content)
    backbone = load_backbone(name)
    assert (backbone.name, backbone.licence) == ("resnet18.tv_in1k", "BSD-3-Clause")
    assert backbone.source == (
        "torchvision ResNet18_Weights.IMAGENET1K_V1, trained on ImageNet-1k; "
        f"https://download.pytorch.org/models/resnet18-f37072fd.pth, sha256 {pinned.sha256}"
    )
    assert load_backbone(name, weights=r18_file) == backbone  # known by its hash


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet19")
    assert message(caught) == (
        "The backbone must be one of builtin, resnet18.tv_in1k, resnet34.tv_in1k, "
        "resnet50.tv_in1k, wide_resnet50_2.tv_in1k or an ONNX file, but is resnet19. "
        "Names without a tag mean the one listed."
    )


@pytest.mark.parametrize("name", ["builtin", "net.onnx", "resnet18.onnx"])
def test_weights_for_something_that_takes_none_are_an_error(name):
    with pytest.raises(BackboneError) as caught:
        load_backbone(name, weights=Path("w.pth"))
    assert message(caught) == (
        "Weights can be given for resnet18, resnet34, resnet50, wide_resnet50_2, but the backbone "
        f"is {name}. Leave them out, or name the network they belong to."
    )


@pytest.mark.parametrize("name", ["resnet18.pth", "folder/w.safetensors"])
def test_a_file_of_weights_is_no_backbone(name):
    with pytest.raises(BackboneError) as caught:
        load_backbone(name)
    assert message(caught) == (
        f"The backbone must be a network, but {name} names a file of weights alone. Name the "
        "network it belongs to, for example resnet18, and give the file with --weights."
    )


def test_missing_weights_are_an_error(tmp_path):
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet18", weights=tmp_path / "no.pth")
    assert message(caught) == (
        f"The weights must be a file, but {tmp_path / 'no.pth'} does not exist or is a folder. "
        "Check the path: a .safetensors or a .pth file is wanted."
    )


def test_weights_that_are_something_else_are_an_error(tmp_path):
    path = tmp_path / "w.pth"
    path.write_text("<html>not found</html>")
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet18", weights=path)
    assert message(caught) == (
        f"The weights must be a safetensors file or what torch.save writes, but {path} is neither "
        "(it starts with b'<html>not'). Give the state dict of a ResNet."
    )


def test_truncated_safetensors_are_an_error(r18_file, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(r18_file.read_bytes()[:-100])
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet18", weights=path)
    assert re.fullmatch(
        re.escape(f"A safetensors file must be complete, but {path} is damaged (")
        + r".+\)\. Get the file again\.",
        message(caught),
    )


# --- the real weights --------------------------------------------------------------------


@pytest.mark.skipif(not REAL_WEIGHTS.is_file(), reason=f"no weights at {REAL_WEIGHTS}")
def test_real_weights_give_the_features_of_the_plain_resnet():
    from safetensors.numpy import load_file

    weights = load_file(REAL_WEIGHTS)
    found = run(load_backbone("resnet18", weights=REAL_WEIGHTS), IMAGES)
    expected = features("resnet18", weights, IMAGES.astype(float))
    for ours, oracle in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, oracle, atol=1e-5 * np.abs(oracle).max())
