"""Side by side with a straightforward PaDiM in PyTorch, in an environment that has torch.

Run as a program, it measures and prints JSON; `tables` runs it with the interpreter of the
environment `.venv-torch` (see `make test-torch`), if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.materials import Materials
from benchmarks.measure import alternate, output_of
from benchmarks.tables import Table, milliseconds, verdict

import blemish
from blemish.cores import cores, one_blas_thread
from blemish.engines.engine import EngineSettings
from blemish.images import read_image
from blemish.inference import precision_of
from blemish.model import Model

TITLE = "Beside a straightforward PaDiM in PyTorch"
LEAST_TIMES = {"auto": 12.0, "f32": 2.5}
MOST_APART = 0.01
TORCH_PYTHON, ANOMALIB_PYTHON = "BLEMISH_BENCH_TORCH", "BLEMISH_BENCH_ANOMALIB"
_OWN_ENVIRONMENT = Path(".venv-torch/bin/python")
_SIDE, _FITTED, _COMPARED = 256, 80, 16

_THEIRS = {
    "plain": "PyTorch, fp32",
    "copied": "the same, deviations made contiguous",
    "trunk": "of which ResNet-18",
}

_ANOMALIB = """
import statistics, time, torch
from anomalib.models.image.padim.torch_model import PadimModel
torch.set_num_threads({threads})
model = PadimModel(layers=["layer1", "layer2", "layer3"], backbone="resnet18", pre_trained=False)
model.gaussian.mean = torch.zeros(100, 4096)
model.gaussian.inv_covariance = torch.eye(100).repeat(4096, 1, 1)
model.eval()
image, taken = torch.rand(1, 3, 256, 256), []
with torch.inference_mode():
    for _ in range(40):
        start = time.perf_counter()
        model(image)
        taken.append(time.perf_counter() - start)
print(statistics.median(taken[10:]))
"""


def torch_python() -> str | None:
    """Interpreter that has torch: named by the environment, in `.venv-torch`, or this one."""
    if named := os.environ.get(TORCH_PYTHON):
        return named
    if _OWN_ENVIRONMENT.is_file():
        return str(_OWN_ENVIRONMENT)
    return sys.executable if find_spec("torch") else None


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure, where there is torch."""
    python = torch_python()
    if python is None:
        note = "Not measured here: no environment with torch. `make test-torch` makes one."
        return [Table("", [], [], [note])]
    say("PyTorch")
    command = [python, "-m", "benchmarks.against_torch", str(materials.weights)]
    command += map(str, materials.train[: _FITTED + _COMPARED])
    found = json.loads(output_of(command, {"OPENBLAS_NUM_THREADS": "1"}))
    rows = [
        [label, milliseconds(found["seconds"][way]), "", "", ""] for way, label in _THEIRS.items()
    ]
    for way, label in (("auto", f"Blemish, auto ({found['auto']})"), ("f32", "Blemish, f32")):
        plain, copied = (found["times"][way][other] for other in ("plain", "copied"))
        bar = f">= {LEAST_TIMES[way]:g}: {verdict(plain, at_least=LEAST_TIMES[way])}"
        taken = milliseconds(found["seconds"][way])
        rows.append([label, taken, f"{plain:.1f}", f"{copied:.1f}", bar])
    apart = found["apart"]
    agree = verdict(apart, at_most=MOST_APART)
    notes = [
        f"ResNet-18, 100 dimensions, 256x256, one uint8 image in memory -> map and score, "
        f"{found['threads']} threads each, torch {found['torch_version']}. Both are fitted to the "
        f"same {_FITTED} images with the same channels. Their scores of {_COMPARED} other images "
        f"differ by at most {apart:.1e} relative (bar: <= {MOST_APART:g}, {agree}), and by "
        f"{found['median_apart']:.1e} in the median; the maps differ in how the blur treats the "
        "borders (PyTorch: mirrored without repeating the last pixel; Blemish: with).",
        anomalib(say),
    ]
    header = ["what", "ms", "times faster than PyTorch", "than with contiguous deviations", "bar"]
    return [Table("One image at batch 1", header, rows, notes)]


def anomalib(say: Callable[[str], None]) -> str:
    """What anomalib takes, if an environment with it is named; in a process of its own."""
    python = os.environ.get(ANOMALIB_PYTHON)
    if not python:
        return f"anomalib: not measured here ({ANOMALIB_PYTHON} names no interpreter that has it)."
    say("anomalib")
    seconds = float(output_of([python, "-c", _ANOMALIB.format(threads=cores())]))
    return f"anomalib, same task from a float tensor on, own process: {milliseconds(seconds)} ms."


def compare(weights: Path, files: list[Path]) -> dict[str, Any]:
    """Fit both, time both side by side, and see how far their scores are apart."""
    import torch  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    torch.set_num_threads(cores())
    images: list[Any] = [read_image(path) for path in files]
    settings = blemish.FitSettings(backbone="resnet18", size=(_SIDE, _SIDE), dims=100)
    fitted = blemish.fit(files[:_FITTED], settings, weights=weights)
    ours = {way: Model(fitted.fitted, EngineSettings(precision=way)) for way in LEAST_TIMES}
    theirs = torch_calls(weights, fitted, images[:_FITTED])
    scores = np.array([theirs["plain"](image) for image in images[_FITTED:]])
    own = np.array([ours["f32"].score(image).image_score for image in images[_FITTED:]])
    apart = np.abs(own / scores - 1)
    calls: dict[str, Callable[[], object]] = {
        **{way: partial(call, images[-1]) for way, call in theirs.items()},
        **{way: partial(model.score, images[-1]) for way, model in ours.items()},
    }
    timings = alternate(calls, turns=10, block=4, warm=3, pause=0.2)
    return {
        "auto": precision_of(fitted.fitted, ours["auto"].engine),
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "seconds": {name: timings.median(name) for name in calls},
        "times": {
            way: {other: timings.ratio(other, way) for other in ("plain", "copied")} for way in ours
        },
        "apart": float(apart.max()),
        "median_apart": float(np.median(apart)),
    }


def torch_calls(
    weights: Path, fitted: Model, images: list[Any]
) -> dict[str, Callable[[Any], object]]:
    """PaDiM of PyTorch in two ways, fitted to images with the channels of a model, and its trunk.

    Each call takes one uint8 image; the first two give its score.
    """
    import torch  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
    from benchmarks.torch_padim import TorchPadim  # noqa: PLC0415

    def tensor(image: Any) -> Any:
        return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255

    def score(padim: Any, image: Any) -> float:
        with torch.inference_mode():
            return float(padim(tensor(image))[1])

    def trunk(padim: Any, image: Any) -> None:
        with torch.inference_mode():
            padim.trunk(tensor(image))

    inputs, kept = torch.cat([tensor(image) for image in images]), kept_channels(fitted)
    found: dict[str, Callable[[Any], object]] = {}
    for way in ("plain", "copied"):
        padim = TorchPadim(weights, kept, fitted.settings.epsilon, contiguous=way == "copied")
        padim.fit(inputs)
        found[way] = partial(score, padim)
    return {**found, "trunk": partial(trunk, padim)}


def kept_channels(model: Model) -> list[int]:
    """Channels that a model keeps, counted through its layers, fine to coarse."""
    kept: list[int] = []
    first = 0
    for layer, chosen in zip(model.backbone.layers, model.embedding.selections, strict=True):
        kept += [] if chosen is None else (first + chosen).tolist()
        first += layer.channels
    return kept


def main() -> None:
    """Print what `compare` finds, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    options = parser.parse_args()
    with one_blas_thread():
        print(json.dumps(compare(options.weights, options.images)))


if __name__ == "__main__":
    main()
