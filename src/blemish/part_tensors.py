"""A part of a model in its file: numbers under plain names, and a description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from blemish.arrays import BoolArray, Float64Array, UInt8Array
from blemish.fitted import Part
from blemish.gaussian import Regularisation
from blemish.moments import Moments
from blemish.norm_moments import NormMoments
from blemish.packing import Kept, Packed, Tensors, pack, row_slices, unpack
from blemish.pooling import Running
from blemish.pyramid import Pyramid
from blemish.scorer import ScoreStatistics
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation, standardisation_of


def part_header(part: Part) -> dict[str, Any]:
    """All of a part but its arrays, as plain data."""
    moments, statistics = part.moments, part.statistics
    standardisation = part.standardisation
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
        "standardisation": standardisation and {"images": standardisation.seen.count},
    }


def part_tensors(number: int, part: Part) -> Tensors:
    """Arrays of a part, by name."""
    tensors = _moment_tensors(part.moments)
    statistics, standardisation = part.statistics, part.standardisation
    if statistics.rank_means is not None and statistics.rank_squares is not None:
        tensors["statistics.rank_means"] = statistics.rank_means
        tensors["statistics.rank_squares"] = statistics.rank_squares
    if standardisation is not None:
        tensors["standardisation.mean"] = standardisation.seen.mean
        tensors["standardisation.squares"] = standardisation.seen.squares
    return {f"{number}.{name}": array for name, array in tensors.items()}


def part_of(
    number: int,
    header: Mapping[str, Any],
    tensors: Tensors,
    pyramid: Pyramid,
    counted: BoolArray | None,
) -> Part:
    """Put a part together again; `counted` are the positions that are not ignored.

    Raises
    ------
    Exception
        Of any kind, if the part is not whole, or has not this pyramid.
    """
    prefix = f"{number}."
    own = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
    statistics = header["statistics"]
    return Part(
        moments=_moments(header, own, pyramid),
        regularisation=Regularisation(**header["regularisation"]),
        statistics=ScoreStatistics(
            _pair(statistics["distance_scale"]),
            _pair(statistics["deviation_scale"]),
            own.get("statistics.rank_means"),
            own.get("statistics.rank_squares"),
        ),
        standardisation=_standardisation(header["standardisation"], own, pyramid, counted),
    )


def _standardisation(
    header: Mapping[str, Any] | None, tensors: Tensors, pyramid: Pyramid, counted: BoolArray | None
) -> Standardisation | None:
    if header is None:
        return None
    images, shape = header["images"], (pyramid.positions(-1),)
    _check_numbers("images of the standardisation", (images,))
    if images <= 0:
        raise ValueError(f"a standardisation from {images} images")
    mean, squares = tensors["standardisation.mean"], tensors["standardisation.squares"]
    check_floats("means of the standardisation", mean, shape)
    check_floats("squares of the standardisation", squares, shape)
    if (squares < 0).any():
        raise ValueError("squares of the standardisation below 0")
    return standardisation_of(Running.of(images, mean, squares), counted)


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


def _moments(header: Mapping[str, Any], tensors: Tensors, pyramid: Pyramid) -> Moments:
    described = header["pyramid"]
    grids = tuple((h, w) for h, w in described["grids"])
    if (grids, tuple(described["dims"])) != (pyramid.grids, pyramid.dims):
        raise ValueError(f"levels of {described}, not {pyramid}")
    shared, norms = header["moments"]["shared"], "moments.cubes" in tensors
    _check_octets(tensors, pyramid, shared)
    moments = Moments(pyramid, shared=shared, weights=tensors.get("moments.weights"), norms=norms)
    moments.count = header["moments"]["count"]
    for level, scatter in enumerate(moments.scatters):
        moments.means[level][:] = unpack(tensors[f"moments.{level}.mean"])
        _fill(scatter, tensors[f"moments.{level}.left"], tensors[f"moments.{level}.own"])
    if norms:
        moments.norms = NormMoments(tensors["moments.cubes"], tensors["moments.quartics"])
    return moments


def _check_octets(tensors: Tensors, pyramid: Pyramid, shared: bool) -> None:
    """Compare shapes before any memory is taken: a pyramid may say anything, bytes are there."""
    for level, dims in enumerate(pyramid.dims):
        cells = 1 if shared else pyramid.positions(level)
        expected = {
            "mean": (cells, dims, 6),
            "left": (cells, dims, pyramid.visible(level) - dims, 6),
            "own": (cells, dims * (dims + 1) // 2, 6),
        }
        for name, shape in expected.items():
            found = tensors[f"moments.{level}.{name}"]
            if found.dtype != np.uint8 or found.shape != shape:
                raise ValueError(
                    f"{name} of level {level} is {found.dtype} {found.shape}, not uint8 {shape}"
                )


def _fill(scatter: Float64Array, left: UInt8Array | Kept, own: UInt8Array | Kept) -> None:
    """Put a scatter (P, d, D) together from what `_left` and `_own_triangle` took of it."""
    dims = scatter.shape[1]
    below, along = np.tril_indices(dims)
    for rows in row_slices(scatter.shape, scatter.itemsize):
        block = scatter[rows]
        block[:, :, :-dims] = unpack(left[rows])
        triangle = unpack(own[rows])
        block = block[:, :, -dims:]
        block[:, below, along] = triangle
        block[:, along, below] = triangle


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def check_part(part: Part, settings: FitSettings) -> None:
    """Refuse a part that no fit with these settings has found.

    Raises
    ------
    ValueError
        It would fail when used, or score wrongly.
    """
    moments, pyramid = part.moments, part.moments.pyramid
    positions, dims = pyramid.positions(-1), sum(pyramid.dims)
    if moments.shared is not settings.shared:
        raise ValueError(f"shared is {moments.shared} of the moments, not {settings.shared}")
    cubes, quartics = None, None
    if moments.norms is not None:
        cubes, quartics = moments.norms.cubes, moments.norms.quartics
    has_norms, cells = settings.shrinkage == "ledoit-wolf", len(moments.means[-1])
    _check_kept("cubes", cubes, (cells, dims), has_norms)
    _check_kept("quartics", quartics, (cells,), has_norms)
    _check_numbers("regularisation", (part.regularisation.weight, part.regularisation.ridge))
    _check_statistics(part.statistics, settings.score, (positions, dims))
    if (part.standardisation is not None) != settings.standardise:
        raise ValueError(f"standardise is {settings.standardise}, but the part says otherwise")


def _check_statistics(statistics: ScoreStatistics, score: str, shape: tuple[int, ...]) -> None:
    is_calibrated, has_ranks = score == "hybrid-calibrated", score == "chebyshev-two-stage"
    for scale in (statistics.distance_scale, statistics.deviation_scale):
        if (scale is not None) != is_calibrated:
            raise ValueError(f"scales are {scale} for the score {score}")
        _check_numbers("scales", scale or ())
    _check_kept("rank_means", statistics.rank_means, shape, has_ranks)
    _check_kept("rank_squares", statistics.rank_squares, shape, has_ranks)


def _check_numbers(name: str, values: tuple[float, ...]) -> None:
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise ValueError(f"{name} of {values}, not finite numbers")


def _check_kept(
    name: str, found: Float64Array | None, shape: tuple[int, ...], wanted: bool
) -> None:
    """Refuse an array that is missing, or there though the settings do without."""
    if not wanted and found is not None:
        raise ValueError(f"{name} are there, but the settings do without")
    if wanted:
        check_floats(name, found, shape)


def check_floats(name: str, found: Float64Array | None, shape: tuple[int, ...]) -> None:
    """Refuse all but finite float64 numbers of a shape.

    Raises
    ------
    ValueError
        They are not.
    """
    if found is None:
        raise ValueError(f"{name} are missing")
    if found.dtype != np.float64 or found.shape != shape:
        raise ValueError(f"{name} are {found.dtype} {found.shape}, not float64 {shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} are not all finite")
