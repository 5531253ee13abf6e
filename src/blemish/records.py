"""What is kept of every training image: its name, a digest, and how it was taken.

The digest tells whether a model has already learned an image. It is of the pixels that the network
sees, so a copy under another name, or saved again without loss, is the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float32Array, Float64Array, IntArray, UInt8Array

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecords:
    """Records of n images, in the order of the calibration's scores.

    Attributes
    ----------
    names : tuple of str
        File names; "" for images that came as arrays.
    digests : uint8 (n, 16)
        See `digests_of`.
    statistics : float64 (n, 4)
        `image_statistics.STATISTICS` of every image.
    placements : float64 (n, 4) or None
        `alignment.PLACEMENT_COLUMNS` of every image; None if they are not aligned.
    """

    names: tuple[str, ...]
    digests: UInt8Array
    statistics: Float64Array
    placements: Float64Array | None = None

    def __len__(self) -> int:
        return len(self.names)

    def plus(self, other: ImageRecords) -> ImageRecords:
        """These images, and then others."""
        return ImageRecords(
            names=self.names + other.names,
            digests=np.concatenate([self.digests, other.digests]),
            statistics=np.concatenate([self.statistics, other.statistics]),
            placements=None
            if self.placements is None or other.placements is None
            else np.concatenate([self.placements, other.placements]),
        )

    def take(self, kept: BoolArray) -> ImageRecords:
        """Records of some of the images: bool (n,)."""
        return ImageRecords(
            names=tuple(name for name, keep in zip(self.names, kept, strict=True) if keep),
            digests=self.digests[kept],
            statistics=self.statistics[kept],
            placements=None if self.placements is None else self.placements[kept],
        )

    def find(self, digests: UInt8Array) -> IntArray:
        """Number of the image with each digest (m, 16), -1 where there is none: int64 (m,)."""
        return places_among(self.digests, digests)

    def named(self) -> tuple[tuple[str, str], ...]:
        """Name and digest, in hexadecimal, of every image."""
        digests = [digest.tobytes().hex() for digest in self.digests]
        return tuple(zip(self.names, digests, strict=True))


def digests_of(inputs: Float32Array) -> UInt8Array:
    """Digest of every preprocessed image: the first 16 bytes of the SHA-256 of its pixels.

    Parameters
    ----------
    inputs : float32 (N, 3, H, W)

    Returns
    -------
    uint8 (N, 16)
    """
    found = [
        hashlib.sha256(np.ascontiguousarray(each, dtype="<f4").data).digest()[:DIGEST_BYTES]
        for each in inputs
    ]
    return np.frombuffer(b"".join(found), np.uint8).reshape(len(inputs), DIGEST_BYTES)


def places_among(digests: UInt8Array, wanted: UInt8Array) -> IntArray:
    """Where each wanted digest (m, 16) stands among others (n, 16), -1 if not: int64 (m,)."""
    places = {digest.tobytes(): place for place, digest in enumerate(digests)}
    return np.array([places.get(digest.tobytes(), -1) for digest in wanted], dtype=np.int64)


def pack_names(names: Sequence[str]) -> UInt8Array:
    """Names as bytes for a file, each followed by a zero."""
    text = "".join(f"{name}\0" for name in names)
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)


def unpack_names(octets: UInt8Array) -> tuple[str, ...]:
    """Names from `pack_names`.

    Examples
    --------
    >>> unpack_names(pack_names(["000.png", ""]))
    ('000.png', '')
    """
    return tuple(octets.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
