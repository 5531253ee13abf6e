"""The embedding of a model as nodes behind its backbone; `embedding` says what is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.backbones import Backbone
from blemish.embedding import Embedding
from blemish.graph_nodes import GraphNodes


def embedded_levels(graph: GraphNodes, backbone: Backbone, embedding: Embedding) -> list[str]:
    """Own embeddings per level, coarse to fine: (N, P, d), positions row by row."""
    names = [layer.name for layer in backbone.layers]
    if embedding.layer_sums:
        names = _layer_sums(graph, backbone, names)
    levels = []
    for name, selection, projection, window, channels in zip(
        names,
        embedding.selections,
        embedding.projections,
        embedding.windows,
        [layer.channels for layer in backbone.layers],
        strict=True,
    ):
        if selection is not None and len(selection):
            own = name
            if len(selection) < channels:  # else all, in their order
                own = graph.add("Gather", name, graph.constant(selection), axis=1)
        elif projection is not None:
            kernel = np.ascontiguousarray(projection.T)[:, :, None, None]
            own = graph.add("Conv", name, graph.constant(kernel), kernel_shape=[1, 1])
        else:
            continue
        if window > 1:
            own = graph.add(
                "AveragePool",
                own,
                kernel_shape=[window, window],
                strides=[2, 2] if window == 4 else [1, 1],
                pads=[1, 1, 1, 1],
                count_include_pad=0,
            )
        levels.append(graph.add("Transpose", graph.reshape(own, (0, 0, -1)), perm=[0, 2, 1]))
    return levels[::-1]


def _layer_sums(graph: GraphNodes, backbone: Backbone, names: Sequence[str]) -> list[str]:
    """Each layer plus the next finer one, averaged to its grid and repeated; see `sum_layers`."""
    summed = [names[0]]
    layers = backbone.layers
    for k in range(1, len(layers)):
        factor = layers[k].stride // layers[k - 1].stride
        averaged = graph.add(
            "AveragePool",
            names[k - 1],
            kernel_shape=[factor, factor],
            strides=[factor, factor],
        )
        times = layers[k].channels // layers[k - 1].channels
        repeats = graph.constant(np.array([1, times, 1, 1], dtype=np.int64))
        summed.append(graph.add("Add", names[k], graph.add("Tile", averaged, repeats)))
    return summed
