"""The torch feature extractor: same contract and same numbers as OpenVINO's."""

import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from onnx import helper  # noqa: E402

from blemish.backbones import Backbone, Layer, load_backbone  # noqa: E402
from blemish.engines.openvino import FeatureExtractor  # noqa: E402
from blemish.engines.torch import TorchFeatureExtractor, TorchNetwork  # noqa: E402
from blemish.engines.torch_device import Recorded, arithmetic, choose_device  # noqa: E402
from blemish.errors import BackboneError, InputError, ShapeError  # noqa: E402
from small_models import SIZE, tiny_backbone  # noqa: E402
from tiny_onnx import tiny_model  # noqa: E402

IMAGES = np.random.default_rng(3).random((5, 3, *SIZE), dtype=np.float32)


@pytest.fixture(scope="module")
def extractor():
    return TorchFeatureExtractor(tiny_backbone(), SIZE, device="cpu", threads=2)


def assert_close(found, expected, most):
    for maps, wanted in zip(found, expected, strict=True):
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, wanted, atol=most * np.abs(wanted).max())


@pytest.mark.parametrize("layers", [None, (1, 2, 3, 4)])
def test_builtin_features_are_those_of_openvino(layers):
    backbone, size = load_backbone("builtin", layers=layers), (96, 64)
    images = np.random.default_rng(0).random((3, 3, *size), dtype=np.float32)
    found = TorchFeatureExtractor(backbone, size, device="cpu")(images)
    assert_close(found, FeatureExtractor(backbone, size)(images), 1e-5)


def test_resnet_features_are_those_of_openvino(real_weights):
    backbone, size = load_backbone("resnet18", weights=real_weights), (64, 96)
    images = np.random.default_rng(0).random((2, 3, *size), dtype=np.float32)
    expected = FeatureExtractor(backbone, size)(images)
    assert_close(TorchFeatureExtractor(backbone, size, device="cpu")(images), expected, 1e-4)
    rough = TorchFeatureExtractor(backbone, size, device="cpu", precision="bf16")(images)
    assert_close(rough, expected, 0.03)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_low_precision_keeps_two_digits(precision, extractor):
    rough = TorchFeatureExtractor(tiny_backbone(), SIZE, device="cpu", precision=precision)
    assert_close(rough(IMAGES), extractor(IMAGES), 0.02)


def test_a_batch_gives_what_its_images_give_alone(extractor):
    together = extractor(IMAGES)
    for index in range(len(IMAGES)):
        alone = extractor(IMAGES[index : index + 1])
        for whole, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[index], one[0], rtol=1e-5, atol=1e-5)


def test_no_images_give_no_features(extractor):
    assert [maps.shape for maps in extractor(IMAGES[:0])] == [(0, 4, 16, 12), (0, 5, 8, 6)]


def test_the_arrays_belong_to_the_caller(extractor):
    first = extractor(IMAGES)
    kept = [maps.copy() for maps in first]
    for maps in extractor(1 - IMAGES):
        maps[:] = 0
    for maps, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(maps, copy)


def test_images_may_be_views_read_only_float64_and_tensors(extractor):
    backwards = np.ascontiguousarray(IMAGES[:, :, :, ::-1])[:, :, :, ::-1]
    locked = IMAGES.copy()
    locked.setflags(write=False)
    for images in (backwards, locked, IMAGES.astype(np.float64), torch.from_numpy(IMAGES)):
        for maps, expected in zip(extractor(images), extractor(IMAGES), strict=True):
            np.testing.assert_array_equal(maps, expected)


def test_threads_may_share_one_extractor_and_the_process_keeps_its_settings(extractor):
    expected, before = extractor(IMAGES)[1], torch.get_num_threads()
    found = []

    def work():
        found.extend(extractor(IMAGES)[1] for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    for maps in found:
        np.testing.assert_array_equal(maps, expected)
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()


def set_by_process():
    """What of PyTorch's settings belongs to the whole process."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.get_num_threads()


@pytest.mark.parametrize("exact", [True, False])
def test_the_settings_of_the_process_are_put_back(exact):
    before = set_by_process()
    with arithmetic(torch, exact=exact, threads=1):
        assert set_by_process() == (not exact, not exact, True, 1)
        assert torch.is_inference_mode_enabled()
    assert set_by_process() == before
    with pytest.raises(KeyError), arithmetic(torch, exact=exact, threads=1):
        raise KeyError
    assert set_by_process() == before


def test_an_exact_network_never_runs_with_what_another_thread_has_set():
    before, seen, together = set_by_process(), [], threading.Barrier(4)

    def work(exact):
        together.wait()
        for _ in range(50):
            with arithmetic(torch, exact=exact, threads=None):
                time.sleep(1e-4)
                seen.append((exact, set_by_process()[:2]))

    threads = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {(True, (False, False)), (False, (True, True))}
    assert len(seen) == 200
    assert set_by_process() == before


def test_images_of_another_size_are_an_error(extractor):
    with pytest.raises(ShapeError) as caught:
        extractor(np.zeros((1, 3, 24, 32), np.float32))
    assert str(caught.value) == (
        "images must have shape (N, 3, 32, 24), but has shape (1, 3, 24, 32). "
        "Were they preprocessed for this model?"
    )


SETTINGS = [
    (
        {"precision": "f64"},
        "precision must be one of f32, bf16, f16, but is f64. "
        "Use f32 unless speed matters more than digits.",
    ),
    ({"threads": 0}, "threads must be at least 1, but is 0. Leave it out for all."),
    (
        {"device": "tpu"},
        "device must be one of auto, cpu, cuda, mps, or cuda:1 and so on, but is 'tpu'. "
        "Choose one.",
    ),
    (
        {"device": "cpu:1"},
        "device must be one of auto, cpu, cuda, mps, or cuda:1 and so on, but is 'cpu:1'. "
        "Choose one.",
    ),
]


@pytest.mark.parametrize(("settings", "text"), SETTINGS)
def test_settings_are_checked(settings, text):
    with pytest.raises(InputError) as caught:
        TorchFeatureExtractor(tiny_backbone(), SIZE, **settings)
    assert str(caught.value) == text


def test_a_size_of_nothing_is_an_error():
    with pytest.raises(InputError) as caught:
        TorchFeatureExtractor(tiny_backbone(), (0, 24))
    assert str(caught.value) == (
        "The image size must be at least 1x1 pixels, but is 0x24. Choose for example 224x224."
    )


@pytest.fixture
def machine(monkeypatch):
    """Pretend that a machine has so many GPUs."""

    def pretend(gpus=0, cuda=None, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


def test_auto_takes_the_first_that_is_there(machine):
    machine(gpus=1, mps=True)
    assert choose_device(torch, "auto") == torch.device("cuda")
    machine(mps=True)
    assert choose_device(torch, "auto") == torch.device("mps")
    machine()
    assert choose_device(torch, "auto") == torch.device("cpu")


def test_a_gpu_can_be_chosen_by_number(machine):
    machine(gpus=2)
    assert choose_device(torch, "cuda:1") == torch.device("cuda", 1)


DEVICES = [
    (
        {},
        "cuda",
        "The device cuda needs an NVIDIA GPU, but this build of PyTorch is for the CPU alone. "
        "Install PyTorch with CUDA (https://pytorch.org/get-started/locally), or use the device "
        "cpu.",
    ),
    (
        {"cuda": "13.0"},
        "cuda",
        "The device cuda needs an NVIDIA GPU, but PyTorch, built for CUDA 13.0, finds none. "
        "Install a driver for it (nvidia-smi must list the GPU), or use the device cpu.",
    ),
    (
        {"gpus": 2, "cuda": "13.0"},
        "cuda:2",
        "The device must be one of 2 GPUs, cuda:0 to cuda:1, but is cuda:2. Choose one of these.",
    ),
    (
        {},
        "mps",
        "The device mps needs a Mac with Apple silicon, but PyTorch finds none. "
        "Use the device cpu.",
    ),
]


@pytest.mark.parametrize(("there", "name", "text"), DEVICES)
def test_a_device_that_is_not_there_says_what_to_change(machine, there, name, text):
    machine(**there)
    with pytest.raises(InputError) as caught:
        choose_device(torch, name)
    assert str(caught.value) == text


def changed(change):
    model = tiny_model(image="image", outputs=("fine", "coarse"))
    change(model)
    layers = (Layer("fine", 4, 2), Layer("coarse", 5, 4))
    return Backbone("part", model.SerializeToString(), layers, "made up", "CC0-1.0")


def unknown(model):
    model.graph.node.append(helper.make_node("Resize", ["fine", "", "", "x"], ["larger"]))
    model.graph.node.append(helper.make_node("NonZero", ["fine"], ["places"]))


def foreign(model):
    model.graph.node.append(helper.make_node("Relu", ["fine"], ["x"], domain="com.example"))


def old(model):
    model.opset_import[0].version = 11


GRAPHS = [
    (
        unknown,
        "The torch engine must know every operator of a backbone's graph, but part uses NonZero, "
        "Resize, which it does not. Use the engine openvino, or export the network without it.",
    ),
    (
        foreign,
        "The torch engine must know every operator of a backbone's graph, but part uses "
        "com.example.Relu, which it does not. Use the engine openvino, or export the network "
        "without it.",
    ),
    (
        old,
        "The torch engine runs graphs of opset 13 or newer, but part has opset 11. Export it "
        "anew, or use the engine openvino.",
    ),
]


@pytest.mark.parametrize(("change", "text"), GRAPHS)
def test_a_graph_that_cannot_be_run_is_refused_by_name(change, text):
    with pytest.raises(BackboneError) as caught:
        TorchFeatureExtractor(changed(change), SIZE, device="cpu")
    assert str(caught.value) == text


def test_a_size_that_the_network_cannot_take_is_an_error():
    def reshaped(model):
        shape = onnx.numpy_helper.from_array(np.array([1, 4, 5, 5]), "shape")
        model.graph.initializer.append(shape)
        model.graph.node[0].output[0] = "before"
        model.graph.node.insert(1, helper.make_node("Reshape", ["before", "shape"], ["fine"]))

    with pytest.raises(BackboneError) as caught:
        TorchFeatureExtractor(changed(reshaped), SIZE, device="cpu")
    assert str(caught.value) == (
        "The backbone part must run on images of 32x24 pixels, but PyTorch cannot run it "
        "(shape '[1, 4, 5, 5]' is invalid for input of size 768). "
        "Choose another size or backbone."
    )


def test_values_are_forgotten_when_they_are_no_longer_needed():
    network = TorchNetwork(tiny_backbone(), SIZE, device="cpu")
    forgotten = [name for node in network._graph._nodes for name in node.forgotten]
    assert forgotten == ["image", "pooled"]  # but not the layers


class Batch:
    """What `Recorded` needs of a tensor, without a GPU; an output is a view of its input."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def to(self, device, copy=False):
        return Batch(self.values.copy())

    def copy_(self, other):
        self.values[:] = other.values

    def clone(self):
        return Batch(self.values.copy())


def pretended_gpu():
    """A stand-in for torch in which recording and replaying change nothing."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    cuda = SimpleNamespace(
        Stream=lambda device: stream,
        current_stream=lambda device: stream,
        stream=nullcontext,
        device=nullcontext,
        graph=lambda graph, capture_error_mode: nullcontext(graph),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: None),
    )
    return SimpleNamespace(cuda=cuda), SimpleNamespace(type="cuda")


def test_a_function_is_recorded_once_per_count_and_the_last_few_are_kept():
    calls = []

    def function(images):
        calls.append(len(images))
        return (images,)

    stand_in, device = pretended_gpu()
    recorded = Recorded(stand_in, function, device)
    results = []
    for number, count in enumerate((1, 2, 1, 3, 4, 5, 1)):
        results.append(recorded(Batch(np.full(count, number)))[0])
    assert [found.values.tolist() for found in results] == [
        [number] * count for number, count in enumerate((1, 2, 1, 3, 4, 5, 1))
    ]
    assert calls == [count for count in (1, 2, 3, 4, 5) for _ in range(4)]
    assert list(recorded._recorded) == [3, 4, 5, 1]


@pytest.mark.gpu
def test_on_a_gpu_the_features_are_those_of_the_cpu(extractor):
    found = TorchFeatureExtractor(tiny_backbone(), SIZE, device="cuda")
    for count in (5, 2, 5):
        assert_close(found(IMAGES[:count]), extractor(IMAGES[:count]), 1e-4)


@pytest.mark.gpu
def test_recordings_are_kept_for_the_last_few_counts():
    recorded = Recorded(torch, lambda images: (images * 2,), torch.device("cuda"))
    with torch.inference_mode():
        for count in (1, 2, 3, 4, 5, 1):
            images = torch.rand(count, 3)
            np.testing.assert_allclose(recorded(images)[0].cpu(), 2 * images, rtol=1e-6)
    assert list(recorded._recorded) == [3, 4, 5, 1]
