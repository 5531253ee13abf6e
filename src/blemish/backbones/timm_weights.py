"""A state dict from a file into a network of timm, checked as far as the network is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blemish.backbones.state_dict import StateDict, read_state_dict
from blemish.backbones.torch_import import import_torch
from blemish.errors import BackboneError

_COUNTER = "num_batches_tracked"


def load_weights(
    network: Any, path: Path, *, name: str, modules: Sequence[str], size: tuple[int, int]
) -> None:
    """Put weights into a network.

    Parameters
    ----------
    network : torch.nn.Module
    path : Path
        State dict, .safetensors or .pth, with the network's names; a prefix such as "module." is
        allowed if all names share it.
    name : str
        Of the network, for errors.
    modules : sequence of str
        What comes after the last of these may be absent.
    size : (int, int), pixels
        Of an image that the network can run on.

    Raises
    ------
    BackboneError
        The file cannot be read, or a weight is missing, has another shape or is not finite.
    """
    torch = import_torch()
    found = read_state_dict(path)
    needed = needed_weights(network, modules, size)
    prefix = _prefix(found, needed)
    state = network.state_dict()
    missing = [key for key in needed if prefix + key not in found]
    if missing:
        raise BackboneError(
            f"The weights of {name} must hold {missing[0]}, but {path} lacks it, and "
            f"{len(missing) - 1} more of {len(needed)}. Name the network that the weights belong "
            "to, and give a state dict with the names of timm."
        )
    for key in needed:
        array = found[prefix + key]
        if array.shape != tuple(state[key].shape):
            raise BackboneError(
                f"{key} of {name} must have shape {tuple(state[key].shape)}, but in {path} it has "
                f"shape {array.shape}. Name the network the weights belong to."
            )
        if not np.isfinite(array.astype(np.float64)).all():
            raise BackboneError(
                f"Weights must be finite numbers, but {key} in {path} holds NaN or infinity. "
                "Get the file again, or save the weights again."
            )
        state[key].copy_(torch.from_numpy(np.array(array)))


def needed_weights(network: Any, modules: Sequence[str], size: tuple[int, int]) -> list[str]:
    """Names of the weights that run before the last of `modules` has given its output.

    Returns
    -------
    list of str
        In the order of the state dict; counters of batches, which change nothing, left out.
    """
    torch = import_torch()
    used: set[str] = {""}
    waiting = set(modules)

    def before(path: str) -> Any:
        def hook(*_: Any) -> None:
            if waiting:
                used.add(path)

        return hook

    def after(path: str) -> Any:
        def hook(*_: Any) -> None:
            waiting.discard(path)

        return hook

    hooks = [part.register_forward_pre_hook(before(path)) for path, part in network.named_modules()]
    hooks += [network.get_submodule(path).register_forward_hook(after(path)) for path in modules]
    try:
        with torch.no_grad():
            network.forward_features(torch.zeros(1, 3, *size))
    finally:
        for hook in hooks:
            hook.remove()
    return [
        key
        for key in network.state_dict()
        if key.rpartition(".")[0] in used and not key.endswith(_COUNTER)
    ]


def _prefix(found: StateDict, needed: Sequence[str]) -> str:
    """What all names in the file start with, such as "module."."""
    anchor = needed[0]
    starts = [key[: -len(anchor)] for key in found if key.endswith(anchor)]
    return starts[0] if len(starts) == 1 else ""
