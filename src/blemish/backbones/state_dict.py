"""Reads the weights of a network from a file: safetensors or torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.tensor_bytes import NUMBER_FORMATS, array_from_bytes
from blemish.backbones.torch_file import read_torch_file
from blemish.errors import BackboneError

StateDict = Mapping[str, NDArray[np.generic]]
"""Weights by the names of the modules, for example "layer1.0.conv1.weight"."""


def read_state_dict(path: Path) -> StateDict:
    """Read weights, whatever the file's suffix; nothing in the file is run.

    Numbers keep the format they have in the file, but bfloat16 becomes float32.

    Raises
    ------
    BackboneError
        The file is missing, damaged, of another kind, or holds more than tensors.
    """
    start = _first_bytes(path)
    if _is_torch(start):
        return read_torch_file(path)
    if _is_safetensors(start):
        return _read_safetensors(path)
    raise BackboneError(
        f"The weights must be a safetensors file or what torch.save writes, but {path} is neither "
        f"(it starts with {start!r}). Give the state dict of a ResNet."
    )


def read_metadata(path: Path) -> Mapping[str, str]:
    """Read what a safetensors file says about itself; nothing for other files.

    Raises
    ------
    BackboneError
        The file is missing or damaged.
    """
    return _safetensors_metadata(path) if _is_safetensors(_first_bytes(path)) else {}


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise BackboneError(
            f"The weights must be a file, but {path} does not exist or is a folder. "
            "Check the path: a .safetensors or a .pth file is wanted."
        )
    with path.open("rb") as stream:
        return stream.read(9)


def _is_torch(start: bytes) -> bool:
    return start[:2] == b"PK" or start[:1] == b"\x80"


def _is_safetensors(start: bytes) -> bool:
    return start[8:9] == b"{"


def _safetensors_metadata(path: Path) -> Mapping[str, str]:
    """Check header, offsets and length of the file."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only when needed

    try:
        with safe_open(path, "numpy") as checked:
            metadata: Mapping[str, str] = checked.metadata() or {}
    except SafetensorError as error:
        raise BackboneError(
            f"A safetensors file must be complete, but {path} is damaged ({error}). "
            "Get the file again."
        ) from error
    return metadata


def _read_safetensors(path: Path) -> StateDict:
    _safetensors_metadata(path)
    arrays = {}
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        for name in sorted(set(header) - {"__metadata__"}):
            entry = header[name]
            if entry["dtype"] not in NUMBER_FORMATS:
                continue  # an 8-bit float; if it is needed, it is reported as missing
            begin, end = entry["data_offsets"]
            stream.seek(8 + length + begin)
            flat = array_from_bytes(stream.read(end - begin), entry["dtype"])
            arrays[name] = flat.reshape(entry["shape"])
    return arrays
