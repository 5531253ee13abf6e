"""Embeddings of all training images in 16 bits, so that a model can be calibrated without them.

A model that keeps its features learns from the rounded ones, so that what is computed from them
later is what a fit would compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, Float16Array, Float32Array
from blemish.errors import InputError
from blemish.packing import Kept

_BATCH = 16


@dataclass(frozen=True, slots=True)
class KeptFeatures:
    """Embeddings of n images, in the order of the calibration's scores.

    Attributes
    ----------
    levels : tuple of float16 (n, P, d)
        Coarse to fine; arrays, or rows that are read from a model file when asked for.
    """

    levels: tuple[Float16Array | Kept, ...]

    def __len__(self) -> int:
        return int(self.levels[0].shape[0])

    def batches(self, kept: BoolArray | None = None) -> Iterator[list[Float32Array]]:
        """Embeddings, float32 (N, P, d) per level, some images at a time.

        Parameters
        ----------
        kept : bool (n,), optional
            Only these images.
        """
        for start in range(0, len(self), _BATCH):
            rows = slice(start, min(start + _BATCH, len(self)))
            wanted = slice(None) if kept is None else kept[rows]
            batch = [np.asarray(level[rows])[wanted].astype(np.float32) for level in self.levels]
            if len(batch[0]):
                yield batch

    def take(self, kept: BoolArray) -> KeptFeatures:
        """Features of some of the images, bool (n,), in memory."""
        return KeptFeatures(tuple(np.asarray(level[0 : len(self)])[kept] for level in self.levels))

    def plus(self, other: KeptFeatures) -> KeptFeatures:
        """Features of these images, and then of others, in memory."""
        return KeptFeatures(
            tuple(
                np.concatenate([np.asarray(mine[0 : len(self)]), np.asarray(its[0 : len(other)])])
                for mine, its in zip(self.levels, other.levels, strict=True)
            )
        )


def to_16_bits(levels: Sequence[Float32Array]) -> list[Float16Array]:
    """Round embeddings, float32 (N, P, d) per level, to what is kept of them.

    Raises
    ------
    InputError
        Numbers beyond the range of 16-bit floats.

    Examples
    --------
    >>> to_16_bits([np.array([[[0.1]]], np.float32)])[0].item()
    0.0999755859375
    """
    with np.errstate(over="ignore"):
        rounded = [level.astype(np.float16) for level in levels]
    if not all(np.isfinite(level).all() for level in rounded):
        largest = max(float(np.abs(level).max()) for level in levels)
        raise InputError(
            f"Features must be at most 65504 to be kept in 16 bits, but reach {largest:.4g}. "
            "Fit without keeping them."
        )
    return rounded


def features_of(rows: Sequence[Sequence[NDArray[Any]]]) -> KeptFeatures:
    """Put batches of 16-bit embeddings together."""
    return KeptFeatures(tuple(np.concatenate(level) for level in zip(*rows, strict=True)))
