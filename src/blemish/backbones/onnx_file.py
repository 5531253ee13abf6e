"""Any ONNX feature extractor as a backbone, and a backbone as an ONNX file.

What the graph does not say itself stands in its metadata (`metadata_props`), each value as
JSON under a key that starts with "blemish.", or, without that start, in a JSON file beside
it, named as the graph with ".json" appended (which wins where both say something):

================  ===========================  ================================================
key               example                      meaning
================  ===========================  ================================================
layers            ["layer1", "layer2"]         which values of the graph are the feature maps
                                               (outputs, or values inside); required
mean, std         [0.485, 0.456, 0.406]        what the graph expects its input to be normalised
                                               by, per RGB channel of a 0..1 image
normalisation     "inside" or "outside"        whether the graph itself applies mean and std;
                                               "outside" (default): they are put in front of it
name              "mobilenet"                  default: the file's name
source, licence   "trained by us", "CC0-1.0"   default: the file's name, "not stated"
default_dims      100                          default: the embedding chooses
================  ===========================  ================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from blemish.backbones.backbone import Backbone
from blemish.backbones.layer_numbers import check_layers
from blemish.backbones.onnx_graph import cut_graph, probe_layers, serialise
from blemish.errors import BackboneError
from blemish.writing import write_bytes

if TYPE_CHECKING:
    import onnx

PREFIX = "blemish."
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class _Description:
    """What the metadata say."""

    layers: tuple[str, ...]
    name: str
    source: str
    licence: str
    default_dims: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    normalises_itself: bool


def read_onnx_backbone(path: Path, *, layers: Sequence[int] | None = None) -> Backbone:
    """Make a backbone of an ONNX file; see the top of this module for its metadata.

    Channels and strides are found by inferring the shapes of the feature maps. What the
    layers do not need (a classifier, deeper layers) is cut off.

    Parameters
    ----------
    path : Path
    layers : sequence of int, default all
        Which of the declared layers to use, counted from 1.

    Raises
    ------
    BackboneError
        The file is no ONNX graph, does not say what its layers are, or has an input or
        outputs other than a backbone's.
    """
    model = _read_model(path)
    description = _read_description(path, model)
    count = len(description.layers)
    numbers = check_layers(layers if layers is not None else range(1, count + 1), count)
    wanted = [description.layers[number - 1] for number in numbers]
    inside = description.normalises_itself
    mean_std = None
    if description.mean is not None and description.std is not None and not inside:
        mean_std = (description.mean, description.std)
    cut_graph(model, wanted, mean_std, path)
    found = probe_layers(model, wanted, path)
    return Backbone(
        name=description.name,
        onnx=serialise(model, found),
        layers=found,
        source=description.source,
        licence=description.licence,
        default_dims=description.default_dims,
        mean=description.mean,
        std=description.std,
    )


def write_onnx_backbone(backbone: Backbone, path: Path) -> None:
    """Write a backbone as an ONNX file with metadata; `read_onnx_backbone` gives it back.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import onnx  # noqa: PLC0415 - slow to import
    from onnx import helper  # noqa: PLC0415

    model = onnx.load_from_string(backbone.onnx)
    properties = {
        "layers": [layer.name for layer in backbone.layers],
        "name": backbone.name,
        "source": backbone.source,
        "licence": backbone.licence,
        "default_dims": backbone.default_dims,
        "mean": backbone.mean,
        "std": backbone.std,
        "normalisation": "inside",
    }
    stated = {PREFIX + key: json.dumps(value) for key, value in properties.items()}
    helper.set_model_props(model, stated)
    write_bytes(path, model.SerializeToString(deterministic=True))


def _read_model(path: Path) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415 - slow to import
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise BackboneError(
            f"The backbone must be a file, but {path} does not exist. Check the path, or list "
            "the known names with: blemish backbone list"
        ) from error
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise BackboneError(
            f"The backbone must be an ONNX graph, but {path} is not a valid one ({reason}). "
            "Export it again."
        ) from error
    return model


def _read_description(path: Path, model: onnx.ModelProto) -> _Description:
    stated = _properties(path, model)
    layers = stated.get("layers")
    if not _are_names(layers):
        outputs = ", ".join(output.name for output in model.graph.output)
        raise BackboneError(
            f"An ONNX backbone must say which values are its layers, but {path} has no valid "
            f'"{PREFIX}layers" in its metadata. Its outputs are {outputs}. Write '
            f'{{"layers": ["NAME", ...]}} to {_sidecar(path)}, or set '
            f'"{PREFIX}layers" with onnx.helper.set_model_props.'
        )
    mean, std = _three_numbers(path, stated, "mean"), _three_numbers(path, stated, "std")
    if (mean is None) != (std is None) or (std is not None and min(std) <= 0):
        raise BackboneError(
            f"mean and std must be stated both, with std above 0, but {path} states mean {mean} "
            f'and std {std}. Correct "{PREFIX}mean" and "{PREFIX}std", or {_sidecar(path)}.'
        )
    normalisation = stated.get("normalisation", "outside")
    if normalisation not in ("inside", "outside"):
        raise BackboneError(
            f'normalisation must be "inside" or "outside", but {path} states {normalisation!r}. '
            f'Correct "{PREFIX}normalisation", or {_sidecar(path)}.'
        )
    default_dims = stated.get("default_dims")
    return _Description(
        layers=tuple(layers),
        name=str(stated.get("name", path.stem)),
        source=str(stated.get("source", path.name)),
        licence=str(stated.get("licence", NOT_STATED)),
        default_dims=default_dims if isinstance(default_dims, int) else None,
        mean=mean,
        std=std,
        normalises_itself=normalisation == "inside",
    )


def _are_names(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and len(set(value)) == len(value)
    )


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _properties(path: Path, model: onnx.ModelProto) -> Mapping[str, object]:
    """Metadata of the graph, overridden by the JSON file beside it."""
    found = {}
    for entry in model.metadata_props:
        if entry.key.startswith(PREFIX):
            found[entry.key.removeprefix(PREFIX)] = _json(entry.value, f"{entry.key} of {path}")
    sidecar = _sidecar(path)
    if sidecar.is_file():
        beside = _json(sidecar.read_text(encoding="utf-8", errors="replace"), str(sidecar))
        if not isinstance(beside, dict):
            raise BackboneError(
                f"{sidecar} must hold a JSON object, but holds a {type(beside).__name__}. "
                'Write for example {"layers": ["layer1", "layer2"]}.'
            )
        found.update(beside)
    return found


def _json(text: str, where: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise BackboneError(
            f"Metadata must be JSON, but {where} is {text[:40]!r} ({error}). "
            "Put text in double quotes and lists in brackets."
        ) from error
    return value


def _three_numbers(
    path: Path, stated: Mapping[str, object], key: str
) -> tuple[float, float, float] | None:
    value = stated.get(key)
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 3:
        numbers = [item for item in value if isinstance(item, (int, float))]
        if len(numbers) == 3 and all(abs(number) < 1e6 for number in numbers):
            return (float(numbers[0]), float(numbers[1]), float(numbers[2]))
    raise BackboneError(
        f"{key} must be 3 numbers (red, green, blue), but {path} states {value!r}. "
        f'Correct "{PREFIX}{key}", or {_sidecar(path)}.'
    )
