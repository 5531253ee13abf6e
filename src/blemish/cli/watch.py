"""`blemish watch`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from blemish.cli.options import (
    PATH,
    Words,
    engine_for,
    engine_options,
    quiet_option,
    report_failures,
)
from blemish.cli.progress import ProgressBar
from blemish.cli.sources import ended_by_signals
from blemish.drift.alarm import Alarm
from blemish.drift.images import (
    ORDERS,
    NewImages,
    Order,
    Place,
    Watched,
    caveats,
    images_to_watch,
    latest,
    load_state,
    save_state,
    watch_images,
    watch_of,
)
from blemish.drift.report import Course, watch_facts, write_watch_report
from blemish.drift.watch import DEFAULT_FALSE_ALARMS_PER, Watch
from blemish.model import Model, load_model
from blemish.sources import FolderSource, ImageList, ImageSource
from blemish.writing import check_writable

ALARM_STATUS = 3
_SAVE_EVERY = 100  # images


@click.command()
@click.argument("model", type=PATH)
@click.argument("folder", type=PATH)
@click.option(
    "--by",
    "order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="Order of the images: their names, or when the files were written.",
)
@click.option("--follow", is_flag=True, help="Go on with images that the folder gets, by time.")
@click.option(
    "--idle-timeout",
    type=click.FloatRange(0, min_open=True),
    help="With --follow: end after so many seconds without a new image.",
)
@click.option(
    "--false-alarms-per",
    type=click.IntRange(1),
    default=DEFAULT_FALSE_ALARMS_PER,
    show_default=True,
    help="Images in which at most one false alarm is to be expected.",
)
@click.option("--state", type=PATH, help="JSON file to go on from, and to save to.")
@click.option(
    "--acknowledge",
    type=Words(),
    help="With --state: statistics to test again after an alarm, or all.",
)
@click.option("--out", "-o", type=PATH, help="HTML page to write: the course of all statistics.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per alarm, a line each.")
@click.option("--exit-code", is_flag=True, help=f"Exit with {ALARM_STATUS} if an alarm is open.")
@engine_options
@quiet_option
def watch(
    *,
    model: Path,
    folder: Path,
    order: Order,
    follow: bool,
    idle_timeout: float | None,
    false_alarms_per: int,
    state: Path | None,
    acknowledge: tuple[str, ...] | None,
    out: Path | None,
    as_json: bool,
    exit_code: bool,
    engine: str,
    device: str,
    precision: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Compare the images of a FOLDER, in order, with those that a MODEL was fitted on.

    An alarm says which statistic moved, how far, since when, and what to check. With --state, only
    images after the last one that was watched are looked at, and an alarm stays open until it is
    acknowledged.

    \b
    Example:
        blemish watch bottle.blemish line3/ --state line3.json --out line3.html
    """  # noqa: D301
    if acknowledge and state is None:
        raise click.UsageError("--acknowledge needs --state, where the alarms are.")
    if idle_timeout is not None and not follow:
        raise click.UsageError("--idle-timeout needs --follow.")
    for path in (state, out):
        if path is not None:
            check_writable(path)
    count = 1 if follow else len(images_to_watch(folder, order)[0])
    runs = engine_for(count, engine=engine, device=device, precision=precision, threads=threads)
    loaded = load_model(model, runs)
    watching = watch_of(loaded, false_alarms_per=false_alarms_per)
    last = load_state(watching, state) if state is not None and state.exists() else None
    if acknowledge:
        watching.acknowledge(None if acknowledge == ("all",) else acknowledge)
    run = _Run(watching, loaded, state, last, as_json=as_json, quiet=quiet)
    if follow:
        live = FolderSource(
            folder, idle_timeout=idle_timeout, value_range=loaded.settings.value_range
        )
        run.go(NewImages(live, last))
    else:
        images, passed_over = images_to_watch(folder, order, last)
        run.go(ImageList([p for p, _ in images], [n for _, n in images]), passed_over)
    if out is not None:
        run.write(out, title=f"{folder.resolve().name} by {model.name}")
    report_failures(run.errors)
    if exit_code and watching.open_alarms:
        raise click.exceptions.Exit(ALARM_STATUS)


class _Run:
    """Goes through a source; says alarms as they come, and keeps the state."""

    def __init__(
        self,
        watching: Watch,
        model: Model,
        state: Path | None,
        last: Place | None,
        *,
        as_json: bool,
        quiet: bool,
    ) -> None:
        self._watch, self._model, self._state, self._last = watching, model, state, last
        self._as_json, self._quiet = as_json, quiet
        self._course, self._alarms = Course(), list(watching.open_alarms.values())
        self._seen, self._live = 0, False
        self.errors: list[str] = []
        if not quiet:
            for text in caveats(watching, model):
                click.echo(f"Note: {text}", err=True)
            for alarm in self._alarms:
                click.echo(f"Open: {_line(alarm)}", err=True)

    def go(self, source: ImageSource, passed_over: int = 0) -> None:
        """Watch all images; the state is saved even if this is interrupted."""
        self._live = source.is_live
        try:
            with ProgressBar(quiet=self._quiet) as progress, ended_by_signals(source):
                for one in watch_images(self._watch, self._model, source, progress=progress):
                    self._add(one)
        finally:
            self._save()
        if not self._quiet:
            click.echo(
                f"Watched {self._seen} images ({len(self.errors)} unreadable, {passed_over} passed "
                f"over as watched before). Open alarms: {len(self._watch.open_alarms)}. At most "
                f"one false alarm is to be expected in {self._watch.false_alarms_per:,} images.",
                err=True,
            )

    def write(self, out: Path, *, title: str) -> None:
        """Write the page; one of before is left as it is if nothing new was seen."""
        if self._seen == 0 and out.exists():
            click.echo(f"No new images: {out} is left as it is.", err=self._as_json)
            return
        write_watch_report(
            out,
            self._course,
            title=title,
            statistics=self._watch.statistics,
            alarms=self._alarms,
            facts=watch_facts(self._watch),
        )
        click.echo(f"Report: {out}", err=self._as_json)

    def _add(self, one: Watched) -> None:
        self._last = latest(self._last, one.place, live=self._live)
        if one.error is not None:
            self.errors.append(str(one.error))
            return
        self._seen += 1
        self._course.add(self._watch)
        for alarm in one.alarms:
            self._alarms.append(alarm)
            click.echo(json.dumps(alarm.as_json()) if self._as_json else _line(alarm))
        if one.alarms or self._seen % _SAVE_EVERY == 0:
            self._save()

    def _save(self) -> None:
        if self._state is not None:
            save_state(self._watch, self._state, self._last)


def _line(alarm: Alarm) -> str:
    name = "".join(c if c.isprintable() else "?" for c in alarm.image)
    return f"Image {alarm.number} ({name}): {alarm.text}."
