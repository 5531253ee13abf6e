"""Brings the part in an image to where the reference has it, and maps back to where it lay.

Everything is in the frame of the network's input. What the network then sees of places that lie
outside the image is the reference, at the light of the image: docs/decisions/0013-alignment.md has
what else was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import cv2
import numpy as np

from blemish.arrays import Float32Array, Float64Array
from blemish.cores import one_blas_thread
from blemish.errors import AlignmentError
from blemish.registration import Placement, Registration

ALIGNMENTS = ("none", "shift", "rigid")

PLACEMENT_COLUMNS = ("dx", "dy", "angle", "correlation")
"""What is kept of the placement of every training image: pixels, degrees, -1 to 1."""

_FADE = 4.0  # pixels from the border of the image over which it goes over into the reference
_MOST_GAIN = 4.0
_DARK = 1e-3
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How images are aligned.

    Attributes
    ----------
    kind : {"shift", "rigid"}
        Rigid: a turn by any angle and a shift.
    reference : float32 (3, H, W), 0..1
        In the frame of the network's input.
    least_correlation : float, 0 to 1
        A part that correlates less with the reference is not aligned, and not scored.
    """

    kind: str
    reference: Float32Array
    least_correlation: float


class Aligner:
    """Aligns preprocessed images.

    Parameters
    ----------
    alignment : Alignment

    Examples
    --------
    >>> scene = np.zeros((3, 32, 32), np.float32)
    >>> scene[:, 10:20, 8:24] = 1
    >>> aligner = Aligner(Alignment(kind="shift", reference=scene, least_correlation=0.5))
    >>> moved = np.roll(scene, 3, axis=2)
    >>> placement = aligner.place(moved)
    >>> round(placement.dx, 1), bool(np.abs(aligner.bring(moved, placement) - scene).max() < 0.1)
    (3.0, True)
    """

    def __init__(self, alignment: Alignment) -> None:
        self.alignment = alignment
        self._registration = Registration(gray(alignment.reference), turned=is_turned(alignment))
        self._reference = np.ascontiguousarray(alignment.reference.transpose(1, 2, 0))

    def place(self, image: Float32Array, name: str = "") -> Placement:
        """Where the part lies.

        Parameters
        ----------
        image : float32 (3, H, W), 0..1
        name : str
            Of the image, for the error.

        Returns
        -------
        Placement

        Raises
        ------
        AlignmentError
            It correlates too little with the reference, wherever it is looked for.
        """
        with one_blas_thread():
            placement = self._registration(gray(image))
        least = self.alignment.least_correlation
        if placement.correlation < least:
            raise AlignmentError(
                f"{name}{': ' if name else ''}The part must correlate with the reference by at "
                f"least {least:.3f} to be aligned, but does by {placement.correlation:.3f}. Is it "
                "another part, or out of the frame?"
            )
        return placement

    def __call__(
        self, images: Float32Array, names: Sequence[str] = ()
    ) -> tuple[Float32Array, list[Placement | AlignmentError]]:
        """Align a batch.

        Parameters
        ----------
        images : float32 (N, 3, H, W), 0..1
        names : sequence of N str, optional
            For the errors.

        Returns
        -------
        aligned : float32 (M, 3, H, W)
            Those images that can be.
        found : list of N Placement or AlignmentError
        """
        found: list[Placement | AlignmentError] = []
        aligned: list[Float32Array] = []
        for image, name in zip(images, names or repeat(""), strict=False):
            try:
                placement = self.place(image, name)
            except AlignmentError as error:
                found.append(error)
                continue
            found.append(placement)
            aligned.append(self.bring(image, placement))
        return np.stack(aligned) if aligned else images[:0], found

    def align_all(self, images: Float32Array) -> Float32Array:
        """Align a batch (N, 3, H, W).

        Raises
        ------
        AlignmentError
            One of them cannot be.
        """
        aligned, found = self(images)
        for one in found:
            if isinstance(one, AlignmentError):
                raise one
        return aligned

    def bring(self, image: Float32Array, placement: Placement) -> Float32Array:
        """Image as the network is to see it: the part where the reference has it.

        Parameters
        ----------
        image : float32 (3, H, W), 0..1
        placement : Placement

        Returns
        -------
        float32 (3, H, W), 0..1
        """
        brought, share = seen_by_reference(image, placement)
        if share.min() < 1:
            brought = self._filled(brought, share)
        planes: Float32Array = np.ascontiguousarray(brought.transpose(2, 0, 1))
        return np.clip(planes, 0, 1, out=planes)

    def _filled(self, image: Float32Array, share: Float32Array) -> Float32Array:
        """The reference where nothing is seen, as bright as the image is beside it."""
        mask = (share > _HALF).astype(np.uint8)
        seen, known = (np.array(cv2.mean(each, mask)[:3]) for each in (image, self._reference))
        gain = np.clip((seen + _DARK) / (known + _DARK), 1 / _MOST_GAIN, _MOST_GAIN)
        there = self._reference * gain.astype(np.float32)
        return np.asarray(cv2.blendLinear(image, there, share, 1 - share))


def seen_by_reference(
    image: Float32Array, placement: Placement, canvas: tuple[int, int] | None = None
) -> tuple[Float32Array, Float32Array]:
    """Image (3, H, W) with its part where the reference has it, and where there is an image.

    Parameters
    ----------
    image : float32 (3, H, W)
    placement : Placement
    canvas : (H, W), optional
        Size of what is returned; its middle is that of the reference.

    Returns
    -------
    image : float32 (H, W, 3)
        Its nearest pixels outside it; cubic interpolation may go beyond 0 and 1.
    share : float32 (H, W), 0..1
        0 outside the image, 1 well inside.
    """
    size = (image.shape[1], image.shape[2])
    matrix = placement.matrix(size, canvas)
    brought = cv2.warpAffine(
        np.ascontiguousarray(image.transpose(1, 2, 0)),
        matrix,
        (canvas or size)[::-1],
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(brought), _share_seen(matrix, size, canvas or size)


def restore(values: Float32Array, placement: Placement, size: tuple[int, int]) -> Float32Array:
    """Map of an aligned image -> map of the image as it came.

    Parameters
    ----------
    values : float32 (h, w)
        A map, or the grid of a layer.
    placement : Placement
        Of the part.
    size : (H, W)
        Of the network's input.

    Returns
    -------
    float32 (h, w)
        0 where the image was not looked at: those places left the aligned frame.
    """
    height, width = values.shape
    cell = np.array([size[1] / width, size[0] / height])
    matrix = placement.matrix(size)
    linear = matrix[:, :2] * cell / cell[:, None]
    middle = (cell - 1) / 2  # of the first cell, in pixels
    shift = (matrix[:, :2] @ middle + matrix[:, 2] - middle) / cell
    return np.asarray(
        cv2.warpAffine(
            values,
            np.column_stack([linear, shift]),
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
    )


def gray(image: Float32Array) -> Float32Array:
    """Mean of the channels: (3, H, W) -> (H, W)."""
    mean: Float32Array = (image[0] + image[1] + image[2]) * np.float32(1 / 3)
    return mean


def is_turned(alignment: Alignment) -> bool:
    """Whether parts may be turned, too."""
    return alignment.kind == "rigid"


def as_row(placement: Placement) -> Float64Array:
    """`PLACEMENT_COLUMNS` of a placement, float64 (4,)."""
    return np.array([placement.dx, placement.dy, placement.angle, placement.correlation])


@lru_cache(maxsize=4)
def _inside(size: tuple[int, int]) -> Float32Array:
    """How much of each pixel of an image is to be used: 1, but less at the border."""
    height, width = size
    rows, columns = (
        np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)) for length in (height, width)
    )
    return np.minimum(np.minimum.outer(rows, columns) / _FADE, 1).astype(np.float32)


def _share_seen(
    matrix: Float64Array, size: tuple[int, int], canvas: tuple[int, int]
) -> Float32Array:
    """How much each aligned pixel is to be that of the image: 0 outside, 1 well inside."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(
            _inside(size), matrix, canvas[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT
        )
    )
