"""Without the extra `blemish[torch]`: all modules import, and each use says what to install."""

import importlib
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from blemish.backbones import load_backbone
from blemish.backbones.timm import convert_timm, is_timm_name
from blemish.cli import main
from blemish.engines.torch import TorchFeatureExtractor
from blemish.errors import BackboneError, InputError
from blemish.torch_runner import TorchRunner
from small_models import small_model, tiny_backbone

NO_TORCH = (
    "The torch engine needs PyTorch, which is not installed. Run: pip install 'blemish[torch]'"
)
NO_TIMM = (
    "Backbones of timm need timm and PyTorch, which are not installed. "
    "Run: pip install 'blemish[torch]'"
)


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    for name in ("torch", "timm"):
        monkeypatch.setitem(sys.modules, name, None)  # makes its import fail


@pytest.mark.parametrize(
    "module", ["backbones.timm", "backbones.timm_weights", "engines.torch", "torch_runner"]
)
def test_modules_import_without_torch(module, monkeypatch):
    monkeypatch.delitem(sys.modules, f"blemish.{module}", raising=False)
    importlib.import_module(f"blemish.{module}")


def test_feature_extractor_says_what_to_install():
    with pytest.raises(InputError) as caught:
        TorchFeatureExtractor(tiny_backbone(), (32, 24))
    assert str(caught.value) == NO_TORCH


def test_runner_says_what_to_install():
    model = small_model()
    with pytest.raises(InputError) as caught:
        TorchRunner(model.fitted, model._judge)
    assert str(caught.value) == NO_TORCH


@pytest.mark.parametrize("make", [convert_timm, load_backbone])
def test_timm_names_say_what_to_install(make):
    with pytest.raises(InputError) as caught:
        make("timm:efficientnet_b5")
    assert str(caught.value) == NO_TIMM


def test_the_command_says_what_to_install(tmp_path):
    out = str(tmp_path / "b5.onnx")
    words = ["backbone", "convert", "timm:efficientnet_b5", "--out", out]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert result.output == f"Error: {NO_TIMM}\n"


def test_plain_names_of_timm_are_unknown_names():
    assert not is_timm_name("efficientnet_b5")
    with pytest.raises(BackboneError, match="an ONNX file, but is efficientnet_b5"):
        load_backbone("efficientnet_b5")


def test_a_broken_installation_is_not_called_missing(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch")
    (tmp_path / "torch.py").write_text("import no_such_module_of_torch\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_torch"):
        TorchFeatureExtractor(tiny_backbone(), (32, 24))


def test_the_rest_works_without_torch():
    model = small_model()
    assert np.isfinite(model.score(np.zeros((32, 24, 3), np.uint8)).image_score)
