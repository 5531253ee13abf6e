"""Distances at positions -> anomaly map in pixels, by two small matrix products.

Upsampling and blurring are linear and separable, so both together are
``map = A_h @ distances @ A_w.T`` with constant A (H, h), boundary handling included. An ignore
mask makes it a normalised convolution, so that what lies under it leaks nothing, not even zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.errors import InputError

UPSAMPLINGS = ("bilinear", "bicubic", "nearest")
BLURS = ("gaussian", "box", "none")
LARGEST_SIGMA = 1000


@dataclass(frozen=True, slots=True)
class MapSettings:
    """How distances become a map.

    Attributes
    ----------
    upsampling : {"bilinear", "bicubic", "nearest"}, default "bilinear"
    blur : {"gaussian", "box", "none"}, default "gaussian"
    sigma : float > 0, pixels of the network's input, default 4 (the paper's)
        Of the Gaussian; a box has the same standard deviation.
    """

    upsampling: str = "bilinear"
    blur: str = "gaussian"
    sigma: float = 4.0

    def __post_init__(self) -> None:
        if self.upsampling not in UPSAMPLINGS:
            raise InputError(
                f"upsampling must be one of {', '.join(UPSAMPLINGS)}, but is "
                f"{self.upsampling!r}. Choose one."
            )
        if self.blur not in BLURS:
            raise InputError(
                f"blur must be one of {', '.join(BLURS)}, but is {self.blur!r}. Choose one."
            )
        if not 0 < self.sigma <= LARGEST_SIGMA:
            raise InputError(
                f"sigma must be above 0 and at most {LARGEST_SIGMA} pixels, but is {self.sigma}. "
                "For no blur use blur='none'."
            )


class MapOperator:
    """Turns position scores into maps of one size.

    Parameters
    ----------
    grid : (h, w)
    size : (H, W)
    settings : MapSettings
    ignored : bool (H, W), optional
        Pixels that are to be 0 in every map; `ignored_positions` do not count.
    ignored_positions : bool (h, w), optional

    Examples
    --------
    >>> operator = MapOperator((1, 1), (2, 3), MapSettings(blur="none"))
    >>> operator(np.array([[5.0]]))
    array([[[5., 5., 5.],
            [5., 5., 5.]]])
    """

    def __init__(
        self,
        grid: tuple[int, int],
        size: tuple[int, int],
        settings: MapSettings,
        *,
        ignored: BoolArray | None = None,
        ignored_positions: BoolArray | None = None,
    ) -> None:
        self.grid, self.size = grid, size
        self.rows = axis_operator(grid[0], size[0], settings)
        self.columns = axis_operator(grid[1], size[1], settings)
        self.position_weights: Float64Array | None = None
        self.pixel_weights: Float64Array | None = None
        if ignored is not None and ignored_positions is not None:
            self.position_weights = np.where(ignored_positions, 0.0, 1.0).ravel()
            seen = self.rows @ self.position_weights.reshape(grid) @ self.columns.T
            visible = ~ignored & (seen > 1e-3)
            self.pixel_weights = np.where(visible, 1.0 / np.maximum(seen, 1e-3), 0.0)

    def __call__(self, scores: FloatArray) -> FloatArray:
        """Maps of position scores.

        Parameters
        ----------
        scores : float (N, P)

        Returns
        -------
        float (N, H, W), same dtype; >= 0 for scores >= 0 (bicubic undershoot is cut off)
        """
        dtype = scores.dtype
        if self.position_weights is not None:
            scores = scores * self.position_weights.astype(dtype)
        grids = scores.reshape(-1, *self.grid)
        maps = self.rows.astype(dtype) @ grids @ self.columns.T.astype(dtype)
        if self.pixel_weights is not None:
            maps *= self.pixel_weights.astype(dtype)
        return np.asarray(np.maximum(maps, 0.0, out=maps))


def axis_operator(cells: int, pixels: int, settings: MapSettings) -> Float64Array:
    """Matrix of upsampling and blur along one axis.

    Parameters
    ----------
    cells, pixels : int
        Positions and pixels along the axis.

    Returns
    -------
    float64 (pixels, cells), rows sum to 1
    """
    upsample = _upsampling(cells, pixels, settings.upsampling)
    return upsample if settings.blur == "none" else _blur(pixels, settings) @ upsample


def _upsampling(cells: int, pixels: int, kind: str) -> Float64Array:
    """Interpolation between cell centres (pixel centres aligned as areas, not corners)."""
    centre = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    base = np.floor(centre).astype(int)
    matrix = np.zeros((pixels, cells))
    if kind == "nearest":
        matrix[np.arange(pixels), np.arange(pixels) * cells // pixels] = 1.0
        return matrix
    taps = (0, 1) if kind == "bilinear" else (-1, 0, 1, 2)
    for tap in taps:
        away = np.abs(centre - (base + tap))
        weight = np.maximum(1.0 - away, 0.0) if kind == "bilinear" else _cubic(away)
        np.add.at(matrix, (np.arange(pixels), np.clip(base + tap, 0, cells - 1)), weight)
    return matrix


def _cubic(away: Float64Array) -> Float64Array:
    """Keys' cubic kernel with a = -0.75, as PyTorch and OpenCV interpolate upwards."""
    a = -0.75
    near = (a + 2) * away**3 - (a + 3) * away**2 + 1
    far = a * away**3 - 5 * a * away**2 + 8 * a * away - 4 * a
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0))


def _blur(pixels: int, settings: MapSettings) -> Float64Array:
    """Blur along one axis with mirrored borders (d c b a | a b c d | d c b a)."""
    sigma = settings.sigma
    if settings.blur == "gaussian":
        radius = int(4.0 * sigma + 0.5)  # where scipy.ndimage.gaussian_filter cuts by default
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    else:
        radius = max(1, round((np.sqrt(12.0 * sigma**2 + 1.0) - 1.0) / 2.0))
        kernel = np.ones(2 * radius + 1)
    kernel /= kernel.sum()
    matrix = np.zeros((pixels, pixels))
    period = 2 * pixels
    for offset, weight in zip(range(-radius, radius + 1), kernel, strict=True):
        place = (np.arange(pixels) + offset) % period
        place = np.where(place >= pixels, period - 1 - place, place)
        np.add.at(matrix, (np.arange(pixels), place), weight)
    return matrix


def image_scores(maps: FloatArray, top_k: int = 1) -> Float64Array:
    """Image score: mean of the `top_k` highest pixels of each map; 1 is the paper's maximum.

    Parameters
    ----------
    maps : float (N, H, W)
    top_k : int >= 1, default 1
        More than there are pixels means all.

    Returns
    -------
    float64 (N,)

    Examples
    --------
    >>> image_scores(np.array([[[1.0, 4.0], [2.0, 3.0]]]), top_k=2)
    array([3.5])
    """
    if top_k < 1:
        raise InputError(f"top_k must be at least 1 pixel, but is {top_k}. The paper's is 1.")
    flat = maps.reshape(len(maps), -1)
    if top_k == 1:
        return np.asarray(flat.max(axis=1), dtype=np.float64)
    k = min(top_k, flat.shape[1])
    return np.asarray(np.partition(flat, -k, axis=1)[:, -k:].mean(axis=1, dtype=np.float64))
