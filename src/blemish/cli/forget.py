"""`blemish forget`."""

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
from blemish.lifecycle.steps import forget as forget_images


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", type=PATH)
@click.option("--out", "-o", type=PATH, help="Model file to write. Default: MODEL is replaced.")
@training_images_option
@device_options
@quiet_option
def forget(
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
    """Take a folder of IMAGES out of a MODEL, as if they had never been learned.

    Each must be one that the model was learned from, under whatever name. Thresholds are exact with
    --training-images, or if the model keeps its features; else they are corrected for the number
    of images, until `blemish calibrate` is run.

    \b
    Example:
        blemish forget bottle.blemish should-not-have-been-there/
    """  # noqa: D301
    change_model(
        model,
        lambda before, progress: forget_images(
            before, images, training_images=training_images, progress=progress
        ),
        out=out,
        runs=EngineSettings(engine=engine, device=device, threads=threads),
        quiet=quiet,
    )
