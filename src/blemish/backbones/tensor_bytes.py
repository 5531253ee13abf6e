"""Bytes of a weight file to arrays: the number formats that safetensors and torch share."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

NUMBER_FORMATS = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "BF16": "u2",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""Names as in safetensors, and how NumPy writes them. NumPy has no bfloat16: read as its bits."""


def item_size(number_format: str) -> int:
    """Bytes per number.

    Examples
    --------
    >>> item_size("BF16")
    2
    """
    return np.dtype(NUMBER_FORMATS[number_format]).itemsize


def array_from_bytes(
    raw: bytes, number_format: str, *, little_endian: bool = True
) -> NDArray[np.generic]:
    """Read a flat array.

    Parameters
    ----------
    raw : bytes
        A whole number of items.
    number_format : str
        A key of `NUMBER_FORMATS`.
    little_endian : bool, default True

    Returns
    -------
    array (count,)
        Of the format's own type; bfloat16 is widened to float32, which is exact.

    Examples
    --------
    >>> array_from_bytes(bytes([0x80, 0x3F, 0x00, 0xC0]), "BF16")
    array([ 1., -2.], dtype=float32)
    """
    order: Literal["<", ">"] = "<" if little_endian else ">"
    array = np.frombuffer(raw, np.dtype(NUMBER_FORMATS[number_format]).newbyteorder(order))
    if number_format == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="))
