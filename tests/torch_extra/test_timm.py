"""Networks of timm as backbones: same numbers as in PyTorch, weights from files, every error."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from safetensors.torch import save_file  # noqa: E402

from blemish.backbones import load_backbone  # noqa: E402
from blemish.backbones.onnx_file import read_onnx_backbone  # noqa: E402
from blemish.backbones.timm import convert_timm, is_timm_name  # noqa: E402
from blemish.backbones.weights import sha256_of  # noqa: E402
from blemish.cli import main  # noqa: E402
from blemish.engines.openvino import FeatureExtractor  # noqa: E402
from blemish.engines.torch import TorchFeatureExtractor  # noqa: E402
from blemish.errors import BackboneError  # noqa: E402

SMALL = "mobilenetv3_small_050"
"""A network with squeeze-and-excite and hard swish that converts in a second."""
SIZE = (64, 96)
IMAGES = np.random.default_rng(0).random((2, 3, *SIZE), dtype=np.float32)
ALIKE = [
    ("resnet18", (64, 128, 256)),
    ("convnext_atto", (40, 80, 160)),
    ("tf_efficientnet_b0", (24, 40, 112)),
    ("regnety_002", (24, 56, 152)),
]
LARGE = [
    ("wide_resnet50_2", (256, 512, 1024)),
    ("efficientnet_b5", (40, 64, 176)),
    ("tf_efficientnet_b7.ns_jft_in1k", (48, 80, 224)),
    ("tf_efficientnetv2_m", (48, 80, 176)),
    ("convnext_tiny", (96, 192, 384)),
]


@pytest.fixture(scope="module")
def small():
    return convert_timm(SMALL, random_weights=True)


def network_of(name, *, statistics=True):
    """The network with random weights and, if asked for, random batch norm statistics.

    Deep networks keep those they start with: with others their features grow from block to block
    until float32 says nothing (in PyTorch alone, 0.4 of the largest away from float64).
    """
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    for key, value in network.state_dict().items():
        if statistics and key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return network


def features_of(name, network, images, indices=(1, 2, 3)):
    """What timm's own feature network gives: an oracle that shares no code with the conversion."""
    tapped = timm.create_model(name, features_only=True, out_indices=indices).eval()
    names = network.state_dict()
    wanted = {key: key.replace("stages_", "stages.", 1) for key in tapped.state_dict()}
    wanted = {key: old.replace("stem_", "stem.", 1) for key, old in wanted.items()}
    tapped.load_state_dict({key: names[old] for key, old in wanted.items()})
    shape = (1, 3, 1, 1)
    mean, std = (np.reshape(network.pretrained_cfg[key], shape) for key in ("mean", "std"))
    with torch.no_grad():
        found = tapped(torch.from_numpy(((images - mean) / std).astype(np.float32)))
    return [maps.numpy() for maps in found]


def assert_same(name, channels, tmp_path, *, statistics=True):
    network, path = network_of(name, statistics=statistics), tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    backbone = convert_timm(name, weights=path)
    assert tuple(layer.channels for layer in backbone.layers) == channels
    assert [layer.stride for layer in backbone.layers] == [4, 8, 16]
    assert [layer.name for layer in backbone.layers] == ["layer1", "layer2", "layer3"]
    indices = (0, 1, 2) if name.startswith("convnext") else (1, 2, 3)
    expected = features_of(name, network, IMAGES, indices)
    for engine in (FeatureExtractor, TorchFeatureExtractor):
        for maps, wanted in zip(engine(backbone, SIZE)(IMAGES), expected, strict=True):
            np.testing.assert_allclose(maps, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("name", "channels"), ALIKE)
def test_features_are_those_of_timms_own_feature_network(name, channels, tmp_path):
    assert_same(name, channels, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), LARGE)
def test_features_of_large_networks_are_those_of_timm(name, channels, tmp_path):
    assert_same(name, channels, tmp_path, statistics=False)


def test_a_resnet_of_timm_is_the_one_built_without_torch(real_weights):
    ours = load_backbone("resnet18", weights=real_weights)
    theirs = load_backbone("timm:resnet18", weights=real_weights)
    assert theirs.layers == ours.layers
    assert (theirs.mean, theirs.std) == (ours.mean, ours.std)
    pairs = zip(*(FeatureExtractor(b, SIZE)(IMAGES) for b in (ours, theirs)), strict=True)
    for wanted, maps in pairs:
        np.testing.assert_allclose(maps, wanted, atol=1e-5 * np.abs(wanted).max())


def test_backbone_says_where_its_weights_come_from(small, tmp_path):
    by = f"network of timm {timm.__version__}"
    assert small.name == f"timm:{SMALL} (random)"
    assert small.source == f"random weights, for measurements only; {by}"
    assert small.licence == "not stated"
    assert small.mean == (0.485, 0.456, 0.406)
    path = tmp_path / "part.safetensors"
    save_file(network_of(SMALL).state_dict(), path)
    given = convert_timm(f"timm:{SMALL}", weights=path)
    assert given.name == f"timm:{SMALL}"
    assert given.source == f"part.safetensors, sha256 {sha256_of(path)}; {by}"
    assert given.sha256 != small.sha256


def test_published_weights_keep_their_licence(monkeypatch):
    asked = []

    def create_model(name, pretrained):
        asked.append(pretrained)
        return build(name, pretrained=False)

    build = timm.create_model
    monkeypatch.setattr(timm, "create_model", create_model)
    found = convert_timm(f"{SMALL}.lamb_in1k")
    assert asked == [True]
    assert found.source == (
        f"timm/mobilenetv3_small_050.lamb_in1k; network of timm {timm.__version__}"
    )
    assert found.licence == "apache-2.0"


def test_same_weights_give_the_same_bytes(small):
    before = torch.random.get_rng_state()
    assert convert_timm(SMALL, random_weights=True) == small
    assert torch.equal(torch.random.get_rng_state(), before)


def test_layers_and_modules_can_be_chosen(small):
    deep = convert_timm(SMALL, layers=[4, 2], random_weights=True)
    assert [(layer.name, layer.stride) for layer in deep.layers] == [("layer2", 8), ("layer4", 32)]
    named = convert_timm(SMALL, modules=["blocks.1", "blocks.2.0"], random_weights=True)
    assert [(layer.name, layer.stride) for layer in named.layers] == [
        ("blocks.1", 8),
        ("blocks.2.0", 16),
    ]
    both = zip(
        FeatureExtractor(small, SIZE)(IMAGES)[1:2],
        FeatureExtractor(named, SIZE)(IMAGES)[:1],
        strict=True,
    )
    for layer2, block in both:
        np.testing.assert_array_equal(layer2, block)


@pytest.mark.slow
def test_the_papers_levels_of_efficientnet_b5():
    """Arrays of 39 blocks, numbered from 0: its 7, 20 and 26 lie in stages 2, 5 and 5 of 7."""
    backbone = convert_timm(
        "efficientnet_b5", modules=["blocks.1", "blocks.3", "blocks.4"], random_weights=True
    )
    assert [(layer.channels, layer.stride) for layer in backbone.layers] == [
        (40, 4),
        (128, 16),
        (176, 16),
    ]


def test_names_with_and_without_prefix():
    assert is_timm_name(f"timm:{SMALL}")
    assert is_timm_name(SMALL)
    assert is_timm_name("tf_efficientnet_b7.ns_jft_in1k")
    assert not is_timm_name("resnet19")
    assert not is_timm_name("folder/resnet18")
    assert not is_timm_name("resnet18.onnx")


def test_weights_may_share_a_prefix_and_lack_what_comes_after(tmp_path):
    state = {f"module.{key}": value for key, value in network_of(SMALL).state_dict().items()}
    late = {key: value for key, value in state.items() if not key.startswith("module.blocks.5")}
    whole, part = tmp_path / "whole.pth", tmp_path / "part.pth"
    torch.save(state, whole)
    torch.save(late, part)
    first, second = (convert_timm(SMALL, weights=path).onnx for path in (whole, part))
    assert first == second


def spoiled(change):
    state = network_of(SMALL).state_dict()
    change(state)
    return state


def lacking(state):
    del state["blocks.0.0.bn1.weight"], state["blocks.0.0.bn1.bias"]


def reshaped(state):
    state["conv_stem.weight"] = torch.zeros(8, 3, 3, 3)


def infinite(state):
    state["conv_stem.weight"][0, 0, 0, 0] = torch.inf


WEIGHTS = [
    (
        lacking,
        "The weights of mobilenetv3_small_050 must hold blocks.0.0.bn1.weight, but {path} lacks "
        "it, and 1 more of 144. Name the network that the weights belong to, and give a state "
        "dict with the names of timm.",
    ),
    (
        reshaped,
        "conv_stem.weight of mobilenetv3_small_050 must have shape (16, 3, 3, 3), but in {path} "
        "it has shape (8, 3, 3, 3). Name the network the weights belong to.",
    ),
    (
        infinite,
        "Weights must be finite numbers, but conv_stem.weight in {path} holds NaN or infinity. "
        "Get the file again, or save the weights again.",
    ),
]


@pytest.mark.parametrize(("change", "text"), WEIGHTS)
def test_weights_that_do_not_fit_are_an_error(change, text, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(spoiled(change), path)
    with pytest.raises(BackboneError) as caught:
        convert_timm(SMALL, weights=path)
    assert str(caught.value) == text.format(path=path)


REFUSED = [
    (
        ("resnet18.no_tag", {"random_weights": True}),
        "timm must be able to build resnet18.no_tag, but says: Invalid pretrained tag (no_tag) "
        "for resnet18. Choose another name or tag.",
    ),
    (
        (SMALL, {"random_weights": True, "weights": Path("part.pth")}),
        "Weights must be random or come from a file, but both are asked for: part.pth. "
        "Leave one out.",
    ),
    (
        (SMALL, {"random_weights": True, "modules": ["blocks.99"]}),
        "modules must be names of parts of mobilenetv3_small_050, but it has no blocks.99. "
        "Similar names: blocks.5, blocks.4, blocks.3.",
    ),
    (
        (SMALL, {"random_weights": True, "layers": [5]}),
        "layers must be one or more different numbers of 1 to 4, but are 5. Choose for example "
        "1,2,3.",
    ),
    (
        ("vit_tiny_patch16_224", {"random_weights": True}),
        "Layers 1, 2, 3 need feature maps of stride 4, 8, 16, but timm lists for "
        "vit_tiny_patch16_224 those of stride 16. Choose other layers, or name modules with "
        "--modules.",
    ),
    (
        ("vit_tiny_patch16_224", {"random_weights": True, "layers": [3]}),
        "A backbone must run on images of any size, but vit_tiny_patch16_224 cannot be converted "
        "(Input height (128) doesn't match model (224).). Choose a convolutional network, or "
        "other modules.",
    ),
]


@pytest.mark.parametrize(("asked", "text"), REFUSED)
def test_what_cannot_be_converted_says_why(asked, text):
    name, settings = asked
    with pytest.raises(BackboneError) as caught:
        convert_timm(name, **settings)
    assert str(caught.value) == text


def test_an_unknown_name_lists_similar_ones(monkeypatch):
    monkeypatch.setattr(timm, "list_models", lambda: ["resnet18", "resnet34", "vgg11"])
    with pytest.raises(BackboneError) as caught:
        load_backbone("timm:resnet19")
    assert str(caught.value) == (
        f"A backbone of timm must be one that timm {timm.__version__} has, but it has no resnet19. "
        "Similar names: resnet18, resnet34. All of them: timm.list_models(), or "
        "https://huggingface.co/timm"
    )


def test_without_a_connection_the_error_says_which_file_to_get(monkeypatch):
    def create_model(name, pretrained):
        raise OSError("No connection.\nMore lines.")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(BackboneError) as caught:
        convert_timm("resnet18.a1_in1k")
    assert str(caught.value) == (
        "The weights of resnet18.a1_in1k are needed, but timm could not get them (No "
        "connection.). Without a connection: get model.safetensors from "
        "https://huggingface.co/timm/resnet18.a1_in1k on another machine, and name the file with "
        "--weights."
    )


def test_a_conversion_that_changes_numbers_is_refused(monkeypatch):
    monkeypatch.setattr("blemish.backbones.timm.PARITY", 0.0)
    with pytest.raises(BackboneError, match="must give what PyTorch gives to 0, but layer1 of"):
        convert_timm(SMALL, random_weights=True)


def run(*words):
    return CliRunner().invoke(main, ["backbone", "convert", *map(str, words)])


def test_command_writes_a_file_for_the_base_package(tmp_path, small):
    out = tmp_path / "small.onnx"
    result = run(SMALL, "--random-weights", "--out", out)
    assert (result.exit_code, result.output) == (
        0,
        f"Wrote timm:{SMALL} (random) to {out}: layer1 (8 channels, stride 4), layer2 (16 "
        "channels, stride 8), layer3 (24 channels, stride 16)\n",
    )
    read = read_onnx_backbone(out)
    assert (read.name, read.source, read.layers) == (small.name, small.source, small.layers)
    for maps, wanted in zip(
        FeatureExtractor(read, SIZE)(IMAGES), FeatureExtractor(small, SIZE)(IMAGES), strict=True
    ):
        np.testing.assert_array_equal(maps, wanted)


def test_command_takes_modules_and_a_file_of_weights(tmp_path):
    weights, out = tmp_path / "weights.safetensors", tmp_path / "small.onnx"
    save_file(network_of(SMALL).state_dict(), weights)
    result = run(f"timm:{SMALL}", "--weights", weights, "--modules", "blocks.1", "--out", out)
    assert (result.exit_code, result.output) == (
        0,
        f"Wrote timm:{SMALL} to {out}: blocks.1 (16 channels, stride 8)\n",
    )
