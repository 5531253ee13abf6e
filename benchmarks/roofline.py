"""What the machine could do at most, and how much of that the network and the graph reach."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.bare import bare_call, precisions, read_graph
from benchmarks.materials import MODELS, Materials
from benchmarks.measure import alternate
from benchmarks.tables import Table, milliseconds

from blemish.backbones.openvino_import import import_openvino
from blemish.cores import cores

TITLE = "Roofline"
_SIDES = (512, 1024, 2048)
_STREAMED_BYTES = 512 << 20
_BYTES = {"f32": 4, "bf16": 2}
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True, slots=True)
class Work:
    """What a graph takes for one image.

    Attributes
    ----------
    multiplications : int
        Multiply-adds of convolutions and matrix products.
    numbers : int
        Constants that are read: weights, means, whitening rows, map operators.
    """

    multiplications: int
    numbers: int

    def least_seconds(self, multiplications: float, bytes_read: float, precision: str) -> float:
        """Time at the given rates per second: of arithmetic or of reading, whichever is longer.

        Examples
        --------
        >>> Work(100, 10).least_seconds(10.0, 1.0, "f32")
        40.0
        """
        arithmetic = self.multiplications / multiplications
        return max(arithmetic, self.numbers * _BYTES[precision] / bytes_read)


def tables(materials: Materials, say: Callable[[str], None]) -> list[Table]:
    """Measure."""
    say("matrix products and memory")
    rates, read = machine_rates()
    rows = []
    for name in MODELS:
        model = materials.model(name)
        shape = (1, 3, *model.size)
        graphs = {"backbone alone": model.backbone.onnx, "whole graph": model.graph()}
        read_graphs = {label: read_graph(onnx, shape) for label, onnx in graphs.items()}
        works = {label: work_of(graph) for label, graph in read_graphs.items()}
        for precision in precisions():
            say(f"roofline, {name}, {precision}")
            calls = {label: bare_call(g, precision) for label, g in read_graphs.items()}
            timings = alternate(calls, turns=15)
            for label, work in works.items():
                least = least_seconds(works, label, rates[precision], read, precision)
                taken = timings.median(label)
                cells = [f"{name}, {label}, {precision}", f"{work.multiplications / 1e9:.2f}"]
                cells += [f"{work.numbers * _BYTES[precision] / 1e6:.1f}", milliseconds(least)]
                rows.append([*cells, milliseconds(taken), f"{least / taken:.0%}"])
    return [_machine_table(rates, read), _graph_table(rows)]


def least_seconds(
    works: dict[str, Work], label: str, rate: float, read: float, precision: str
) -> float:
    """Shortest time of a graph: its parts follow each other, so each has its own limit."""
    alone, whole = works["backbone alone"], works["whole graph"]
    seconds = alone.least_seconds(rate, read, precision)
    if label == "whole graph":
        added = Work(whole.multiplications - alone.multiplications, whole.numbers - alone.numbers)
        seconds += added.least_seconds(rate, read, precision)
    return seconds


def machine_rates() -> tuple[dict[str, float], float]:
    """Multiply-adds per second by precision, and bytes read per second, on all cores."""
    calls: dict[str, Callable[[], object]] = {
        f"{precision}{side}": bare_call(_large_product(side), precision)
        for precision in precisions()
        for side in _SIDES
    }
    parts = np.ones((cores(), _STREAMED_BYTES // 4 // cores()), np.float32)
    with ThreadPoolExecutor(cores()) as pool:
        calls["memory"] = lambda: list(pool.map(_read_once, parts))
        timings = alternate(calls, turns=8, block=3, warm=1)
    rates = {
        precision: max(side**3 / timings.shortest(f"{precision}{side}") for side in _SIDES)
        for precision in precisions()
    }
    return rates, parts.nbytes / timings.shortest("memory")


def _read_once(part: Any) -> float:
    return float(np.dot(part, part))


def _large_product(side: int) -> Any:
    """Graph of the product of a matrix with a constant one."""
    openvino = import_openvino()
    from openvino import opset13 as operations  # noqa: PLC0415 - slow to import

    matrix = operations.parameter([side, side], np.float32, name="matrix")
    noise = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    product = operations.matmul(matrix, operations.constant(noise), False, False)
    return openvino.Model([product], [matrix], "product")


def work_of(graph: Any) -> Work:
    """Count what a graph of fixed shape takes."""
    multiplications, numbers = 0, 0
    for node in graph.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Constant" and node.get_element_type().is_real():
            numbers += int(np.prod(list(node.output(0).shape), dtype=np.int64))
        if kind in _PRODUCTS:
            out = int(np.prod(list(node.output(0).shape), dtype=np.int64))
            multiplications += out * _summed(kind, node)
    return Work(multiplications, numbers)


def _summed(kind: str, node: Any) -> int:
    """Products that are added up for one output."""
    if kind == "MatMul":
        shape = list(node.input(0).get_shape())
        return int(shape[-2] if node.get_attributes()["transpose_a"] else shape[-1])
    kernel = list(node.input(1).get_shape())[
        1 if kind == "Convolution" else 2 :
    ]  # without groups, out
    return int(np.prod(kernel, dtype=np.int64))


def _machine_table(rates: dict[str, float], read: float) -> Table:
    rows = [
        [f"multiply-adds, {precision}, large matrix product", f"{rate / 1e9:.0f} G/s"]
        for precision, rate in rates.items()
    ]
    rows.append([f"memory, read of {_STREAMED_BYTES >> 20} MiB", f"{read / 1e9:.1f} GB/s"])
    sides = ", ".join(f"{side}x{side}" for side in _SIDES)
    notes = [f"The fastest turn; products of {sides} through OpenVINO, the fastest of them."]
    return Table(f"What {cores()} cores reach", ["what", "rate"], rows, notes)


def _graph_table(rows: list[list[str]]) -> Table:
    return Table(
        "What one image takes",
        ["graph", "G multiply-adds", "MB of constants", "least, ms", "taken, ms", "reached"],
        rows,
        [
            "Least: multiply-adds at the rate of the large product, or reading all constants "
            "from memory, whichever takes longer; the backbone and what follows it one after "
            "the other. Constants that stay in the cache are read faster than that.",
        ],
    )
