"""Pictures of a result: heat map, overlay, contour, and the five panels side by side.

All pictures are uint8 (H, W, 3), RGB. The colours of a model are one `ColourScale`, never fitted
to the image at hand, so a good part looks calm and two pictures can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from blemish.arrays import BoolArray, Float32Array, FloatArray, UInt8Array
from blemish.errors import InputError, ShapeError

CONTOUR_COLOUR = (0, 229, 255)
"""Cyan, with a dark rim: on no heat-map colour and hardly any part, also for the colour-blind."""

Boxes = Sequence[tuple[int, int, int, int]]
"""x, y, width and height of each, in pixels of a picture or map."""

BOX_COLOUR = (255, 255, 255)
_RIM = (0, 0, 0)

OVERLAY_OPACITY = 0.75
_CLEAR_BELOW = 0.35  # position on the scale up to which an overlay shows the image alone


@dataclass(frozen=True, slots=True)
class ColourScale:
    """Which anomaly value gets which colour: one scale per model, taken from its normal scores.

    Colours run over `inferno`, black - purple - red - orange - pale yellow: brightness rises
    evenly with the value, so the order is seen in grey print and with any colour blindness too.
    Half of the range belongs to values that are still normal.

    Attributes
    ----------
    low : float
        This value and less is black: the median of the normal map values.
    threshold : float > low
        Shown in the middle of the colours: the pixel threshold. Brighter is anomalous.
    high : float > threshold
        This value and more has the last colour.

    Examples
    --------
    >>> scale = ColourScale(low=1.0, threshold=3.0, high=9.0)
    >>> scale.position(np.array([[0.0, 1.0, 2.0, 3.0, 6.0, 9.0, 99.0]]))
    array([[0.  , 0.  , 0.25, 0.5 , 0.75, 1.  , 1.  ]], dtype=float32)
    """

    low: float
    threshold: float
    high: float

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in (self.low, self.threshold, self.high))
        if not finite or not self.low < self.threshold < self.high:
            raise InputError(
                "A colour scale must have low < threshold < high, all finite, but has "
                f"{self.low}, {self.threshold} and {self.high}. Use ColourScale.from_normal."
            )

    @classmethod
    def from_normal(cls, *, median: float, threshold: float) -> ColourScale:
        """Make the scale of a model from its leave-one-out map values of normal images.

        Parameters
        ----------
        median : float
            Median of the normal map values.
        threshold : float
            Pixel threshold. If it is not above the median (images of one colour), a scale as
            narrow as float32 can tell apart is made, so that any excess is bright.

        Returns
        -------
        ColourScale
            With a `high` four times as far from the median as the threshold is.

        Examples
        --------
        >>> ColourScale.from_normal(median=2.0, threshold=5.0)
        ColourScale(low=2.0, threshold=5.0, high=14.0)
        """
        reach = max(threshold - median, 1e-5 * max(abs(threshold), 1e-5))
        return cls(threshold - reach, threshold, threshold + 3 * reach)

    def position(self, values: FloatArray) -> Float32Array:
        """Place values on the scale: 0 at `low`, 0.5 at `threshold`, 1 at `high`, clipped."""
        knots = (self.low, self.threshold, self.high)
        return np.interp(values, knots, (0.0, 0.5, 1.0)).astype(np.float32)


def heat_map(anomaly_map: FloatArray, scale: ColourScale) -> UInt8Array:
    """Colour an anomaly map.

    Parameters
    ----------
    anomaly_map : float (H, W)
    scale : ColourScale

    Returns
    -------
    uint8 (H, W, 3)
        Black is the most normal, pale yellow the most anomalous.

    Raises
    ------
    ShapeError, InputError
        The map is not (H, W), or holds a NaN.
    """
    coloured: UInt8Array = _inferno()[_level(_position(anomaly_map, scale))]
    return coloured


def overlay(
    image: UInt8Array | FloatArray,
    anomaly_map: FloatArray,
    scale: ColourScale,
    opacity: float = OVERLAY_OPACITY,
) -> UInt8Array:
    """Lay the heat map over the image; the more anomalous, the more opaque.

    The image alone is seen up to 0.35 of the scale, so a good part stays as it is.

    Parameters
    ----------
    image : uint8 (H, W, 3), or float (H, W, 3) in 0..1
    anomaly_map : float (H, W)
        Of the size of the image.
    scale : ColourScale
    opacity : float in 0..1, default 0.75
        Reached at the end of the scale; about half of it at the threshold.

    Returns
    -------
    uint8 (H, W, 3)

    Raises
    ------
    ShapeError, InputError
        Shapes do not fit together, or the map holds a NaN.
    """
    picture = displayable(image)
    position = _position(anomaly_map, scale)
    _require_size("anomaly_map", anomaly_map.shape, picture)
    rising = np.clip((position - _CLEAR_BELOW) / (1 - _CLEAR_BELOW), 0, 1)
    alpha = (np.float32(opacity) * np.sqrt(rising))[..., None]
    colours = _inferno()[_level(position)]
    mixed = picture + alpha * (colours.astype(np.float32) - picture)
    return np.asarray(mixed.round(), dtype=np.uint8)


def contour(
    image: UInt8Array | FloatArray,
    predicted_mask: BoolArray,
    colour: tuple[int, int, int] = CONTOUR_COLOUR,
) -> UInt8Array:
    """Draw the outline of a mask on the image, as a bright line with a dark rim.

    Parameters
    ----------
    image : uint8 (H, W, 3), or float (H, W, 3) in 0..1
    predicted_mask : bool (H, W)
    colour : (int, int, int), default cyan
        RGB.

    Returns
    -------
    uint8 (H, W, 3)

    Raises
    ------
    ShapeError
        Shapes do not fit together.
    """
    picture: UInt8Array = displayable(image).copy()
    _require_size("predicted_mask", predicted_mask.shape, picture)
    outlines, _ = cv2.findContours(
        predicted_mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    width = max(2, round(min(picture.shape[:2]) / 180))
    cv2.drawContours(picture, outlines, -1, (0, 0, 0), width + 2, cv2.LINE_AA)
    cv2.drawContours(picture, outlines, -1, colour, width, cv2.LINE_AA)
    return picture


def boxed(picture: UInt8Array, boxes: Boxes) -> UInt8Array:
    """Draw numbered boxes on a picture, a bright line with a dark rim, around what they hold.

    Parameters
    ----------
    picture : uint8 (H, W, 3)
    boxes : sequence of (x, y, width, height)
        In pixels of the picture; the first gets the number 1.

    Returns
    -------
    uint8 (H, W, 3)
    """
    drawn: UInt8Array = picture.copy()
    height, width = picture.shape[:2]
    line = max(1, round(min(height, width) / 256))
    for number, (x, y, across, down) in enumerate(boxes, start=1):
        upper = max(x - 2 * line, line), max(y - 2 * line, line)
        lower = min(x + across + line, width - 1 - line), min(y + down + line, height - 1 - line)
        for colour, thick in ((_RIM, line + 2), (BOX_COLOUR, line)):
            cv2.rectangle(drawn, upper, lower, colour, thick)
        size = 0.4 * line
        (wide, high), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, size, line)
        left = min(max(x, 0), width - wide)
        base = y - 4 * line if y - 5 * line >= high else min(y + down + high + 5 * line, height - 1)
        for colour, thick in ((_RIM, line + 2), (BOX_COLOUR, line)):
            cv2.putText(
                drawn,
                str(number),
                (left, base),
                cv2.FONT_HERSHEY_SIMPLEX,
                size,
                colour,
                thick,
                cv2.LINE_AA,
            )
    return drawn


def mask_picture(mask: BoolArray) -> UInt8Array:
    """Show a mask (H, W) as white on black, uint8 (H, W, 3).

    Examples
    --------
    >>> mask_picture(np.array([[True, False]])).tolist()
    [[[255, 255, 255], [0, 0, 0]]]
    """
    if mask.ndim != 2:
        raise ShapeError.of("mask", "(H, W)", mask.shape, "Pass the mask of one image.")
    return np.repeat(np.where(mask, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)


def displayable(image: UInt8Array | FloatArray) -> UInt8Array:
    """Return an image as 8-bit RGB; deeper images are float (H, W, 3) in 0..1.

    Raises
    ------
    ShapeError
        The image is not (H, W, 3).

    Examples
    --------
    >>> displayable(np.full((1, 1, 3), 0.5, np.float32))
    array([[[128, 128, 128]]], dtype=uint8)
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError.of("image", "(H, W, 3)", image.shape, "Pass one RGB image.")
    if image.dtype == np.uint8:
        return np.asarray(image, dtype=np.uint8)
    return np.asarray((np.clip(image, 0, 1) * 255).round(), dtype=np.uint8)


def resized(picture: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize a picture to (H, W): antialiased when smaller, smooth when larger."""
    if picture.shape[:2] == size:
        return picture
    smaller = size[0] < picture.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=how), dtype=np.uint8)


def png_bytes(picture: UInt8Array) -> bytes:
    """Encode a picture (H, W, 3) as PNG; write it with `blemish.writing.write_bytes`."""
    return _encode(".png", picture, [])


def jpeg_bytes(picture: UInt8Array, *, max_height: int | None = None, quality: int = 85) -> bytes:
    """Encode a picture as JPEG, made smaller first if it is higher than `max_height`.

    Parameters
    ----------
    picture : uint8 (H, W, 3)
    max_height : int, optional
        In pixels; the width follows.
    quality : int in 1..100, default 85

    Raises
    ------
    ShapeError
        The picture is not (H, W, 3).
    """
    height, width = picture.shape[:2]
    if max_height is not None and height > max_height:
        picture = resized(picture, (max_height, max(1, round(width * max_height / height))))
    return _encode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(suffix: str, picture: UInt8Array, settings: list[int]) -> bytes:
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ShapeError.of("picture", "(H, W, 3)", picture.shape, "Pass one RGB picture.")
    encoded: UInt8Array = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)[
        1
    ]
    return encoded.tobytes()


@lru_cache(maxsize=1)
def _inferno() -> UInt8Array:
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1], dtype=np.uint8)


def colour_at(position: float) -> tuple[int, int, int]:
    """Return the RGB colour at a position in 0..1 on any scale.

    Examples
    --------
    >>> colour_at(0.0), colour_at(0.5)
    ((0, 0, 4), (188, 55, 84))
    """
    red, green, blue = _inferno()[round(255 * position)].tolist()
    return red, green, blue


def _position(anomaly_map: FloatArray, scale: ColourScale) -> Float32Array:
    if anomaly_map.ndim != 2:
        raise ShapeError.of(
            "anomaly_map", "(H, W)", anomaly_map.shape, "Pass the map of one image."
        )
    position = scale.position(anomaly_map)
    if np.isnan(position).any():
        raise InputError("anomaly_map must hold numbers, but holds NaN. Score the image again.")
    return position


def _level(position: Float32Array) -> UInt8Array:
    return np.asarray((position * 255).round(), dtype=np.uint8)


def _require_size(name: str, shape: tuple[int, ...], picture: UInt8Array) -> None:
    height, width = picture.shape[:2]
    if shape != (height, width):
        raise ShapeError.of(
            name, f"({height}, {width})", shape, "It must have the size of the image it lies on."
        )
