"""Networks of timm as backbones: built and loaded with PyTorch, then one ONNX graph.

Needs the extra `blemish[torch]`; the graph does not. `blemish backbone convert` writes it to a
file for the base package.
"""

from __future__ import annotations

import difflib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.backbones.backbone import INPUT_NAME, Backbone, Layer
from blemish.backbones.layer_numbers import check_layers
from blemish.backbones.onnx_file import NOT_STATED
from blemish.backbones.onnx_graph import cut_graph, probe_layers, serialise
from blemish.backbones.openvino_import import import_openvino
from blemish.backbones.timm_weights import load_weights
from blemish.backbones.torch_import import has_timm, import_timm, import_torch
from blemish.backbones.weights import sha256_of
from blemish.errors import BackboneError

if TYPE_CHECKING:
    import onnx

PREFIX = "timm:"
OPSET = 17
STRIDES = (4, 8, 16, 32)
"""Of layers 1 to 4, as of the ResNets."""
PARITY = 1e-4
"""Largest difference between PyTorch and the converted graph, relative to the largest feature."""
_SIZE = (128, 160)
"""Of the image that is traced and compared: a multiple of all strides, and not square."""


@dataclass(frozen=True, slots=True)
class _Taps:
    """Which modules' outputs become layers, and under which names."""

    modules: tuple[str, ...]
    names: tuple[str, ...]


def is_timm_name(name: str) -> bool:
    """Whether a name is meant for timm: it starts with "timm:", or an installed timm knows it.

    Examples
    --------
    >>> is_timm_name("timm:efficientnet_b5"), is_timm_name("no such network")
    (True, False)
    """
    if name.startswith(PREFIX):
        return True
    is_file = name.endswith(".onnx") or not name.replace("_", "").replace(".", "").isalnum()
    return not is_file and has_timm() and bool(import_timm().is_model(name))


def convert_timm(
    name: str,
    *,
    weights: Path | None = None,
    layers: Sequence[int] | None = None,
    modules: Sequence[str] | None = None,
    random_weights: bool = False,
) -> Backbone:
    """Make a backbone of a network of timm.

    The graph is compared with the network in PyTorch before it is returned.

    Parameters
    ----------
    name : str
        As timm names it, with or without a tag, "timm:" in front or not:
        "efficientnet_b5.sw_in12k_ft_in1k".
    weights : Path, optional
        State dict with the names of timm, .safetensors or .pth; nothing in it is run. Default:
        timm downloads what it publishes under this name.
    layers : sequence of int in 1..4, default 1, 2, 3
        Layer k is the last feature map of stride 4, 8, 16, 32 that timm lists.
    modules : sequence of str, optional
        Instead of `layers`: modules whose outputs to take, by their names in the network. The
        PaDiM paper's levels of EfficientNet-B5 are "blocks.1", "blocks.3", "blocks.4".
    random_weights : bool, default False
        Take the random numbers that a new network starts with, the same every time. Of use only
        to measure what a network costs.

    Returns
    -------
    Backbone
        The normalisation that timm states for the weights is inside.

    Raises
    ------
    InputError
        timm is not installed.
    BackboneError
        timm has no such network, weights or module, the weights do not fit, or the network
        cannot be converted.
    """
    timm, plain = import_timm(), name.removeprefix(PREFIX)
    _check_name(timm, plain)
    if random_weights and weights is not None:
        raise BackboneError(
            f"Weights must be random or come from a file, but both are asked for: {weights}. "
            "Leave one out."
        )
    network = _network(timm, plain, download=weights is None and not random_weights)
    taps = _taps(network, plain, layers, modules)
    if weights is not None:
        load_weights(network, weights, name=plain, modules=taps.modules, size=_SIZE)
    known = network.pretrained_cfg
    mean, std = (tuple(float(value) for value in known[key]) for key in ("mean", "std"))
    graph, outputs = _converted(network, plain, taps, mean, std)
    source, licence = _origin(timm, known, weights, random_weights)
    return Backbone(
        name=f"{PREFIX}{plain}{' (random)' if random_weights else ''}",
        onnx=graph,
        layers=outputs,
        source=source,
        licence=licence,
        mean=mean,
        std=std,
    )


def _check_name(timm: Any, name: str) -> None:
    if timm.is_model(name):
        return
    architecture = name.split(".", maxsplit=1)[0]
    near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
    similar = f" Similar names: {', '.join(near)}." if near else ""
    raise BackboneError(
        f"A backbone of timm must be one that timm {timm.__version__} has, but it has no {name}."
        f"{similar} All of them: timm.list_models(), or https://huggingface.co/timm"
    )


def _network(timm: Any, name: str, *, download: bool) -> Any:
    """Build the network; its random numbers are the same every time."""
    torch = import_torch()
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            return timm.create_model(name, pretrained=download).eval()
    except Exception as error:  # of the download, whatever library it uses
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if not download:
            raise BackboneError(
                f"timm must be able to build {name}, but says: {reason} Choose another name or tag."
            ) from error
        raise BackboneError(
            f"The weights of {name} are needed, but timm could not get them ({reason}). Without "
            f"a connection: get model.safetensors from https://huggingface.co/timm/{name} on "
            "another machine, and name the file with --weights."
        ) from error


def _taps(
    network: Any, name: str, layers: Sequence[int] | None, modules: Sequence[str] | None
) -> _Taps:
    if modules is not None:
        known = {path for path, _ in network.named_modules() if path}
        for module in modules:
            if module not in known:
                near = difflib.get_close_matches(module, known, n=3) or sorted(known)[:3]
                raise BackboneError(
                    f"modules must be names of parts of {name}, but it has no {module}. "
                    f"Similar names: {', '.join(near)}."
                )
        return _Taps(tuple(modules), tuple(modules))
    listed = getattr(network, "feature_info", None) or []
    by_stride = {info["reduction"]: info["module"] for info in listed}
    numbers = check_layers(layers, len(STRIDES))
    lacking = [STRIDES[number - 1] for number in numbers if STRIDES[number - 1] not in by_stride]
    if lacking:
        has = ", ".join(str(stride) for stride in sorted(by_stride)) or "none"
        raise BackboneError(
            f"Layers {', '.join(map(str, numbers))} need feature maps of stride "
            f"{', '.join(str(STRIDES[n - 1]) for n in numbers)}, but timm lists for {name} those "
            f"of stride {has}. Choose other layers, or name modules with --modules."
        )
    return _Taps(
        tuple(by_stride[STRIDES[number - 1]] for number in numbers),
        tuple(f"layer{number}" for number in numbers),
    )


def _converted(
    network: Any, name: str, taps: _Taps, mean: Sequence[float], std: Sequence[float]
) -> tuple[bytes, tuple[Layer, ...]]:
    """Export, cut, normalise in front, and hold the graph against the network."""
    place = Path(name)  # what errors call it
    tapped = _tapped(network, taps.modules)
    model = _exported(tapped, name, taps)
    cut_graph(model, taps.names, (mean, std), place)
    layers = probe_layers(model, taps.names, place)
    graph = serialise(model, layers)
    _check_parity(tapped, name, graph, taps, mean, std)
    return graph, layers


def _tapped(network: Any, modules: Sequence[str]) -> Any:
    """A module from a normalised image to the outputs of `modules`."""
    torch = import_torch()

    class Tapped(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.found: dict[str, Any] = {}
            for path in modules:
                network.get_submodule(path).register_forward_hook(self._keep(path))

        def _keep(self, path: str) -> Any:
            def hook(*call: Any) -> None:  # module, inputs, output
                self.found[path] = call[-1]

            return hook

        def forward(self, image: Any) -> tuple[Any, ...]:
            self.found.clear()
            self.network.forward_features(image)
            return tuple(self.found.pop(path) for path in modules)

    return Tapped().eval()


def _exported(tapped: Any, name: str, taps: _Taps) -> onnx.ModelProto:
    """The traced network as ONNX, for any number and size of images."""
    import onnx  # noqa: PLC0415 - slow to import

    torch = import_torch()
    stream = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing: what it warns of, the parity would show
            torch.onnx.export(
                tapped,
                (torch.zeros(1, 3, *_SIZE),),
                stream,
                dynamo=False,  # the newer exporter needs more packages and does the same
                input_names=[INPUT_NAME],
                output_names=list(taps.names),
                opset_version=OPSET,
                dynamic_axes={INPUT_NAME: {0: "N", 2: "H", 3: "W"}},
            )
    except (AssertionError, RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BackboneError(
            f"A backbone must run on images of any size, but {name} cannot be converted "
            f"({reason}). Choose a convolutional network, or other modules."
        ) from error
    model = onnx.load_model_from_string(stream.getvalue())
    for node in model.graph.node:
        node.doc_string = ""  # where in the source it comes from: not the same on every machine
    return model


def _check_parity(
    tapped: Any, name: str, graph: bytes, taps: _Taps, mean: Sequence[float], std: Sequence[float]
) -> None:
    """Hold the graph against the network on an image of another size than it was traced with."""
    torch = import_torch()
    size = (_SIZE[1] + 32, _SIZE[0])
    image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    openvino = import_openvino()
    core = openvino.Core()
    read = core.read_model(model=graph)
    read.reshape({INPUT_NAME: openvino.PartialShape([1, 3, *size])})
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({INPUT_NAME: image})
    shape = (1, 3, 1, 1)
    normalised = (image - np.reshape(mean, shape)) / np.reshape(std, shape)
    with torch.no_grad():
        expected = tapped(torch.from_numpy(normalised.astype(np.float32)))
    for layer, features in zip(taps.names, expected, strict=True):
        wanted = features.numpy()
        away = float(np.abs(found[layer] - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
        if not away <= PARITY:
            raise BackboneError(
                f"The converted graph must give what PyTorch gives to {PARITY:g}, but {layer} of "
                f"{name} is off by {away:.2g}. Choose another network or other modules."
            )


def _origin(timm: Any, known: Any, weights: Path | None, random_weights: bool) -> tuple[str, str]:
    """Source and licence of the weights."""
    by = f"network of timm {timm.__version__}"
    if random_weights:
        return f"random weights, for measurements only; {by}", NOT_STATED
    if weights is not None:
        return f"{weights.name}, sha256 {sha256_of(weights)}; {by}", NOT_STATED
    where = known.get("hf_hub_id") or known.get("url") or "timm"
    return f"{where}; {by}", known.get("license") or NOT_STATED
