"""Numbers in a model file: 48-bit floats.

A float64 without its 16 last bits keeps 36 binary digits of the mantissa (7e-12 relative), ten
thousand times finer than what a score needs, in three quarters of the space. Moments are rounded
before anything is derived from them, so a loaded model scores exactly as the one in memory.
"""

from __future__ import annotations

import numpy as np

from blemish.arrays import Float64Array, UInt8Array

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
