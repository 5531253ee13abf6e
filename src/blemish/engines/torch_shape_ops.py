"""ONNX operators that move, cut and join values, or compute with shapes, in PyTorch.

Signature and conventions: see `torch_ops`. Whole numbers (shapes, axes) stay on the CPU.
What an operator must keep on the device, it keeps in the attributes of its node.
"""

# ruff: noqa: ARG001 - all operators have one signature

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Attributes(dict[str, Any]):
    """Attributes of a node, and the indices that it keeps on the device while it lives."""

    def __init__(self, stated: Mapping[str, Any]) -> None:
        super().__init__(stated)
        self._indices: dict[tuple[tuple[int, ...], Any], Any] = {}

    def index(self, torch: Any, places: tuple[int, ...], device: Any) -> Any:
        """Index on the device: a CUDA graph cannot copy it there, but points to it."""
        found = self._indices.get((places, device))
        if found is None:
            found = torch.tensor(places, dtype=torch.int64, device=device)
            self._indices[places, device] = found
        return found


Operator = Callable[[Any, Sequence[Any], Attributes], Any]

_LONGEST = 2**31  # no axis is; ONNX writes the lowest int64 for "down to the first"


def optional(values: Sequence[Any], index: int) -> Any:
    """Return a value that a node may leave out, or None."""
    return values[index] if index < len(values) else None


def matched(torch: Any, values: Sequence[Any]) -> list[Any]:
    """Operands in the lower of their floating-point types: constants follow the activations."""
    kinds = [v.dtype for v in values if v.is_floating_point() and v.ndim]
    low = [kind for kind in kinds if kind not in (torch.float32, torch.float64)]
    if not low:
        return list(values)
    return [v.to(low[0]) if v.is_floating_point() and v.ndim else v for v in values]


def _identity(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return values[0]


def _shape(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.tensor(values[0].shape[stated.get("start", 0) : stated.get("end")])


def _gather(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    source, index = values
    axis = stated.get("axis", 0) % source.ndim
    size = source.shape[axis]
    places = tuple(place % size for place in index.reshape(-1).tolist())
    picked = torch.index_select(source, axis, stated.index(torch, places, source.device))
    return picked.reshape([*source.shape[:axis], *index.shape, *source.shape[axis + 1 :]])


def _cast(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    kinds = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
    kind = getattr(torch, {**kinds, 16: "bfloat16"}[stated["to"]])
    low = values[0].is_floating_point() and values[0].dtype.itemsize == 2
    return values[0] if low and kind.is_floating_point else values[0].to(kind)


def _unsqueeze(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    found, axes = values[0], values[1].tolist()
    for axis in sorted(a % (found.ndim + len(axes)) for a in axes):
        found = found.unsqueeze(axis)
    return found


def _squeeze(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    listed = optional(values, 1)
    return values[0].squeeze() if listed is None else values[0].squeeze(tuple(listed.tolist()))


def _concat(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.cat(matched(torch, values), dim=stated["axis"])


def _reshape(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    shape = values[1].tolist()
    if not stated.get("allowzero", 0):
        shape = [values[0].shape[k] if size == 0 else size for k, size in enumerate(shape)]
    return values[0].reshape(shape)


def _flatten(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    axis = stated.get("axis", 1)
    return values[0].reshape(math.prod(values[0].shape[:axis]), -1)


def _transpose(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return values[0].permute(*stated.get("perm", range(values[0].ndim)[::-1]))


def _slice(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    found, starts, ends = values[0], values[1].tolist(), values[2].tolist()
    axes, steps = optional(values, 3), optional(values, 4)
    along = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(along, starts, ends, strides, strict=True):
        place = slice(start, None if end < -_LONGEST else end, step)
        if step > 0:
            found = found[(slice(None),) * (axis % found.ndim) + (place,)]
        else:
            places = tuple(range(found.shape[axis])[place])
            found = torch.index_select(found, axis, stated.index(torch, places, found.device))
    return found


def _split(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    axis, listed = stated.get("axis", 0), optional(values, 1)
    if listed is None:
        return torch.split(values[0], -(-values[0].shape[axis] // stated["num_outputs"]), dim=axis)
    return torch.split(values[0], listed.tolist(), dim=axis)


def _expand(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return values[0].expand(torch.broadcast_shapes(values[0].shape, tuple(values[1].tolist())))


def _tile(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return values[0].repeat(values[1].tolist())


def _pad(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    pads, fill = values[1].tolist(), optional(values, 2)
    count = len(pads) // 2
    pairs = [size for axis in reversed(range(count)) for size in (pads[axis], pads[axis + count])]
    mode = {"edge": "replicate"}.get(kind := stated.get("mode", "constant"), kind)
    if mode == "constant":
        value = 0.0 if fill is None else fill.item()
        return torch.nn.functional.pad(values[0], pairs, value=value)
    return torch.nn.functional.pad(values[0], pairs[:4], mode=mode)


def _constant_of_shape(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    fill = stated["value"] if "value" in stated else torch.zeros(1)
    return torch.full(values[0].tolist(), fill.item(), dtype=fill.dtype)


def _constant(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    kind, value = next(iter(stated.items()))
    return value if kind == "value" else torch.tensor(value)


SHAPE_OPERATORS: Mapping[str, Operator] = {
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _identity,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
