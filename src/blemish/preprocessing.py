"""From an image of any size to what the network sees: the one way, for fit and for score.

Region of interest, then resize, then centre crop, then float32 in 0..1 with channels first.
Resizing is Pillow's, with antialiasing, which is what the paper's pipeline (torchvision on Pillow
images) does. Mean and standard deviation are subtracted inside the backbone's graph, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import BoolArray, Float32Array, IntArray, UInt8Array
from blemish.errors import InputError, ShapeError

INTERPOLATIONS = ("bicubic", "bilinear")

_MAX_RESIZED_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to every image before the network sees it.

    Attributes
    ----------
    resize : int, (height, width) or None
        An int is the length of the shorter side; the other keeps the aspect ratio, rounded down
        as torchvision does. None: no resizing.
    crop : (height, width) or None
        Size of the centre crop after resizing.
    roi : (x, y, width, height) or None
        Region of interest in pixels of the source image, cut out before anything else.
    interpolation : "bicubic" (the paper's, default) or "bilinear"

    Raises
    ------
    InputError
        A value is not as described, or they leave open what size the network sees.

    Examples
    --------
    >>> Preprocessing.paper().size
    (224, 224)
    >>> image = np.full((300, 400, 3), 255, np.uint8)
    >>> Preprocessing.paper().apply(image).shape
    (3, 224, 224)
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if not isinstance(self.resize, int):
            _check_numbers("resize", self.resize, 2, "an int, or (height, width)")
        elif isinstance(self.resize, bool) or self.resize < 1:
            raise InputError(f"resize must be at least 1, but is {self.resize}.")
        _check_numbers("crop", self.crop, 2, "(height, width)")
        _check_numbers("roi", self.roi, 4, "(x, y, width, height)")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, "
                f"but is {self.interpolation!r}."
            )
        if self.crop is None and (
            isinstance(self.resize, int) or (self.resize is None and self.roi is None)
        ):
            raise InputError(
                "resize, crop and roi must fix the size the network sees, but leave it to the "
                "image. Give resize as (height, width), or a crop."
            )
        limit = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        crop = (min(self.crop),) * 2 if self.crop and isinstance(self.resize, int) else self.crop
        if crop and limit and (crop[0] > limit[0] or crop[1] > limit[1]):
            raise InputError(
                f"crop must fit into the resized image, but crop is {self.crop} and resize is "
                f"{self.resize}. Choose a smaller crop, or resize to a larger size."
            )

    @classmethod
    def paper(cls, *, roi: tuple[int, int, int, int] | None = None) -> Preprocessing:
        """As published: shorter side to 256 (bicubic, antialiased), centre crop 224x224."""
        return cls(resize=256, crop=(224, 224), roi=roi)

    @classmethod
    def full(
        cls, size: tuple[int, int], *, roi: tuple[int, int, int, int] | None = None
    ) -> Preprocessing:
        """The whole image (or region of interest), resized to exactly `size` (H, W)."""
        return cls(resize=size, crop=None, roi=roi)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees, in pixels."""
        if self.crop is not None:
            return self.crop
        if isinstance(self.resize, tuple):
            return self.resize
        width, height = (self.roi or (0, 0, 0, 0))[2:]
        return height, width

    def apply(self, image: NDArray[Any]) -> Float32Array:
        """Bring an image into the form the network sees.

        Parameters
        ----------
        image : uint8 (H0, W0, 3) in 0..255, or float32 (H0, W0, 3) in 0..1
            RGB, as `read_image` and `to_rgb` return it.

        Returns
        -------
        float32 (3, H, W) in 0..1

        Raises
        ------
        ShapeError
            `image` is not (H0, W0, 3).
        InputError
            `image` has another type, or is smaller than the crop or the region of interest.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ShapeError.of("image", "(H, W, 3)", image.shape, "Call to_rgb() on it first.")
        if image.dtype not in (np.uint8, np.float32):
            raise InputError(
                f"image must be uint8 or float32, but is {image.dtype}. Call to_rgb() on it first."
            )
        geometry = self._geometry((image.shape[0], image.shape[1]))
        region = image[geometry.rows, geometry.columns]
        if region.shape[:2] != geometry.resized:
            region = resample(region, geometry.resized, self.interpolation)
        crop = region[geometry.crop_rows, geometry.crop_columns]
        planes = np.ascontiguousarray(crop.transpose(2, 0, 1))
        if planes.dtype == np.uint8:
            planes = planes / np.float32(255)
        network_input: Float32Array = planes
        return network_input

    def apply_to_mask(self, mask: BoolArray) -> BoolArray:
        """Bring a mask in the frame of the source image into the frame of the network's input.

        Each pixel takes the value of the source pixel in which its centre lies.

        Parameters
        ----------
        mask : bool (H0, W0)

        Returns
        -------
        bool (H, W)

        Raises
        ------
        ShapeError
            `mask` is not (H0, W0).
        InputError
            `mask` is not bool, or is smaller than the crop or the region of interest.
        """
        if mask.ndim != 2 or mask.size == 0:
            raise ShapeError.of("mask", "(H, W)", mask.shape, "Is it an image? Use read_mask().")
        if mask.dtype != np.bool_:
            raise InputError(f"mask must be bool, but is {mask.dtype}. Use mask != 0.")
        geometry = self._geometry((mask.shape[0], mask.shape[1]))
        region = mask[geometry.rows, geometry.columns]
        rows = _nearest(region.shape[0], geometry.resized[0])[geometry.crop_rows]
        columns = _nearest(region.shape[1], geometry.resized[1])[geometry.crop_columns]
        return region[np.ix_(rows, columns)]

    def source_box(self, image_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Rectangle of the source image that the network's input covers.

        Parameters
        ----------
        image_size : (H0, W0), pixels

        Returns
        -------
        tuple of float
            x, y, width and height in pixels of the source image; pixel 0 covers 0 to 1.

        Examples
        --------
        >>> Preprocessing.paper().source_box((512, 1024))
        (288.0, 32.0, 448.0, 448.0)
        """
        geometry = self._geometry(image_size)
        left, top, right, bottom = geometry.box
        x, y = geometry.columns.start + left, geometry.rows.start + top
        return x, y, right - left, bottom - top

    def to_json(self) -> dict[str, object]:
        """Settings as JSON values; `from_json` reads them back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_json` gave, before or after it went through a JSON file.

        Raises
        ------
        InputError
            A setting is missing, unknown or not valid.
        """
        names = list(cls.__dataclass_fields__)
        if sorted(settings) != sorted(names):
            raise InputError(
                f"preprocessing must have the settings {', '.join(names)}, "
                f"but has {', '.join(sorted(settings)) or 'none'}."
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        return cls(**values)

    def _resized_size(self, region: tuple[int, int]) -> tuple[int, int]:
        """Size (H, W) to which a region of this size is resized."""
        if self.resize is None:
            return region
        if isinstance(self.resize, tuple):
            return self.resize
        return size_by_shorter_side(region, self.resize)

    def _geometry(self, image_size: tuple[int, int]) -> _Geometry:
        height, width = image_size
        x, y, roi_width, roi_height = self.roi or (0, 0, width, height)
        if x + roi_width > width or y + roi_height > height:
            raise InputError(
                f"The region of interest must lie inside the image, but reaches to x = "
                f"{x + roi_width}, y = {y + roi_height} and the image is {_by(image_size)} "
                "pixels (height x width). Are all images from the same camera?"
            )
        resized = self._resized_size((roi_height, roi_width))
        if resized[0] * resized[1] > _MAX_RESIZED_PIXELS:
            raise InputError(
                f"The resized image must have at most {_MAX_RESIZED_PIXELS} pixels, but would be "
                f"{_by(resized)} (height x width). Is the image, or the region of interest, a "
                "thin strip? Give resize as (height, width)."
            )
        crop_height, crop_width = self.crop or resized
        if crop_height > resized[0] or crop_width > resized[1]:
            raise InputError(
                f"The resized image must be at least as large as the crop, {_by(self.size)} "
                f"pixels (height x width), but is {_by(resized)}. Choose a smaller crop, or "
                "resize to a larger size."
            )
        top = round((resized[0] - crop_height) / 2)  # half to even, as torchvision
        left = round((resized[1] - crop_width) / 2)
        return _Geometry(
            rows=slice(y, y + roi_height),
            columns=slice(x, x + roi_width),
            resized=resized,
            crop_rows=slice(top, top + crop_height),
            crop_columns=slice(left, left + crop_width),
        )


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Where an image of a given size goes: the region cut out, its new size, the crop in that."""

    rows: slice
    columns: slice
    resized: tuple[int, int]
    crop_rows: slice
    crop_columns: slice

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the crop in pixels of the region."""
        across = (self.columns.stop - self.columns.start) / self.resized[1]
        down = (self.rows.stop - self.rows.start) / self.resized[0]
        return (
            self.crop_columns.start * across,
            self.crop_rows.start * down,
            self.crop_columns.stop * across,
            self.crop_rows.stop * down,
        )


def size_by_shorter_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Size (H, W) with the same aspect ratio and a shorter side of `side`; torchvision's rounding.

    Examples
    --------
    >>> size_by_shorter_side((300, 401), 256)
    (256, 342)
    """
    short, long = min(size), max(size)
    other = int(side * long / short)
    return (other, side) if size[0] == long else (side, other)


def resample(
    image: NDArray[Any], size: tuple[int, int], interpolation: str
) -> UInt8Array | Float32Array:
    """Resize (H0, W0, 3) to (H, W, 3) with antialiasing.

    uint8 images are resized as such, like the paper's; float images channel by channel, and what
    bicubic interpolation overshoots is cut off at 0 and 1. The whole image is resized, not only
    what the crop keeps: Pillow then rounds in another order, and pixels would differ.
    """
    method = Image.Resampling[interpolation.upper()]
    height, width = size
    if image.dtype == np.uint8:
        pixels: UInt8Array = np.asarray(Image.fromarray(image).resize((width, height), method))
        return pixels
    channels = [
        np.asarray(Image.fromarray(image[..., channel]).resize((width, height), method))
        for channel in range(3)
    ]
    return np.stack(channels, axis=-1).clip(0, 1)


def _nearest(source: int, target: int) -> IntArray:
    """Index of the source pixel in which the centre of each target pixel lies, in integers."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)


def check_mask_size(mask_shape: Sequence[int], image_shape: Sequence[int], path: Path) -> None:
    """Refuse a mask that has not the size of its image.

    Parameters
    ----------
    mask_shape : (H, W)
    image_shape : (H, W) or (H, W, 3)
    path : Path
        The mask, for the message.

    Raises
    ------
    ShapeError
        The sizes differ.
    """
    if tuple(mask_shape[:2]) != tuple(image_shape[:2]):
        raise ShapeError(
            f"{path} must have the size of its image, {_by(image_shape)} pixels "
            f"(height x width), but is {_by(mask_shape)}. Does it belong to another image?"
        )


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _check_numbers(name: str, value: object, count: int, expected: str) -> None:
    """Check a tuple of `count` sizes; of four, the first two are a corner and may be 0."""
    if value is None:
        return
    is_valid = (
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(number, int) and not isinstance(number, bool) for number in value)
        and min(value[:2]) >= (0 if count == 4 else 1)
        and min(value[-2:]) >= 1
    )
    if not is_valid:
        raise InputError(
            f"{name} must be {expected} in whole pixels, sizes at least 1, but is {value!r}."
        )
