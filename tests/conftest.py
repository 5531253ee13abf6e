"""What all tests share: Hypothesis without deadlines, and where real data would be."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("blemish", deadline=None)
settings.load_profile("blemish")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Weights and compiled graphs of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLEMISH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def in_f32():
    """Fits do not try bf16, for which they would compile two more graphs each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.inference.has_bf16", lambda: False)
        yield


@pytest.fixture(scope="session")
def real_data():
    """Folder of real images; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real images of ../shared/data, which are not here")
    return SHARED / "data"


@pytest.fixture(scope="session")
def real_weights():
    """Real ResNet-18 weights."""
    weights = SHARED / "weights" / "resnet18.tv_in1k.layers1-3.safetensors"
    if not weights.is_file():
        pytest.skip("needs the ResNet-18 weights of ../shared/weights, which are not here")
    return weights
