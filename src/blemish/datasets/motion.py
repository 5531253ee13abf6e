"""Turns, shifts and cuts an image and its mask alike, as a part lies that nobody aligned.

An image is resized to a shorter side of so many pixels (antialiased), turned about its centre, and
a square is cut out of it. Shapes: source H0 x W0, resized H x W, the square S x S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, Float32Array, Float64Array, UInt8Array
from blemish.errors import ImageError
from blemish.images import image_size, read_image
from blemish.lazy_image import LazyImage
from blemish.preprocessing import resample, size_by_shorter_side

BORDERS = ("replicate", "reflect", "black")
"""What fills places outside the image: its nearest pixel, its mirror image, or nothing."""

ROTATIONS = ("bilinear", "bicubic", "nearest")
"""Interpolations of the rotation."""

ORDERS = ("resize-first", "rotate-first")

_LONGEST_SIDE = 32_766  # of an image that OpenCV can turn


@dataclass(frozen=True, slots=True)
class Motion:
    """What is done to one image and its mask.

    Attributes
    ----------
    angle : float, degrees
        Counter-clockwise, about the centre of the image.
    down, right : int, pixels of the resized image
        From the centred square to the one that is cut out.
    size : int, pixels
        Shorter side of the resized image.
    crop : int, pixels
        Side of the square, at most `size`.
    border : one of `BORDERS`
        The mask is continued as the image is: where a mirrored defect is seen, the mask says so.
    order : {"resize-first", "rotate-first"}
        Rotate-first turns the image at its own size.
    interpolation : {"bicubic", "bilinear"}
        Of the resize.
    rotation : one of `ROTATIONS`
        Interpolation of the rotation.

    Examples
    --------
    >>> image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)
    >>> Motion(angle=0.0, down=1, right=-1, size=4, crop=2).apply(image)[..., 0]
    array([[ 8,  9],
           [12, 13]], dtype=uint8)
    """

    angle: float
    down: int
    right: int
    size: int
    crop: int
    border: str = "replicate"
    order: str = "resize-first"
    interpolation: str = "bicubic"
    rotation: str = "bilinear"

    def apply(self, image: UInt8Array | Float32Array) -> UInt8Array | Float32Array:
        """Move an image.

        Parameters
        ----------
        image : uint8 (H0, W0, 3) in 0..255, or float32 (H0, W0, 3) in 0..1

        Returns
        -------
        uint8 or float32 (S, S, 3)
        """
        resized = size_by_shorter_side(image.shape[:2], self.size)
        if self.order == "rotate-first":
            turned = self._turn(image, (0, 0), image.shape[:2])
            top, left = self._corner(resized)
            return _resized(turned, resized, self.interpolation)[
                top : top + self.crop, left : left + self.crop
            ]
        small = _resized(image, resized, self.interpolation)
        return self._turn(small, self._corner(resized), (self.crop, self.crop))

    def apply_to_mask(self, mask: BoolArray) -> BoolArray:
        """Move a mask as its image: every pixel takes the value of the source pixel it shows.

        Parameters
        ----------
        mask : bool (H0, W0)
            In the frame of the source image.

        Returns
        -------
        bool (S, S)
        """
        source = (mask.shape[0], mask.shape[1])
        resized = size_by_shorter_side(source, self.size)
        frame = source if self.order == "rotate-first" else resized  # the one that is turned
        top, left = self._corner(resized)
        centres = np.arange(self.crop, dtype=np.float64) + 0.5
        y, x = self._unturned(
            (centres[:, None] + top) * (frame[0] / resized[0]),
            (centres[None, :] + left) * (frame[1] / resized[1]),
            frame,
        )
        inside = (y >= 0) & (y < frame[0]) & (x >= 0) & (x < frame[1])
        rows, columns = (
            (_continued(places, of, self.border) * (whole / of)).astype(np.int64).clip(0, whole - 1)
            for places, of, whole in zip((y, x), frame, source, strict=True)
        )
        found: BoolArray = mask[rows, columns]
        return found & inside if self.border == "black" else found

    def _corner(self, resized: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the resized image where the square begins."""
        return (
            centred(resized[0], self.crop) + self.down,
            centred(resized[1], self.crop) + self.right,
        )

    def _unturned(
        self, y: Float64Array, x: Float64Array, frame: tuple[int, int]
    ) -> tuple[Float64Array, Float64Array]:
        """Where places came from, before an image of this size was turned about its centre."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        down, right = frame[0] / 2, frame[1] / 2
        y, x = y - down, x - right
        return cos * y + sin * x + down, cos * x - sin * y + right

    def _turn(
        self, image: NDArray[Any], corner: tuple[int, int], size: tuple[int, int]
    ) -> UInt8Array | Float32Array:
        """Turn an image about its centre, and cut out what begins at `corner`."""
        import cv2  # noqa: PLC0415 - takes longer to load than everything else here

        places = np.array([[0.5, 0.5], [0.5, 1.5], [1.5, 0.5]]) + corner  # of 3 pixels: y, x
        y, x = self._unturned(places[:, 0], places[:, 1], image.shape[:2])
        to_source = np.array([[x[1] - x[0], x[2] - x[0], x[0] - 0.5],
                              [y[1] - y[0], y[2] - y[0], y[0] - 0.5]])  # fmt: skip
        how = {
            "nearest": cv2.INTER_NEAREST,
            "bilinear": cv2.INTER_LINEAR,
            "bicubic": cv2.INTER_CUBIC,
        }[self.rotation]
        border = {
            "replicate": cv2.BORDER_REPLICATE,
            "reflect": cv2.BORDER_REFLECT,
            "black": cv2.BORDER_CONSTANT,
        }[self.border]
        turned: NDArray[Any] = cv2.warpAffine(
            image,
            to_source,
            (size[1], size[0]),
            flags=how | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=0,
        )
        return turned if turned.dtype == np.uint8 else turned.clip(0, 1)


@dataclass(frozen=True, slots=True)
class MovedImage(LazyImage):
    """An image file, moved whenever it is read.

    Attributes
    ----------
    file : Path
    motion : Motion
    """

    file: Path
    motion: Motion

    @property
    def path(self) -> Path:
        """The file."""
        return self.file

    def read_size(self) -> tuple[int, int]:
        """The square, whatever size the file has; its header is read."""
        self._check(image_size(self.file))
        return self.motion.crop, self.motion.crop

    def read(self, *, value_range: tuple[float, float] | None) -> UInt8Array | Float32Array:
        """Read the file and move it."""
        image = read_image(self.file, value_range=value_range)
        self._check(image.shape[:2])
        return self.motion.apply(image)

    def _check(self, size: tuple[int, int]) -> None:
        shape = max(size) / min(size)
        longest = max(size) if self.motion.order == "rotate-first" else self.motion.size * shape
        if longest > _LONGEST_SIDE:
            raise ImageError(
                f"{self.file} must be at most {_LONGEST_SIDE} pixels long to be turned, but is "
                f"{longest:.0f} long. Cut it into parts."
            )


def centred(side: int, crop: int) -> int:
    """Where a centred crop begins; half to even, as `Preprocessing` and torchvision have it."""
    return round((side - crop) / 2)


def _resized(image: NDArray[Any], size: tuple[int, int], interpolation: str) -> NDArray[Any]:
    return image if image.shape[:2] == size else resample(image, size, interpolation)


def _continued(places: Float64Array, length: int, border: str) -> Float64Array:
    """Places along an axis of an image of so many pixels, those outside brought inside."""
    if border == "reflect":
        places = places % (2 * length)
        places = np.where(places < length, places, 2 * length - places)
    return places.clip(0.0, np.nextafter(length, 0))
