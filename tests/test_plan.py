import subprocess
import sys

import pytest

from blemish.backbones import load_backbone
from blemish.generated import draw_product
from blemish.plan import plan_fit
from blemish.pyramid import Pyramid

GRIDS = ((14, 14), (28, 28), (56, 56))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("builtin")


def memory_of(dims, backbone, **kind):
    return plan_fit([Pyramid(GRIDS, dims)], 60, backbone=backbone, **kind).memory_bytes


def test_memory_does_not_depend_on_the_number_of_images(backbone):
    few, many = (
        plan_fit([Pyramid(GRIDS, (64, 32, 16))], images, backbone=backbone)
        for images in (500, 3000)
    )
    assert few.memory_bytes == many.memory_bytes


def test_whitening_is_counted_only_where_it_is_held(backbone, monkeypatch):
    held = memory_of((256, 128, 64), backbone)
    monkeypatch.setattr("blemish.plan.HELD_WHITENING_BYTES", 0)
    moments = 8 * (196 * 256 * 256 + 784 * 128 * 384 + 3136 * 64 * 448)
    assert held - memory_of((256, 128, 64), backbone) == moments


def test_wide_models_fit_into_3_gigabytes(backbone):
    network = 4 * 100_000_000  # of WideResNet-50-2 up to layer 3
    assert memory_of((318, 160, 72), backbone) + network < 3e9


def test_norms_need_the_moments_of_a_batch_besides(backbone):
    assert memory_of((318, 160, 72), backbone, norms=True) > 2 * 8 * 200_000_000


def test_a_shared_gaussian_needs_little(backbone):
    assert memory_of((318, 160, 72), backbone, shared=True) < 1e9


PEAK_OF = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
def test_the_planned_memory_is_about_the_real_one(backbone, tmp_path):
    import cv2

    for number in range(20):
        image = draw_product("plate", index=number).image
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    command = [sys.executable, "-m", "blemish", "fit", str(tmp_path), "--quiet"]
    command += ["--preset", "paper", "--reduction", "none", "--out", str(tmp_path / "a.blemish")]
    # by a small process in between: a child begins with the peak of the one it was forked from
    found = subprocess.run(
        [sys.executable, "-c", PEAK_OF, *command], capture_output=True, text=True, check=True
    )
    channels = [layer.channels for layer in backbone.layers]
    planned = memory_of(tuple(channels[::-1]), backbone)
    assert planned == pytest.approx(1024 * int(found.stdout), rel=0.25)
