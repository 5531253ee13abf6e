"""What every ONNX operator means in PyTorch.

An operator is a function of the module `torch`, the values it reads (None where an optional one
is left out) and the node's attributes, as of opset 13. Whole numbers (shapes, axes) stay on the
CPU.
"""

# ruff: noqa: ARG001 - all operators have one signature

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from blemish.engines.torch_shape_ops import (
    SHAPE_OPERATORS,
    Attributes,
    Operator,
    matched,
    optional,
)


def _padding(values: Sequence[Any], stated: Attributes) -> tuple[int, int, int, int]:
    """Pixels to add: left, right, top, bottom, as torch orders them."""
    image = values[0]
    kernel = stated.get("kernel_shape") or list(values[1].shape[2:])
    automatic = stated.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pads: list[int] = []
        for axis in (1, 0):
            stride = stated.get("strides", (1, 1))[axis]
            reach = (kernel[axis] - 1) * stated.get("dilations", (1, 1))[axis] + 1
            size = image.shape[2 + axis]
            lacking = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
            halves = (lacking // 2, lacking - lacking // 2)
            pads += halves if automatic == "SAME_UPPER" else halves[::-1]
        return pads[0], pads[1], pads[2], pads[3]
    top, left, bottom, right = stated.get("pads", (0, 0, 0, 0))
    return left, right, top, bottom


def _padded(
    torch: Any, values: Sequence[Any], stated: Attributes, fill: float
) -> tuple[Any, tuple[int, int]]:
    """The image, padded where the two sides differ, and the padding (rows, columns) left to do."""
    left, right, top, bottom = _padding(values, stated)
    if left == right and top == bottom:
        return values[0], (top, left)
    filled = torch.nn.functional.pad(values[0], (left, right, top, bottom), value=fill)
    return filled, (0, 0)


def _conv(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    weight, bias = values[1], optional(values, 2)
    image, padding = _padded(torch, values, stated, 0.0)
    return torch.nn.functional.conv2d(
        image.to(weight.dtype),
        weight,
        bias,
        stride=tuple(stated.get("strides", (1, 1))),
        padding=padding,
        dilation=tuple(stated.get("dilations", (1, 1))),
        groups=stated.get("group", 1),
    )


def _max_pool(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    image, padding = _padded(torch, values, stated, -math.inf)
    return torch.nn.functional.max_pool2d(
        image,
        tuple(stated["kernel_shape"]),
        stride=tuple(stated.get("strides", (1, 1))),
        padding=padding,
        dilation=tuple(stated.get("dilations", (1, 1))),
        ceil_mode=bool(stated.get("ceil_mode", 0)),
    )


def _average_pool(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    pool = torch.nn.functional.avg_pool2d
    kernel, stride = tuple(stated["kernel_shape"]), tuple(stated.get("strides", (1, 1)))
    ceil, count_pad = bool(stated.get("ceil_mode", 0)), bool(stated.get("count_include_pad", 0))
    image, padding = _padded(torch, values, stated, 0.0)
    if count_pad or image is values[0]:
        return pool(image, kernel, stride, padding, ceil, count_pad)
    ones = torch.ones_like(values[0][:1, :1])
    counted = _padded(torch, [ones], stated, 0.0)[0]  # of each window, the share inside the image
    return pool(image, kernel, stride, 0, ceil) / pool(counted, kernel, stride, 0, ceil)


def _gemm(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    left, right = values[0].to(values[1].dtype), values[1]
    left = left.T if stated.get("transA", 0) else left
    right = right.T if stated.get("transB", 0) else right
    product = stated.get("alpha", 1.0) * (left @ right)
    added = optional(values, 2)
    return product if added is None else product + stated.get("beta", 1.0) * added


def _batch_normalization(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    image, scale, shift, mean, variance = values
    factor = scale.float() * (variance.float() + stated.get("epsilon", 1e-5)).rsqrt()
    offset = shift.float() - mean.float() * factor
    shape = (1, -1, *(1,) * (image.ndim - 2))
    return image * factor.reshape(shape).to(image.dtype) + offset.reshape(shape).to(image.dtype)


def _layer_normalization(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    image, *affine = matched(torch, [value for value in values if value is not None])
    axis = stated.get("axis", -1) % image.ndim
    return torch.nn.functional.layer_norm(
        image, tuple(image.shape[axis:]), *affine, eps=stated.get("epsilon", 1e-5)
    )


def _group_normalization(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    image, scale, shift = matched(torch, values)
    eps = stated.get("epsilon", 1e-5)
    return torch.nn.functional.group_norm(image, stated["num_groups"], scale, shift, eps)


def _reduced(kind: str) -> Operator:
    """Reduction over axes, which are an attribute in old opsets and an input in new ones."""

    def operator(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
        listed = optional(values, 1)
        axes = stated.get("axes") if listed is None else listed.tolist()
        if not axes and stated.get("noop_with_empty_axes", 0):
            return values[0]
        axes = tuple(axes or range(values[0].ndim))
        return getattr(torch, kind)(values[0], dim=axes, keepdim=bool(stated.get("keepdims", 1)))

    return operator


def _global_pool(kind: str) -> Operator:
    def operator(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
        axes = tuple(range(2, values[0].ndim))
        return getattr(torch, kind)(values[0], dim=axes, keepdim=True)

    return operator


def _named(name: str) -> Operator:
    """A function of torch that takes the values as they are."""

    def operator(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
        return getattr(torch, name)(*values)

    return operator


def _joined(name: str) -> Operator:
    """A function of two operands, applied to all from left to right."""

    def operator(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
        first, *rest = matched(torch, values)
        for value in rest:
            first = getattr(torch, name)(first, value)
        return first

    return operator


def _div(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    left, right = matched(torch, values)
    whole = not (left.is_floating_point() or right.is_floating_point())
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _mod(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return (torch.fmod if stated.get("fmod", 0) else torch.remainder)(*values)


def _matmul(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.matmul(*matched(torch, values))


def _where(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.where(values[0], *matched(torch, values[1:]))


def _clip(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    low, high = (
        None if bound is None else bound.item()
        for bound in (optional(values, 1), optional(values, 2))
    )
    return values[0] if low is None and high is None else torch.clamp(values[0], low, high)


def _gelu(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    approximate = stated.get("approximate", "none")
    return torch.nn.functional.gelu(values[0], approximate=approximate)


def _leaky_relu(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.nn.functional.leaky_relu(values[0], stated.get("alpha", 0.01))


def _elu(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.nn.functional.elu(values[0], stated.get("alpha", 1.0))


def _hard_sigmoid(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    slope, offset = stated.get("alpha", 0.2), stated.get("beta", 0.5)
    return torch.clamp(slope * values[0] + offset, 0, 1)


def _hard_swish(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.nn.functional.hardswish(values[0])


def _softplus(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.nn.functional.softplus(values[0])


def _mish(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.nn.functional.mish(values[0])


def _p_relu(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    image, slope = matched(torch, values)
    return torch.where(image >= 0, image, image * slope)


def _softmax(torch: Any, values: Sequence[Any], stated: Attributes) -> Any:
    return torch.softmax(values[0], dim=stated.get("axis", -1))


OPERATORS: Mapping[str, Operator] = {
    **SHAPE_OPERATORS,
    **{name: _named(name.lower()) for name in ("Relu", "Sigmoid", "Tanh", "Erf", "Sqrt", "Exp")},
    **{name: _named(name.lower()) for name in ("Log", "Abs", "Neg", "Reciprocal", "Ceil", "Floor")},
    "Add": _joined("add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Conv": _conv,
    "Div": _div,
    "Elu": _elu,
    "Equal": _joined("eq"),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool("mean"),
    "GlobalMaxPool": _global_pool("amax"),
    "GroupNormalization": _group_normalization,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "Max": _joined("maximum"),
    "MaxPool": _max_pool,
    "Min": _joined("minimum"),
    "Mish": _mish,
    "Mod": _mod,
    "Mul": _joined("mul"),
    "PRelu": _p_relu,
    "Pow": _joined("pow"),
    "ReduceMax": _reduced("amax"),
    "ReduceMean": _reduced("mean"),
    "ReduceMin": _reduced("amin"),
    "ReduceSum": _reduced("sum"),
    "Softmax": _softmax,
    "Softplus": _softplus,
    "Sub": _joined("sub"),
    "Where": _where,
}
"""Operators by their ONNX names. What is not here is refused by name."""
