"""Model <-> one ``.blemish`` file.

A safetensors file, so no code is ever run by loading one: numbers under plain names, and one JSON
text with everything else. It holds all that scoring needs, the network included, and all that
later updates need. Equal models give equal bytes.

    metadata["blemish"]         JSON: format version, settings, preprocessing, checksum ...
    backbone                    uint8: the ONNX graph
    <part>.moments.<level>.mean 48-bit floats, see `packing`
    <part>.moments.<level>.left, .own
                                scatter against coarser channels, and lower triangle of the own
    <part>.statistics.*, <part>.standardisation.*
                                float64
    embedding.<layer>.*         kept channels, or projection
    calibration.*               float64
    records.*                   of every training image: name, digest, statistics
    mean_image                  float32
    kept.<level>.features       float16: the training images' embeddings, if they are kept; else
    unusual.*                   those of the images of the highest left-out scores
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from blemish.arrays import BoolArray
from blemish.backbones import Backbone, Layer
from blemish.calibration import PIXEL_PROBABILITIES, Calibration
from blemish.combination import PartWeights, part_pyramids
from blemish.embedding import Embedding
from blemish.errors import ModelFileError, OutputError
from blemish.fitted import Fitted
from blemish.image_tensors import (
    alignment_of,
    check_images,
    image_tensors,
    kept_of,
    records_of,
    unusual_images,
)
from blemish.input_size import check_size
from blemish.journal import JournalEntry
from blemish.judge import counted_positions
from blemish.operating_points import points_from_json
from blemish.packing import Kept, Tensor, Tensors, pieces_of, safetensors_pieces
from blemish.part_tensors import check_floats, check_part, part_header, part_of, part_tensors
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.rejected import Rejected
from blemish.settings import FitSettings
from blemish.writing import write_pieces

FORMAT_VERSION = 3
_FEWEST_IMAGES = 3
_WINDOWS = (1, 3, 4)
_KEY = "blemish"
_LARGE = (".left", ".own", ".features")
"""Tensors that are read and written piece by piece: they can take gigabytes."""


def write_model(model: Fitted, path: Path) -> None:
    """Write a model in one step: the old file stays until the new one is complete.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    if path.is_dir():
        raise OutputError(f"{path} must be a file to write, but is a folder. Name a file in it.")
    tensors: Tensors = {
        "backbone": np.frombuffer(model.backbone.onnx, dtype=np.uint8),
        **_embedding_tensors(model.embedding),
        **_calibration_tensors(model),
        **image_tensors(model),
    }
    for number, part in enumerate(model.parts):
        tensors.update(part_tensors(number, part))
    header = _header(model)
    header["checksum"] = _checksum(header, tensors)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    write_pieces(path, safetensors_pieces(tensors, {_KEY: text}), durable=True)


def read_model(path: Path) -> tuple[Fitted, dict[str, Any]]:
    """Read what a fit has found, and the description that stands in the file.

    Raises
    ------
    ModelFileError
        The file is missing, no model, damaged, or written by a newer version.
    """
    header, tensors = _read(path)
    try:
        fitted = _fitted(header, tensors)
        _check(fitted)
        return fitted, header
    except MemoryError:
        raise
    except Exception as error:  # whole by its checksum, and still no model: name the file
        raise ModelFileError(
            f"{path} must hold a whole model, but does not ({type(error).__name__}: {error}). "
            "Fit the model again, or restore the file."
        ) from error


def checksum_of(path: Path) -> str | None:
    """Checksum that stands in a model file, by its description alone; None if it is none."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - slow to import

    try:
        with safe_open(path, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})[_KEY])["checksum"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - slow to import

    if not path.is_file():
        what = "does not exist"
        if path.exists():
            what = "is a folder" if path.is_dir() else "is no regular file"
        raise ModelFileError(f"{path} must be a model file, but {what}. Make one: blemish fit.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            header, found = _checked_header(path, metadata)
            tensors = {
                name: Kept.of(file, name) if name.endswith(_LARGE) else file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
            }
            checksum = _checksum(header, tensors)
    except OSError as error:
        raise ModelFileError(
            f"{path} must be a file that can be read, but: {error.strerror or error}. "
            "Check its permissions."
        ) from error
    except (SafetensorError, AttributeError) as error:  # or numbers that NumPy has no type for
        raise ModelFileError(
            f"{path} must be a model file, but is damaged or something else. "
            "Name a file made by blemish fit, or fit the model again."
        ) from error
    if header.get("checksum") != checksum:
        raise ModelFileError(
            f"{path} must be as it was written, but its checksum differs: it is damaged. "
            "Restore it, or fit the model again."
        )
    if found < FORMAT_VERSION:
        raise ModelFileError(
            f"{path} must have format version {FORMAT_VERSION}, but has {found}, which "
            "no release has written. Fit the model again."
        )
    return header, tensors


def _checked_header(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """Description of the model, and its format version."""
    if _KEY not in metadata:
        raise ModelFileError(
            f"{path} must be a model made by blemish fit, but is another safetensors file. "
            "Weights go to blemish fit --weights."
        )
    try:
        header: dict[str, Any] = json.loads(metadata[_KEY])
        found = int(header["version"])
        writer = str(header["written_by"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            f"{path} must describe its model, but the description is damaged. "
            "Restore it, or fit the model again."
        ) from error
    if found > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} must have format version {FORMAT_VERSION} or older, but has {found}: it "
            f"was written by blemish {writer[:20]!r}. Install that version or a newer one."
        )
    return header, found


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash of everything but itself: a flipped bit anywhere is found."""
    described = {name: value for name, value in header.items() if name != "checksum"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        for piece in pieces_of(tensor):
            digest.update(piece)
    return digest.hexdigest()


def _header(model: Fitted) -> dict[str, Any]:
    backbone = model.backbone
    return {
        "version": FORMAT_VERSION,
        "written_by": blemish.__version__,
        "libraries": {name: version(name) for name in ("numpy", "openvino", "pillow")},
        "settings": model.settings.to_json(),
        "preprocessing": model.preprocessing.to_json(),
        "backbone": {
            "name": backbone.name,
            "sha256": backbone.sha256,
            "layers": [[la.name, la.channels, la.stride] for la in backbone.layers],
            "source": backbone.source,
            "licence": backbone.licence,
            "default_dims": backbone.default_dims,
            "mean": backbone.mean,
            "std": backbone.std,
        },
        "embedding": {
            "layer_sums": model.embedding.layer_sums,
            "averaging": model.embedding.averaging,
            "dims": model.embedding.dims,
        },
        "parts": [part_header(part) for part in model.parts],
        "weights": model.weights and {"map": model.weights.map, "image": model.weights.image},
        "alignment": model.alignment
        and {
            "kind": model.alignment.kind,
            "least_correlation": model.alignment.least_correlation,
        },
        "bf16_drift": model.bf16_drift,
        "approximate": model.calibration.approximate,
        "rejected": model.rejected and model.rejected.to_json(),
        "journal": [entry.to_json() for entry in model.journal],
        "operating_points": [point.to_json() for point in model.operating_points],
    }


def _embedding_tensors(embedding: Embedding) -> Tensors:
    tensors: Tensors = {}
    for layer, (selection, projection) in enumerate(
        zip(embedding.selections, embedding.projections, strict=True)
    ):
        if selection is not None:
            tensors[f"embedding.{layer}.selection"] = selection
        if projection is not None:
            tensors[f"embedding.{layer}.projection"] = np.ascontiguousarray(projection)
    return tensors


def _calibration_tensors(model: Fitted) -> Tensors:
    tensors: Tensors = {
        "calibration.scores": model.calibration.scores,
        "calibration.pixel_quantiles": model.calibration.pixel_quantiles,
    }
    if model.ignored is not None:
        tensors["ignored"] = model.ignored
    return tensors


def _fitted(header: dict[str, Any], tensors: Tensors) -> Fitted:
    settings = FitSettings.from_json(header["settings"])
    backbone = _backbone(header["backbone"], tensors)
    preprocessing = Preprocessing.from_json(header["preprocessing"])
    embedding = _embedding(header["embedding"], tensors, backbone)
    whole = _pyramid(backbone, preprocessing, embedding)
    pyramids = part_pyramids(whole, separate=settings.separate)
    if len(header["parts"]) != len(pyramids):
        raise ValueError(f"{len(header['parts'])} parts, not {len(pyramids)}")
    weights, ignored = header["weights"], _ignored(tensors, preprocessing.size)
    return Fitted(
        settings=settings,
        backbone=backbone,
        preprocessing=preprocessing,
        embedding=embedding,
        parts=tuple(
            part_of(k, part, tensors, pyramid, counted_positions(pyramid, ignored))
            for k, (part, pyramid) in enumerate(zip(header["parts"], pyramids, strict=True))
        ),
        weights=None
        if weights is None
        else PartWeights(tuple(weights["map"]), tuple(weights["image"])),
        calibration=Calibration(
            tensors["calibration.scores"],
            tensors["calibration.pixel_quantiles"],
            bool(header["approximate"]),
        ),
        records=records_of(tensors),
        rejected=header["rejected"] and Rejected.from_json(header["rejected"]),
        mean_image=tensors["mean_image"],
        alignment=alignment_of(header["alignment"], tensors),
        kept=kept_of(tensors, whole.levels),
        unusual=unusual_images(tensors, whole.levels),
        journal=tuple(JournalEntry.from_json(entry) for entry in header["journal"]),
        operating_points=points_from_json(header["operating_points"]),
        ignored=ignored,
        bf16_drift=header.get("bf16_drift"),
    )


def _backbone(described: Mapping[str, Any], tensors: Tensors) -> Backbone:
    return Backbone(
        described["name"],
        tensors["backbone"].tobytes(),
        tuple(Layer(*layer) for layer in described["layers"]),
        described["source"],
        described["licence"],
        described["default_dims"],
        _floats(described["mean"]),
        _floats(described["std"]),
    )


def _embedding(described: Mapping[str, Any], tensors: Tensors, backbone: Backbone) -> Embedding:
    layers = range(len(backbone.layers))
    embedding = Embedding(
        tuple(tensors.get(f"embedding.{k}.selection") for k in layers),
        tuple(tensors.get(f"embedding.{k}.projection") for k in layers),
        described["layer_sums"],
        tuple(described["averaging"]),
    )
    if list(embedding.dims) != described["dims"]:
        raise ValueError(f"kept dimensions {embedding.dims}, not {described['dims']}")
    if not set(embedding.averaging) <= set(_WINDOWS):
        raise ValueError(f"windows of {embedding.averaging}, not {_WINDOWS}")
    for layer, kept, projection in zip(
        backbone.layers, embedding.selections, embedding.projections, strict=True
    ):
        if kept is not None and not np.isin(kept, np.arange(layer.channels)).all():
            raise ValueError(f"{layer.name} has not all of the kept channels")
        if projection is not None and len(projection) != layer.channels:
            raise ValueError(f"{layer.name} is projected from {len(projection)} channels")
    return embedding


def _pyramid(backbone: Backbone, preprocessing: Preprocessing, embedding: Embedding) -> Pyramid:
    """Grids and dimensions that the model must have."""
    height, width = preprocessing.size
    strides = [layer.stride for layer in backbone.layers]
    check_size((height, width), strides)
    return embedding.pyramid([(height // stride, width // stride) for stride in strides])


def _ignored(tensors: Tensors, size: tuple[int, int]) -> BoolArray | None:
    ignored: BoolArray | None = tensors.get("ignored")
    if ignored is not None and (ignored.dtype != np.bool_ or ignored.shape != tuple(size)):
        raise ValueError(f"ignored pixels are {ignored.dtype} {ignored.shape}, not bool {size}")
    return ignored


def _check(fitted: Fitted) -> None:
    """Refuse what no fit finds: it would fail when used, or score wrongly."""
    counts = [part.moments.count for part in fitted.parts]
    if type(counts[0]) is not int or counts[0] < _FEWEST_IMAGES or set(counts) != {counts[0]}:
        raise ValueError(f"parts of {counts} images, not all of the same 3 or more")
    for part in fitted.parts:
        check_part(part, fitted.settings)
    weights = fitted.weights
    if (weights is not None) != fitted.settings.separate:
        raise ValueError(f"separate is {fitted.settings.separate}, but the weights are {weights}")
    for values in () if weights is None else (weights.map, weights.image):
        if not _are_weights(values, len(fitted.parts)):
            raise ValueError(f"weights of {values} for {len(fitted.parts)} parts")
    calibration = fitted.calibration
    check_floats("calibration scores", calibration.scores, (fitted.count,))
    check_floats("pixel quantiles", calibration.pixel_quantiles, PIXEL_PROBABILITIES.shape)
    check_images(fitted)


def _are_weights(values: Sequence[object], parts: int) -> bool:
    return (
        len(values) == parts
        and all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values)
        and any(values)
    )


def _floats(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
