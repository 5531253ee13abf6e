"""`blemish inspect`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from blemish.cli.options import PATH, pictures_option, quiet_option, rate_options, report_failures
from blemish.cli.progress import ProgressBar
from blemish.errors import DatasetError
from blemish.images import list_images
from blemish.inspection import inspect_images
from blemish.model import load_model
from blemish.results import COLUMNS, ResultsFolder, csv_line, model_facts, record_of

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
    quiet: bool,
) -> None:
    """Judge IMAGES (files or folders) by a MODEL.

    Files that cannot be read are listed, the rest is still inspected, and the exit status is 1.

    \b
    Example:
        blemish inspect bottle.blemish new/ --out results/
    """  # noqa: D301
    loaded = load_model(model)
    named, not_images = find_images(images)
    threshold = loaded.threshold(false_alarm_rate)
    folder = None
    if out is not None:
        folder = ResultsFolder(
            out, loaded, title=model.stem, threshold=threshold, pictures=pictures
        )
    say = _printer(as_json=as_json, as_csv=as_csv, quiet=quiet or out is not None)
    errors: list[str] = []
    anomalous = 0
    with ProgressBar(quiet=quiet) as progress:
        found = inspect_images(
            loaded,
            [path for path, _ in named],
            false_alarm_rate=false_alarm_rate,
            progress=progress,
        )
        for (_, name), one in zip(named, found, strict=True):
            if folder is not None:
                folder.add(name, one)
            say(record_of(name, one))
            if one.decision is None:
                errors.append(str(one.error))
            else:
                anomalous += one.decision.is_anomalous
    if folder is not None:
        report = folder.finish(not_images=not_images, facts=model_facts(loaded, threshold))
        click.echo(f"Report: {report}", err=as_json or as_csv)
    if not quiet:
        click.echo(
            f"{len(named) - len(errors)} images inspected: {anomalous} anomalous. "
            f"{len(errors)} could not be read; {not_images} other files are no images.",
            err=True,
        )
    report_failures(errors)
    if exit_code and anomalous:
        raise click.exceptions.Exit(ANOMALOUS_STATUS)


def find_images(places: Sequence[Path]) -> tuple[list[tuple[Path, str]], int]:
    """Images of files and folders with the names to show, and the number of other files.

    A file keeps its name, an image in a folder its path below the folder; where two would be
    called the same, all are called by their path below the folder common to all. An image given
    twice is one.
    """
    found: list[tuple[Path, str]] = []
    others = 0
    for place in places:
        if place.is_dir():
            paths, count = list_images(place)
            others += count
            found += [(path, path.relative_to(place).as_posix()) for path in paths]
        else:
            found.append((place, place.name))
    if not found:
        raise DatasetError(
            f"There must be images in {', '.join(map(str, places))}, but there are none "
            f"({others} other files). Name another folder."
        )
    places_of = {_absolute(path): (path, name) for path, name in found}
    if len({name for _, name in places_of.values()}) < len(places_of):
        common = os.path.commonpath([place.parent for place in places_of])
        return [
            (path, place.relative_to(common).as_posix()) for place, (path, _) in places_of.items()
        ], others
    return list(places_of.values()), others


def _absolute(path: Path) -> Path:
    """Whole path without "..", links not followed: two links to a file are two images."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _printer(*, as_json: bool, as_csv: bool, quiet: bool) -> Callable[[dict[str, object]], None]:
    """How a record is printed, as soon as it is there."""

    def people(record: dict[str, object]) -> None:
        if record["decision"] is not None:
            click.echo(f"{record['decision']:<9}  {record['score']:10.4f}  {record['image']}")

    if as_json:
        return lambda record: click.echo(json.dumps(record))
    if as_csv:
        click.echo(csv_line(COLUMNS), nl=False)
        return lambda record: click.echo(csv_line(record.values()), nl=False)
    return (lambda _: None) if quiet else people
