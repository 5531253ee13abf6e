"""`blemish inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import click

from blemish.cli.options import (
    PATH,
    engine_for,
    engine_options,
    model_at,
    pictures_option,
    quiet_option,
    rate_options,
    region_options,
    report_failures,
    results_folder,
    warn_of_threshold,
)
from blemish.cli.progress import ProgressBar
from blemish.cli.sources import (
    Place,
    SourceOptions,
    ended_by_signals,
    named_source,
    source_options,
)
from blemish.descriptions import model_facts
from blemish.errors import AlignmentError, CameraError
from blemish.inspection import Inspected, inspect_source
from blemish.model import load_model
from blemish.results import COLUMNS, ResultsFolder, csv_line, csv_row, record_of
from blemish.sources import ImageSource

ANOMALOUS_STATUS = 3


@click.command()
@click.argument("model", type=PATH)
@click.argument("images", type=Place(), nargs=-1)
@source_options
@click.option("--out", "-o", type=PATH, help="Folder for results.csv, pictures and report.html.")
@pictures_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image, a line each.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV instead of a table for people.")
@click.option(
    "--exit-code", is_flag=True, help=f"Exit with {ANOMALOUS_STATUS} if an image is anomalous."
)
@rate_options
@region_options
@engine_options
@quiet_option
def inspect(
    *,
    model: Path,
    images: tuple[Path | str, ...],
    camera: int | str | None,
    follow: bool,
    every: int,
    idle_timeout: float | None,
    reconnects: int | None,
    out: Path | None,
    pictures: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    exit_code: bool,
    operating_point: str | None,
    false_alarm_rate: float | None,
    min_area: tuple[float, str] | None,
    max_regions: int | None,
    mm_per_pixel: float | None,
    engine: str,
    device: str,
    precision: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Judge IMAGES (files, folders, videos or the address of a camera) by a MODEL.

    Files that cannot be read are listed, the rest is still inspected, and the exit status is 1.
    Ctrl-C ends a camera, or a folder that is followed, orderly.

    \b
    Example:
        blemish inspect bottle.blemish new/ --out results/
        blemish inspect bottle.blemish --camera 0 --json
    """  # noqa: D301
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    options = SourceOptions(camera, follow, every, idle_timeout, reconnects)
    named = named_source(images, options, leave_out=out)
    runs = engine_for(
        named.count, engine=engine, device=device, precision=precision, threads=threads
    )
    loaded = model_at(
        load_model(model, runs),
        operating_point=operating_point,
        false_alarm_rate=false_alarm_rate,
        min_area=min_area,
        max_regions=max_regions,
        mm_per_pixel=mm_per_pixel,
    )
    threshold = loaded.threshold(false_alarm_rate)
    warn_of_threshold(loaded, threshold)
    folder = results_folder(out, loaded, title=model.stem, threshold=threshold, pictures=pictures)
    source = named.open(loaded.settings.value_range)
    tally = _Tally(source, _printer(as_json=as_json, as_csv=as_csv), folder, named.others)
    with (
        ProgressBar(quiet=quiet) as progress,
        ended_by_signals(source),
        nullcontext() if folder is None else folder,
    ):
        found = inspect_source(loaded, source, false_alarm_rate=false_alarm_rate, progress=progress)
        tally.add_all(found, quiet=quiet)
    if folder is not None:
        report = folder.finish(not_images=named.others, facts=model_facts(loaded, threshold))
        click.echo(f"Report: {report}", err=as_json or as_csv)
    if not quiet:
        click.echo(tally.summary(), err=True)
    tally.report_failures()
    if exit_code and tally.anomalous:
        raise click.exceptions.Exit(ANOMALOUS_STATUS)


class _Tally:
    """Says and counts what was found. Errors of a live source are said at once, not at its end."""

    def __init__(
        self,
        source: ImageSource,
        say: Callable[[dict[str, object]], None],
        folder: ResultsFolder | None,
        others: int,
    ) -> None:
        self._source, self._say, self._folder, self._others = source, say, folder, others
        self.judged, self.anomalous, self.unreadable, self.unaligned = 0, 0, 0, 0
        self._errors: list[str] = []

    def add_all(self, found: Iterable[Inspected], *, quiet: bool) -> None:
        """Take in all there is; a camera that is lost ends it like the end of a video."""
        try:
            for one in found:
                self._add(one)
        except CameraError as error:
            if not self.judged:
                raise
            self._errors.append(str(error))
        except KeyboardInterrupt:
            if not quiet:
                click.echo(self.summary(), err=True)
            raise

    def _add(self, one: Inspected) -> None:
        self._say(record_of(one.name, one))
        if self._folder is not None:
            self._folder.add(one.name, one)
        if one.decision is not None:
            self.judged += 1
            self.anomalous += one.decision.is_anomalous
            return
        if isinstance(one.error, AlignmentError):
            self.unaligned += 1
        else:
            self.unreadable += 1
        if self._source.is_live:
            click.echo(f"Error: {one.error}", err=True)
        else:
            self._errors.append(str(one.error))

    def summary(self) -> str:
        """One line on what became of the images."""
        unaligned = f"{self.unaligned} not aligned, " if self.unaligned else ""
        text = (
            f"Inspected {self.judged} of {self.judged + self.unaligned + self.unreadable} images: "
            f"{self.anomalous} anomalous, {unaligned}{self.unreadable} unreadable; "
        )
        if self._source.is_live:
            counts = self._source.counts
            return f"{text}{counts.dropped} dropped, {counts.reconnects} reconnects."
        return f"{text}{self._others} other files are no images."

    def report_failures(self) -> None:
        """List what failed and was not said yet, and exit with status 1 if anything did."""
        report_failures(self._errors)
        if self.unreadable:
            raise click.exceptions.Exit(1)


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
        return lambda record: click.echo(csv_line(csv_row(record)), nl=False)
    return people
