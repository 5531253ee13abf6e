"""What a preset means, where the user says nothing else.

`full` and `paper` are PaDiM as published, on the whole image or as the paper crops it. `accurate`
and `tiny` judge every layer by itself, on locally averaged features; docs/decisions/0011-presets.md
says how they were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

BUILTIN = "builtin"
PRESETS = ("full", "paper", "accurate", "tiny")

_MOST_DIMS = {"accurate": (64, 128, 256), "tiny": (32, 64)}
_MOST_BUILTIN_DIMS = {"accurate": (64, 256), "tiny": (16, 100)}
"""Of the finest and the coarsest layer; those between are left out."""

_PLAIN: dict[str, object] = {
    "epsilon": 0.01,
    "relative_epsilon": 0.0,
    "separate": False,
    "standardise": False,
}
_SEPARATE: dict[str, object] = {
    **_PLAIN,
    "epsilon": 0.0,
    "relative_epsilon": 0.1,
    "separate": True,
    "standardise": True,
}


def preset_network_layers(preset: str, backbone: str) -> tuple[int, ...] | None:
    """Layers of a network, by its name, that a preset needs; None for the network's own.

    Examples
    --------
    >>> preset_network_layers("tiny", "resnet18"), preset_network_layers("tiny", "builtin")
    ((1, 2), None)
    """
    return (1, 2) if preset == "tiny" and backbone != BUILTIN else None


def preset_values(
    preset: str, backbone: str, channels: Sequence[int], strides: Sequence[int]
) -> dict[str, object]:
    """Settings that a preset decides; those per layer are fine to coarse.

    Parameters
    ----------
    preset : one of `PRESETS`
    backbone : str
        Its name: the embedded filter bank averages by itself, and its scores are alike as they are.
    channels : sequence of int
        Of every layer, fine to coarse.
    strides : sequence of int, pixels
        Of every layer: below 16, the window of averaging halves the grid.

    Examples
    --------
    >>> preset_values("accurate", "resnet18", [64, 128, 256], [4, 8, 16])["averaging"]
    (4, 4, 3)
    >>> preset_values("paper", "resnet18", [64, 128, 256], [4, 8, 16])["epsilon"]
    0.01
    """
    if preset not in _MOST_DIMS:
        return dict(_PLAIN)
    last = len(channels) - 1
    places = range(len(channels))
    if backbone == BUILTIN:
        at_ends = _MOST_BUILTIN_DIMS[preset]
        ends = {0, last}
        return {
            **_SEPARATE,
            "standardise": False,
            "averaging": tuple(4 if k == 0 < last else 1 for k in places),
            "dims": tuple(min(c, at_ends[k == last]) * (k in ends) for k, c in enumerate(channels)),
            "map_weights": tuple(float(k in ends) for k in places),
            "image_weights": tuple(float(k == last) for k in places),
        }
    most = _MOST_DIMS[preset]
    return {
        **_SEPARATE,
        "averaging": tuple(4 if stride < 16 else 3 for stride in strides),
        "dims": tuple(min(c, most[min(k, len(most) - 1)]) for k, c in enumerate(channels)),
        "map_weights": tuple(float(k < last or last < 2) for k in places),
        "image_weights": tuple(0.5 if k < min(last, max(last - 1, 1)) else 1.0 for k in places),
    }
