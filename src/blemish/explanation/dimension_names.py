"""What every dimension of an embedding is: a channel of a layer, or what was made of channels."""

from __future__ import annotations

from dataclasses import dataclass

from blemish.backbones.backbone import Backbone
from blemish.backbones.channel_names import channel_names
from blemish.embedding import Embedding


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of an embedding.

    Attributes
    ----------
    layer : str
    number : int
        Among the dimensions kept of the layer, from 0.
    channel : int or None
        Channel of the layer's feature map, from 0; None where the dimension is a projection of
        all of them, and no channel can be named.
    name : str
        In words.
    """

    layer: str
    number: int
    channel: int | None
    name: str


def dimensions_of(backbone: Backbone, embedding: Embedding) -> list[list[Dimension]]:
    """Dimensions of every level, coarse to fine.

    Examples
    --------
    >>> from blemish.backbones import load_backbone
    >>> from blemish.embedding import choose_embedding
    >>> backbone = load_backbone("builtin")
    >>> chosen = choose_embedding([11, 59, 235], dims=(2, 0, 1), reduction="stratified")
    >>> [dimension.name for dimension in dimensions_of(backbone, chosen)[-1]]
    ['rising 67.5° lines of 4 px', 'rising 22.5° lines of 4 px']
    >>> chosen = choose_embedding([11, 59, 235], dims=(2, 0, 1), reduction="semi-orthogonal")
    >>> dimensions_of(backbone, chosen)[-1][1]
    Dimension(layer='layer1', number=1, channel=None, name='projection 1 of 11 channels')
    """
    levels = []
    for k, (layer, dims) in enumerate(zip(backbone.layers, embedding.dims, strict=True)):
        selection = embedding.selections[k]
        names = _names(backbone, embedding, k)
        if dims and selection is not None:
            levels.append(
                [
                    Dimension(layer.name, number, channel, names[channel])
                    for number, channel in enumerate(selection.tolist())
                ]
            )
        elif dims:
            summed = " summed over two layers" if embedding.layer_sums and k else ""
            levels.append(
                [
                    Dimension(
                        layer.name, n, None, f"projection {n} of {layer.channels} channels{summed}"
                    )
                    for n in range(dims)
                ]
            )
    return levels[::-1]


def _names(backbone: Backbone, embedding: Embedding, layer: int) -> list[str]:
    """Names of a layer's channels; with layer sums, those of the finer layer that are added."""
    names = channel_names(backbone, layer)
    if not embedding.layer_sums or layer == 0:
        return names
    finer = channel_names(backbone, layer - 1)
    added = backbone.layers[layer - 1].name
    return [f"{name} + {added} {finer[k % len(finer)]}" for k, name in enumerate(names)]
