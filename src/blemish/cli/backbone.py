"""`blemish backbone`: which networks there are, their weights, and networks as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.options import Numbers, Words

if TYPE_CHECKING:
    from blemish.backbones.describe import BackboneInfo

# Backbones are imported inside the commands, so that `--help` stays quick.


@click.group(name="backbone")
def backbone() -> None:
    """See, download and convert the networks that turn images into features."""


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


@backbone.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="ONNX file to write; `--backbone` takes it.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights, .safetensors or .pth, in place of the published ones.",
)
@click.option(
    "--layers",
    type=Numbers(","),
    help="Layers to put out, such as 1,2,3 (the default): strides 4, 8, 16 and 32 are 1 to 4.",
)
@click.option(
    "--modules",
    type=Words(),
    help="Parts of a timm network whose outputs to take instead, such as blocks.1,blocks.3.",
)
@click.option(
    "--random-weights",
    is_flag=True,
    help="Take a timm network as it is before training, to measure what it costs.",
)
def convert(
    name: str,
    out: Path,
    weights: Path | None,
    layers: tuple[int, ...] | None,
    modules: tuple[str, ...] | None,
    random_weights: bool,
) -> None:
    """Write the network NAME to one ONNX file that needs no PyTorch.

    NAME is any known name or, with the extra blemish[torch], any network of timm.

    \b
    Examples:
        blemish backbone convert timm:convnext_tiny --out convnext.onnx
        blemish backbone convert timm:efficientnet_b5 --out b5.onnx \\
            --modules blocks.1,blocks.3,blocks.4
    """  # noqa: D301 - the backspace is for click
    from blemish.backbones.load import load_backbone  # noqa: PLC0415
    from blemish.backbones.onnx_file import write_onnx_backbone  # noqa: PLC0415
    from blemish.backbones.timm import convert_timm  # noqa: PLC0415

    if modules and layers:
        raise click.UsageError("Give --layers or --modules, not both.")
    if modules or random_weights:
        found = convert_timm(
            name, weights=weights, layers=layers, modules=modules, random_weights=random_weights
        )
    else:
        found = load_backbone(name, weights=weights, layers=layers)
    write_onnx_backbone(found, out)
    described = ", ".join(
        f"{layer.name} ({layer.channels} channels, stride {layer.stride})" for layer in found.layers
    )
    click.echo(f"Wrote {found.name} to {out}: {described}")


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
