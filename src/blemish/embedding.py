"""Which channels, or combinations of channels, of each layer make the embedding.

Every embedding dimension belongs to one layer, which is what lets the pyramid of conditional
Gaussians be exact. What was chosen is stored with the model: a choice drawn again could
silently mismatch the saved statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float32Array, Float64Array, IntArray
from blemish.errors import InputError, ShapeError
from blemish.pyramid import Pyramid

REDUCTIONS = ("random", "stratified", "semi-orthogonal", "pca", "none")


@dataclass(frozen=True, slots=True)
class Embedding:
    """Reduces the feature maps of a backbone to per-level embeddings.

    Attributes
    ----------
    selections : tuple of (int64 (d,) or None)
        Per layer, fine to coarse: kept channels in rising order. None where projected.
    projections : tuple of (float32 (C, d) or None)
        Per layer: the projection applied instead.
    layer_sums : bool
        Add to each layer the next finer one, averaged down to its grid and repeated along the
        channels (the hybrid method's commented embedding), before reducing.
    averaging : tuple of {1, 3, 4}, one per layer, or empty for none
        Side of the window over which each position is averaged with its neighbours, as PatchCore
        does (arXiv:2106.08265, Eq. 2): 3 keeps the grid, 4 halves it. A window that reaches over
        the border averages what is inside.
    """

    selections: tuple[IntArray | None, ...]
    projections: tuple[Float32Array | None, ...]
    layer_sums: bool = False
    averaging: tuple[int, ...] = ()

    @property
    def windows(self) -> tuple[int, ...]:
        """Averaging window of every layer, 1 where there is none."""
        return self.averaging or (1,) * len(self.selections)

    @property
    def dims(self) -> tuple[int, ...]:
        """Kept dimensions of every layer, fine to coarse; 0 where a layer is left out."""
        return tuple(
            len(s) if s is not None else (p.shape[1] if p is not None else 0)
            for s, p in zip(self.selections, self.projections, strict=True)
        )

    def pyramid(self, grids: Sequence[tuple[int, int]]) -> Pyramid:
        """Pyramid of the kept layers, given the grid of every layer, fine to coarse."""
        kept = [k for k, dims in enumerate(self.dims) if dims][::-1]
        averaged = [
            (h // 2, w // 2) if window == 4 else (h, w)
            for (h, w), window in zip(grids, self.windows, strict=True)
        ]
        return Pyramid(tuple(averaged[k] for k in kept), tuple(self.dims[k] for k in kept))

    def __call__(self, feature_maps: Sequence[Float32Array]) -> list[Float32Array]:
        """Embeddings of a batch.

        Parameters
        ----------
        feature_maps : list of float32 (N, C, h, w)
            One per layer, fine to coarse.

        Returns
        -------
        list of float32 (N, P, d)
            One per level, coarse to fine; layers left out are no level.

        Raises
        ------
        ShapeError
            Another number of layers than this embedding was made for.
        """
        if len(feature_maps) != len(self.selections):
            raise ShapeError(
                f"There must be feature maps of {len(self.selections)} layers, but there are "
                f"{len(feature_maps)}. Use the layers the embedding was made for."
            )
        if self.layer_sums:
            feature_maps = sum_layers(feature_maps)
        levels = []
        for maps, selection, projection, window in zip(
            feature_maps, self.selections, self.projections, self.windows, strict=True
        ):
            if selection is not None and len(selection):
                kept = average_neighbours(maps[:, selection], window)
                flat = kept.reshape(*kept.shape[:2], -1)
                levels.append(np.ascontiguousarray(flat.transpose(0, 2, 1)))
            elif projection is not None:
                averaged = average_neighbours(maps, window)
                flat = averaged.reshape(*averaged.shape[:2], -1)
                levels.append(flat.transpose(0, 2, 1) @ projection)
        return levels[::-1]


def average_neighbours(feature_maps: Float32Array, window: int) -> Float32Array:
    """Average every position with its neighbours; what lies outside the map does not count.

    Parameters
    ----------
    feature_maps : float32 (N, C, h, w)
    window : {1, 3, 4}
        Side: 1 changes nothing, 3 is centred on each position, 4 on each second corner between
        positions, which halves the grid.

    Returns
    -------
    float32 (N, C, h, w), or (N, C, h / 2, w / 2) for a window of 4

    Examples
    --------
    >>> row = np.array([[[[0.0, 0.0, 9.0, 0.0]]]], np.float32)
    >>> average_neighbours(row, 3)
    array([[[[0. , 3. , 3. , 4.5]]]], dtype=float32)
    >>> average_neighbours(np.repeat(row, 2, axis=2), 4)
    array([[[[3., 3.]]]], dtype=float32)
    """
    if window == 1:
        return feature_maps
    return _average_axis(_average_axis(feature_maps, window, 2), window, 3)


def _average_axis(maps: Float32Array, window: int, axis: int) -> Float32Array:
    length, stride = maps.shape[axis], 2 if window == 4 else 1
    padded = np.pad(maps, [(1, 1) if k == axis else (0, 0) for k in range(4)])
    starts = range(window)
    count = length // stride
    parts = [
        np.take(padded, range(start, start + stride * (count - 1) + 1, stride), axis=axis)
        for start in starts
    ]
    inside = np.zeros(length + 2, np.float32)
    inside[1:-1] = 1.0
    counted = sum(inside[start : start + stride * (count - 1) + 1 : stride] for start in starts)
    shape = [1] * 4
    shape[axis] = count
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return np.asarray(total / np.reshape(counted, shape), dtype=np.float32)


def sum_layers(feature_maps: Sequence[Float32Array]) -> list[Float32Array]:
    """Each layer plus the next finer one, brought to its grid and number of channels.

    Raises
    ------
    InputError
        A layer's channels are not a multiple of those of the finer one.
    """
    summed = [feature_maps[0]]
    for fine, coarse in itertools.pairwise(feature_maps):
        count, channels, height, width = coarse.shape
        if channels % fine.shape[1]:
            raise InputError(
                f"Layer sums need channels that are multiples of the finer layer's, but "
                f"{channels} is no multiple of {fine.shape[1]}. Choose other layers."
            )
        cells = fine.reshape(
            count, fine.shape[1], height, fine.shape[2] // height, width, fine.shape[3] // width
        )
        averaged = cells.mean(axis=(3, 5))
        summed.append(coarse + np.tile(averaged, (1, channels // fine.shape[1], 1, 1)))
    return summed


def choose_embedding(
    channels: Sequence[int],
    *,
    reduction: str = "random",
    dims: int | Sequence[int] | None = None,
    seed: int = 0,
    layer_sums: bool = False,
    averaging: tuple[int, ...] = (),
    covariances: Sequence[Float64Array] | None = None,
    constant: Sequence[BoolArray] | None = None,
) -> Embedding:
    """Choose what to keep of each layer.

    Parameters
    ----------
    channels : list of int
        Channels of every layer, fine to coarse.
    reduction : {"random", "stratified", "semi-orthogonal", "pca", "none"}
        Random: channels drawn from all layers together, as the paper. Stratified: drawn from each
        layer in proportion to its channels. Semi-orthogonal: a random orthonormal projection per
        layer. PCA: the directions of largest variance per layer. None: all channels.
    dims : int, or list of int per layer (fine to coarse), optional
        Dimensions to keep in all, or of each layer; 0 leaves a layer out. Default: all.
    seed : int
        Of a generator of its own. Ignored by PCA and none.
    layer_sums, averaging
        See `Embedding`.
    covariances : list of float64 (C, C), optional
        For PCA: covariance of each layer's channels over training images and positions.
    constant : list of bool (C,), optional
        Per layer, channels that say nothing of these images, such as colour of gray ones (see
        `constant_channels`). Channels are drawn in the same order, these last.

    Returns
    -------
    Embedding

    Raises
    ------
    InputError
        An unknown reduction, or dims that the layers do not have.

    Examples
    --------
    >>> choose_embedding([4, 8], dims=3, seed=0).dims
    (1, 2)
    >>> choose_embedding([4, 8], reduction="stratified", dims=6).dims
    (2, 4)
    """
    if reduction not in REDUCTIONS:
        raise InputError(
            f"reduction must be one of {', '.join(REDUCTIONS)}, but is {reduction!r}. Choose one."
        )
    generator = np.random.default_rng(seed)
    if reduction == "none":
        _refuse_dims_with_none(dims, channels)
        kept = list(channels)
    elif reduction == "random" and not isinstance(dims, Sequence):
        drawn = _random(channels, _total(dims, channels), generator, constant)
        return Embedding(drawn, (None,) * len(channels), layer_sums, averaging)
    else:
        kept = _per_layer(dims, channels)
    if reduction in ("random", "stratified", "none"):
        silent = constant or [np.zeros(c, dtype=bool) for c in channels]
        picks = [
            np.sort(_last(generator.permutation(c), mask)[:d])
            for c, d, mask in zip(channels, kept, silent, strict=True)
        ]
        return Embedding(tuple(picks), (None,) * len(channels), layer_sums, averaging)
    if reduction == "pca":
        if covariances is None:
            raise InputError(
                "PCA needs the covariance of each layer's channels, but none was given. "
                "Compute it over the training images first."
            )
        bases = [_principal(cov, d) for cov, d in zip(covariances, kept, strict=True)]
    else:
        bases = [_orthonormal(c, d, generator) for c, d in zip(channels, kept, strict=True)]
    projections = [b.astype(np.float32) if b.shape[1] else None for b in bases]
    return Embedding((None,) * len(channels), tuple(projections), layer_sums, averaging)


def constant_channels(feature_maps: Sequence[Float32Array]) -> list[BoolArray]:
    """Channels that are the same all over a few images.

    Parameters
    ----------
    feature_maps : list of float32 (N, C, h, w)

    Returns
    -------
    list of bool (C,)

    Examples
    --------
    >>> maps = np.zeros((1, 2, 1, 2), np.float32)
    >>> maps[0, 1] = [[1.0, 2.0]]
    >>> constant_channels([maps])
    [array([ True, False])]
    """
    return [np.asarray(maps.std(axis=(0, 2, 3)) <= 1e-5 * maps.std()) for maps in feature_maps]


def layer_covariances(
    batches: Iterable[Sequence[Float32Array]], *, ignored: Sequence[BoolArray] | None = None
) -> list[Float64Array]:
    """Covariance of each layer's channels, over images and positions together.

    Parameters
    ----------
    batches : iterable of lists of float32 (N, C, h, w)
        Feature maps, fine to coarse; streamed once.
    ignored : list of bool (h, w), optional
        Per layer, positions that do not count.

    Returns
    -------
    list of float64 (C, C)
    """
    sums: list[tuple[float, Float64Array, Float64Array]] = []
    for batch in batches:
        for k, maps in enumerate(batch):
            by_position = maps.transpose(0, 2, 3, 1)
            if ignored is not None:
                by_position = by_position[:, ~ignored[k]]
            flat = by_position.reshape(-1, maps.shape[1]).astype(np.float64)
            count, mean = float(len(flat)), flat.mean(axis=0)
            centred = flat - mean
            scatter = centred.T @ centred
            if k == len(sums):
                sums.append((count, mean, scatter))
                continue
            before, old, gathered = sums[k]
            shift = mean - old
            total = before + count
            gathered += scatter + np.outer(shift, shift) * (before * count / total)
            sums[k] = (total, old + shift * (count / total), gathered)
    return [scatter / max(count - 1, 1) for count, _, scatter in sums]


def _total(dims: int | None, channels: Sequence[int]) -> int:
    total = sum(channels) if dims is None else dims
    if not 1 <= total <= sum(channels):
        raise InputError(
            f"dims must be 1 to {sum(channels)}, the channels of the layers "
            f"({', '.join(map(str, channels))}), but is {total}. Choose a number in that range."
        )
    return total


def _per_layer(dims: int | Sequence[int] | None, channels: Sequence[int]) -> list[int]:
    if isinstance(dims, Sequence):
        fits = len(dims) == len(channels) and all(
            0 <= d <= c for d, c in zip(dims, channels, strict=True)
        )
        if not fits or sum(dims) == 0:
            raise InputError(
                f"dims must give 0 to {', '.join(map(str, channels))} for the "
                f"{len(channels)} layers, and not only 0, but is {', '.join(map(str, dims))}. "
                "Give one number per layer, fine to coarse."
            )
        return list(dims)
    total = _total(dims, channels)
    exact = np.array(channels) * (total / sum(channels))
    kept = np.floor(exact).astype(int)
    for layer in np.argsort(kept - exact, kind="stable")[: total - int(kept.sum())]:
        kept[layer] += 1  # largest remainders first
    return [int(k) for k in kept]


def _refuse_dims_with_none(dims: int | Sequence[int] | None, channels: Sequence[int]) -> None:
    if dims is not None and dims != sum(channels) and list(np.atleast_1d(dims)) != list(channels):
        raise InputError(
            f"reduction 'none' keeps all {sum(channels)} channels, but dims is {dims}. "
            "Leave dims out, or choose another reduction."
        )


def _random(
    channels: Sequence[int],
    total: int,
    generator: np.random.Generator,
    constant: Sequence[BoolArray] | None,
) -> tuple[IntArray, ...]:
    order = generator.permutation(sum(channels))
    if constant is not None:
        order = _last(order, np.concatenate(constant))
    drawn = np.sort(order[:total])
    starts = np.concatenate([[0], np.cumsum(channels)])
    return tuple(
        drawn[(drawn >= low) & (drawn < high)] - low for low, high in itertools.pairwise(starts)
    )


def _last(order: IntArray, last: BoolArray) -> IntArray:
    """The same order, but some at the end."""
    return np.concatenate([order[~last[order]], order[last[order]]])


def _orthonormal(channels: int, dims: int, generator: np.random.Generator) -> Float64Array:
    q, r = np.linalg.qr(generator.standard_normal((channels, dims)))
    return np.asarray(q * np.sign(np.diagonal(r)))  # unique, so the same on every machine


def _principal(covariance: Float64Array, dims: int) -> Float64Array:
    _, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, ::-1][:, :dims]
    largest = np.abs(leading).argmax(axis=0)
    return np.asarray(leading * np.sign(leading[largest, np.arange(dims)]))
