"""Holds very many pixel scores once: a pool that grows without copying and sorts in place.

Also the keys under which defect pixels are pooled: 64 bits, the score above the number of the
region, made so that keys sort as scores do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Float32Array

UInt64Array = NDArray[np.uint64]
Number = TypeVar("Number", np.float32, np.uint64)

FIRST_CHUNK_BYTES = 1 << 18
LARGEST_CHUNK_BYTES = 1 << 26  # what sorting needs on top, once, to join the chunks
REGION_BITS = np.uint64(32)
SIGN = np.uint32(1 << 31)
ALL_BITS = np.uint32(0xFFFFFFFF)
SLICE = 1 << 19  # keys looked at in one go: bounds the temporary arrays to some 30 MB


class Pool(Generic[Number]):
    """Numbers gathered piece by piece, kept once, sorted when asked for.

    Appending after `sorted` was called is correct, but the next `sorted` then holds the
    old numbers twice for a moment.

    Attributes
    ----------
    count : int
        Numbers held.

    Examples
    --------
    >>> pool = Pool(np.float32)
    >>> pool.append(np.array([3.0, 1.0], np.float32))
    >>> pool.append(np.array([2.0], np.float32))
    >>> pool.sorted()
    array([1., 2., 3.], dtype=float32)
    """

    def __init__(self, number: type[Number]) -> None:
        self.count = 0
        self._number: type[Number] = number
        self._chunks: list[NDArray[Number]] = []
        self._filled = 0  # of the last chunk; the others are full
        self._is_sorted = True

    def append(self, numbers: NDArray[Number]) -> None:
        """Add a copy of `numbers` (M,), of the pool's own dtype."""
        while len(numbers) > 0:
            if not self._chunks or self._filled == len(self._chunks[-1]):
                self._grow()
            chunk = self._chunks[-1]
            taken = numbers[: len(chunk) - self._filled]
            chunk[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            self.count += len(taken)
            self._is_sorted = False
            numbers = numbers[len(taken) :]

    def sorted(self) -> NDArray[Number]:
        """All numbers in rising order, (count,). The pool's own array: not to be written to."""
        if not self._is_sorted:
            self._join()
            self._chunks[0].sort()
            self._is_sorted = True
        return self._chunks[0] if self._chunks else np.empty(0, self._number)

    def _grow(self) -> None:
        """Add a chunk as large as all before it, within limits: at most half is ever unused."""
        size = np.dtype(self._number).itemsize
        largest, least = LARGEST_CHUNK_BYTES // size, FIRST_CHUNK_BYTES // size
        self._chunks.append(np.empty(min(max(self.count, least), largest), self._number))
        self._filled = 0

    def _join(self) -> None:
        """Make one full chunk of all, giving each back as soon as it is copied."""
        if len(self._chunks) == 1:
            self._chunks[0] = self._chunks[0][: self._filled]
            return
        whole = np.empty(self.count, self._number)
        begin = 0
        while self._chunks:
            chunk = self._chunks.pop(0)
            end = min(begin + len(chunk), self.count)
            whole[begin:end] = chunk[: end - begin]
            begin = end
        self._chunks, self._filled = [whole], self.count


def encode_keys(scores: Float32Array) -> UInt64Array:
    """Keys that sort as the scores do, with 32 zero bits below for the number of a region.

    The bits of a positive float32 rise with its value, those of a negative one fall.

    Parameters
    ----------
    scores : float32 (M,), no NaN
        0.0 and -0.0 get the same key.

    Returns
    -------
    uint64 (M,)

    Examples
    --------
    >>> np.argsort(encode_keys(np.array([2.0, -1.0, 0.5, -3.0], np.float32)))
    array([3, 1, 2, 0])
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 turns -0.0 into 0.0
    code = bits ^ np.where(bits & SIGN, ALL_BITS, SIGN)
    keys: UInt64Array = code.astype(np.uint64) << REGION_BITS
    return keys


def decode_scores(keys: UInt64Array) -> Float32Array:
    """Scores that `encode_keys` was given, float32 (M,).

    Examples
    --------
    >>> decode_scores(encode_keys(np.array([2.0, -1.0], np.float32)))
    array([ 2., -1.], dtype=float32)
    """
    code = (keys >> REGION_BITS).astype(np.uint32)
    scores: Float32Array = (code ^ np.where(code & SIGN, SIGN, ALL_BITS)).view(np.float32)
    return scores


def decode_regions(keys: UInt64Array) -> NDArray[np.intp]:
    """Numbers in the lower 32 bits of the keys, intp (M,)."""
    regions: NDArray[np.intp] = (keys & np.uint64(ALL_BITS)).astype(np.intp)
    return regions


def slices(keys: UInt64Array) -> Iterator[UInt64Array]:
    """The keys, a bounded number at a time, in their order."""
    for begin in range(0, len(keys), SLICE):
        yield keys[begin : begin + SLICE]
