"""What the channels of the embedded backbone see, in words.

The filters are closed formulas, so every channel has a meaning; those of a trained network have
none that could be read off.
"""

from __future__ import annotations

from collections.abc import Sequence

from blemish.backbones.backbone import Backbone
from blemish.backbones.builtin import (
    COLOUR_ORIENTATIONS,
    FIRST_ORDER,
    ORIENTATIONS,
    SECOND_ORDER,
    SECOND_ORIENTATIONS,
    WAVELENGTH,
)

COLOURS = ("brightness", "red-green", "yellow-blue")
_UPRIGHT, _FLAT = 90.0, 0.0


def channel_names(backbone: Backbone, layer: int) -> list[str]:
    """Name of every channel of a layer.

    Parameters
    ----------
    backbone : Backbone
    layer : int
        Its number among the backbone's layers, fine to coarse, from 0.

    Returns
    -------
    list of str
        What a channel sees, if the backbone is the embedded one; else "channel 17" and the like.
        Sizes are wavelengths in pixels of the network's input: a line and the gap beside it.

    Examples
    --------
    >>> from blemish.backbones import load_backbone
    >>> names = channel_names(load_backbone("builtin"), 0)
    >>> names[0], names[3], names[7]
    ('brightness', 'vertical lines of 4 px', 'horizontal lines of 4 px')
    >>> channel_names(load_backbone("builtin"), 1)[-1]
    'falling 67.5° lines of 4 px, in a falling 45° pattern of 8 px'
    """
    described = backbone.layers[layer]
    number = described.name.removeprefix("layer")
    if backbone.name == "builtin" and number.isdigit() and int(number) in FIRST_ORDER:
        names = _builtin_names(int(number))
        if len(names) == described.channels:
            return names
    return [f"channel {channel}" for channel in range(described.channels)]


def _builtin_names(number: int) -> list[str]:
    """Channels in the order in which the graph joins them: colours, first order, second order."""
    names = list(COLOURS)
    for octave in FIRST_ORDER[number]:
        names += _first_order(octave)
    for octave in SECOND_ORDER[number]:
        names += [
            f"{first}, in a {direction} pattern of {_pixels(octave + 1)} px"
            for first in _first_order(octave)
            for direction in _directions(SECOND_ORIENTATIONS)
        ]
    return names


def _first_order(octave: int) -> list[str]:
    """Moduli of an octave: of brightness in all orientations, then of the two hues in fewer."""
    size = f"{_pixels(octave)} px"
    names = [f"{direction} lines of {size}" for direction in _directions(ORIENTATIONS)]
    if octave:
        names += [
            f"{direction} {hue} lines of {size}"
            for hue in COLOURS[1:]
            for direction in _directions(COLOUR_ORIENTATIONS)
        ]
    return names


def _directions(orientations: int) -> Sequence[str]:
    """How the lines run that each orientation of `gabor_pairs` answers to."""
    return [_direction((_UPRIGHT - 180.0 * k / orientations) % 180.0) for k in range(orientations)]


def _direction(angle: float) -> str:
    """Words for an angle in degrees, counted from horizontal against the clock."""
    if angle in (_UPRIGHT, _FLAT):
        return "vertical" if angle == _UPRIGHT else "horizontal"
    if angle < _UPRIGHT:
        return f"rising {angle:g}\N{DEGREE SIGN}"
    return f"falling {180 - angle:g}\N{DEGREE SIGN}"


def _pixels(octave: int) -> int:
    return round(float(WAVELENGTH) * 2.0**octave)
