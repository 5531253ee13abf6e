"""Nodes and constants to append to an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OURS = "blemish."
"""How the names of all values begin."""


class GraphNodes:
    """Nodes and constants to append to a graph of some opset; names that no backbone uses."""

    def __init__(self, opset: int, graph: Any) -> None:
        self._opset, self._graph = opset, graph
        self._constants = 0
        self.nodes: list[Any] = []

    def constant(self, values: NDArray[Any] | float) -> str:
        """Add a constant: whole numbers as int64, all else as float32.

        It is put into the graph at once, for it may be large and should not be there twice.
        """
        array = np.asarray(values)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        tensor = self._graph.initializer.add()
        tensor.name = f"{OURS}constant{self._constants}"
        tensor.data_type = tensor.INT64 if kind == np.int64 else tensor.FLOAT
        tensor.dims.extend(array.shape)
        tensor.raw_data = array.astype(kind, copy=False).tobytes()
        self._constants += 1
        return str(tensor.name)

    def add(
        self, kind: str, *inputs: str, name: str | None = None, outputs: int = 1, **attributes: Any
    ) -> str:
        """Add a node; return the name of its (first) output."""
        from onnx import helper  # noqa: PLC0415 - slow to import

        first = name or f"{OURS}value{len(self.nodes)}"
        named = [first, *(f"{first}.{k}" for k in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), named, **attributes))
        return first

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        """Reshape; 0 keeps a length, -1 takes what is left."""
        return self.add("Reshape", name, self.constant(np.array(shape, dtype=np.int64)))

    def total(self, names: Sequence[str]) -> str:
        """Sum of some values."""
        found = names[0]
        for name in names[1:]:
            found = self.add("Add", found, name)
        return found

    def reduce(self, kind: str, name: str, *, axis: int) -> str:
        """Reduce over an axis, which goes. Axes became an input at different opsets."""
        if self._opset >= (13 if kind == "ReduceSum" else 18):
            axes = self.constant(np.array([axis], dtype=np.int64))
            return self.add(kind, name, axes, keepdims=0)
        return self.add(kind, name, axes=[axis], keepdims=0)
