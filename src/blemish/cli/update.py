"""`blemish update`."""

from __future__ import annotations

from pathlib import Path

import click

from blemish.cli.options import (
    PATH,
    change_model,
    device_options,
    quiet_option,
    training_images_option,
)
from blemish.engines.engine import EngineSettings
from blemish.lifecycle.steps import update as update_model


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
    change_model(
        model,
        lambda before, progress: update_model(
            before, images, training_images=training_images, progress=progress
        ),
        out=out,
        runs=EngineSettings(engine=engine, device=device, threads=threads),
        quiet=quiet,
    )
