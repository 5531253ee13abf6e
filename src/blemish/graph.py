"""A fitted model as one ONNX graph: image -> map, image score, what every level contributes.

The backbone, the embedding, the pyramid of conditional Gaussians and the map operator, with the
numbers of the fit as constants. `scoring` and `maps` say what is computed, and the tests hold the
graph against them. Per position, each level is one small matrix product with its whitening rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from blemish import scoring
from blemish.arrays import FloatArray, IntArray
from blemish.backbones import Backbone
from blemish.combination import split_levels
from blemish.errors import BackboneError
from blemish.fitted import Fitted
from blemish.graph_embedding import embedded_levels
from blemish.graph_nodes import OURS, GraphNodes
from blemish.judge import Judge, require_own_gaussians
from blemish.maps import MapOperator
from blemish.pyramid import Pyramid
from blemish.scorer import Scorer
from blemish.settings import FitSettings
from blemish.standardisation import Standardisation

FUSED_SCORES = frozenset(scoring.SCORES) - {"chebyshev-two-stage"}
"""Scores that a graph can compute; the two-stage score sorts channels and stays in NumPy."""

MAP, SCORE = "map", "score"
OLDEST_OPSET = 13


@lru_cache(maxsize=1)
def sources() -> str:
    """Hash of the code that makes graphs: what other code has made is not the same graph."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *sorted(Path(__file__).parent.glob("graph_*.py"))):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def graph_outputs(levels: int) -> tuple[str, ...]:
    """Names of what the graph of a model with so many levels puts out.

    Examples
    --------
    >>> graph_outputs(2)
    ('map', 'score', 'level0', 'level1')
    """
    return (MAP, SCORE, *(f"level{k}" for k in range(levels)))


def fuse(fitted: Fitted, judge: Judge) -> bytes:
    """Put a fitted model into one graph.

    Parameters
    ----------
    fitted : Fitted
    judge : Judge
        With scorers in float32, of a score in `FUSED_SCORES`.

    Returns
    -------
    bytes
        ONNX. Input "image": float32 (N, 3, H, W), RGB in 0..1. Outputs "map": float32
        (N, 1, H, W); "score": float32 (N,); then "level0", ... coarse to fine: float32
        (N, h * w of the level), what `judge.Found.levels` holds. The same model gives the same
        bytes.

    Raises
    ------
    BackboneError
        The score has no graph, or the backbone's graph is too old or uses the outputs' names.
    InputError
        Positions are judged by a neighbourhood of Gaussians.
    """
    import onnx  # noqa: PLC0415 - slow to import

    _check_score(fitted)
    model = onnx.load_model_from_string(fitted.backbone.onnx)
    graph = GraphNodes(_opset_of(model, fitted.backbone), model.graph)
    levels = embedded_levels(graph, fitted.backbone, fitted.embedding)
    contributions = _judged(graph, judge, levels)
    outputs = graph_outputs(len(contributions))
    for contribution, name in zip(contributions, outputs[2:], strict=True):
        graph.add("Identity", contribution, name=name)
    model.graph.node.extend(graph.nodes)
    del model.graph.output[:], model.graph.value_info[:]
    shapes: list[list[str | int | None]] = [["N", 1, *fitted.preprocessing.size], ["N"]]
    shapes += [["N", fitted.pyramid.positions(k)] for k in range(len(contributions))]
    for name, shape in zip(outputs, shapes, strict=True):
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        model.graph.output.append(info)
    return bytes(model.SerializeToString(deterministic=True))


def has_graph(settings: FitSettings) -> bool:
    """Whether the scores of a model can be computed in a graph."""
    return settings.score in FUSED_SCORES and settings.neighbourhood == 0


def _check_score(fitted: Fitted) -> None:
    require_own_gaussians(fitted.settings, "A graph")
    if fitted.settings.score not in FUSED_SCORES:
        raise BackboneError(
            f"A graph can compute {', '.join(sorted(FUSED_SCORES))}, but the score is "
            f"{fitted.settings.score}. Choose one of these."
        )


@lru_cache(maxsize=8)
def can_extend(backbone: Backbone) -> bool:
    """Whether nodes can be put behind the graph of a backbone."""
    import onnx  # noqa: PLC0415 - slow to import

    try:
        _opset_of(onnx.load_model_from_string(backbone.onnx), backbone)
    except BackboneError:
        return False
    return True


def _opset_of(model: Any, backbone: Backbone) -> int:
    """Opset of a backbone's graph, if the graph can be extended."""
    opset = next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    used = {value for node in model.graph.node for value in (*node.input, *node.output)}
    ours = used & set(graph_outputs(len(backbone.layers)))
    ours |= {value for value in used if value.startswith(OURS)}
    if opset < OLDEST_OPSET or ours:
        raise BackboneError(
            f"The graph of a backbone must have opset {OLDEST_OPSET} or newer and no values named "
            f"{MAP}, {SCORE}, level... or {OURS}..., but {backbone.name} has opset {opset} and "
            f"{', '.join(sorted(ours)[:3]) or 'none of these'}. Export it anew."
        )
    return opset


def nested_order(pyramid: Pyramid) -> list[IntArray]:
    """Positions of every level ordered so that all cells below one coarse cell are neighbours.

    Then what is repeated from a coarse level to a fine one is repeated along an axis of its own,
    and the arithmetic of a level needs no copy of what is visible at every position.

    Returns
    -------
    list of int64 (P,), coarse to fine
        Row-by-row number of each position in nested order.

    Examples
    --------
    >>> nested_order(Pyramid(grids=((1, 2), (2, 4)), dims=(1, 1)))[1]
    array([0, 1, 4, 5, 2, 3, 6, 7])
    """
    orders = [np.arange(pyramid.positions(0), dtype=np.int64)]
    for level in range(1, pyramid.levels):
        place = np.empty_like(orders[-1])
        place[orders[-1]] = np.arange(len(place))
        parents = place[pyramid.ancestors(level, level - 1)]
        orders.append(np.argsort(parents, kind="stable").astype(np.int64))
    return orders


class _Scores:
    """Position scores in graph nodes, as `scorer.combine` defines them; in nested order."""

    def __init__(self, graph: GraphNodes, scorer: Scorer) -> None:
        self._graph, self._scorer = graph, scorer
        self._pyramid, self._settings = scorer.pyramid, scorer.settings
        self._orders = nested_order(scorer.pyramid)

    def of(self, levels: Sequence[str]) -> tuple[str, list[str]]:
        """Total (N, P of the finest level), and what each level contributes (N, P); row by row."""
        graph, score = self._graph, self._settings.score
        levels = [self._nested(name, k) for k, name in enumerate(levels)]
        distances = self._distances(levels) if self._scorer.gaussian is not None else []
        largest = [] if score == "gaussian" else self._deviations(levels)
        last = self._pyramid.levels - 1
        if not distances:
            total = self._row_by_row(self._bound(self._joined(largest, "Max")), last)
            return total, [self._row_by_row(self._bound(k2), k) for k, k2 in enumerate(largest)]
        parts = [self._row_by_row(graph.add("Sqrt", d), k) for k, d in enumerate(distances)]
        total = graph.add("Sqrt", self._joined(distances, "Add"))
        if score == "hybrid":
            bound = self._bound(self._joined(largest, "Max"))
            total = graph.add("Mul", graph.add("Add", total, bound), graph.constant(0.5))
        elif score == "hybrid-calibrated":
            total = self._calibrated(total, self._joined(largest, "Max"))
        return self._row_by_row(total, last), parts

    def _nested(self, name: str, level: int) -> str:
        if level == 0:
            return name
        return self._graph.add("Gather", name, self._graph.constant(self._orders[level]), axis=1)

    def _row_by_row(self, name: str, level: int) -> str:
        if level == 0:
            return name
        index = self._graph.constant(np.argsort(self._orders[level]))
        return self._graph.add("Gather", name, index, axis=1)

    def _distances(self, levels: Sequence[str]) -> list[str]:
        """Squared conditional distance per level: (N, P)."""
        graph, gaussian = self._graph, self._scorer.gaussian
        if gaussian is None:
            return []
        centred = [
            graph.add("Sub", name, graph.constant(self._of_positions(mean, k)))
            for k, (name, mean) in enumerate(zip(levels, gaussian.means, strict=True))
        ]
        distances = []
        for level, rows in enumerate(gaussian.whitening):
            ordered = self._of_positions(rows, level)
            whitened, first = "", 0
            for coarser in range(level + 1):
                block = ordered[:, :, first : first + self._pyramid.dims[coarser]]
                first += self._pyramid.dims[coarser]
                part = self._product(centred[coarser], block, coarser, level)
                whitened = graph.add("Add", whitened, part) if whitened else part
            squares = graph.add("Mul", whitened, whitened)
            own = graph.reshape(squares, (0, self._pyramid.positions(level), -1))
            distances.append(graph.reduce("ReduceSum", own, axis=2))
        return distances

    def _product(self, name: str, block: FloatArray, coarser: int, level: int) -> str:
        """Whitening block times the embedding of a coarser or the same level: (N, P d, 1, 1).

        One group of a 1x1 convolution per coarse cell, which gives all rows of all positions
        below it: runtimes have fast code for grouped convolution, and none for thousands of
        small matrix products.
        """
        graph = self._graph
        cells, dims = self._pyramid.positions(coarser), self._pyramid.dims[coarser]
        below = self._pyramid.positions(level) // cells
        if len(block) == 1:  # shared by all positions
            product = graph.add("MatMul", name, graph.constant(np.ascontiguousarray(block[0].T)))
            if below > 1:
                times = graph.constant(np.array([1, 1, below], dtype=np.int64))
                product = graph.add("Tile", product, times)
            return graph.reshape(product, (0, -1, 1, 1))
        column = graph.reshape(name, (0, cells * dims, 1, 1))
        kernel = graph.constant(np.ascontiguousarray(block).reshape(-1, dims, 1, 1))
        return graph.add("Conv", column, kernel, group=cells, kernel_shape=[1, 1])

    def _of_positions(self, array: FloatArray, level: int) -> FloatArray:
        """Constants of every position, (P, ...), in nested order; (1, ...) when shared."""
        return array if len(array) == 1 else array[self._orders[level]]

    def _deviations(self, levels: Sequence[str]) -> list[str]:
        """Largest k^2 over the own channels per level: (N, P)."""
        graph = self._graph
        largest = []
        for level, (name, mean, variance) in enumerate(
            zip(levels, self._scorer.means, self._scorer.variances, strict=True)
        ):
            away = graph.add("Sub", name, graph.constant(self._of_positions(mean, level)))
            square = graph.add("Mul", away, away)
            k2 = graph.add("Div", square, graph.constant(self._of_positions(variance, level)))
            most = graph.reduce("ReduceMax", k2, axis=2)
            largest.append(graph.add("Min", most, graph.constant(scoring.LARGEST_K2)))
        return largest

    def _bound(self, k2: str) -> str:
        graph = self._graph
        inverse = graph.add("Reciprocal", graph.add("Max", k2, graph.constant(1.0)))
        bound = graph.add("Sub", graph.constant(1.0), inverse)
        capped = graph.add("Min", bound, graph.constant(scoring.LARGEST_BOUND))
        return graph.add("Mul", capped, graph.constant(self._settings.chebyshev_scale))

    def _calibrated(self, distance: str, k2: str) -> str:
        graph, statistics = self._graph, self._scorer.statistics
        centre, spread = statistics.distance_scale or (0.0, 1.0)
        mean, std = statistics.deviation_scale or (0.0, 1.0)
        log_k = graph.add("Log", graph.add("Max", k2, graph.constant(1e-12)))
        slope, offset = 0.5 * spread / std, centre - spread * mean / std
        deviation = graph.add("Mul", log_k, graph.constant(slope))
        both = graph.add("Add", graph.add("Add", distance, deviation), graph.constant(offset))
        return graph.add("Relu", graph.add("Mul", both, graph.constant(0.5)))

    def _joined(self, levels: Sequence[str], kind: str) -> str:
        """Levels repeated to the finest positions and added, or their maximum taken."""
        graph, total = self._graph, levels[0]
        for level in range(1, len(levels)):
            coarse = graph.reshape(total, (0, self._pyramid.positions(level - 1), 1))
            fine = graph.reshape(levels[level], (0, self._pyramid.positions(level - 1), -1))
            total = graph.reshape(graph.add(kind, fine, coarse), (0, -1))
        return total


def _judged(graph: GraphNodes, judge: Judge, levels: Sequence[str]) -> list[str]:
    """Outputs "map" and "score"; returns what each level contributes (N, P)."""
    combination = judge.combination
    totals, contributions = [], []
    for part, own in enumerate(split_levels(levels, len(judge.scorers))):
        total, parts = _Scores(graph, judge.scorers[part]).of(own)
        standardise = combination.standardisations[part]
        if standardise is not None:
            grid = judge.scorers[part].pyramid.finest
            total = _standardised(graph, total, standardise, grid)
        totals.append(total)
        contributions += parts
    weights = combination.weights
    if weights is None:
        graph.add("Identity", _map(graph, totals[0], combination.operators[0]), name=MAP)
        pixels = graph.reshape(MAP, (0, -1))
        count = combination.operators[0].size[0] * combination.operators[0].size[1]
        graph.add("Identity", _highest(graph, pixels, count, combination.top_k), name=SCORE)
        return contributions
    maps, images = [], []
    for part, total in enumerate(totals):
        if factor := weights.map[part]:
            found = _map(graph, total, combination.operators[part])
            maps.append(graph.add("Mul", found, graph.constant(factor)))
        if factor := weights.image[part]:
            counted, kept = combination.counted[part], total
            if counted is not None:
                index = graph.constant(np.flatnonzero(counted))
                kept = graph.add("Gather", total, index, axis=1)
            count = judge.scorers[part].pyramid.positions(-1) if counted is None else counted.sum()
            most = _highest(graph, kept, int(count), combination.top_k)
            images.append(graph.add("Mul", most, graph.constant(factor)))
    graph.add("Identity", graph.total(maps), name=MAP)
    graph.add("Identity", graph.total(images), name=SCORE)
    return totals


def _standardised(
    graph: GraphNodes, total: str, standardise: Standardisation, grid: tuple[int, int]
) -> str:
    """Standardised scores (N, P).

    Constants of positions meet the scores on the grid: OpenVINO (2026.4) takes those of a plain
    (N, P) for constants of channels, fuses them into the sum before, and is wrong from the second
    image of a batch on.
    """
    on_grid = graph.reshape(total, (-1, 1, *grid))
    scaled = graph.add("Mul", on_grid, graph.constant(standardise.gain.reshape(grid)))
    shifted = graph.add("Add", scaled, graph.constant(standardise.offset.reshape(grid)))
    return graph.reshape(graph.add("Relu", shifted), (0, -1))


def _map(graph: GraphNodes, total: str, operator: MapOperator) -> str:
    """Map (N, 1, H, W) of position scores (N, P)."""
    grid = graph.reshape(total, (-1, 1, *operator.grid))
    if operator.position_weights is not None:
        weights = operator.position_weights.reshape(operator.grid)
        grid = graph.add("Mul", grid, graph.constant(weights))
    found = graph.add("MatMul", graph.constant(operator.rows), grid)
    found = graph.add("MatMul", found, graph.constant(np.ascontiguousarray(operator.columns.T)))
    if operator.pixel_weights is not None:
        found = graph.add("Mul", found, graph.constant(operator.pixel_weights))
    return graph.add("Relu", found)


def _highest(graph: GraphNodes, values: str, count: int, top_k: int) -> str:
    """Mean of the highest of `count` values: (N, count) -> (N,)."""
    if top_k == 1:
        return graph.reduce("ReduceMax", values, axis=1)
    k = graph.constant(np.array([min(top_k, count)], dtype=np.int64))
    return graph.reduce("ReduceMean", graph.add("TopK", values, k, axis=1, outputs=2), axis=1)
