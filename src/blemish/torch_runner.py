"""A fitted model in PyTorch: image tensor -> map, image score, levels, all on one device.

`embedding` and `judge` say what is computed, and the tests hold this against them. Network and
scores are one function of the images; on a GPU it is recorded per number of images and replayed.
Position scores are computed in float32 whatever the network's precision: they cost little.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish import scoring
from blemish.arrays import Float32Array, FloatArray
from blemish.combination import split_levels
from blemish.engines.torch import TorchNetwork
from blemish.engines.torch_device import Recorded
from blemish.errors import InputError
from blemish.fitted import Fitted
from blemish.gaussian import Gaussian
from blemish.graph import FUSED_SCORES
from blemish.judge import Found, Judge, require_own_gaussians
from blemish.maps import MapOperator
from blemish.scorer import Scorer
from blemish.standardisation import Standardisation

Put = Callable[[NDArray[Any]], Any]
"""Copies an array to the device: whole numbers as int64, all else as float32."""


@dataclass(frozen=True, slots=True)
class TorchScores:
    """What a model says of a batch; tensors on the device.

    Attributes
    ----------
    maps : float32 tensor (N, H, W)
    scores : float32 tensor (N,)
    levels : list of float32 tensor (N, P of the level)
        Coarse to fine: the level's conditional distance, or its largest Chebyshev bound; of a
        model that judges every layer by itself, the level's standardised score.
    """

    maps: Any
    scores: Any
    levels: list[Any]


class TorchRunner:
    """Runs a fitted model with PyTorch. Calls from several threads wait for each other.

    Parameters
    ----------
    fitted : Fitted
    judge : Judge
        Of the model, with scorers in float32, of a score in `graph.FUSED_SCORES`.
    precision, threads, device
        See `TorchNetwork`.

    Raises
    ------
    InputError
        PyTorch is not installed, the device is not there, or the score has no fused form.
    BackboneError
        The graph has an operator that is not known, or cannot be run at this size.
    """

    def __init__(
        self,
        fitted: Fitted,
        judge: Judge,
        *,
        precision: str = "f32",
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        require_own_gaussians(fitted.settings, "The torch runner")
        if (score := judge.scorers[0].settings.score) not in FUSED_SCORES:
            raise InputError(
                f"The torch engine can compute {', '.join(sorted(FUSED_SCORES))} on the device, "
                f"but the score is {score}. Score its features with Scorer instead."
            )
        backbone, size = fitted.backbone, fitted.preprocessing.size
        self._network = TorchNetwork(
            backbone, size, precision=precision, threads=threads, device=device
        )
        torch = self._network.torch
        self._levels = _Levels(torch, self._put, fitted)
        self._judge = _Judge(torch, self._put, judge)
        self._lock = threading.Lock()
        self._run = Recorded(torch, self._whole, self._network.device)

    def __call__(self, images: Any) -> TorchScores:
        """Score a batch without leaving the device.

        Parameters
        ----------
        images : float32 (N, 3, H, W), array or tensor on any device
            RGB in 0..1. N may be 0.

        Returns
        -------
        TorchScores
            The caller's own tensors: a later call does not change them.

        Raises
        ------
        ShapeError
            The images are not (N, 3, H, W) with the H and W of this model.
        """
        batch = self._network.to_tensor(images)
        count = len(batch)
        if count == 0:  # not every operator takes an empty batch
            batch = batch.new_zeros((1, *batch.shape[1:]))
        with self._lock, self._network.arithmetic():
            maps, scores, *levels = (each[:count] for each in self._run(batch))
        return TorchScores(maps, scores, levels)

    def score_inputs(self, inputs: Float32Array) -> Found:
        """Score preprocessed images, float32 (N, 3, H, W), for NumPy."""
        found = self(inputs)
        return Found(
            found.maps.cpu().numpy(),
            found.scores.cpu().numpy().astype(np.float64),
            [level.cpu().numpy() for level in found.levels],
        )

    def _whole(self, images: Any) -> tuple[Any, ...]:
        return self._judge(self._levels(self._network(images)))

    def _put(self, array: NDArray[Any]) -> Any:
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        copy = np.array(array, dtype=kind, order="C")
        return self._network.torch.from_numpy(copy).to(self._network.device)


class _Judge:
    """Embeddings to map, image score and levels, as `Judge` and `Combination` define them."""

    def __init__(self, torch: Any, put: Put, judge: Judge) -> None:
        combination, weights = judge.combination, judge.combination.weights
        self._torch, self._top_k = torch, combination.top_k
        self._parts = [
            _Positions(torch, put, scorer, standardise)
            for scorer, standardise in zip(judge.scorers, combination.standardisations, strict=True)
        ]
        self._images = None if weights is None else _counting(weights.image)
        self._maps = {
            part: _Map(put, combination.operators[part], weight)
            for part, weight in _counting((1.0,) if weights is None else weights.map).items()
        }
        self._counted = [
            None if counted is None else put(np.flatnonzero(counted))
            for counted in combination.counted
        ]

    def __call__(self, levels: Sequence[Any]) -> tuple[Any, ...]:
        """Map (N, H, W), image score (N,), then what each level contributes (N, P)."""
        own = split_levels(levels, len(self._parts))
        totals, contributions = zip(
            *(part(mine) for part, mine in zip(self._parts, own, strict=True)), strict=True
        )
        maps = functools.reduce(
            self._torch.add, [each(totals[k]) for k, each in self._maps.items()]
        )
        if self._images is None:
            return maps, self._highest(maps.flatten(1)), *contributions[0]
        images = [self._highest(self._kept(totals[k], k)) * w for k, w in self._images.items()]
        return maps, functools.reduce(self._torch.add, images), *totals

    def _kept(self, total: Any, part: int) -> Any:
        """Scores of the positions that have a say in the image score."""
        counted = self._counted[part]
        return total if counted is None else self._torch.index_select(total, 1, counted)

    def _highest(self, values: Any) -> Any:
        """Mean of the highest values: (N, X) -> (N,)."""
        if self._top_k == 1:
            return values.amax(1)
        count = min(self._top_k, values.shape[1])
        return self._torch.topk(values, count, dim=1, sorted=False).values.mean(1)


def _counting(weights: Sequence[float]) -> dict[int, float]:
    """Weights that are not 0, by part."""
    return {part: weight for part, weight in enumerate(weights) if weight}


class _Map:
    """Position scores (N, P) to maps (N, H, W) times a weight, as `MapOperator` defines them."""

    def __init__(self, put: Put, operator: MapOperator, weight: float) -> None:
        self._grid = operator.grid
        self._rows, self._columns = put(weight * operator.rows), put(operator.columns.T)
        self._position_weights, self._pixel_weights = (
            None if weights is None else put(weights)
            for weights in (operator.position_weights, operator.pixel_weights)
        )

    def __call__(self, total: Any) -> Any:
        if self._position_weights is not None:
            total = total * self._position_weights
        maps = self._rows @ total.reshape(-1, *self._grid) @ self._columns
        if self._pixel_weights is not None:
            maps = maps * self._pixel_weights
        return maps.relu()


class _Positions:
    """Position scores of one part, as `scorer.combine` and `Standardisation` define them."""

    def __init__(
        self, torch: Any, put: Put, scorer: Scorer, standardise: Standardisation | None
    ) -> None:
        self._torch, self._settings, self._statistics = torch, scorer.settings, scorer.statistics
        pyramid, gaussian = scorer.pyramid, scorer.gaussian
        finest = pyramid.levels - 1
        self._ancestors = [put(pyramid.ancestors(finest, k)) for k in range(finest)]
        self._distances = None if gaussian is None else _Distances(torch, put, gaussian)
        if scorer.settings.score != "gaussian":
            self._means = [put(mean) for mean in scorer.means]
            self._variances = [put(variance) for variance in scorer.variances]
        self._standardise = (
            None if standardise is None else (put(standardise.gain), put(standardise.offset))
        )

    def __call__(self, levels: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Standardised total (N, P of the finest level), and what each level contributes."""
        total, contributions = self._positions(levels)
        if self._standardise is not None:
            gain, offset = self._standardise
            total = self._torch.addcmul(offset, total, gain).relu()
        return total, contributions

    def _positions(self, levels: Sequence[Any]) -> tuple[Any, list[Any]]:
        distances = [] if self._distances is None else self._distances(levels)
        largest = [] if self._settings.score == "gaussian" else self._deviations(levels)
        if not distances:
            total = self._bound(self._joined(largest, self._torch.maximum))
            return total, [self._bound(k2) for k2 in largest]
        parts = [each.sqrt() for each in distances]
        total = self._joined(distances, self._torch.add).sqrt()
        if self._settings.score == "hybrid":
            total = (total + self._bound(self._joined(largest, self._torch.maximum))) / 2
        elif self._settings.score == "hybrid-calibrated":
            total = self._calibrated(total, self._joined(largest, self._torch.maximum))
        return total, parts

    def _deviations(self, levels: Sequence[Any]) -> list[Any]:
        """Largest k^2 over the own channels per level: (N, P)."""
        return [
            ((level - mean).square() / variance).amax(2).clamp(max=scoring.LARGEST_K2)
            for level, mean, variance in zip(levels, self._means, self._variances, strict=True)
        ]

    def _bound(self, k2: Any) -> Any:
        bound = 1.0 - 1.0 / k2.clamp(min=1.0)
        return self._settings.chebyshev_scale * bound.clamp(max=scoring.LARGEST_BOUND)

    def _calibrated(self, distance: Any, k2: Any) -> Any:
        centre, spread = self._statistics.distance_scale or (0.0, 1.0)
        mean, std = self._statistics.deviation_scale or (0.0, 1.0)
        z = (0.5 * k2.clamp(min=1e-12).log() - mean) / std
        return ((distance + centre + spread * z) / 2).clamp(min=0.0)

    def _joined(self, levels: Sequence[Any], join: Any) -> Any:
        """Levels spread to the finest positions and joined."""
        finest = len(levels) - 1
        spread = [
            values if k == finest else self._torch.index_select(values, 1, self._ancestors[k])
            for k, values in enumerate(levels)
        ]
        return functools.reduce(join, spread)


class _Distances:
    """Squared conditional distances, as `scoring.level_distances` defines them.

    The coarser levels' share of a whitened vector is multiplied once per coarse cell, for all
    positions below it together: they see the same coarse embedding.
    """

    def __init__(self, torch: Any, put: Put, gaussian: Gaussian) -> None:
        self._torch, pyramid = torch, gaussian.pyramid
        self._grids, self._is_shared = pyramid.grids, len(gaussian.whitening[-1]) == 1
        self._means = [put(mean) for mean in gaussian.means]
        self._own, self._coarse, self._parents = [], [], []
        for level, rows in enumerate(gaussian.whitening):
            inherited = pyramid.visible(level) - pyramid.dims[level]
            self._own.append(put(rows[:, :, inherited:].transpose(0, 2, 1)))
            seen = rows[:, :, :inherited]
            seen = seen.transpose(0, 2, 1) if self._is_shared else self._by_cell(seen, level)
            self._coarse.append(put(seen))
            self._parents.append(put(pyramid.ancestors(level, max(level - 1, 0))))

    def __call__(self, levels: Sequence[Any]) -> list[Any]:
        """Squared distance (N, P) per level."""
        visible, distances = None, []
        for level, (values, mean) in enumerate(zip(levels, self._means, strict=True)):
            own = (values - mean).transpose(0, 1)  # (P, N, d)
            whitened = self._whitened(level, own, visible)
            distances.append(whitened.square().sum(2).T)
            if level + 1 < len(levels):
                if visible is not None:
                    own = self._torch.cat([visible[self._parents[level]], own], dim=2)
                visible = own
        return distances

    def _whitened(self, level: int, own: Any, visible: Any) -> Any:
        """Whitened vectors (P, N, d) from own (P, N, d) and the next coarser level's visible."""
        weights, coarse = self._own[level], self._coarse[level]
        if self._is_shared:
            whitened = own @ weights[0]
            if visible is None:
                return whitened
            return whitened + (visible @ coarse[0])[self._parents[level]]
        if visible is None:
            return self._torch.bmm(own, weights)
        rows, columns = self._grids[level - 1]
        down, across = self._factors(level)
        cells = self._torch.bmm(visible, coarse)
        cells = cells.reshape(rows, columns, own.shape[1], down, across, own.shape[2])
        inherited = cells.permute(0, 3, 1, 4, 2, 5).reshape(own.shape)
        return self._torch.baddbmm(inherited, own, weights)

    def _factors(self, level: int) -> tuple[int, int]:
        """Positions below one cell of the next coarser level: down and across."""
        fine, coarse = self._grids[level], self._grids[max(level - 1, 0)]
        return fine[0] // coarse[0], fine[1] // coarse[1]

    def _by_cell(self, rows: FloatArray, level: int) -> FloatArray:
        """(P, d, D) -> (P of the coarser level, D, positions below * d)."""
        if level == 0:
            return rows
        height, width = self._grids[level - 1]
        down, across = self._factors(level)
        _, own, seen = rows.shape
        split = rows.reshape(height, down, width, across, own, seen)
        by_cell = split.transpose(0, 2, 5, 1, 3, 4)
        return np.asarray(by_cell.reshape(height * width, seen, down * across * own))


class _Levels:
    """Feature maps to the own embeddings of every level, as `Embedding` defines them."""

    def __init__(self, torch: Any, put: Put, fitted: Fitted) -> None:
        embedding, layers = fitted.embedding, fitted.backbone.layers
        self._torch, self._strides = torch, [layer.stride for layer in layers]
        self._layer_sums, self._windows = embedding.layer_sums, embedding.windows
        self._dims = embedding.dims
        self._selections, self._projections = (
            [None if each is None or not each.size else put(each) for each in arrays]
            for arrays in (embedding.selections, embedding.projections)
        )

    def __call__(self, feature_maps: Sequence[Any]) -> list[Any]:
        """Float32 (N, P, d) per level, coarse to fine; layers left out are no level."""
        if self._layer_sums:
            feature_maps = self._summed(feature_maps)
        levels = []
        for k, (maps, dims) in enumerate(zip(feature_maps, self._dims, strict=True)):
            if not dims:
                continue
            own, selection = maps.permute(0, 2, 3, 1), self._selections[k]
            if selection is None:
                own = own.float() @ self._projections[k]
            elif dims < own.shape[3]:  # else all channels are kept, as they come
                own = self._torch.index_select(own, 3, selection)
            levels.append(self._averaged(own.float(), self._windows[k]).flatten(1, 2))
        return levels[::-1]

    def _averaged(self, maps: Any, window: int) -> Any:
        """Maps (N, h, w, d) averaged over neighbours, as `average_neighbours` defines it."""
        if window == 1:
            return maps
        averaged = self._torch.nn.functional.avg_pool2d(
            maps.permute(0, 3, 1, 2),
            window,
            stride=2 if window == 4 else 1,
            padding=1,
            count_include_pad=False,
        )
        return averaged.permute(0, 2, 3, 1)

    def _summed(self, feature_maps: Sequence[Any]) -> list[Any]:
        """Each layer plus the next finer one, brought to its grid and number of channels."""
        summed = [feature_maps[0]]
        for k in range(1, len(feature_maps)):
            fine, coarse = feature_maps[k - 1], feature_maps[k]
            factor = self._strides[k] // self._strides[k - 1]
            averaged = self._torch.nn.functional.avg_pool2d(fine, factor)
            times = coarse.shape[1] // fine.shape[1]
            summed.append(coarse + averaged.repeat(1, times, 1, 1))
        return summed
