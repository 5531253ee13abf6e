"""What every format gives: a header, and the stored samples with the value of white."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from blemish.errors import ImageError

Samples = NDArray[Any]

COPY_AGAIN = "Copy the file again from its source, or take it out."


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its image before any pixel is decoded.

    Attributes
    ----------
    height, width : int, pixels
        As stored, before `orientation` is applied.
    orientation : int, 1 to 8
        EXIF orientation; 1 is upright.
    lossy : bool
        Whether the compression changes pixels, so that black may be stored as nearly black.
    """

    height: int
    width: int
    orientation: int = 1
    lossy: bool = False


@dataclass(frozen=True, slots=True)
class Pixels:
    """Decoded samples, transparent ones already black.

    Attributes
    ----------
    samples : uint8, uint16 or any other number (H, W) or (H, W, 3)
        Gray or RGB, as stored.
    white : int or None
        The sample value of full brightness that the file declares; None if it declares none.
    """

    samples: Samples
    white: int | None


def over_black(samples: Samples, alpha: Samples, opaque: int) -> Samples:
    """Lay a partly transparent image over black, as a viewer with a black background does.

    Colours stored under transparent pixels are often left-overs nobody has seen; this hides
    them, and an opaque image stays exactly as it is.

    Parameters
    ----------
    samples : unsigned integer or float (H, W) or (H, W, 3)
    alpha : same type (H, W), 0 where transparent, `opaque` where opaque

    Examples
    --------
    >>> over_black(np.array([[200, 200]], np.uint8), np.array([[255, 51]], np.uint8), 255)
    array([[200,  40]], dtype=uint8)
    """
    if np.all(alpha == opaque):
        return samples
    weight = alpha if samples.ndim == alpha.ndim else alpha[..., None]
    if samples.dtype.kind == "f":
        return samples * (weight / opaque)
    product = samples.astype(np.uint64) * weight
    return ((product + opaque // 2) // opaque).astype(samples.dtype)


def decode_with_pillow(plugin: Callable[[io.BytesIO], ImageFile], content: bytes) -> Samples:
    """Decode 8-bit pixels by one format's Pillow plugin, whatever mode they are stored in.

    The plugin is called directly, since `PIL.Image.open` tries every format it knows and may
    issue warnings.

    Returns
    -------
    uint8 (H, W) or (H, W, 3)

    Raises
    ------
    ImageError
        The decoder refuses the bytes.
    """
    try:
        with plugin(io.BytesIO(content)) as image:
            image.load()
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                rgba = np.asarray(image.convert("RGBA"))
                return over_black(rgba[..., :3], rgba[..., 3], 255)
            if image.mode in ("1", "L"):
                return np.asarray(image.convert("L"))
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds on damaged bytes, SyntaxError among them
        reason = str(error).rstrip(".") or type(error).__name__
        raise ImageError(
            f"its pixels must decode, but the decoder says: {reason}. {COPY_AGAIN}"
        ) from error
