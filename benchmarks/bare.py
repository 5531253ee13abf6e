"""Graphs in OpenVINO with nothing around them: what the library is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blemish.backbones import Backbone
from blemish.backbones.openvino_import import import_openvino
from blemish.engines.openvino import GraphRunner, has_bf16
from blemish.graph import graph_outputs
from blemish.model import Model


def precisions() -> list[str]:
    """Precisions that this CPU has in hardware."""
    return ["f32", "bf16"] if has_bf16() else ["f32"]


def read_graph(onnx: bytes, shape: tuple[int, ...]) -> Any:
    """Graph of OpenVINO with a fixed shape (N, 3, H, W) of its input."""
    model = import_openvino().Core().read_model(model=onnx)
    model.reshape(list(shape))
    return model


def bare_call(model: Any, precision: str) -> Callable[[], object]:
    """Compile a graph of one input; a call runs it on noise and copies nothing out."""
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = import_openvino().Core().compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    noise = np.random.default_rng(0).random(tuple(model.input(0).shape), dtype=np.float32)
    request.set_input_tensor(import_openvino().Tensor(noise, shared_memory=True))

    def call() -> None:
        request.start_async()
        request.wait()

    call.__dict__["keeps"] = noise  # the tensor shares its memory
    return call


def backbone_call(
    backbone: Backbone, size: tuple[int, int], precision: str, batch: int = 1
) -> Callable[[], object]:
    """Run a backbone alone."""
    return bare_call(read_graph(backbone.onnx, (batch, 3, *size)), precision)


def fused_runner(model: Model, precision: str) -> GraphRunner:
    """Run a whole model as the library does, from the preprocessed image on."""
    return GraphRunner(
        model.graph(),
        graph_outputs(len(model.level_names)),
        model.size,
        name=model.backbone.name,
        precision=precision,
    )
