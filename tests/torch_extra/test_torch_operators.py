"""Every operator of the torch engine against the reference implementation of ONNX."""

import weakref

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from blemish.backbones import Backbone, Layer  # noqa: E402
from blemish.engines.torch_graph import TorchGraph  # noqa: E402
from blemish.engines.torch_ops import OPERATORS  # noqa: E402

IMAGES = np.random.default_rng(1).normal(size=(2, 3, 7, 6)).astype(np.float32)
OPSETS = {"Gelu": 20, "Mish": 18, "GroupNormalization": 21, "ReduceMax": 20}


def draw(*shape, positive=False):
    values = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    return np.abs(values) + 0.5 if positive else values


def ints(*values):
    return np.array(values, dtype=np.int64)


KERNEL = draw(6, 3, 3, 2)
ONE_OPERATOR = [
    *((name, [], {}) for name in ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Abs", "Neg")),
    *((name, [], {}) for name in ("Ceil", "Floor", "Reciprocal", "Identity", "HardSwish", "Mish")),
    ("Gelu", [], {}),
    ("Gelu", [], {"approximate": "tanh"}),
    ("Softplus", [], {}),
    ("LeakyRelu", [], {"alpha": 0.2}),
    ("Elu", [], {"alpha": 0.7}),
    ("HardSigmoid", [], {"alpha": 0.3}),
    ("PRelu", [draw(3, 1, 1)], {}),
    ("Clip", [np.float32(-0.5), np.float32(0.7)], {}),
    ("Clip", [np.float32(-0.5)], {}),
    ("Softmax", [], {"axis": 1}),
    ("Conv", [KERNEL], {"kernel_shape": [3, 2]}),
    ("Conv", [KERNEL, draw(6)], {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("Conv", [KERNEL], {"pads": [0, 1, 2, 0], "dilations": [2, 1]}),
    ("Conv", [KERNEL], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [KERNEL], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", [draw(6, 1, 3, 3)], {"group": 3}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [], {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
    ("GlobalAveragePool", [], {}),
    ("GlobalMaxPool", [], {}),
    ("BatchNormalization", [draw(3), draw(3), draw(3), draw(3, positive=True)], {}),
    ("LayerNormalization", [draw(6), draw(6)], {"axis": -1, "epsilon": 1e-3}),
    ("LayerNormalization", [draw(7, 6)], {"axis": 2}),
    ("GroupNormalization", [draw(3), draw(3)], {"num_groups": 3}),
    ("Add", [draw(3, 1, 1)], {}),
    ("Sub", [np.float32(0.3)], {}),
    ("Mul", [draw(6)], {}),
    ("Div", [draw(7, 1, positive=True)], {}),
    ("Pow", [np.float32(2.0)], {}),
    ("Max", [draw(6), draw(7, 1)], {}),
    ("Min", [draw(6)], {}),
    ("Mod", [draw(6, positive=True)], {"fmod": 1}),
    ("MatMul", [draw(6, 5)], {}),
    ("ReduceMean", [], {"axes": [2, 3]}),
    ("ReduceMean", [], {"axes": [1], "keepdims": 0}),
    ("ReduceSum", [ints(2, 3)], {"keepdims": 0}),
    ("ReduceMax", [ints(1)], {}),
    ("ReduceMin", [], {"axes": [1]}),
    ("ReduceSum", [], {"noop_with_empty_axes": 1}),
    ("ReduceSum", [], {}),
    ("Cast", [], {"to": TensorProto.FLOAT}),
    ("Concat", [draw(2, 1, 7, 6)], {"axis": 1}),
    ("Expand", [ints(2, 3, 7, 6)], {}),
    ("Flatten", [], {"axis": 2}),
    ("Gather", [ints(2, 0, -1)], {"axis": 1}),
    ("Gather", [ints(1)[0]], {"axis": 3}),
    ("Gather", [ints([0, 1], [2, 2])], {"axis": 1}),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)], {}),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}),
    ("Reshape", [ints(0, -1, 2)], {}),
    ("Slice", [ints(1), ints(-1), ints(3)], {}),
    ("Slice", [ints(5), ints(-(2**63)), ints(2), ints(-2)], {}),
    ("Slice", [ints(0, 1), ints(1, 2**63 - 1)], {}),
    ("Tile", [ints(1, 2, 1, 1)], {}),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ("Unsqueeze", [ints(0, -1)], {}),
    ("Dropout", [], {}),
]


def backbone_of(nodes, constants, opset=17, outputs=("out",)):
    graph = helper.make_graph(
        nodes,
        "operator",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    layers = tuple(Layer(name, 3, 1) for name in outputs)
    return Backbone("operator", model.SerializeToString(), layers, "made up", "CC0-1.0")


def run(backbone, dtype=torch.float32):
    graph = TorchGraph(torch, backbone, device=torch.device("cpu"), dtype=dtype, channels_last=True)
    with torch.inference_mode():
        return [out.numpy() for out in graph(torch.from_numpy(IMAGES))]


def reference(backbone):
    return ReferenceEvaluator(onnx.load_model_from_string(backbone.onnx)).run(
        None, {"image": IMAGES}
    )


def assert_same(backbone):
    for found, expected in zip(run(backbone), reference(backbone), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "constants", "attributes"),
    ONE_OPERATOR,
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_operator_is_that_of_the_reference(kind, constants, attributes):
    named = {f"constant{k}": value for k, value in enumerate(constants)}
    node = helper.make_node(kind, ["image", *named], ["out"], **attributes)
    assert_same(backbone_of([node], named, OPSETS.get(kind, 17)))


@pytest.mark.parametrize("kind", ["Sqrt", "Log"])
def test_operator_of_positive_numbers(kind):
    nodes = [
        helper.make_node("Exp", ["image"], ["positive"]),
        helper.make_node(kind, ["positive"], ["out"]),
    ]
    assert_same(backbone_of(nodes, {}))


def test_split_has_several_outputs():
    node = helper.make_node("Split", ["image", "sizes"], ["a", "b"], axis=1)
    assert_same(backbone_of([node], {"sizes": ints(1, 2)}, outputs=("a", "b")))


def test_split_in_equal_parts():
    node = helper.make_node("Split", ["image"], ["a", "b"], axis=3, num_outputs=2)
    assert_same(backbone_of([node], {}, opset=18, outputs=("a", "b")))


def test_split_of_a_constant_has_several_outputs():
    nodes = [
        helper.make_node("Split", ["both", "sizes"], ["left", "right"], axis=0),
        helper.make_node("Add", ["image", "left"], ["sum"]),
        helper.make_node("Mul", ["sum", "right"], ["out"]),
    ]
    assert_same(backbone_of(nodes, {"both": draw(4, 1, 6), "sizes": ints(3, 1)}))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_a_constant_is_lowered_only_for_products(low):
    nodes = [
        helper.make_node("Add", ["image", "shared"], ["before"]),
        helper.make_node("Conv", ["image", "shared"], ["conv"]),
        helper.make_node("Mul", ["image", "shared"], ["after"]),
    ]
    backbone = backbone_of(nodes, {"shared": draw(1, 3, 1, 1)}, outputs=("before", "conv", "after"))
    graph = TorchGraph(torch, backbone, device=torch.device("cpu"), dtype=low, channels_last=False)
    before, conv, after = graph(torch.from_numpy(IMAGES))
    assert [each.dtype for each in (before, conv, after)] == [torch.float32, low, torch.float32]
    expected = reference(backbone)
    np.testing.assert_allclose(before.numpy(), expected[0], rtol=1e-6)
    np.testing.assert_allclose(after.numpy(), expected[2], rtol=1e-6)
    np.testing.assert_allclose(conv.float().numpy(), expected[1], atol=0.05)


def test_only_constants_that_are_read_are_kept():
    nodes = [
        helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["image", "turned"], ["out"]),
    ]
    backbone = backbone_of(nodes, {"weight": draw(5, 6), "spare": draw(9)})
    assert_same(backbone)
    graph = TorchGraph(
        torch, backbone, device=torch.device("cpu"), dtype=torch.float16, channels_last=False
    )
    kept = [(tuple(each.shape), each.dtype) for each in graph._constants.values()]
    assert kept == [((6, 5), torch.float16)]


def test_a_constant_may_be_a_layer():
    nodes = [
        helper.make_node("Split", ["both", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Relu", ["image"], ["out"]),
    ]
    constants = {"both": draw(1, 3, 2, 2), "sizes": ints(1, 2)}
    assert_same(backbone_of(nodes, constants, outputs=("out", "b")))


def test_indices_live_as_long_as_the_graph(monkeypatch):
    made, tensor = [], torch.tensor

    def remembered(*values, **how):
        made.append(tensor(*values, **how))
        return made[-1]

    monkeypatch.setattr(torch, "tensor", remembered)
    node = helper.make_node("Gather", ["image", "index"], ["out"], axis=1)
    graph = TorchGraph(
        torch,
        backbone_of([node], {"index": ints(2, 0)}),
        device=torch.device("cpu"),
        dtype=torch.float32,
        channels_last=True,
    )
    for _ in range(3):
        np.testing.assert_array_equal(graph(torch.from_numpy(IMAGES))[0], IMAGES[:, [2, 0]])
    assert len(made) == 1
    index = weakref.ref(made.pop())
    assert index() is not None
    del graph
    assert index() is None


def test_gemm_and_squeeze():
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Squeeze", ["pooled", "axes"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["out"], transB=1, alpha=0.5),
    ]
    constants = {"axes": ints(2, 3), "weight": draw(4, 3), "bias": draw(4)}
    assert_same(backbone_of(nodes, constants))


def test_shapes_are_computed_as_tensorflow_style_padding_does():
    """Shape -> Gather -> Cast -> Div -> Ceil ... -> Pad, as timm's tf_ networks are exported."""
    constants = {"two": ints(2)[0], "half": np.float32(2.0), "one": np.float32(1.0)}
    constants |= {"zero": ints(0), "axis": ints(0), "shape": ints(4)}
    nodes = [
        helper.make_node("Shape", ["image"], ["size"]),
        helper.make_node("Gather", ["size", "two"], ["height"]),
        helper.make_node("Cast", ["height"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "half"], ["halved"]),
        helper.make_node("Ceil", ["halved"], ["ceiling"]),
        helper.make_node("Mul", ["ceiling", "half"], ["even"]),
        helper.make_node("Sub", ["even", "float"], ["lacking"]),
        helper.make_node("Clip", ["lacking", "", "one"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["pixels"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["pixels", "axis"], ["listed"]),
        helper.make_node("Equal", ["pixels", "two"], ["is_two"]),
        helper.make_node("Where", ["is_two", "two", "pixels"], ["same"]),
        helper.make_node("Unsqueeze", ["same", "axis"], ["again"]),
        helper.make_node("Mod", ["again", "two"], ["odd"]),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["before"], value=numpy_helper.from_array(ints(0))
        ),
        helper.make_node("Constant", [], ["none"], value=numpy_helper.from_array(ints(0, 0))),
        helper.make_node("Concat", ["before", "none", "listed", "odd"], ["pads"], axis=0),
        helper.make_node("Pad", ["image", "pads"], ["out"]),
    ]
    assert_same(backbone_of(nodes, constants))


def test_every_operator_was_tried():
    tried = {kind for kind, _, _ in ONE_OPERATOR}
    tried |= {"Sqrt", "Log", "Split", "Gemm", "Squeeze", "Shape", "Constant", "ConstantOfShape"}
    tried |= {"Equal", "Where"}
    assert tried == set(OPERATORS)


def test_low_precision_reaches_the_end_and_stays_close():
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["conv"]),
        helper.make_node("Mul", ["conv", "scale"], ["scaled"]),
        helper.make_node("LayerNormalization", ["scaled", "gain"], ["out"], axis=-1),
    ]
    constants = {"kernel": KERNEL, "bias": draw(6), "scale": draw(6, 1, 1), "gain": draw(5)}
    backbone = backbone_of(nodes, constants)
    exact = reference(backbone)[0]
    graph = TorchGraph(
        torch, backbone, device=torch.device("cpu"), dtype=torch.bfloat16, channels_last=False
    )
    found = graph(torch.from_numpy(IMAGES))[0]
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float().numpy(), exact, atol=0.05 * np.abs(exact).max())
