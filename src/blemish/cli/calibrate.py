"""`blemish calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from blemish.cli.options import PATH, change_model, device_options, quiet_option
from blemish.engines.engine import EngineSettings
from blemish.lifecycle.steps import calibrate as calibrate_model


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", type=PATH, required=False)
@click.option("--out", "-o", type=PATH, help="Model file to write. Default: MODEL is replaced.")
@device_options
@quiet_option
def calibrate(
    *,
    model: Path,
    images: Path | None,
    out: Path | None,
    engine: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Make the thresholds of a MODEL exact again, after it was updated or merged.

    IMAGES is the folder of all images that it was learned from; more do no harm. It may be left
    out if the model keeps their features.

    \b
    Example:
        blemish calibrate bottle.blemish parts/bottle/good
    """  # noqa: D301
    change_model(
        model,
        lambda before, progress: calibrate_model(before, images, progress=progress),
        out=out,
        runs=EngineSettings(engine=engine, device=device, threads=threads),
        quiet=quiet,
    )
