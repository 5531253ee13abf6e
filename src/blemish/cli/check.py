"""`blemish check`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemish.cli.names import unique_names
from blemish.cli.options import PATH, data_options, device_options, quiet_option
from blemish.cli.progress import ProgressBar
from blemish.datasets import read_dataset
from blemish.engines.engine import EngineSettings
from blemish.model import load_model
from blemish.training_check.check import check_lines, check_training
from blemish.training_check.report import write_check


@click.command()
@click.argument("images", type=PATH)
@click.option("--model", "-m", type=PATH, help="Model that scores them: of a fit of these images.")
@click.option("--out", "-o", type=PATH, help="Folder for check.csv and check.html with pictures.")
@click.option("--scores/--no-scores", default=True, help="Without --model: learn one to score by.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@data_options
@device_options
@quiet_option
def check(
    *,
    images: Path,
    model: Path | None,
    out: Path | None,
    scores: bool,
    as_json: bool,
    layout: str | None,
    category: str | None,
    engine: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Name suspicious images among those to learn from: look at them before a fit, or after.

    Images unlike the others, copies, blurred ones, badly lit ones, those of another size, each with
    the value that was measured and the limit that it is beyond. Without --model a model with the
    builtin backbone is learned to score them.

    \b
    Example:
        blemish check parts/bottle/good --out look
        blemish check parts/bottle/good --model bottle.blemish
    """  # noqa: D301
    samples = read_dataset(images, split="train", layout=layout, category=category)
    root = images if images.is_dir() else images.parent
    named = unique_names([(sample.image, root) for sample in samples])
    settings = EngineSettings(engine=engine, device=device, threads=threads)
    paths = [path for path, _ in named]
    with ProgressBar(quiet=quiet) as progress:
        found = check_training(
            paths,
            model=None if model is None else load_model(model, settings),
            scores=scores,
            names=[name for _, name in named],
            engine=settings,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        click.echo("\n".join(check_lines(found)))
    if out is not None:
        page = write_check(out, found, paths, title=str(images))
        click.echo(f"Report: {page}", err=as_json)
