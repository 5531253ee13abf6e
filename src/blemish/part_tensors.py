"""A part of a model in its file: numbers under plain names, and a description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from blemish.arrays import Float64Array, UInt8Array
from blemish.fitted import Part
from blemish.gaussian import Regularisation
from blemish.moments import Moments
from blemish.norm_moments import NormMoments
from blemish.packing import Kept, Packed, Tensors, pack, row_slices, unpack
from blemish.pyramid import Pyramid
from blemish.scorer import ScoreStatistics
from blemish.standardisation import Standardisation


def part_header(part: Part) -> dict[str, Any]:
    """All of a part but its arrays, as plain data."""
    moments, statistics = part.moments, part.statistics
    return {
        "pyramid": {"grids": moments.pyramid.grids, "dims": moments.pyramid.dims},
        "moments": {"count": moments.count, "shared": moments.shared},
        "regularisation": {
            "weight": part.regularisation.weight,
            "ridge": part.regularisation.ridge,
        },
        "statistics": {
            "distance_scale": statistics.distance_scale,
            "deviation_scale": statistics.deviation_scale,
        },
    }


def part_tensors(number: int, part: Part) -> Tensors:
    """Arrays of a part, by name."""
    tensors = _moment_tensors(part.moments)
    statistics, standardisation = part.statistics, part.standardisation
    if statistics.rank_means is not None and statistics.rank_squares is not None:
        tensors["statistics.rank_means"] = statistics.rank_means
        tensors["statistics.rank_squares"] = statistics.rank_squares
    if standardisation is not None:
        tensors["standardisation.gain"] = standardisation.gain
        tensors["standardisation.offset"] = standardisation.offset
    return {f"{number}.{name}": array for name, array in tensors.items()}


def part_of(number: int, header: Mapping[str, Any], tensors: Tensors) -> Part:
    """Put a part together again."""
    prefix = f"{number}."
    own = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    statistics = header["statistics"]
    return Part(
        moments=_moments(header, own),
        regularisation=Regularisation(**header["regularisation"]),
        statistics=ScoreStatistics(
            _pair(statistics["distance_scale"]),
            _pair(statistics["deviation_scale"]),
            own.get("statistics.rank_means"),
            own.get("statistics.rank_squares"),
        ),
        standardisation=Standardisation(own["standardisation.gain"], own["standardisation.offset"])
        if "standardisation.gain" in own
        else None,
    )


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


def _moments(header: Mapping[str, Any], tensors: Tensors) -> Moments:
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


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])
