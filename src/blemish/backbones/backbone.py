"""What a backbone is: one ONNX graph from an image to feature maps, and its description."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

INPUT_NAME = "image"
"""Name of the only input of every backbone: float32 (N, 3, H, W), RGB in 0..1."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One feature map that a backbone puts out.

    Attributes
    ----------
    name : str
        Name of the graph's output, for example "layer1".
    channels : int
        Channels C of the feature map.
    stride : int, pixels
        Image pixels per position: an (H, W) image gives a grid of (H / stride, W / stride).
    """

    name: str
    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network, cut after the last layer used, as one ONNX graph.

    The graph has one input, "image": float32 (N, 3, H, W), RGB in 0..1, any N, H and W.
    Normalisation by mean and standard deviation happens inside. It has one output per
    layer, named as the layer: float32 (N, C, H / stride, W / stride).

    Attributes
    ----------
    name : str
        For example "builtin" or "resnet18.tv_in1k".
    onnx : bytes
        The graph with its weights. The same weights give the same bytes.
    layers : tuple of Layer
        From fine (small stride) to coarse.
    source : str
        Where the weights come from.
    licence : str
        Of the weights.
    default_dims : int or None
        Embedding dimensions to keep unless the user says otherwise; None lets the
        embedding choose.
    mean, std : tuple of 3 float, or None
        Of the normalisation inside the graph, per RGB channel of a 0..1 image; None if the
        graph does not normalise.

    Examples
    --------
    >>> backbone = Backbone("tiny", b"graph", (Layer("layer1", 64, 4),), "made up", "CC0-1.0")
    >>> backbone.sha256[:8], backbone.channels, backbone.coarsest_stride
    ('eef93e1d', 64, 4)
    """

    name: str
    onnx: bytes = field(repr=False)
    layers: tuple[Layer, ...]
    source: str
    licence: str
    default_dims: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def sha256(self) -> str:
        """Hash of the graph, weights included: 64 hex digits."""
        return hashlib.sha256(self.onnx).hexdigest()

    @property
    def channels(self) -> int:
        """Channels of all layers together."""
        return sum(layer.channels for layer in self.layers)

    @property
    def coarsest_stride(self) -> int:
        """Image height and width should be multiples of it, so that the grids divide each other."""
        return max(layer.stride for layer in self.layers)
