"""Numbers in a model file: 48-bit floats, made and written piece by piece.

A float64 without its 16 last bits keeps 36 binary digits of the mantissa (7e-12 relative), ten
thousand times finer than what a score needs, in three quarters of the space. Moments are rounded
before anything is derived from them, so a loaded model scores exactly as the one in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Float64Array, UInt8Array

_PIECE_BYTES = 16 << 20
_DTYPES = {"|b1": "BOOL", "|u1": "U8", "<i8": "I64", "<f2": "F16", "<f4": "F32", "<f8": "F64"}

_HALF = np.uint64(1 << 15)
_KEPT = np.uint64(0xFFFF_FFFF_FFFF_0000)


def round_to_48_bits(array: Float64Array) -> None:
    """Round a C-contiguous array in place, to nearest.

    Examples
    --------
    >>> values = np.array([1.0, 1 / 3])
    >>> round_to_48_bits(values)
    >>> values[0], abs(values[1] * 3 - 1) < 1e-11, values[1] == 1 / 3
    (np.float64(1.0), np.True_, np.False_)
    """
    bits = array.view(np.uint64)
    bits += _HALF
    bits &= _KEPT


def pack(array: Float64Array) -> UInt8Array:
    """Bytes of rounded numbers, without the two that are zero.

    Returns
    -------
    uint8 (..., 6), little-endian
    """
    rounded = np.array(array, dtype="<f8", order="C")
    round_to_48_bits(rounded)
    octets = rounded.view(np.uint8).reshape(*array.shape, 8)
    return np.ascontiguousarray(octets[..., 2:])


def unpack(octets: UInt8Array) -> Float64Array:
    """Numbers from `pack`.

    Examples
    --------
    >>> unpack(pack(np.array([0.0, -2.5])))
    array([ 0. , -2.5])
    """
    whole = np.zeros((*octets.shape[:-1], 8), dtype=np.uint8)
    whole[..., 2:] = octets
    return np.asarray(whole.view("<f8")[..., 0], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed numbers that are made only while they are read, so that they are never held whole.

    Attributes
    ----------
    source : float64 (P, ...)
    picked : function
        Rows (p, ...) of `source` to what is packed of them, float64 (p, ...).
    """

    source: Float64Array
    picked: Callable[[Float64Array], Float64Array]
    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all bytes: (P, ..., 6)."""
        return (len(self.source), *self.picked(self.source[:1]).shape[1:], 6)

    def pieces(self) -> Iterator[UInt8Array]:
        """Bytes in order, some rows at a time."""
        for rows in row_slices(self.source.shape, self.source.itemsize):
            yield pack(self.picked(self.source[rows]))


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of a tensor in an open safetensors file, read when they are asked for.

    Attributes
    ----------
    rows : slice of `safetensors.safe_open`
    shape : tuple of int
    dtype : dtype
    """

    rows: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, file: Any, name: str) -> Kept | NDArray[Any]:
        """Rows by name; a whole array where there are no rows."""
        rows = file.get_slice(name)
        shape = tuple(rows.get_shape())
        if not shape or 0 in shape:
            whole: NDArray[Any] = file.get_tensor(name)
            return whole
        return cls(rows, shape, rows[:1].dtype)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read some rows."""
        read: NDArray[Any] = self.rows[rows]
        return read

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Rows in order, some at a time."""
        for rows in row_slices(self.shape, self.dtype.itemsize):
            yield self[rows]


Tensor = NDArray[Any] | Packed | Kept
Tensors = dict[str, Any]
"""By name: arrays, or what is made or read piece by piece (`Packed`, `Kept`)."""


def row_slices(shape: tuple[int, ...], itemsize: int) -> Iterator[slice]:
    """Rows of an array, so many at a time that they take about 16 MB.

    Examples
    --------
    >>> list(row_slices((3, 1 << 20), 8))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, _PIECE_BYTES // max(int(np.prod(shape[1:])) * itemsize, 1))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def pieces_of(tensor: Tensor) -> Iterator[memoryview]:
    """Bytes of an array, or of packed numbers, in order."""
    pieces = [tensor] if isinstance(tensor, np.ndarray) else tensor.pieces()
    for piece in pieces:
        yield np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data


def safetensors_pieces(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Bytes of a safetensors file, in order; what is packed is packed on the way.

    Parameters
    ----------
    tensors : dict of bool, uint8, int64, float16, float32 or float64 arrays, or `Packed`
    metadata : dict of str

    Examples
    --------
    >>> from safetensors.numpy import load
    >>> content = b"".join(safetensors_pieces({"a": np.array([1.0, 2.0])}, {}))
    >>> load(content)
    {'a': array([1., 2.])}
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    first = 0
    for name in names:
        dtype, shape = tensors[name].dtype, tensors[name].shape
        last = first + int(np.prod(shape)) * dtype.itemsize
        header[name] = {
            "dtype": _DTYPES[dtype.str],
            "shape": list(shape),
            "data_offsets": [first, last],
        }
        first = last
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield from pieces_of(tensors[name])
