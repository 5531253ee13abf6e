"""Model <-> one ``.blemish`` file.

A safetensors file, so no code is ever run by loading one: numbers under plain names, and one JSON
text with everything else. It holds all that scoring needs, the network included, and all that
later updates need. Equal models give equal bytes.

    metadata["blemish"]         JSON: format version, settings, preprocessing, checksum ...
    backbone                    uint8: the ONNX graph
    moments.<level>.mean        48-bit floats, see `packing`
    moments.<level>.left, .own  scatter against coarser channels, and lower triangle of the own
    embedding.<layer>.*         kept channels, or projection
    calibration.*, statistics.* float64
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import blemish
from blemish.arrays import Float64Array, UInt8Array
from blemish.backbones import Backbone, Layer
from blemish.calibration import Calibration
from blemish.embedding import Embedding
from blemish.errors import ModelFileError, OutputError
from blemish.fitted import Fitted
from blemish.gaussian import Regularisation
from blemish.moments import Moments
from blemish.norm_moments import NormMoments
from blemish.packing import (
    Kept,
    Packed,
    Tensor,
    pack,
    pieces_of,
    row_slices,
    safetensors_pieces,
    unpack,
)
from blemish.preprocessing import Preprocessing
from blemish.pyramid import Pyramid
from blemish.scorer import ScoreStatistics
from blemish.settings import FitSettings
from blemish.writing import write_pieces

FORMAT_VERSION = 1
_KEY = "blemish"
_LARGE = (".left", ".own")
"""Tensors that are read and written piece by piece: the scatter can take gigabytes."""

Tensors = dict[str, Any]
"""By name: arrays, or what is made or read piece by piece (`Packed`, `Kept`)."""


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
        **_moment_tensors(model.moments),
        **_embedding_tensors(model.embedding),
        **_calibration_tensors(model),
    }
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
        return _fitted(header, tensors), header
    except MemoryError:
        raise
    except Exception as error:  # whole by its checksum, and still no model: name the file
        raise ModelFileError(
            f"{path} must hold a whole model, but does not ({type(error).__name__}: {error}). "
            "Fit the model again, or restore the file."
        ) from error


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
            header = _checked_header(path, metadata)
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
    except SafetensorError as error:
        raise ModelFileError(
            f"{path} must be a model file, but is damaged or something else. "
            "Name a file made by blemish fit, or fit the model again."
        ) from error
    if header.get("checksum") != checksum:
        raise ModelFileError(
            f"{path} must be as it was written, but its checksum differs: it is damaged. "
            "Restore it, or fit the model again."
        )
    return header, tensors


def _checked_header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise ModelFileError(
            f"{path} must be a model made by blemish fit, but is another safetensors file. "
            "Weights go to blemish fit --weights."
        )
    try:
        header: dict[str, Any] = json.loads(metadata[_KEY])
        found = int(header["version"])
        writer = str(header["written_by"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{path} must describe its model, but the description is damaged. "
            "Restore it, or fit the model again."
        ) from error
    if found > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} must have format version {FORMAT_VERSION} or older, but has {found}: it "
            f"was written by blemish {writer[:20]!r}. Install that version or a newer one."
        )
    return header


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
    backbone, moments = model.backbone, model.moments
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
        "embedding": {"layer_sums": model.embedding.layer_sums, "dims": model.embedding.dims},
        "pyramid": {"grids": moments.pyramid.grids, "dims": moments.pyramid.dims},
        "moments": {"count": moments.count, "shared": moments.shared},
        "regularisation": {
            "weight": model.regularisation.weight,
            "ridge": model.regularisation.ridge,
        },
        "statistics": {
            "distance_scale": model.statistics.distance_scale,
            "deviation_scale": model.statistics.deviation_scale,
        },
        "bf16_drift": model.bf16_drift,
    }


def _moment_tensors(moments: Moments) -> Tensors:
    tensors: Tensors = {}
    for level, (mean, scatter) in enumerate(zip(moments.means, moments.scatters, strict=True)):
        tensors[f"moments.{level}.mean"] = pack(mean)
        tensors[f"moments.{level}.left"] = Packed(scatter, _left)
        tensors[f"moments.{level}.own"] = Packed(scatter, _own_triangle)
    if moments.norms is not None:
        tensors["moments.cubes"] = moments.norms.cubes
        tensors["moments.quartics"] = moments.norms.quartics
    if moments.weights is not None:
        tensors["moments.weights"] = moments.weights
    return tensors


def _left(rows: Float64Array) -> Float64Array:
    """Scatter (p, d, D) against what is coarser."""
    return rows[:, :, : -rows.shape[1]]


def _own_triangle(rows: Float64Array) -> Float64Array:
    """Lower triangle (p, d (d + 1) / 2) of the own block of a scatter (p, d, D)."""
    own = rows.shape[1]
    below, along = np.tril_indices(own)
    return rows[:, below, along + rows.shape[2] - own]


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
    if model.statistics.rank_means is not None and model.statistics.rank_squares is not None:
        tensors["statistics.rank_means"] = model.statistics.rank_means
        tensors["statistics.rank_squares"] = model.statistics.rank_squares
    if model.ignored is not None:
        tensors["ignored"] = model.ignored
    return tensors


def _fitted(header: dict[str, Any], tensors: Tensors) -> Fitted:
    described = header["backbone"]
    backbone = Backbone(
        described["name"],
        tensors["backbone"].tobytes(),
        tuple(Layer(*layer) for layer in described["layers"]),
        described["source"],
        described["licence"],
        described["default_dims"],
        _floats(described["mean"]),
        _floats(described["std"]),
    )
    statistics = header["statistics"]
    return Fitted(
        settings=FitSettings.from_json(header["settings"]),
        backbone=backbone,
        preprocessing=Preprocessing.from_json(header["preprocessing"]),
        embedding=_embedding(header, tensors, len(backbone.layers)),
        moments=_moments(header, tensors),
        regularisation=Regularisation(**header["regularisation"]),
        statistics=ScoreStatistics(
            _pair(statistics["distance_scale"]),
            _pair(statistics["deviation_scale"]),
            tensors.get("statistics.rank_means"),
            tensors.get("statistics.rank_squares"),
        ),
        calibration=Calibration(
            tensors["calibration.scores"], tensors["calibration.pixel_quantiles"]
        ),
        ignored=tensors.get("ignored"),
        bf16_drift=header.get("bf16_drift"),
    )


def _moments(header: dict[str, Any], tensors: Tensors) -> Moments:
    pyramid = Pyramid(
        tuple((h, w) for h, w in header["pyramid"]["grids"]), tuple(header["pyramid"]["dims"])
    )
    norms = "moments.cubes" in tensors
    moments = Moments(
        pyramid,
        shared=header["moments"]["shared"],
        weights=tensors.get("moments.weights"),
        norms=norms,
    )
    moments.count = header["moments"]["count"]
    for level, scatter in enumerate(moments.scatters):
        moments.means[level][:] = unpack(tensors[f"moments.{level}.mean"])
        _fill(scatter, tensors[f"moments.{level}.left"], tensors[f"moments.{level}.own"])
    if norms:
        moments.norms = NormMoments(tensors["moments.cubes"], tensors["moments.quartics"])
    return moments


def _fill(scatter: Float64Array, left: UInt8Array | Kept, own: UInt8Array | Kept) -> None:
    """Put a scatter (P, d, D) together from what `_left` and `_own_triangle` took of it."""
    dims = scatter.shape[1]
    below, along = np.tril_indices(dims)
    expected = [(*_left(scatter).shape, 6), (len(scatter), len(below), 6)]
    if [left.shape, own.shape] != expected:
        raise ValueError(f"scatters of shape {left.shape} and {own.shape}, not {expected}")
    for rows in row_slices(scatter.shape, scatter.itemsize):
        block = scatter[rows]
        block[:, :, :-dims] = unpack(left[rows])
        triangle = unpack(own[rows])
        block = block[:, :, -dims:]
        block[:, below, along] = triangle
        block[:, along, below] = triangle


def _embedding(header: dict[str, Any], tensors: Tensors, layers: int) -> Embedding:
    return Embedding(
        tuple(tensors.get(f"embedding.{k}.selection") for k in range(layers)),
        tuple(tensors.get(f"embedding.{k}.projection") for k in range(layers)),
        header["embedding"]["layer_sums"],
    )


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def _floats(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
