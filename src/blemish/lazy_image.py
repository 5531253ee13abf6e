"""Images that are made of a file when they are needed, and held by nobody before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from blemish.arrays import Float32Array, UInt8Array


class LazyImage(ABC):
    """Something that becomes an image when it is read. Takes the place of a path in a list.

    It is read anew in every pass over the images, in any thread and order, and must give the same
    pixels every time.
    """

    @property
    @abstractmethod
    def path(self) -> Path:
        """File it is made of: its name in messages and results."""

    @abstractmethod
    def read_size(self) -> tuple[int, int]:
        """Height and width in pixels, of what `read` would give; no pixel is decoded.

        Raises
        ------
        ImageError
            The file cannot be read.
        """

    @abstractmethod
    def read(self, *, value_range: tuple[float, float] | None) -> UInt8Array | Float32Array:
        """Pixels (H, W, 3), RGB: uint8, or float32 in 0..1, as `images.read_image`.

        Raises
        ------
        ImageError
            The file cannot be read.
        """
