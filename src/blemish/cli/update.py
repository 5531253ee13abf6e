"""`blemish update`."""

from __future__ import annotations

from pathlib import Path

import click

from blemish.cli.options import (
    PATH,
    device_options,
    quiet_option,
    save_change,
    training_images_option,
)
from blemish.cli.progress import ProgressBar
from blemish.engines.engine import EngineSettings
from blemish.lifecycle.steps import update as update_model
from blemish.model import load_model
from blemish.writing import check_writable


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", type=PATH)
@click.option("--out", "-o", type=PATH, help="Model file to write. Default: MODEL is replaced.")
@training_images_option
@device_options
@quiet_option
def update(
    *,
    model: Path,
    images: Path,
    out: Path | None,
    training_images: Path | None,
    engine: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Add a folder of good IMAGES to a MODEL.

    Scores are those of one fit on all images. Images that the model has learned already are
    skipped. Thresholds are exact with --training-images, or if the model keeps its features; else
    what is known of the images before is put together, until `blemish calibrate` is run.

    \b
    Example:
        blemish update bottle.blemish rejected-but-good/
    """  # noqa: D301
    before = load_model(model, EngineSettings(engine=engine, device=device, threads=threads))
    out = out or model
    check_writable(out)
    with ProgressBar(quiet=quiet) as progress:
        change = update_model(before, images, training_images=training_images, progress=progress)
    save_change([before], change, out, replaced=model, quiet=quiet)
