"""Images that are decoded already, or that turned out to be unreadable: frames of videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.arrays import Float32Array, UInt8Array
from blemish.errors import BlemishError, ImageError
from blemish.lazy_image import LazyImage


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage(LazyImage):
    """Pixels in memory, and the path to call them by.

    Attributes
    ----------
    file : Path
        Need not exist: ``clip.avi/000123`` for a frame of a video.
    pixels : uint8 (H, W, 3), or float32 (H, W, 3) in 0..1
        RGB, as `images.read_image` returns them.
    value_range : (low, high) or None
        The range of values that was applied when they were decoded.

    Examples
    --------
    >>> import numpy as np
    >>> frame = DecodedImage(Path("clip.avi/000123"), np.zeros((4, 6, 3), np.uint8))
    >>> frame.read_size(), frame.read(value_range=None).shape
    ((4, 6), (4, 6, 3))
    """

    file: Path
    pixels: UInt8Array | Float32Array
    value_range: tuple[float, float] | None = None

    @property
    def path(self) -> Path:
        """What the image is called by."""
        return self.file

    def read_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, *, value_range: tuple[float, float] | None) -> UInt8Array | Float32Array:
        """Return the pixels, if they were decoded with this range of values."""
        if value_range is not None and self.pixels.dtype == "uint8":
            raise ImageError(
                f"{self.file} must have more than 8 bits per sample, since the model or the call "
                "states a range of values, but has 8. Give deep images, or leave the range out."
            )
        if value_range != self.value_range:
            raise ImageError(
                f"{self.file} must be decoded with the range of values {value_range}, as the model "
                f"or the call states it, but was with {self.value_range}. Give the source the same "
                "value_range."
            )
        return self.pixels


@dataclass(frozen=True, slots=True)
class UnreadableImage(LazyImage):
    """An image that could not be decoded: says so whenever it is read.

    Attributes
    ----------
    file : Path
    error : BlemishError
    """

    file: Path
    error: BlemishError

    @property
    def path(self) -> Path:
        """What the image is called by."""
        return self.file

    def read_size(self) -> tuple[int, int]:
        """Raise the error."""
        raise self.error

    def read(
        self,
        *,
        value_range: tuple[float, float] | None,  # noqa: ARG002
    ) -> UInt8Array | Float32Array:
        """Raise the error."""
        raise self.error
