"""`blemish explain`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemish.cli.options import PATH, model_at, quiet_option, rate_options
from blemish.cli.progress import ProgressBar
from blemish.explanation.explaining import explain as explain_image
from blemish.explanation.panels import explanation_picture
from blemish.explanation.words import lines
from blemish.model import load_model
from blemish.visuals import png_bytes
from blemish.writing import check_writable, write_bytes


@click.command()
@click.argument("model", type=PATH)
@click.argument("image", type=PATH)
@click.option("--good", type=PATH, help="Images of good parts to compare with; best those learned.")
@click.option(
    "--anywhere", is_flag=True, help="Look for the most similar good patch at all places."
)
@click.option("--out", "-o", type=PATH, help="PNG file for the picture.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@rate_options
@quiet_option
def explain(
    *,
    model: Path,
    image: Path,
    good: Path | None,
    anywhere: bool,
    out: Path | None,
    as_json: bool,
    operating_point: str | None,
    false_alarm_rate: float | None,
    quiet: bool,
) -> None:
    """Say why an IMAGE got its score from a MODEL: where, by what, how rarely, unlike what.

    \b
    Example:
        blemish explain bottle.blemish new/0042.png --good bottle --out why.png
    """  # noqa: D301
    if out is not None:
        if out.suffix.lower() != ".png":
            raise click.UsageError(f"--out must name a .png file, but is {out}.")
        check_writable(out)
    loaded = model_at(
        load_model(model), operating_point=operating_point, false_alarm_rate=false_alarm_rate
    )
    with ProgressBar(quiet=quiet) as progress:
        found = explain_image(
            loaded,
            image,
            good=good,
            anywhere=anywhere,
            false_alarm_rate=false_alarm_rate,
            progress=progress,
        )
    if out is not None:
        write_bytes(out, png_bytes(explanation_picture(loaded, found)))
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    for line in lines(found):
        click.echo(line)
    if out is not None:
        click.echo(f"Picture: {out}")
