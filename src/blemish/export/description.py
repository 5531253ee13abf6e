"""What stands beside an exported graph: `model.json`, and an example that uses it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template

import blemish
from blemish.backbones.backbone import INPUT_NAME
from blemish.export.folder import FORMAT
from blemish.export.points import described_calibration, described_points
from blemish.graph import MAP, SCORE, graph_outputs
from blemish.model import Model
from blemish.preprocessing import Preprocessing
from blemish.scoring import ceiling

VERSION = 1
"""Of the format of `model.json`."""

IMAGE_RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
PIXEL_RATES = (0.01, 0.001, 0.0001, 0.00001)

_UNITS = {
    "gaussian": "Mahalanobis distance",
    "hybrid": "half of the Mahalanobis distance and a Chebyshev bound",
    "hybrid-calibrated": "distance and deviation on one scale, that of the Mahalanobis distance",
}
_BOUND = "Chebyshev bound"

_RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
_RUNS = {
    "onnx": 'session = onnxruntime.InferenceSession(str(folder / "model.onnx"))\n'
    'score = float(session.run(["score"], {"image": image})[0][0])',
    "openvino": 'run = openvino.compile_model(folder / "model.xml", "CPU", '
    '{"INFERENCE_PRECISION_HINT": "f32"})\n'
    'score = float(run({"image": image})["score"][0])',
}
_WEIGHTS = {
    "bicubic": "np.select([x < 1, x < 2], [(1.5 * x - 2.5) * x * x + 1, "
    "(((x - 5) * x + 8) * x - 4) * -0.5])",
    "bilinear": "(1 - x).clip(0)",
}


def describe(
    model: Model, folder: Path, names: Sequence[str], *, target: str, precision: str
) -> dict[str, object]:
    """All that a program needs to know to use an exported graph, as plain data.

    Parameters
    ----------
    model : Model
    folder : Path
        Where the files lie whose checksums go in.
    names : sequence of str
        Of these files.
    target : {"onnx", "openvino"}
    precision : {"fp32", "fp16", "int8"}
    """
    height, width = model.size
    backbone = model.backbone
    return {
        "format": FORMAT,
        "version": VERSION,
        "written_by": blemish.__version__,
        "target": target,
        "precision": precision,
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        "input": {
            "name": INPUT_NAME,
            "dtype": "float32",
            "shape": ["N", 3, height, width],
            "colour": "RGB",
            "range": [0, 1],
        },
        "outputs": _outputs(model),
        "preprocessing": _preprocessing(model.preprocessing, model.settings.value_range),
        "score": {
            "name": model.settings.score,
            "unit": _unit(model),
            "top_k": model.settings.top_k,
            "top_k_counts": "positions of every layer" if _is_separate(model) else "pixels",
        },
        **described_points(model.operating_points, model.calibration, model.highest_score),
        "thresholds": _thresholds(model),
        "highest_score": model.highest_score,
        "images_learned_from": model.count,
        "bf16_drift": model.fitted.bf16_drift,
        "backbone": {
            "name": backbone.name,
            "source": backbone.source,
            "licence": backbone.licence,
            "sha256": backbone.sha256,
        },
        "calibration": described_calibration(model.calibration, model.digests),
    }


def example(model: Model, target: str) -> str:
    """Python program that judges an image by the export; needs NumPy and the runtime only."""
    template = files("blemish.export").joinpath("example.py.txt").read_text(encoding="utf-8")
    return Template(template).substitute(
        runtime=_RUNTIMES[target],
        version=VERSION,
        weights=_WEIGHTS[model.preprocessing.interpolation],
        run=_RUNS[target],
    )


def _is_separate(model: Model) -> bool:
    """Whether the layers are judged one by one, and their scores put together."""
    return model.fitted.weights is not None


def _is_standardised(model: Model) -> bool:
    return any(part.standardisation is not None for part in model.parts)


def _unit(model: Model) -> str:
    """What map and image score are measured in, and where they end."""
    unit = _UNITS.get(model.settings.score, _BOUND)
    if _is_separate(model):
        each = "standardised scores" if _is_standardised(model) else "scores"
        return (
            f"weighted sum of the {each} of the layers ({unit}), each divided by what it spreads "
            "over good images; the image score is the same of their highest positions"
        )
    if _is_standardised(model):
        return f"{unit}, standardised to that of the average position: 0 and up"
    most = ceiling(model.settings.score, model.settings.chebyshev_scale)
    if most is not None:
        return f"{unit}: 0 is normal, at most {most:.6g}"
    if model.settings.score == "gaussian":
        return f"{unit}: 0 is the mean of good images, no upper bound"
    return f"{unit}: 0 and up, no upper bound"


def _level_meaning(model: Model) -> str:
    if not _is_separate(model):
        return "what this layer contributes, row by row"
    each = "standardised score" if _is_standardised(model) else "score"
    return f"{each} of this layer by itself, row by row"


def _outputs(model: Model) -> dict[str, object]:
    grids = list(zip(model.level_names, model.pyramid.grids, strict=True))
    found: dict[str, object] = {
        MAP: {
            "shape": ["N", 1, *model.size],
            "meaning": "anomaly map; a pixel at or above pixel_threshold is anomalous",
        },
        SCORE: {
            "shape": ["N"],
            "meaning": "image score; an image at or above threshold is anomalous",
        },
    }
    names = graph_outputs(len(grids))[2:]
    for name, (layer, grid) in zip(names, grids, strict=True):
        found[name] = {
            "shape": ["N", grid[0] * grid[1]],
            "layer": layer,
            "grid": list(grid),
            "meaning": _level_meaning(model),
        }
    return found


def _preprocessing(
    how: Preprocessing, value_range: tuple[float, float] | None
) -> dict[str, object]:
    crop = how.size
    steps = ["decode to RGB; gray is repeated for three channels"]
    if how.roi is not None:
        steps.append("cut out the region of interest: roi is x, y, width, height")
    if isinstance(how.resize, int):
        steps.append(f"resize the shorter side to {how.resize}, the other in proportion, rounded")
        steps[-1] += " down"
    elif how.resize is not None:
        steps.append(f"resize to {how.resize[0]}x{how.resize[1]} (height x width)")
    if how.resize is not None:
        steps[-1] += (
            f", {how.interpolation} with antialiasing as Pillow's Image.resize, 8-bit images in "
            "8 bits"
        )
    if how.crop is not None:
        steps.append(f"cut {crop[0]}x{crop[1]} out of the middle, offsets rounded half to even")
    steps.append("divide by 255 (deeper images by what is white) to float32 in 0..1")
    steps.append("put the channels first; mean and standard deviation are dealt with inside")
    return {
        "roi": None if how.roi is None else list(how.roi),
        "resize": list(how.resize) if isinstance(how.resize, tuple) else how.resize,
        "crop": list(crop),
        "interpolation": how.interpolation,
        "antialias": True,
        "value_range": None if value_range is None else list(value_range),
        "steps": steps,
    }


def _thresholds(model: Model) -> dict[str, object]:
    """Thresholds for several false-alarm rates, that of the fit among them."""
    settings = model.settings
    image_rates = sorted({*IMAGE_RATES, settings.false_alarm_rate}, reverse=True)
    pixel_rates = sorted({*PIXEL_RATES, settings.pixel_false_alarm_rate}, reverse=True)
    image = [
        {
            **asdict(threshold),
            "interval": list(threshold.interval),
            "reachable": model.can_alarm(threshold),
        }
        for threshold in map(model.threshold, image_rates)
    ]
    pixel = [
        {"false_alarm_rate": rate, "value": model.pixel_threshold(rate)} for rate in pixel_rates
    ]
    return {"image": image, "pixel": pixel}
