"""`blemish merge`."""

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
from blemish.lifecycle.steps import merge as merge_models
from blemish.model import load_model
from blemish.writing import check_writable


@click.command()
@click.argument("models", nargs=-1, required=True, type=PATH)
@click.option("--out", "-o", type=PATH, required=True, help="Model file to write.")
@training_images_option
@device_options
@quiet_option
def merge(
    *,
    models: tuple[Path, ...],
    out: Path,
    training_images: Path | None,
    engine: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Put MODELS of one product together, without their images.

    They must have the same settings and kept channels: fit the first as usual, and the others with
    `blemish fit --like FIRST`. Scores are those of one fit on all images. Thresholds are exact with
    --training-images, or if all models keep their features; else the models' calibrations are
    combined, until `blemish calibrate` is run.

    \b
    Example:
        blemish merge line1.blemish line2.blemish --out bottle.blemish
    """  # noqa: D301
    runs = EngineSettings(engine=engine, device=device, threads=threads)
    before = [load_model(model, runs) for model in models]
    check_writable(out)
    with ProgressBar(quiet=quiet) as progress:
        change = merge_models(before, training_images=training_images, progress=progress)
    save_change(before, change, out, replaced=None, quiet=quiet)
