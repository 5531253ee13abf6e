"""Any ONNX graph with metadata is a backbone; what cannot be used is said in full."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from blemish.backbones import Backbone, Layer, load_backbone
from blemish.backbones.onnx_file import read_onnx_backbone, write_onnx_backbone
from blemish.backbones.resnet import build_resnet
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import BackboneError, OutputError
from plain_resnet import MEAN, STD, random_weights
from tiny_onnx import tiny_model

IMAGES = np.random.default_rng(5).random((2, 3, 32, 48), dtype=np.float32)


@pytest.fixture(scope="module")
def resnet():
    graph, layers = build_resnet("resnet18", random_weights("resnet18", 2), layers=(1, 2))
    return Backbone("net", graph, layers, "random", "none", 100, (0.5,) * 3, (0.2,) * 3)


def run(backbone, images):
    return FeatureExtractor(backbone, images.shape[2:], threads=2)(images)


def message(caught):
    return str(caught.value)


def write(model, path, **properties):
    stated = {f"blemish.{key}": json.dumps(value) for key, value in properties.items()}
    helper.set_model_props(model, stated)
    onnx.save(model, path)
    return path


def test_any_graph_with_metadata_is_a_backbone(tmp_path):
    path = write(
        tiny_model(),
        tmp_path / "net.onnx",
        layers=["coarse", "fine"],
        mean=MEAN.ravel().tolist(),
        std=STD.ravel().tolist(),
        licence="CC0-1.0",
        source="made up",
        name="tiny",
        default_dims=6,
    )
    backbone = load_backbone(str(path))
    assert backbone.layers == (Layer("fine", 4, 2), Layer("coarse", 5, 4))
    assert (backbone.name, backbone.source, backbone.licence) == ("tiny", "made up", "CC0-1.0")
    assert (backbone.default_dims, backbone.std) == (6, (0.229, 0.224, 0.225))

    bare = read_onnx_backbone(write(tiny_model(), tmp_path / "b.onnx", layers=["fine", "coarse"]))
    normalised = ((IMAGES - MEAN) / STD).astype(np.float32)
    for ours, expected in zip(run(backbone, IMAGES), run(bare, normalised), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert (bare.name, bare.source, bare.licence) == ("b", "b.onnx", "not stated")
    assert (bare.mean, bare.std, bare.default_dims) == (None, None, None)


def test_values_inside_the_graph_can_be_layers_and_the_rest_is_cut_off(tmp_path):
    model = tiny_model(outputs=("logits",), image="image")
    path = write(model, tmp_path / "net.onnx", layers=["fine", "coarse"], mean=[0] * 3, std=[1] * 3)
    first = load_backbone(str(path), layers=(1,))
    assert first.layers == (Layer("fine", 4, 2),)
    kinds = [node.op_type for node in onnx.load_from_string(first.onnx).graph.node]
    assert kinds == ["Sub", "Div", "Conv"]
    np.testing.assert_allclose(
        run(first, IMAGES)[0], run(load_backbone(str(path)), IMAGES)[0], atol=1e-5
    )


def test_the_file_beside_the_graph_wins_over_its_metadata(tmp_path):
    path = write(tiny_model(), tmp_path / "net.onnx", layers=["coarse"], licence="A")
    (tmp_path / "net.onnx.json").write_text('{"licence": "B"}')
    backbone = load_backbone(str(path))
    assert (backbone.licence, backbone.layers) == ("B", (Layer("coarse", 5, 4),))


def test_law_writing_and_reading_gives_the_same_backbone(resnet, tmp_path):
    tiny = read_onnx_backbone(
        write(tiny_model(), tmp_path / "a.onnx", layers=["fine"], mean=[0.5] * 3, std=[0.5] * 3)
    )
    for backbone in (tiny, resnet):
        write_onnx_backbone(backbone, tmp_path / "copy.onnx")
        assert read_onnx_backbone(tmp_path / "copy.onnx") == backbone


def test_an_unwritable_file_is_an_error(resnet, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "net.onnx"
    with pytest.raises(OutputError) as caught:
        write_onnx_backbone(resnet, path)
    assert message(caught).startswith(f"{path} must be a file that can be written, but ")


def test_missing_metadata_say_how_to_add_them(tmp_path):
    path = write(tiny_model(), tmp_path / "net.onnx")
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert message(caught) == (
        f"An ONNX backbone must say which values are its layers, but {path} has no valid "
        '"blemish.layers" in its metadata. Its outputs are fine, coarse, logits. Write '
        f'{{"layers": ["NAME", ...]}} to {path}.json, or set "blemish.layers" with '
        "onnx.helper.set_model_props."
    )


CASES = [
    (
        {"layers": ["fine", "nothing"]},
        "Every layer must be a value of the graph, but PATH has no nothing. "
        "Its outputs are fine, coarse, logits; the values inside it count too.",
    ),
    (
        {"layers": ["logits"]},
        "A layer must be a float32 feature map (N, C, H / stride, W / stride) with a whole "
        "stride, but logits of PATH has shape [1,5] of <Type: 'float32'>. Choose other layers.",
    ),
    (
        {"layers": ["pooled"]},
        "A layer must be a float32 feature map (N, C, H / stride, W / stride) with a whole "
        "stride, but pooled of PATH has shape (1, 5, 1, 1) for a 256x512 image. "
        "Choose other layers.",
    ),
    (
        {"layers": ["fine"], "mean": [0.5, 0.5]},
        "mean must be 3 numbers (red, green, blue), but PATH states [0.5, 0.5]. "
        'Correct "blemish.mean", or PATH.json.',
    ),
    (
        {"layers": ["fine"], "mean": [0.5, 0.5, 0.5]},
        "mean and std must be stated both, with std above 0, but PATH states mean (0.5, 0.5, 0.5) "
        'and std None. Correct "blemish.mean" and "blemish.std", or PATH.json.',
    ),
    (
        {"layers": ["fine"], "normalisation": "yes"},
        'normalisation must be "inside" or "outside", but PATH states \'yes\'. '
        'Correct "blemish.normalisation", or PATH.json.',
    ),
]


@pytest.mark.parametrize(("properties", "expected"), CASES)
def test_metadata_that_cannot_be_used_are_an_error(properties, expected, tmp_path):
    path = write(tiny_model(), tmp_path / "net.onnx", **properties)
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert message(caught) == expected.replace("PATH", str(path))


def test_metadata_must_be_json(tmp_path):
    model = tiny_model()
    helper.set_model_props(model, {"blemish.layers": "fine"})
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(tmp_path / "net.onnx"))
    assert message(caught) == (
        f"Metadata must be JSON, but blemish.layers of {tmp_path / 'net.onnx'} is 'fine' "
        "(Expecting value: line 1 column 1 (char 0)). "
        "Put text in double quotes and lists in brackets."
    )


def test_the_file_beside_the_graph_must_hold_an_object(tmp_path):
    path = write(tiny_model(), tmp_path / "net.onnx")
    Path(f"{path}.json").write_text("[]")
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert message(caught) == (
        f"{path}.json must hold a JSON object, but holds a list. "
        'Write for example {"layers": ["layer1", "layer2"]}.'
    )


def test_an_input_that_is_no_image_is_an_error(tmp_path):
    path = write(tiny_model(channels=1), tmp_path / "net.onnx", layers=["fine"])
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert message(caught) == (
        "The input of an ONNX backbone must be a float32 image (N, 3, H, W), but that of "
        f"{path} is FLOAT ['N', 1, 'H', 'W']. Export it for such images."
    )


def test_two_inputs_are_an_error(tmp_path):
    model = tiny_model()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    path = write(model, tmp_path / "net.onnx", layers=["fine"])
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert message(caught) == (
        f"An ONNX backbone must have one input, the image, but {path} has 2. "
        "Export it without the others."
    )


def test_a_graph_for_one_size_only_is_an_error(tmp_path):
    model = tiny_model(size=(32, 32))
    shape = onnx.numpy_helper.from_array(np.array([1, 4, 256]), "shape")
    square = onnx.numpy_helper.from_array(np.array([1, 4, 16, 16]), "square")
    model.graph.initializer.extend([shape, square])
    model.graph.node.append(helper.make_node("Reshape", ["fine", "shape"], ["flat"]))
    model.graph.node.append(helper.make_node("Reshape", ["flat", "square"], ["fixed"]))
    path = write(model, tmp_path / "net.onnx", layers=["fixed"])
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert re.fullmatch(
        re.escape(
            f"An ONNX backbone must run on images of any size, but {path} does not on 256x512 ("
        )
        + r".+\)\. Export it with dynamic height and width\.",
        message(caught),
        re.DOTALL,
    )


def test_a_file_that_is_no_onnx_is_an_error(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("no graph")
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert re.fullmatch(
        re.escape(f"The backbone must be an ONNX graph, but {path} is not a valid one (")
        + r".+\)\. Export it again\.",
        message(caught),
    )


def test_a_missing_onnx_file_is_an_error(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(path))
    assert message(caught) == (
        f"The backbone must be a file, but {path} does not exist. Check the path, or list the "
        "known names with: blemish backbone list"
    )
