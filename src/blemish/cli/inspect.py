"""`blemish inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from blemish.cli.names import absolute, unique_names
from blemish.cli.options import (
    PATH,
    engine_for,
    engine_options,
    pictures_option,
    quiet_option,
    rate_options,
    report_failures,
    results_folder,
    warn_of_threshold,
)
from blemish.cli.progress import ProgressBar
from blemish.descriptions import model_facts
from blemish.errors import DatasetError
from blemish.images import list_images
from blemish.inspection import inspect_images
from blemish.model import load_model
from blemish.results import COLUMNS, csv_line, record_of

ANOMALOUS_STATUS = 3


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--out", "-o", type=PATH, help="Folder for results.csv, pictures and report.html.")
@pictures_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image, a line each.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV instead of a table for people.")
@click.option(
    "--exit-code", is_flag=True, help=f"Exit with {ANOMALOUS_STATUS} if an image is anomalous."
)
@rate_options
@engine_options
@quiet_option
def inspect(
    *,
    model: Path,
    images: tuple[Path, ...],
    out: Path | None,
    pictures: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    exit_code: bool,
    false_alarm_rate: float | None,
    engine: str,
    device: str,
    precision: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Judge IMAGES (files or folders) by a MODEL.

    Files that cannot be read are listed, the rest is still inspected, and the exit status is 1.

    \b
    Example:
        blemish inspect bottle.blemish new/ --out results/
    """  # noqa: D301
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    named, not_images = find_images(images, leave_out=out)
    runs = engine_for(
        len(named), engine=engine, device=device, precision=precision, threads=threads
    )
    loaded = load_model(model, runs)
    threshold = loaded.threshold(false_alarm_rate)
    warn_of_threshold(loaded, threshold)
    folder = results_folder(out, loaded, title=model.stem, threshold=threshold, pictures=pictures)
    say = _printer(as_json=as_json, as_csv=as_csv)
    errors: list[str] = []
    anomalous = 0
    with ProgressBar(quiet=quiet) as progress, nullcontext() if folder is None else folder:
        found = inspect_images(
            loaded,
            [path for path, _ in named],
            false_alarm_rate=false_alarm_rate,
            progress=progress,
        )
        for (_, name), one in zip(named, found, strict=True):
            say(record_of(name, one))
            if folder is not None:
                folder.add(name, one)
            if one.decision is None:
                errors.append(str(one.error))
            else:
                anomalous += one.decision.is_anomalous
    if folder is not None:
        report = folder.finish(not_images=not_images, facts=model_facts(loaded, threshold))
        click.echo(f"Report: {report}", err=as_json or as_csv)
    if not quiet:
        click.echo(
            f"Inspected {len(named) - len(errors)} of {len(named)} images: {anomalous} anomalous, "
            f"{len(errors)} unreadable; {not_images} other files are no images.",
            err=True,
        )
    report_failures(errors)
    if exit_code and anomalous:
        raise click.exceptions.Exit(ANOMALOUS_STATUS)


def find_images(
    places: Sequence[Path], *, leave_out: Path | None = None
) -> tuple[list[tuple[Path, str]], int]:
    """Images of files and folders with the names to show, and the number of other files.

    Pictures in `leave_out`, the folder of results, are left out.
    """
    found: list[tuple[Path, Path]] = []
    others = 0
    for place in places:
        if place.is_dir():
            paths, count = list_images(place)
            others += count
            found += [(path, place) for path in paths]
        else:
            found.append((place, place.parent))
    if leave_out is not None and leave_out.is_dir():
        results = absolute(leave_out)
        if any(results.is_relative_to(absolute(place)) for place in places):
            others -= list_images(leave_out)[1]
        found = [each for each in found if not absolute(each[0]).is_relative_to(results)]
    if not found:
        raise DatasetError(
            f"There must be images in {', '.join(map(str, places))}, but there are none "
            f"({others} other files). Name another folder."
        )
    return unique_names(found), others


def _printer(*, as_json: bool, as_csv: bool) -> Callable[[dict[str, object]], None]:
    """How a record is printed, as soon as it is there."""

    def people(record: dict[str, object]) -> None:
        name = "".join(c if c.isprintable() else "?" for c in str(record["image"]))
        if record["decision"] is not None:
            click.echo(f"{record['decision']:<9}  {record['score']:10.4f}  {name}")

    if as_json:
        return lambda record: click.echo(json.dumps(record))
    if as_csv:
        click.echo(csv_line(COLUMNS), nl=False)
        return lambda record: click.echo(csv_line(record.values()), nl=False)
    return people
