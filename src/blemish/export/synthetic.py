"""Defects that were never there, put on good images, for checks where real ones are missing.

A defect is something laid over a good image with some opacity: a scar (a thin line, black or
white), a blob (a soft spot, black or white), or a patch (a rectangle from another place of the
same image, as in CutPaste, Li et al. 2021, arXiv:2104.04015). Faint ones are hard to find. They are
no forecast of how well real defects are found; they show whether two models find the same.
"""

from __future__ import annotations

import cv2
import numpy as np

from blemish.arrays import BoolArray, Float32Array

KINDS = ("scar", "blob", "patch")


def spoil(
    image: Float32Array,
    *,
    kind: str,
    opacity: float,
    generator: np.random.Generator,
    ignored: BoolArray | None = None,
) -> Float32Array:
    """Put one defect on a good image.

    Parameters
    ----------
    image : float32 (3, H, W) in 0..1
    kind : {"scar", "blob", "patch"}
    opacity : float in 0..1
        0 leaves the image as it is.
    generator : numpy Generator
        Decides where, how large and which way round.
    ignored : bool (H, W), optional
        Where the centre of a defect must not lie.

    Returns
    -------
    float32 (3, H, W) in 0..1

    Examples
    --------
    >>> gray = np.full((3, 32, 32), 0.5, np.float32)
    >>> found = spoil(gray, kind="blob", opacity=0.2, generator=np.random.default_rng(0))
    >>> round(float(np.abs(found - gray).max()), 1)
    0.1
    """
    height, width = image.shape[1:]
    centre = _place(height, width, generator, ignored)
    side = min(height, width)
    if kind == "patch":
        mask, laid = _patch(image, centre, side, generator)
    else:
        shape = _scar if kind == "scar" else _blob
        mask = shape((height, width), centre, side, generator)
        laid = np.full_like(image, generator.integers(2))  # black or white
    cover = np.float32(opacity) * mask
    return np.asarray(image * (1 - cover) + laid * cover, dtype=np.float32)


def made_up_images(count: int, size: tuple[int, int], *, seed: int = 0) -> Float32Array:
    """Images of nothing: soft colour fields with some noise.

    Only good to see whether two programs compute the same, and not as good as real images.

    Returns
    -------
    float32 (count, 3, H, W) in 0..1
    """
    images = np.empty((count, 3, *size), np.float32)
    for number, image in enumerate(images):
        generator = np.random.default_rng([seed, number])
        coarse = generator.random((6, 6, 3), dtype=np.float32)
        field = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
        noise = np.float32(0.05) * generator.standard_normal(field.shape, dtype=np.float32)
        image[:] = np.clip(field + noise, 0, 1).transpose(2, 0, 1)
    return images


def _place(
    height: int, width: int, generator: np.random.Generator, ignored: BoolArray | None
) -> tuple[int, int]:
    """Row and column of the middle, not at the rim where half of the defect would be cut off."""
    allowed = np.zeros((height, width), np.bool_)
    allowed[height // 8 : height - height // 8, width // 8 : width - width // 8] = True
    if ignored is not None and (allowed & ~ignored).any():
        allowed &= ~ignored
    chosen = int(generator.choice(np.flatnonzero(allowed)))
    return chosen // width, chosen % width


def _scar(
    size: tuple[int, int], centre: tuple[int, int], side: int, generator: np.random.Generator
) -> Float32Array:
    """Line of 10 to 30 % of the shorter side, 1 to 3 % wide."""
    angle, half = generator.uniform(0, np.pi), generator.uniform(0.05, 0.15) * side
    reach = half * np.array([np.cos(angle), np.sin(angle)])
    middle = np.array(centre[::-1])
    start, end = (np.round(middle + sign * reach).astype(int).tolist() for sign in (-1, 1))
    mask = np.zeros(size, np.float32)
    cv2.line(mask, start, end, 1.0, max(1, round(generator.uniform(0.01, 0.03) * side)))
    return mask


def _blob(
    size: tuple[int, int], centre: tuple[int, int], side: int, generator: np.random.Generator
) -> Float32Array:
    """Gaussian spot with a standard deviation of 1.5 to 4 % of the shorter side."""
    sigma = max(1.0, generator.uniform(0.015, 0.04) * side)
    rows, columns = np.mgrid[: size[0], : size[1]]
    away = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return np.asarray(np.exp(-away / (2 * sigma**2)), dtype=np.float32)


def _patch(
    image: Float32Array, centre: tuple[int, int], side: int, generator: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """Mask of a rectangle of 6 to 15 % of the shorter side, and the image with it pasted in."""
    height, width = image.shape[1:]
    h, w = (max(2, round(generator.uniform(0.06, 0.15) * side)) for _ in range(2))
    top, left = min(centre[0], height - h), min(centre[1], width - w)
    from_top = int(generator.integers(height - h + 1))
    from_left = int(generator.integers(width - w + 1))
    laid, mask = image.copy(), np.zeros((height, width), np.float32)
    laid[:, top : top + h, left : left + w] = image[
        :, from_top : from_top + h, from_left : from_left + w
    ]
    mask[top : top + h, left : left + w] = 1
    return mask, laid
