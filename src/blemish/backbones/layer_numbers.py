"""Which layers of a network to use."""

from __future__ import annotations

from collections.abc import Sequence

from blemish.errors import BackboneError

DEFAULT_LAYERS = (1, 2, 3)
"""As in the PaDiM paper."""


def check_layers(layers: Sequence[int] | None, available: int) -> tuple[int, ...]:
    """Check layer numbers and sort them, fine to coarse.

    Parameters
    ----------
    layers : sequence of int in 1..available, or None
        None is 1, 2, 3, as in the paper, or all if there are fewer.
    available : int
        How many layers the network has.

    Raises
    ------
    BackboneError
        No layer, an unknown layer, or the same layer twice.

    Examples
    --------
    >>> check_layers([3, 1], 4)
    (1, 3)
    """
    numbers = tuple(layers) if layers is not None else DEFAULT_LAYERS[:available]
    known = set(range(1, available + 1))
    if not numbers or len(set(numbers)) != len(numbers) or not known.issuperset(numbers):
        found = ", ".join(str(number) for number in numbers) or "none"
        raise BackboneError(
            f"layers must be one or more different numbers of 1 to {available}, "
            f"but are {found}. Choose for example 1,2,3."
        )
    return tuple(sorted(numbers))
