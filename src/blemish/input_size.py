"""Which input sizes a backbone can take, and which positions of its grid an ignore mask covers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np  # noqa: F401  (used by the example)

from blemish.arrays import BoolArray
from blemish.errors import InputError, ShapeError

DEFAULT_AREA = 256 * 256
"""Pixels of the default input: the 256x256 most published results use."""

_MIN_POSITIONS = 2
"""Fewest positions along a side of the coarsest grid."""


def check_size(size: tuple[int, int], strides: Sequence[int]) -> None:
    """Check that the grids of all layers divide each other at this input size.

    The pyramid of conditional Gaussians needs every coarse cell to hold a whole number of finer
    ones, so height and width must be multiples of the coarsest stride.

    Parameters
    ----------
    size : (H, W), pixels
    strides : sequence of int
        Stride of every layer used, pixels per position.

    Raises
    ------
    InputError
        The size does not fit. The message names the nearest ones that do.

    Examples
    --------
    >>> check_size((160, 400), strides=(4, 8, 16))
    >>> check_size((225, 400), strides=(4, 8, 16))
    Traceback (most recent call last):
        ...
    blemish.errors.InputError: The input's height and width must be multiples of 16 and at least
    32, but are 225x400. The nearest good sizes are 224x400 and 240x400.
    """
    step = math.lcm(*strides)
    choices = [_nearest_multiples(side, step) for side in size]
    if choices == [[size[0]], [size[1]]]:
        return
    good = [f"{height}x{width}" for height in choices[0] for width in choices[1]]
    nearest = (
        f"The nearest good size is {good[0]}."
        if len(good) == 1
        else f"The nearest good sizes are {', '.join(good[:-1])} and {good[-1]}."
    )
    raise InputError(
        f"The input's height and width must be multiples of {step} and at least "
        f"{_MIN_POSITIONS * step}, but are {size[0]}x{size[1]}. {nearest}"
    )


def full_size_for(
    image_size: tuple[int, int], strides: Sequence[int], *, area: int = DEFAULT_AREA
) -> tuple[int, int]:
    """Input size (H, W) of about `area` pixels that keeps an image's aspect ratio.

    Parameters
    ----------
    image_size : (H0, W0), pixels
        Size of the images, or of their region of interest.
    strides : sequence of int
        Stride of every layer used, pixels per position.
    area : int, pixels, default 256 * 256

    Returns
    -------
    (H, W)
        Multiples of the coarsest stride, at least two positions each.

    Examples
    --------
    >>> full_size_for((900, 900), strides=(4, 8, 16))
    (256, 256)
    >>> full_size_for((160, 400), strides=(4, 8, 16))
    (160, 400)
    """
    step = math.lcm(*strides)
    height, width = image_size
    scale = math.sqrt(area / (height * width))
    sides = (max(_MIN_POSITIONS, round(side * scale / step)) * step for side in (height, width))
    return next(sides), next(sides)


def position_mask(ignored: BoolArray, grid: tuple[int, int]) -> BoolArray:
    """Find the positions that an ignore mask covers.

    Parameters
    ----------
    ignored : bool (H, W)
        True where pixels of the network's input are ignored.
    grid : (h, w)
        Positions of a layer; h divides H and w divides W.

    Returns
    -------
    bool (h, w)
        True where at least half of the pixels of the position's cell are ignored.

    Raises
    ------
    ShapeError
        The grid does not divide the mask.

    Examples
    --------
    >>> position_mask(np.array([[True, False, False, False]]), grid=(1, 2))
    array([[ True, False]])
    """
    h, w = grid
    if ignored.ndim != 2 or min(grid) < 1 or ignored.shape[0] % h or ignored.shape[1] % w:
        raise ShapeError.of(
            "ignored", f"(multiple of {h}, multiple of {w})", ignored.shape, "Is the grid its own?"
        )
    cells = ignored.reshape(h, ignored.shape[0] // h, w, ignored.shape[1] // w)
    covered: BoolArray = cells.mean(axis=(1, 3)) >= 0.5
    return covered


def _nearest_multiples(side: int, step: int) -> list[int]:
    """The nearest allowed sides: one if `side` is allowed or too small, else two."""
    below = side // step * step
    lowest = _MIN_POSITIONS * step
    if below < lowest:
        return [lowest]
    return [below] if below == side else [below, below + step]
