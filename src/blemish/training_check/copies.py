"""Copies among images: the same pixels, or one picture saved, scaled or lit a little differently.

Good parts look alike, so pictures are not compared as they are, but by what sets each apart from
the mean of all: that is the same in two copies, and not in two photographs of two parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from blemish.arrays import Float32Array, FloatArray, IntArray, UInt8Array

LEAST_SIMILARITY = 0.995
"""From this similarity on two images are copies; see docs/decisions/0015-outliers.md."""

_THUMBNAIL = 32
_BLOCK = 512
_NOTHING = 1e-6  # of a standardised thumbnail: less sets it apart only by rounding


@dataclass(frozen=True, slots=True)
class Copies:
    """Which images are copies.

    Attributes
    ----------
    original : int64 (n,)
        Number of the earlier image that each is a copy of; its own number if it is none.
    similarity : float64 (n,)
        To the original: 1 for the same pixels. 1 also for images that are no copies.
    """

    original: IntArray
    similarity: FloatArray

    def groups(self) -> list[list[int]]:
        """Numbers of the images of every group of copies, the original first."""
        found: dict[int, list[int]] = {}
        for image in np.flatnonzero(self.original != np.arange(len(self.original))).tolist():
            original = int(self.original[image])
            found.setdefault(original, [original]).append(image)
        return [found[original] for original in sorted(found)]


def thumbnails_of(inputs: Float32Array) -> Float32Array:
    """Small gray pictures of preprocessed images, of mean 0 and length 1.

    Parameters
    ----------
    inputs : float32 (N, 3, H, W)

    Returns
    -------
    float32 (N, 1024)
        All 0 for an image of one colour.
    """
    small = np.stack(
        [
            cv2.resize(gray, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
            for gray in inputs.mean(axis=1, dtype=np.float32)
        ]
    ).reshape(len(inputs), -1)
    small -= small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    return np.asarray(small / np.maximum(length, _NOTHING), np.float32)


def copies_among(thumbnails: Float32Array, digests: UInt8Array) -> Copies:
    """Find the copies: by their digests, and by their thumbnails.

    With a and b what sets two thumbnails apart from the mean of all, their similarity is
    ``2 a.b / (a.a + b.b)``, the concordance of Lin (Biometrics 45, 1989, doi:10.2307/2532051)
    about that mean. An image is a copy of the first one that it is similar enough to and that is
    no copy itself, so that a slow drift is not one chain of copies. Time grows with the square of
    the number of images, but is that of a matrix product: seconds for 10,000.

    Parameters
    ----------
    thumbnails : float32 (n, d)
        From `thumbnails_of`.
    digests : uint8 (n, 16)
        From `records.digests_of`.

    Returns
    -------
    Copies
    """
    count = len(thumbnails)
    original, similarity = np.arange(count), np.ones(count)
    first: dict[bytes, int] = {}
    for image, digest in enumerate(digests):
        original[image] = first.setdefault(digest.tobytes(), image)
    same = original.copy()
    apart = thumbnails - thumbnails.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("nd,nd->n", apart, apart)
    different = np.flatnonzero((original == np.arange(count)) & (squares > _NOTHING**2))
    for start in range(0, len(different), _BLOCK):
        block = different[start : start + _BLOCK]
        others = different[: start + len(block)]
        products = apart[block] @ apart[others].T
        alike = 2 * products / (squares[block, None] + squares[others])
        for row in np.flatnonzero((alike >= LEAST_SIMILARITY).sum(axis=1) > 1):
            image = block[row]
            earlier = others[(alike[row] >= LEAST_SIMILARITY) & (others < image)]
            leaders = earlier[original[earlier] == earlier]
            if len(leaders):
                original[image] = leaders[0]
                similarity[image] = alike[row, np.searchsorted(others, leaders[0])]
    return Copies(original[same], similarity[same])
