"""The embedded backbone: a fixed bank of oriented filters that needs no weights and no download.

A scattering network in the sense of Bruna & Mallat (arXiv:1203.1513), cut after second order and
with colour, written as an ONNX graph by closed formulas:

* **Colour.** The image as brightness, red-green and blue-yellow, halved in size again and again.
* **First order.** At every octave (wavelengths 4, 8, 16, 32, 64 pixels) a quadrature pair of Gabor
  filters per orientation; the modulus of the pair is how much contrast of that size and direction
  there is, wherever in the pattern's phase.
* **Second order.** The same filters, an octave coarser, on the first-order moduli: how contrast is
  arranged. It tells corners, crossings and broken rhythms from plain lines.
* **Averaging, then the square root**, which makes the skewed moduli nearly bell-shaped and weak
  contrast count.

Signed filter responses are left out on purpose: they say where in its phase a pattern is, which in
good parts varies freely. `docs/decisions/0002-builtin-filter-bank.md` has the measurements behind
each choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from blemish.arrays import Float64Array
from blemish.backbones.backbone import INPUT_NAME, Backbone, Layer
from blemish.backbones.layer_numbers import check_layers

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8
LAYERS = 4

OPPONENT_COLOURS = np.array([[1 / 3, 1 / 3, 1 / 3], [1 / 2, -1 / 2, 0.0], [1 / 4, 1 / 4, -1 / 2]])
"""Rows: brightness, red against green, yellow against blue; columns R, G, B."""
BINOMIAL = np.array([1.0, 3.0, 3.0, 1.0]) / 8
"""Blur before halving the size."""

KERNEL = 7
WAVELENGTH = 4.0
"""Of every Gabor filter, in pixels of the image it runs on."""
ENVELOPE = 2.0
"""Standard deviation of the round Gabor envelope, pixels."""
ORIENTATIONS = 8
"""Of first-order filters on brightness."""
COLOUR_ORIENTATIONS = 4
"""Of first-order filters on red-green and on blue-yellow each."""
SECOND_ORIENTATIONS = 4

MODULUS_FLOOR = 1 / 255
"""Added to the modulus in quadrature: one grey level of 8 bits, below which all is noise."""
MODULUS_GAIN = 5.0
COLOUR_GAIN = 20.0
"""Gains bring the standard deviation of the features to the order of 0.3 to 1, that of ImageNet
networks, so that the usual epsilon of 0.01 is as small beside them."""

FIRST_ORDER = {1: (0,), 2: (0, 1), 3: (0, 1, 2, 3, 4), 4: (0, 1, 2, 3, 4, 5)}
"""Octaves whose first-order moduli a layer has: octave j has wavelength 4 * 2**j pixels."""
SECOND_ORDER = {1: (), 2: (0,), 3: (0, 1, 2), 4: (0, 1, 2, 3)}
"""Octaves of whose first-order moduli a layer has the second-order moduli."""

_UNDECIMATED = 4
"""From this octave on, moduli stay on the grid of the image they come from: a coarse layer can
then hold one octave more."""
_GRID = 2.0**-20


def builtin_backbone(layers: Sequence[int] | None = None) -> Backbone:
    """Build the embedded backbone.

    Parameters
    ----------
    layers : sequence of int in 1..4, default 1, 2, 3
        Layer k has stride 2 ** (k + 1).

    Returns
    -------
    Backbone
        The graph's bytes are the same on every machine.

    Raises
    ------
    BackboneError
        No layer, an unknown layer, or the same layer twice.

    Examples
    --------
    >>> backbone = builtin_backbone()
    >>> [(layer.name, layer.channels, layer.stride) for layer in backbone.layers]
    [('layer1', 11, 4), ('layer2', 59, 8), ('layer3', 235, 16)]
    """
    numbers = check_layers(layers, LAYERS)
    bank = _Bank()
    outputs = tuple(bank.add_layer(number) for number in numbers)
    return Backbone(
        name="builtin",
        onnx=bank.graph.serialise(outputs),
        layers=outputs,
        source="closed formulas in blemish.backbones.builtin",
        licence="Apache-2.0",
        default_dims=100,
    )


def gabor_pairs(orientations: int) -> tuple[Float64Array, Float64Array]:
    """Quadrature pairs of Gabor filters, evenly spread over 180 degrees.

    Returns
    -------
    even, odd : float64 (orientations, KERNEL, KERNEL)
        Each sums to 0 and has norm 1. The first answers to vertical stripes.

    Examples
    --------
    >>> even, odd = gabor_pairs(2)
    >>> bool(abs(even.sum()) < 1e-12), round(float((odd[0] ** 2).sum()), 6)
    (True, 1.0)
    """
    shape = (orientations, KERNEL, KERNEL)
    even, odd = np.zeros(shape), np.zeros(shape)
    middle = KERNEL // 2
    for k, row, column in np.ndindex(shape):
        angle = math.pi * k / orientations
        x, y = column - middle, row - middle
        envelope = math.exp(-(x**2 + y**2) / (2 * ENVELOPE**2))
        phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / WAVELENGTH
        even[k, row, column] = envelope * math.cos(phase)
        odd[k, row, column] = envelope * math.sin(phase)
    even -= even.mean(axis=(1, 2), keepdims=True)
    for pair in (even, odd):
        pair /= np.sqrt((pair**2).sum(axis=(1, 2), keepdims=True))
    return even, odd


class _Value(NamedTuple):
    """A value of the graph: (N, channels, H / 2**level, W / 2**level)."""

    name: str
    channels: int
    level: int


class _Bank:
    """The filter bank as a graph; a value is added when it is first asked for."""

    def __init__(self) -> None:
        self.graph = _Graph()
        self._made: dict[tuple[str, str, int], _Value] = {}

    def add_layer(self, number: int) -> Layer:
        """Add the output "layer<number>": colours, then moduli of first and second order."""
        level = number + 1
        graph = self.graph
        moduli = [self._averaged(self._first(octave), level) for octave in FIRST_ORDER[number]]
        moduli += [self._averaged(self._second(octave), level) for octave in SECOND_ORDER[number]]
        joined = graph.add("Concat", *(value.name for value in moduli), axis=1)
        rooted = graph.add("Mul", graph.add("Sqrt", joined), graph.constant(MODULUS_GAIN))
        colours = self._colours(level)
        scaled = graph.add("Mul", colours.name, graph.constant(COLOUR_GAIN))
        layer = f"layer{number}"
        graph.add("Concat", scaled, rooted, name=layer, axis=1)
        channels = colours.channels + sum(value.channels for value in moduli)
        return Layer(layer, channels, 2**level)

    def _colours(self, level: int) -> _Value:
        """Opponent colours, blurred and halved in size `level` times."""
        return self._once(("colours", "", level), self._make_colours)

    def _first(self, octave: int) -> _Value:
        """First-order moduli. The finest octave, which runs on the image, is of brightness only."""
        return self._once(("first", "", octave), self._make_first)

    def _second(self, octave: int) -> _Value:
        """Second-order moduli of the first-order moduli of `octave`, one octave coarser."""
        return self._once(("second", "", octave), self._make_second)

    def _averaged(self, value: _Value, level: int) -> _Value:
        """`value`, averaged over overlapping windows until it has `level`."""
        if value.level == level:
            return value
        finer = self._averaged(value, level - 1)
        return self._once(("averaged", value.name, level), lambda _: self._halved(finer))

    def _once(self, key: tuple[str, str, int], make: Callable[[int], _Value]) -> _Value:
        if key not in self._made:
            self._made[key] = make(key[2])
        return self._made[key]

    def _make_colours(self, level: int) -> _Value:
        blur = np.outer(BINOMIAL, BINOMIAL)
        if level == 1:
            kernels = OPPONENT_COLOURS[:, :, None, None] * blur
            return _Value(self.graph.convolve(INPUT_NAME, kernels, stride=2), 3, 1)
        finer = self._colours(level - 1)
        kernels = np.broadcast_to(blur, (3, 1, *blur.shape))
        return _Value(self.graph.convolve(finer.name, kernels, stride=2, groups=3), 3, level)

    def _make_first(self, octave: int) -> _Value:
        if octave == 0:
            pair = [_spread(OPPONENT_COLOURS[0], each) for each in gabor_pairs(ORIENTATIONS)]
            return self._modulus(_Value(INPUT_NAME, 3, 0), pair, stride=2)
        brightness, *hues = np.eye(3)
        pair = [
            np.concatenate(
                [_spread(brightness, fine), *(_spread(hue, coarse) for hue in hues)],
            )
            for fine, coarse in zip(
                gabor_pairs(ORIENTATIONS), gabor_pairs(COLOUR_ORIENTATIONS), strict=True
            )
        ]
        stride = 2 if octave < _UNDECIMATED else 1
        return self._modulus(self._colours(octave), pair, stride=stride)

    def _make_second(self, octave: int) -> _Value:
        first = self._first(octave)
        pair = [
            np.tile(each[:, None], (first.channels, 1, 1, 1))
            for each in gabor_pairs(SECOND_ORIENTATIONS)
        ]
        return self._modulus(first, pair, stride=2, groups=first.channels)

    def _modulus(
        self, value: _Value, pair: Sequence[Float64Array], *, stride: int, groups: int = 1
    ) -> _Value:
        """Root of the sum of the squares of what the two filters of each pair answer."""
        graph = self.graph
        power = graph.constant(MODULUS_FLOOR**2)
        for kernels in pair:
            answer = graph.convolve(value.name, kernels, stride=stride, groups=groups)
            power = graph.add("Add", graph.add("Mul", answer, answer), power)
        level = value.level + stride - 1
        return _Value(graph.add("Sqrt", power), len(pair[0]), level)

    def _halved(self, value: _Value) -> _Value:
        name = self.graph.add(
            "AveragePool", value.name, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        return _Value(name, value.channels, value.level + 1)


def _spread(weights: Float64Array, filters: Float64Array) -> Float64Array:
    """Kernels (O, C, k, k) that run `filters` (O, k, k) on the channels, added with `weights`."""
    return weights[None, :, None, None] * filters[:, None]


class _Graph:
    """Nodes and constants of an ONNX graph, in order."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: Float64Array | float) -> str:
        """Add a float32 constant, rounded to a grid of 2**-20.

        The last bits of cosines and sums differ from machine to machine; the rounded do not.
        """
        from onnx import numpy_helper  # noqa: PLC0415 - slow to import

        name = f"constant{len(self._constants)}"
        rounded = np.round(np.asarray(values) / _GRID) * _GRID + 0.0  # no negative zeros
        self._constants.append(numpy_helper.from_array(rounded.astype(np.float32), name))
        return name

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper  # noqa: PLC0415 - slow to import

        output = name or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def convolve(self, value: str, kernels: Float64Array, *, stride: int, groups: int = 1) -> str:
        """Convolve with `kernels` (out, in / groups, k, k), keeping 1 / `stride` of the size."""
        size = kernels.shape[-1]
        margin = (size - 1) // 2  # same for even sizes at stride 2
        return self.add(
            "Conv",
            value,
            self.constant(kernels),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[margin] * 4,
            group=groups,
        )

    def serialise(self, outputs: Sequence[Layer]) -> bytes:
        """Make the model; the same calls give the same bytes."""
        from onnx import TensorProto, helper  # noqa: PLC0415 - slow to import

        image = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", 3, "H", "W"])
        maps = [
            helper.make_tensor_value_info(
                layer.name,
                TensorProto.FLOAT,
                ["N", layer.channels, f"{layer.name}_h", f"{layer.name}_w"],
            )
            for layer in outputs
        ]
        graph = helper.make_graph(self._nodes, "builtin", [image], maps, self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        return bytes(model.SerializeToString(deterministic=True))
