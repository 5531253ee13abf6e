"""Small ONNX graphs for the tests."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SHAPES = {"fine": ["N", 4, "h", "w"], "coarse": ["N", 5, "i", "j"], "logits": ["N", 5]}


def conv(source, target, channels_in, channels_out, stride, seed):
    weight = np.random.default_rng(seed).normal(size=(channels_out, channels_in, 3, 3))
    name = f"{target}.weight"
    node = helper.make_node(
        "Conv", [source, name], [target], kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2
    )
    return node, numpy_helper.from_array(weight.astype(np.float32), name)


def tiny_model(
    *,
    image="pixels",
    outputs=("fine", "coarse", "logits"),
    size=("H", "W"),
    channels=3,
    kind=TensorProto.FLOAT,
):
    """pixels -> fine (stride 2, 4 channels) -> coarse (stride 4, 5 channels) -> logits."""
    parts = [conv(image, "fine", channels, 4, 2, 1), conv("fine", "coarse", 4, 5, 2, 2)]
    nodes = [node for node, _ in parts] + [
        helper.make_node("GlobalAveragePool", ["coarse"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(image, kind, ["N", channels, *size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPES[name]) for name in outputs],
        [weight for _, weight in parts],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
