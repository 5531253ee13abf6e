"""`blemish backbone`: which networks there are, and their weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from blemish.backbones.describe import BackboneInfo

# The library is imported inside the commands, so that `--help` stays quick.


@click.group(name="backbone")
def backbone() -> None:
    """See and download the networks that turn images into features."""


@backbone.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list for machines.")
def list_command(as_json: bool) -> None:
    """List the backbones known by name.

    \b
    Example:
        blemish backbone list
    """  # noqa: D301 - the backspace is for click
    from tabulate import tabulate  # noqa: PLC0415

    from blemish.backbones.describe import list_backbones  # noqa: PLC0415

    found = list_backbones()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in found], indent=2))
        return
    rows = [
        (
            info.name,
            " ".join(str(layer.channels) for layer in info.layers),
            " ".join(str(layer.stride) for layer in info.layers),
            info.default_dims or "",
            info.licence,
            _where(info),
        )
        for info in found
    ]
    headers = ("name", "channels per layer", "strides", "dims", "licence", "weights")
    click.echo(tabulate(rows, headers=headers, disable_numparse=True))


@backbone.command()
@click.argument("name")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights of a ResNet, .safetensors or .pth, in place of the published ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for machines.")
def show(name: str, weights: Path | None, as_json: bool) -> None:
    """Describe the backbone NAME: a known name, or an ONNX file with metadata.

    \b
    Examples:
        blemish backbone show resnet18
        blemish backbone show network.onnx
    """  # noqa: D301 - the backspace is for click
    from blemish.backbones.describe import describe_backbone  # noqa: PLC0415

    info = describe_backbone(name, weights=weights)
    click.echo(json.dumps(asdict(info), indent=2) if as_json else _as_text(info))


@backbone.command()
@click.argument("name")
def pull(name: str) -> None:
    """Download the weights of NAME into the cache, unless they are there.

    \b
    Example:
        blemish backbone pull resnet18
    """  # noqa: D301 - the backspace is for click
    from blemish.backbones.describe import pinned_weights  # noqa: PLC0415
    from blemish.backbones.weights import fetch_weights  # noqa: PLC0415

    pinned = pinned_weights(name)
    click.echo(f"{pinned.name}: {fetch_weights(pinned)}")


def _where(info: BackboneInfo) -> str:
    if info.file is None:
        return "built in"
    if info.url is None:
        return "file"
    return "cached" if info.is_ready else "to download"


def _as_text(info: BackboneInfo) -> str:
    from tabulate import tabulate  # noqa: PLC0415

    dims = info.default_dims if info.default_dims is not None else "100, or all if fewer"
    rows = [
        ("name", info.name),
        ("default dims", dims),
        ("mean", _numbers(info.mean)),
        ("std", _numbers(info.std)),
        ("source", info.source),
        ("licence", info.licence),
        ("url", info.url or "none"),
        ("file", info.file or "none"),
        ("graph sha256" if info.url is None else "file sha256", info.sha256),
        ("weights", _where(info)),
    ]
    layers = [(layer.name, layer.channels, layer.stride) for layer in info.layers]
    return "\n\n".join(
        (
            tabulate(rows, tablefmt="plain", disable_numparse=True),
            tabulate(layers, headers=("layer", "channels", "stride")),
        )
    )


def _numbers(values: tuple[float, ...] | None) -> str:
    return "none" if values is None else " ".join(str(value) for value in values)
