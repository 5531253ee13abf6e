"""What there is to know about a backbone before using it; downloads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.backbones.backbone import Backbone, Layer
from blemish.backbones.load import BUILTIN, backbone_names, load_backbone
from blemish.backbones.resnet import IMAGENET_MEAN, IMAGENET_STD, RESNETS
from blemish.backbones.weights import ALIASES, PINNED, PinnedWeights, cached_path, is_cached
from blemish.errors import BackboneError


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """One backbone, its weights loaded or not.

    Attributes
    ----------
    name : str
    layers : tuple of Layer
        All that can be chosen, from fine to coarse.
    default_dims : int or None
        Embedding dimensions kept by default; None: 100, or all channels if there are fewer.
    mean, std : tuple of 3 float, or None
        Normalisation inside the graph.
    source, licence : str
        Of the weights.
    url : str or None
        Where the weights are downloaded from; None if they need not be.
    file : str or None
        Where the weights are, or will be, on this machine; None if they are built in.
    sha256 : str
        Of the published weight file; else of the graph.
    is_ready : bool
        Whether the backbone can be used without a download.
    """

    name: str
    layers: tuple[Layer, ...]
    default_dims: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    source: str
    licence: str
    url: str | None
    file: str | None
    sha256: str
    is_ready: bool


def list_backbones() -> list[BackboneInfo]:
    """Describe all backbones known by name."""
    return [describe_backbone(name) for name in backbone_names()]


def describe_backbone(name: str, *, weights: Path | None = None) -> BackboneInfo:
    """Describe one backbone by its name or file.

    Parameters
    ----------
    name, weights
        As for `load_backbone`.

    Raises
    ------
    BackboneError
        The name is unknown, or the file cannot be used.

    Examples
    --------
    >>> info = describe_backbone("resnet18")
    >>> info.name, info.layers[3], info.default_dims, info.licence
    ('resnet18.tv_in1k', Layer(name='layer4', channels=512, stride=32), 100, 'BSD-3-Clause')
    """
    pinned = PINNED.get(ALIASES.get(name, name))
    if pinned is not None and weights is None:
        return _describe_pinned(pinned)
    file = weights if weights is not None else Path(name)
    return _describe_loaded(
        load_backbone(name, weights=weights), None if name == BUILTIN else str(file)
    )


def pinned_weights(name: str) -> PinnedWeights:
    """Find published weights by a name with or without tag.

    Raises
    ------
    BackboneError
        There are none of this name.
    """
    pinned = PINNED.get(ALIASES.get(name, name))
    if pinned is None:
        raise BackboneError(
            f"Only {', '.join(PINNED)} can be downloaded, but the name is {name}. "
            "A file needs no download, and builtin needs no file."
        )
    return pinned


def _describe_pinned(pinned: PinnedWeights) -> BackboneInfo:
    net = RESNETS[pinned.architecture]
    return BackboneInfo(
        name=pinned.name,
        layers=tuple(net.layer(number) for number in range(1, len(net.blocks) + 1)),
        default_dims=net.default_dims,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        source=pinned.source,
        licence=pinned.licence,
        url=pinned.url,
        file=str(cached_path(pinned)),
        sha256=pinned.sha256,
        is_ready=is_cached(pinned),
    )


def _describe_loaded(backbone: Backbone, file: str | None) -> BackboneInfo:
    return BackboneInfo(
        name=backbone.name,
        layers=backbone.layers,
        default_dims=backbone.default_dims,
        mean=backbone.mean,
        std=backbone.std,
        source=backbone.source,
        licence=backbone.licence,
        url=None,
        file=file,
        sha256=backbone.sha256,
        is_ready=True,
    )
