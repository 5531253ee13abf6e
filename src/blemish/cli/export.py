"""`blemish export`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from tabulate import tabulate

from blemish.cli.options import PATH, data_options, quiet_option
from blemish.cli.progress import ProgressBar
from blemish.datasets import read_dataset
from blemish.export import AUROC_DROP, PRECISIONS, TARGETS, export_model
from blemish.model import load_model


@click.command()
@click.argument("model", type=PATH)
@click.option(
    "--to", "target", type=click.Choice(TARGETS), default="onnx", show_default=True, help="Format."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="fp16: stored in 16 bits. int8: convolutions in 8 bits; needs ONNX Runtime.",
)
@click.option(
    "--images", type=PATH, help="Good images to compare on; of a data set, those to train."
)
@click.option("--test", type=PATH, help="Labelled data set whose AUROC must not drop.")
@click.option("--made-up-images", is_flag=True, help="Compare on made-up images, for want of any.")
@click.option(
    "--auroc-drop",
    type=click.FloatRange(0, 1),
    default=AUROC_DROP,
    show_default=True,
    help="By how much the AUROC may drop: on --test, or for int8 on synthetic defects.",
)
@click.option("--out", "-o", type=PATH, required=True, help="Folder to write.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@data_options
@quiet_option
def export(
    *,
    model: Path,
    target: str,
    precision: str,
    images: Path | None,
    test: Path | None,
    made_up_images: bool,
    auroc_drop: float,
    out: Path,
    as_json: bool,
    layout: str | None,
    category: str | None,
    quiet: bool,
) -> None:
    """Write a MODEL as a folder for another program: graph, description and an example.

    The export is run and compared with the model; if it says something else, nothing is written.

    \b
    Example:
        blemish export bottle.blemish --precision fp16 --images bottle/good --out bottle_onnx
    """  # noqa: D301
    if made_up_images and (images is not None or test is not None):
        raise click.UsageError(
            "--made-up-images is for want of real ones: leave it out, or --images and --test."
        )
    loaded = load_model(model)
    good = labelled = None
    if images is not None:
        found = read_dataset(images, split="train", layout=layout, category=category)
        good = [sample.image for sample in found]
    if test is not None:
        labelled = read_dataset(test, split="test", layout=layout, category=category)
    with ProgressBar(quiet=quiet) as progress:
        report = export_model(
            loaded,
            out,
            target=target,
            precision=precision,
            images=good,
            test=labelled,
            made_up=made_up_images,
            auroc_drop=auroc_drop,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    click.echo(tabulate(report.rows(), headers=["", "found", "limit"], disable_numparse=True))
    click.echo(f"Wrote {out}.")
