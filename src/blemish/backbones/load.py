"""From a name or a file to a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.backbones.backbone import Backbone
from blemish.backbones.onnx_file import NOT_STATED, read_onnx_backbone
from blemish.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD, RESNETS, build_resnet
from blemish.backbones.state_dict import read_metadata, read_state_dict
from blemish.backbones.timm import convert_timm, is_timm_name
from blemish.backbones.weights import ALIASES, PINNED, PinnedWeights, fetch_weights, sha256_of
from blemish.errors import BackboneError

BUILTIN = "builtin"
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def backbone_names() -> tuple[str, ...]:
    """Names that `load_backbone` knows, besides files.

    Examples
    --------
    >>> backbone_names()[:2]
    ('builtin', 'resnet18.tv_in1k')
    """
    return (BUILTIN, *PINNED)


def load_backbone(
    name: str, *, weights: Path | None = None, layers: Sequence[int] | None = None
) -> Backbone:
    """Find, build or download a backbone.

    Parameters
    ----------
    name : str
        "builtin" (embedded, needs no weights); "resnet18", "resnet34", "resnet50" or
        "wide_resnet50_2", with or without the tag ".tv_in1k" (downloaded once and cached);
        the path of an ONNX file with metadata (see `blemish.backbones.onnx_file`); or, with the
        extra `blemish[torch]`, a network of timm, "timm:" in front or not (see `convert_timm`).
    weights : Path, optional
        State dict for a ResNet or a network of timm, .safetensors or .pth, in place of the
        download.
    layers : sequence of int, optional
        Which layers to put out, counted from 1 (fine) on. Default 1, 2, 3; all layers of an
        ONNX file.

    Raises
    ------
    BackboneError
        The name is unknown, or the weights cannot be had or used.
    InputError
        The name starts with "timm:", but timm is not installed.
    """
    if Path(name).suffix in WEIGHT_SUFFIXES:
        raise BackboneError(
            f"The backbone must be a network, but {name} names a file of weights alone. Name the "
            "network it belongs to, for example resnet18, and give the file with --weights."
        )
    architecture = name.split(".", maxsplit=1)[0]
    is_resnet = architecture in RESNETS and not name.endswith(".onnx")
    if is_resnet and weights is not None:
        return _resnet_from_file(name, weights, layers)
    if weights is not None and not is_timm_name(name):
        raise BackboneError(
            f"Weights can be given for {', '.join(RESNETS)}, but the backbone is {name}. "
            "Leave them out, or name the network they belong to."
        )
    if name == BUILTIN:
        from blemish.backbones.builtin import builtin_backbone  # noqa: PLC0415 - only when used

        return builtin_backbone(layers)
    pinned = PINNED.get(ALIASES.get(name, name))
    if pinned is not None:
        return _resnet_from_pinned(pinned, layers)
    if name.endswith(".onnx") or Path(name).is_file():
        return read_onnx_backbone(Path(name), layers=layers)
    if is_timm_name(name):
        return convert_timm(name, weights=weights, layers=layers)
    raise BackboneError(
        f"The backbone must be one of {', '.join(backbone_names())} or an ONNX file, but is "
        f"{name}. Names without a tag mean the one listed."
    )


def _resnet_from_pinned(pinned: PinnedWeights, layers: Sequence[int] | None) -> Backbone:
    path = fetch_weights(pinned)
    return _resnet(pinned.name, path, layers, source=_source(pinned), licence=pinned.licence)


def _resnet_from_file(name: str, path: Path, layers: Sequence[int] | None) -> Backbone:
    metadata = read_metadata(path)
    digest = sha256_of(path)
    pinned = PINNED.get(ALIASES.get(name, name))
    if pinned is not None and pinned.sha256 == digest:
        return _resnet(pinned.name, path, layers, source=_source(pinned), licence=pinned.licence)
    stated = metadata.get("source")
    source = f"{stated + '; ' if stated else ''}{path.name}, sha256 {digest}"
    licence = metadata.get("licence") or metadata.get("license") or NOT_STATED
    return _resnet(name, path, layers, source=source, licence=licence)


def _source(pinned: PinnedWeights) -> str:
    return f"{pinned.source}; {pinned.url}, sha256 {pinned.sha256}"


def _resnet(
    name: str, path: Path, layers: Sequence[int] | None, *, source: str, licence: str
) -> Backbone:
    net = RESNETS[name.split(".", maxsplit=1)[0]]
    weights = read_state_dict(path)
    onnx, outputs = build_resnet(net.name, weights, layers=layers, origin=str(path))
    channels = sum(layer.channels for layer in outputs)
    return Backbone(
        name=name,
        onnx=onnx,
        layers=outputs,
        source=source,
        licence=licence,
        default_dims=net.default_dims if net.default_dims < channels else None,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
