"""`blemish backbone list | show | pull | convert`: whole outputs."""

import hashlib
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from blemish.backbones.weights import PINNED
from blemish.cli.backbone import backbone
from blemish.errors import BackboneError
from tiny_onnx import tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def run(*arguments):
    return CliRunner().invoke(backbone, [str(argument) for argument in arguments])


def test_show_describes_published_weights(cache):
    result = run("show", "resnet18")
    assert result.exit_code == 0
    assert result.output == (
        "name          resnet18.tv_in1k\n"
        "default dims  100\n"
        "mean          0.485 0.456 0.406\n"
        "std           0.229 0.224 0.225\n"
        "source        torchvision ResNet18_Weights.IMAGENET1K_V1, trained on ImageNet-1k\n"
        "licence       BSD-3-Clause\n"
        "url           https://download.pytorch.org/models/resnet18-f37072fd.pth\n"
        f"file          {cache}/resnet18-f37072fd.pth\n"
        "file sha256   f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec\n"
        "weights       to download\n"
        "\n"
        "layer      channels    stride\n"
        "-------  ----------  --------\n"
        "layer1           64         4\n"
        "layer2          128         8\n"
        "layer3          256        16\n"
        "layer4          512        32\n"
    )


def test_show_describes_an_onnx_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(tiny_model().SerializeToString())
    (tmp_path / "net.onnx.json").write_text('{"layers": ["fine", "coarse"]}')
    result = run("show", path, "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    sha256 = found.pop("sha256")
    assert len(sha256) == 64
    assert found == {
        "name": "net",
        "layers": [
            {"name": "fine", "channels": 4, "stride": 2},
            {"name": "coarse", "channels": 5, "stride": 4},
        ],
        "default_dims": None,
        "mean": None,
        "std": None,
        "source": "net.onnx",
        "licence": "not stated",
        "url": None,
        "file": str(path),
        "is_ready": True,
    }
    text = run("show", path).output
    assert "default dims  100, or all if fewer\n" in text
    assert f"graph sha256  {sha256}\n" in text
    assert "mean          none\n" in text
    assert text.split("\n\n")[0].endswith("weights       file")


def test_show_builtin():
    result = run("show", "builtin")
    assert result.exit_code == 0
    assert result.output.startswith("name          builtin\n")
    assert "weights       built in\n" in result.output


def test_list_names_all(cache):
    result = run("list", "--json")
    assert result.exit_code == 0
    found = {entry["name"]: entry for entry in json.loads(result.output)}
    assert list(found) == ["builtin", *PINNED]
    assert found["builtin"]["is_ready"] is True
    assert found["wide_resnet50_2.tv_in1k"]["is_ready"] is False
    assert found["wide_resnet50_2.tv_in1k"]["default_dims"] == 550
    assert found["resnet50.tv_in1k"]["file"] == f"{cache}/resnet50-0676ba61.pth"


def test_list_as_a_table():
    lines = run("list").output.splitlines()
    assert lines[0].split() == [
        "name",
        "channels",
        "per",
        "layer",
        "strides",
        "dims",
        "licence",
        "weights",
    ]
    assert lines[2].startswith("builtin ")
    assert lines[2].endswith(" built in")
    assert lines[3].split() == [
        *("resnet18.tv_in1k", "64", "128", "256", "512", "4", "8", "16", "32", "100"),
        *("BSD-3-Clause", "to", "download"),
    ]
    assert len(lines) == 2 + 1 + len(PINNED)


def test_pull_prints_where_the_file_is(cache, monkeypatch):
    content = b"weights"
    pinned = replace(
        PINNED["resnet18.tv_in1k"], sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )
    monkeypatch.setitem(PINNED, "resnet18.tv_in1k", pinned)
    (cache / "resnet18-f37072fd.pth").write_bytes(content)
    result = run("pull", "resnet18")
    assert (result.exit_code, result.output) == (
        0,
        f"resnet18.tv_in1k: {cache}/resnet18-f37072fd.pth\n",
    )


@pytest.mark.parametrize("name", ["builtin", "resnet19"])
def test_pull_of_something_that_is_not_published(name):
    result = run("pull", name)
    assert isinstance(result.exception, BackboneError)
    assert str(result.exception) == (
        "Only resnet18.tv_in1k, resnet34.tv_in1k, resnet50.tv_in1k, wide_resnet50_2.tv_in1k can be "
        f"downloaded, but the name is {name}. A file needs no download, and builtin needs no file."
    )


def test_convert_writes_a_file_that_show_describes(tmp_path):
    out = tmp_path / "builtin.onnx"
    result = run("convert", "builtin", "--layers", "3,1", "--out", out)
    assert (result.exit_code, result.output) == (
        0,
        f"Wrote builtin to {out}: layer1 (11 channels, stride 4), layer3 (235 channels, stride "
        "16)\n",
    )
    assert "licence       Apache-2.0\n" in run("show", out).output


def test_convert_takes_layers_or_modules(tmp_path):
    out = tmp_path / "net.onnx"
    words = ["timm:resnet18", "--layers", "1", "--modules", "layer1", "--out", out]
    result = run("convert", *words)
    assert result.exit_code == 2
    assert result.output.endswith("Error: Give --layers or --modules, not both.\n")


@pytest.mark.parametrize("command", ["list", "show", "pull", "convert"])
def test_help_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"  blemish backbone {command}" in result.output
