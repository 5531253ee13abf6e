"""Reads the tensors of a file written by torch.save, without torch and without running it.

Two formats: a zip archive (since torch 1.6) with the pickle in `data.pkl` and each storage in
`data/<key>`; and before that five pickles in a row, followed by the storages. The pickles are
read by `restricted_pickle`, so that a malicious file can at worst be refused.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from blemish.backbones.restricted_pickle import Global, PickleRefusedError, read_pickle
from blemish.backbones.tensor_bytes import array_from_bytes, item_size
from blemish.errors import BackboneError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 64 * 2**20
"""A state dict's pickle holds names and shapes only: 20 kB for a ResNet."""

_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_NESTED_KEYS = ("state_dict", "model_state_dict", "model")

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers somewhere else in the file."""

    key: str
    number_format: str
    count: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * item_size(self.number_format)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides count items, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> dict[str, Array]:
    """Read a state dict.

    Parameters
    ----------
    path : Path
        Written by `torch.save(model.state_dict(), path)`, or with the state dict under
        "state_dict", "model_state_dict" or "model". Entries that are no tensors are left out.

    Returns
    -------
    dict of str to array
        In the file's number formats; bfloat16 as float32.

    Raises
    ------
    BackboneError
        The file is damaged, or holds anything but tensors, numbers, text and containers.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path)
    except PickleRefusedError as error:
        raise BackboneError(
            f"A weight file must hold tensors, numbers and text only, but {path} asks for {error}, "
            "which could run a program. Save model.state_dict() alone, best as safetensors."
        ) from error
    except (
        ValueError,
        EOFError,
        KeyError,
        struct.error,
        RuntimeError,
        OSError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        if isinstance(error, BackboneError):
            raise
        raise BackboneError(
            f"A .pth file must be what torch.save writes, but {path} is damaged or something else "
            f"({_reason(error)}). Get the file again, or save the weights as safetensors."
        ) from error


def _reason(error: Exception) -> str:
    return str(error).strip("'\"") or type(error).__name__


def _read_zip(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        pickles = [name for name in names if name.rsplit("/", 1)[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"a zip archive with {len(pickles)} entries data.pkl in place of 1")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise PickleRefusedError("the code of a TorchScript model")
        byteorder = f"{folder}byteorder"
        little = byteorder not in names or _entry(archive, byteorder, 16) != b"big"
        root = _unpickle(io.BytesIO(_entry(archive, pickles[0], MAX_PICKLE_BYTES)))

        def read_storage(storage: _Storage) -> Array:
            raw = _entry(archive, f"{folder}data/{storage.key}", storage.size)
            return _storage_array(storage, raw, little)

        return _arrays(_state_dict(root, path), read_storage)


def _entry(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Read one entry, after checking that it cannot unpack to more than it should."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, which torch.save never does")
    if info.file_size > max_bytes:
        raise ValueError(f"{name} has {info.file_size} bytes, more than {max_bytes}")
    return archive.read(info)


def _read_legacy(path: Path) -> dict[str, Array]:
    with path.open("rb") as stream:
        if _unpickle(stream) != LEGACY_MAGIC:
            raise ValueError("no magic number of torch.save")
        if _unpickle(stream) != LEGACY_PROTOCOL:
            raise ValueError("an unknown protocol version")
        system = _unpickle(stream)
        little = not isinstance(system, dict) or bool(system.get("little_endian", True))
        root = _unpickle(stream)
        positions = _legacy_positions(stream, _unpickle(stream), _storages_in(root), little)

        def read_storage(storage: _Storage) -> Array:
            stream.seek(positions[storage.key])
            return _storage_array(storage, stream.read(storage.size), little)

        return _arrays(_state_dict(root, path), read_storage)


def _legacy_positions(
    stream: IO[bytes], keys: object, storages: dict[str, _Storage], little: bool
) -> dict[str, int]:
    """Where each storage starts; checks that all of them are there in full."""
    if not isinstance(keys, list):
        raise ValueError("no list of storages")
    start = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    positions = {}
    for key in keys:
        storage = storages[str(key)]
        stream.seek(start)
        (count,) = struct.unpack("<q" if little else ">q", stream.read(8))
        start += 8
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} numbers in place of {storage.count}")
        positions[storage.key] = start
        start += storage.size
        if start > end:
            raise ValueError(f"storage {key} ends {start - end} bytes behind the end of the file")
    return positions


def _unpickle(stream: IO[bytes]) -> object:
    return read_pickle(stream, call=_call, load_persistent=_load_persistent)


def _call(name: str, arguments: tuple[object, ...]) -> object:
    """What the few functions that torch.save names mean."""
    if name == "collections.OrderedDict":
        return _ordered_dict(*arguments)
    if name in {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}:
        return _tensor(*arguments[:4])
    if name == "torch._utils._rebuild_parameter":
        return arguments[0]
    if name == "torch.Size":
        return _counts(arguments[0])
    raise PickleRefusedError(name)


def _ordered_dict(pairs: object = ()) -> dict[str | int, object]:
    if not isinstance(pairs, (list, tuple)):
        raise ValueError("an OrderedDict of something that is no list")
    found: dict[str | int, object] = {}
    for key, value in pairs:
        if not isinstance(key, (str, int)):
            raise PickleRefusedError(f"a dictionary key of type {type(key).__name__}")
        found[key] = value
    return found


def _tensor(storage: object, offset: object, shape: object, strides: object) -> _Tensor:
    """Check that the view lies inside its storage: the file could say anything."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    tensor = _Tensor(storage, _count(offset), _counts(shape), _counts(strides))
    if len(tensor.shape) != len(tensor.strides):
        raise ValueError("a tensor with other numbers of sizes and strides")
    items = math.prod(tensor.shape)
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    if items > storage.count or (items and tensor.offset + reach >= storage.count):
        raise ValueError(f"a tensor reaches behind the end of storage {storage.key}")
    return tensor


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("a size that is no whole number of at least 0")
    return value


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > 8:
        raise ValueError("sizes that are no short tuple")
    return tuple(_count(value) for value in values)


def _load_persistent(identifier: object) -> _Storage:
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
        raise PickleRefusedError("an object that is no tensor storage")
    kind, key, count = identifier[1], identifier[2], identifier[4]
    name = kind.name if isinstance(kind, Global) else type(kind).__name__
    if name not in _STORAGES:
        raise PickleRefusedError(f"the storage type {name}")
    if any(extra is not None for extra in identifier[5:]):
        raise PickleRefusedError("a view of a storage, as torch 0.3 wrote it")
    return _Storage(str(key), _STORAGES[name], _count(count))


def _storages_in(root: object) -> dict[str, _Storage]:
    """All storages of nested containers, by key."""
    found: dict[str, _Storage] = {}
    waiting, seen = [root], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, _Tensor):
            found[item.storage.key] = item.storage
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
    return found


def _state_dict(root: object, path: Path) -> dict[str, _Tensor]:
    candidates = [root]
    if isinstance(root, dict):
        candidates += [root.get(key) for key in _NESTED_KEYS]
    for candidate in candidates:
        if isinstance(candidate, dict):
            tensors = {str(k): v for k, v in candidate.items() if isinstance(v, _Tensor)}
            if tensors:
                return tensors
    raise BackboneError(
        f"A weight file must hold a state dict, but {path} holds a {type(root).__name__} without "
        f"tensors. Save model.state_dict(), or a dictionary with it under {_NESTED_KEYS[0]}."
    )


def _storage_array(storage: _Storage, raw: bytes, little_endian: bool) -> Array:
    if len(raw) != storage.size:
        raise ValueError(f"storage {storage.key} has {len(raw)} bytes in place of {storage.size}")
    return array_from_bytes(raw, storage.number_format, little_endian=little_endian)


def _arrays(
    tensors: dict[str, _Tensor], read_storage: Callable[[_Storage], Array]
) -> dict[str, Array]:
    cache: dict[_Storage, Array] = {}  # by all of it: two tensors may lie about one key
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.storage not in cache:
            cache[tensor.storage] = read_storage(tensor.storage)
        flat = cache[tensor.storage]
        steps = tuple(step * flat.itemsize for step in tensor.strides)
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps)
        arrays[name] = np.ascontiguousarray(view).reshape(tensor.shape)
    return arrays
