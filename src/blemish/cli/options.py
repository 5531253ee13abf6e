"""Parameter types and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from blemish.cli.progress import ProgressBar
from blemish.cores import cores
from blemish.descriptions import change_lines, labelled_note, threshold_text
from blemish.engines.engine import DEVICES, ENGINES, PRECISIONS, EngineSettings
from blemish.errors import OutputError
from blemish.lifecycle.steps import Change
from blemish.model import Model, Progress, load_model, never_reached
from blemish.model_file import checksum_of
from blemish.regions import AREA_UNITS
from blemish.results import PICTURES, ResultsFolder
from blemish.threshold import FIXED, LABELLED, TAIL_BOUND, Threshold
from blemish.writing import check_writable

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
RATE = click.FloatRange(0, 1, min_open=True, max_open=True)
MOST_STREAMS = 16
BATCH, GPU_BATCH, FROM_IMAGES = 4, 16, 64


class Numbers(click.ParamType[Any]):
    """Numbers with a separator, such as 224x320 or 10,20,300,200.

    Parameters
    ----------
    separator : str
    count : int, optional
        How many there must be; None for one or more.
    kind : int or float
    """

    name = "numbers"

    def __init__(
        self, separator: str, count: int | None = None, kind: type[int] | type[float] = int
    ) -> None:
        self.separator, self.count, self.kind = separator, count, kind

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | float, ...]:
        """Text to numbers."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split(self.separator)
        try:
            numbers = tuple(self.kind(part) for part in parts)
        except ValueError:
            numbers = ()
        if not numbers or (self.count is not None and len(numbers) != self.count):
            count = "one or more" if self.count is None else self.count
            self.fail(f"{value!r} is not {count} numbers with {self.separator!r} between them")
        return numbers


class Words(click.ParamType[Any]):
    """Words with commas between them.

    Parameters
    ----------
    allowed : sequence of str, optional
        The only ones.
    or_none : bool
        Whether "none" means no word.
    """

    name = "words"

    def __init__(self, allowed: Sequence[str] | None = None, *, or_none: bool = False) -> None:
        self.allowed, self.or_none = allowed, or_none

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Text to words."""
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in str(value).split(","))
        if self.or_none and words == ("none",):
            return ()
        if not all(words):
            self.fail(f"{value!r} is not words with ',' between them", param, ctx)
        for word in words:
            if self.allowed is not None and word not in self.allowed:
                self.fail(f"{word!r} is not one of {', '.join(self.allowed)}", param, ctx)
        return words


class Seeds(click.ParamType[Any]):
    """Seeds as 0-2 or 0,1,5."""

    name = "seeds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Text to seeds."""
        if isinstance(value, tuple):
            return value
        try:
            if "-" in str(value):
                first, last = (int(part) for part in str(value).split("-"))
                seeds = tuple(range(first, last + 1))
            else:
                seeds = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            seeds = ()
        if not seeds:
            self.fail(f"{value!r} is not seeds such as 0-2 or 0,1,5")
        return seeds


class Area(click.ParamType[Any]):
    """An area with its unit, as 25, 25px or 0.5mm2."""

    name = "area"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, str]:
        """Text to a number and its unit."""
        if isinstance(value, tuple):
            return value
        text = str(value).strip().lower().replace("mm²", "mm2")
        unit = next((unit for unit in AREA_UNITS if text.endswith(unit)), None)
        try:
            return float(text.removesuffix(unit or "")), unit or AREA_UNITS[0]
        except ValueError:
            self.fail(f"{value!r} is not an area such as 25 or 0.5mm2", param, ctx)


def data_options(command: F) -> F:
    """How a folder of images is read."""
    command = click.option("--category", help="Product below the root of a data set.")(command)
    return click.option("--layout", help="Layout of the data set; found by itself unless given.")(
        command
    )


def training_images_option(command: F) -> F:
    """--training-images."""
    return click.option(
        "--training-images",
        type=PATH,
        help="Folder with all images of the model before, for exact thresholds.",
    )(command)


def quiet_option(command: F) -> F:
    """--quiet."""
    return click.option("--quiet", "-q", is_flag=True, help="No progress bars and notes.")(command)


def pictures_option(command: F) -> F:
    """Kinds of pictures to write."""
    return click.option(
        "--pictures",
        type=Words(PICTURES, or_none=True),
        default="five-panel",
        show_default=True,
        help=f"With --out: kinds of {', '.join(PICTURES)}; or none.",
    )(command)


def rate_options(command: F) -> F:
    """Another operating point than the default, or another false-alarm rate."""
    command = click.option(
        "--operating-point", help="Name of one of the model's. Default: its default."
    )(command)
    return click.option(
        "--false-alarm-rate",
        type=RATE,
        help="Share of good images that may be called anomalous. Default: the operating point's.",
    )(command)


def region_options(command: F) -> F:
    """Which regions are told, and in what unit."""
    command = click.option(
        "--mm-per-pixel",
        type=click.FloatRange(0, min_open=True),
        help="Millimetres per pixel of the photos, for areas in mm2.",
    )(command)
    command = click.option(
        "--max-regions",
        type=click.IntRange(1),
        help="At most so many regions per image, largest peak first.",
    )(command)
    return click.option(
        "--min-area",
        type=Area(),
        help="Leave out smaller regions: 25 (pixels of the photo) or 0.5mm2.",
    )(command)


def model_at(
    model: Model,
    *,
    operating_point: str | None,
    false_alarm_rate: float | None,
    min_area: tuple[float, str] | None = None,
    max_regions: int | None = None,
    mm_per_pixel: float | None = None,
) -> Model:
    """Model as it is to be used: at an operating point, telling regions as asked for."""
    if operating_point is not None and false_alarm_rate is not None:
        raise click.UsageError("--operating-point and --false-alarm-rate exclude each other.")
    regions = model.operating_points.get(operating_point).regions.changed(
        min_area=min_area, max_regions=max_regions, mm_per_pixel=mm_per_pixel
    )
    return model.at(operating_point, regions)


def engine_options(command: F) -> F:
    """How a model is run: engine, device, precision and threads."""
    command = click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=PRECISIONS[0],
        show_default=True,
        help="Of the arithmetic; auto: bf16 where it is faster and harmless.",
    )(command)
    return device_options(command)


def device_options(command: F) -> F:
    """What runs the network, where, and on how many threads."""
    for name, choices, text in (
        ("device", DEVICES, "Where the engine torch runs; auto: a GPU if there is one."),
        ("engine", ENGINES, "What runs the network; torch needs blemish[torch]."),
    ):
        kind = click.Choice(choices)
        default = choices[0]
        command = click.option(
            f"--{name}", type=kind, default=default, show_default=True, help=text
        )(command)
    return click.option("--threads", type=click.IntRange(1), help="CPU threads. Default: all.")(
        command
    )


def engine_for(
    images: int, *, engine: str, device: str, precision: str, threads: int | None
) -> EngineSettings:
    """Engine that goes through so many images fastest: a stream per CPU, batches if there are many.

    A batch has its own compiled graph, which pays from some images on.
    """
    used = threads or cores()
    return EngineSettings(
        engine=engine,
        device=device,
        precision=precision,
        threads=threads,
        streams=2 if engine == "torch" else 1 if images == 1 else min(used, MOST_STREAMS),
        batch=GPU_BATCH if engine == "torch" else BATCH if images >= FROM_IMAGES else 1,
    )


def results_folder(
    out: Path | None, model: Model, *, title: str, threshold: Threshold, pictures: Sequence[str]
) -> ResultsFolder | None:
    """Folder of results if --out is given; --pictures without it is wrong usage."""
    if out is not None:
        return ResultsFolder(out, model, title=title, threshold=threshold, pictures=pictures)
    source = click.get_current_context().get_parameter_source("pictures")
    if source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--pictures needs --out, the folder to write them to.")
    return None


def change_model(
    path: Path,
    step: Callable[[Model, Progress], Change],
    *,
    out: Path | None,
    runs: EngineSettings,
    quiet: bool,
) -> None:
    """Read a model, take a step in its life, and write it: to `out`, or in place of what was read.

    Raises
    ------
    OutputError
        As `save_change`.
    """
    before = load_model(path, runs)
    place = out or path
    check_writable(place)
    with ProgressBar(quiet=quiet) as progress:
        change = step(before, progress)
    save_change([before], change, place, replaced=path, quiet=quiet)


def save_change(
    before: Sequence[Model], change: Change, out: Path, *, replaced: Path | None, quiet: bool
) -> None:
    """Write a changed model, and say what is unlike the models before.

    Raises
    ------
    OutputError
        `replaced`, the file the model was read from, is another one by now: another command has
        changed it, and its work must not be lost.
    """
    if out == replaced and checksum_of(out) != before[0].identity:
        raise OutputError(
            f"{out} must be as it was read to be replaced, but something has changed it since. "
            "Run the command again, or name another file with --out."
        )
    change.model.save(out)
    if not quiet:
        for line in change_lines(before, change):
            click.echo(line)
        click.echo(f"Wrote {out}.")


def warn_of_threshold(model: Model, threshold: Threshold) -> None:
    """Say so if a threshold is a fallback, older than the model, or cannot be reached at all."""
    point = model.operating_points.get()
    if not model.can_alarm(threshold):
        click.echo(f"Warning: {never_reached(model, threshold)}", err=True)
    elif threshold.method == TAIL_BOUND:
        click.echo(f"Warning: threshold {threshold_text(threshold)}.", err=True)
    elif threshold.method in (LABELLED, FIXED) and point.is_older_than(model.calibration):
        click.echo(
            f"Warning: the operating point {point.name} is older than the model, which has changed "
            "since. Set it anew: blemish threshold.",
            err=True,
        )


def warn_of_labels(model: Model, threshold: Threshold) -> None:
    """Say so if labelled images chose the threshold that is to be measured."""
    if note := labelled_note(model, threshold):
        click.echo(f"Warning: {note}", err=True)


def report_failures(reasons: Sequence[str]) -> None:
    """List what failed while the rest went on, and exit with status 1; nothing if none did."""
    for reason in reasons:
        click.echo(f"Error: {reason}", err=True)
    if reasons:
        raise click.exceptions.Exit(1)
