"""Convolutions in 8 bits, and the check that they still tell defective from good."""

import sys

import numpy as np
import pytest

from blemish.backbones import Backbone, Layer
from blemish.datasets import Sample
from blemish.errors import InputError, OutputError
from blemish.export import export_model, exporting, load_export
from blemish.export.onnx import export_graph
from blemish.export.parity import LIMITS
from blemish.export.ranking import EASY, OPACITIES, rank_synthetic_defects, rank_test_images
from blemish.export.synthetic import KINDS, made_up_images, spoil
from small_models import good_image, good_images, small_model, spoiled_image


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def samples(tmp_path):
    """Labelled image files."""
    import cv2

    found = []
    for number in range(8):
        defect = "spot" if number % 2 else "good"
        image = spoiled_image(60 + number)[0] if number % 2 else good_image(60 + number)
        path = tmp_path / "test" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
        found.append(Sample(path, defect))
    return found


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_a_small_place_by_no_more_than_its_opacity(kind):
    image = made_up_images(1, (64, 48))[0]
    changes = []
    for seed in range(10):
        found = spoil(image, kind=kind, opacity=0.2, generator=generator(seed))
        change = np.abs(found - image).max(axis=0)
        assert change.max() <= 0.2 + 1e-6
        assert found.min() >= 0 and found.max() <= 1
        assert (change > 0.01).mean() < 0.25
        changes.append(change.max())
    assert np.mean(changes) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_defect(kind):
    image = made_up_images(1, (64, 48))[0]
    first, again, other = (
        spoil(image, kind=kind, opacity=0.5, generator=generator(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_opacity_is_no_defect():
    image = made_up_images(1, (64, 48))[0]
    found = spoil(image, kind="scar", opacity=0.0, generator=generator())
    np.testing.assert_array_equal(found, image)


def test_defects_do_not_start_where_nothing_counts():
    image, ignored = np.full((3, 64, 48), 0.5, np.float32), np.ones((64, 48), bool)
    ignored[30:34, 20:24] = False
    for seed in range(10):
        found = spoil(image, kind="blob", opacity=1.0, generator=generator(seed), ignored=ignored)
        row, column = np.unravel_index(np.abs(found[0] - 0.5).argmax(), (64, 48))
        assert 30 <= row < 34 and 20 <= column < 24


def darkest(inputs):
    """A score that finds strong defects: the range of an image."""
    return (inputs.max(axis=(1, 2, 3)) - inputs.min(axis=(1, 2, 3))).astype(np.float64)


def test_defects_are_made_fainter_until_some_are_missed():
    images = made_up_images(6, (64, 48))

    def unlike(inputs):
        """Changed by more than a little: finds nearly all defects, until they are faint."""
        changes = np.abs(inputs[:, None] - images[None]).max(axis=(2, 3, 4)).min(axis=1)
        return np.where(changes > 0.02, changes, 0.0).astype(np.float64)

    found = rank_synthetic_defects(unlike, unlike, lambda: [images[:3], images[3:]], most_drop=0.0)
    assert found.opacities == tuple(opacity / 2 for opacity in OPACITIES)
    assert 0.5 < found.model <= EASY
    assert (found.good, found.defective, found.drop, found.failures) == (6, 24, 0.0, [])


def test_an_export_that_ranks_worse_is_refused():
    images = [0.5 + 0.02 * made_up_images(4, (64, 48), seed=seed) for seed in range(4)]
    found = rank_synthetic_defects(
        darkest, lambda inputs: -darkest(inputs), lambda: images, most_drop=0.005
    )
    assert found.export == pytest.approx(1 - found.model)
    assert found.failures == [
        f"the AUROC on synthetic defects drops from {found.model:.4f} to {found.export:.4f}, by "
        "more than 0.005"
    ]


def test_the_batches_do_not_matter():
    images = made_up_images(6, (64, 48))
    parts = [images[:1], images[1:4], images[4:]]
    one = rank_synthetic_defects(darkest, darkest, lambda: parts, most_drop=0.0)
    other = rank_synthetic_defects(darkest, darkest, lambda: [images[:3], images[3:]], most_drop=0)
    assert one.opacities == other.opacities
    assert one.model == other.model


def test_labelled_images_are_ranked():
    labels = np.array([False, False, True, True])
    found = rank_test_images(
        np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.5, 3.0, 4.0]), labels, most_drop=0.3
    )
    assert (found.on, found.good, found.defective) == ("test images", 2, 2)
    assert (found.model, found.export, found.failures) == (1.0, 0.75, [])


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_int8_finds_the_same(model, target, tmp_path):
    pytest.importorskip("onnxruntime")
    report = export_model(
        model,
        tmp_path / "out",
        target=target,
        precision="int8",
        images=good_images(20),
        auroc_drop=0.02,
    )
    assert report.ranking.on == "synthetic defects"
    assert (report.ranking.good, report.ranking.defective) == (20, 80)
    found = load_export(tmp_path / "out")
    for image in (good_image(90), spoiled_image(91)[0]):
        expected, got = model.score(image).image_score, found.score(image).image_score
        assert got == pytest.approx(expected, rel=0.1)
        assert got != pytest.approx(expected, rel=1e-5)


def test_only_the_backbone_is_quantised(model):
    pytest.importorskip("onnxruntime")
    from blemish.export.int8 import quantise

    inputs = np.stack([model.preprocessing.apply(image) for image in good_images(4)])
    whole, found = export_graph(model), quantise(export_graph(model), [inputs])
    consumers = {name: node for node in found.graph.node for name in node.input}
    behind = [consumers[n.output[0]] for n in found.graph.node if n.op_type == "DequantizeLinear"]
    assert {node.op_type for node in behind} == {"Conv"}
    assert {node.output[0] for node in behind} == {"coarse"}  # not "fine", the first
    assert [output.name for output in found.graph.output] == [
        output.name for output in whole.graph.output
    ]
    assert [opset.domain for opset in found.opset_import] == [""]
    assert len(found.metadata_props) == 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_test_images_are_compared_and_ranked(model, samples, precision, tmp_path):
    pytest.importorskip("onnxruntime")
    report = export_model(
        model, tmp_path / "out", precision=precision, images=good_images(5), test=samples
    )
    assert report.parity.images == 13
    assert (report.ranking.on, report.ranking.good, report.ranking.defective) == (
        "test images",
        4,
        4,
    )
    assert report.ranking.drop == 0


def test_test_images_alone_are_enough(model, samples, tmp_path):
    report = export_model(model, tmp_path / "out", test=samples)
    assert (report.parity.images, report.parity.made_up) == (8, False)


def test_int8_that_loses_defects_is_refused_and_nothing_is_left(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(exporting, "LIMITS", {**LIMITS, "int8": LIMITS["int8"]})
    real = exporting.rank_synthetic_defects

    def worse(model, export, *others, **settings):
        return real(model, lambda inputs: -export(inputs), *others, **settings)

    monkeypatch.setattr(exporting, "rank_synthetic_defects", worse)
    with pytest.raises(OutputError) as caught:
        export_model(model, tmp_path / "out", precision="int8", images=good_images(6))
    text = str(caught.value)
    assert text.startswith(
        "The export must say what the model says, but the AUROC on synthetic defects drops from"
    )
    assert text.endswith(
        "by more than 0.005. Nothing was written. Use fp16, or more and other good images."
    )
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_runtime_int8_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError) as caught:
        export_model(model, tmp_path / "out", precision="int8", images=good_images(3))
    assert str(caught.value) == (
        "INT8 needs ONNX Runtime, which is not installed. Run: pip install 'blemish[export]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_without_convolutions_has_no_int8(tmp_path):
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    node = helper.make_node(
        "AveragePool", ["image"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]
    )
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", 3, "h", "w"])],
    )
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    backbone = Backbone("pool", content, (Layer("pooled", 3, 2),), "made up", "CC0-1.0", 3)
    with pytest.raises(InputError) as caught:
        export_model(
            small_model(backbone=backbone, layers=(1,)),
            tmp_path / "out",
            precision="int8",
            images=good_images(3),
        )
    assert str(caught.value) == (
        "INT8 needs a backbone with convolutions, but this one has none. Use fp16."
    )
