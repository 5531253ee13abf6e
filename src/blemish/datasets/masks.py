"""Loads the ground truth of a sample: the only place in this package that opens its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray
from blemish.datasets.sample import Sample
from blemish.errors import DatasetError
from blemish.images import read_mask


def load_mask(sample: Sample) -> BoolArray | None:
    """Where the defect is.

    Parameters
    ----------
    sample : Sample

    Returns
    -------
    bool (H, W) or None
        True where the defect is. None if the sample has no mask: a normal image (then nothing
        is defective), or a dataset without masks (then it is not known).

    Raises
    ------
    DatasetError
        A ``.npy`` of masks is damaged, of another shape, or has no such frame.
    ImageError
        A mask image cannot be read.
    """
    if sample.mask is None:
        return None
    if sample.mask_frame is None:
        return read_mask(sample.mask)
    masks = load_stack(sample.mask, ndim=3)
    if not 0 <= sample.mask_frame < len(masks):
        raise DatasetError(
            f"{sample.mask} must have a mask for frame {sample.mask_frame}, but has "
            f"{len(masks)} masks, counted from 0. Download the dataset again."
        )
    mask: BoolArray = np.asarray(masks[sample.mask_frame]) != 0
    return mask


def load_stack(path: Path, *, ndim: int) -> NDArray[np.generic]:
    """Numbers of a ``.npy`` file, left on disk until they are used.

    Raises
    ------
    DatasetError
        The file is damaged, holds no numbers, or has not `ndim` dimensions.
    """
    shape = "(frames, H, W)" if ndim == 3 else "(frames,)"
    try:
        stack: NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            f"{path} must be a NumPy file of shape {shape}, but cannot be read: {error}. "
            "Download the dataset again."
        ) from error
    if stack.ndim != ndim or stack.dtype.kind not in "biuf":
        raise DatasetError(
            f"{path} must be a NumPy file of numbers of shape {shape}, "
            f"but holds {stack.dtype} of shape {stack.shape}. Download the dataset again."
        )
    return stack
