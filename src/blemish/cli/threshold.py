"""`blemish threshold`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from blemish.cli.options import (
    PATH,
    RATE,
    Numbers,
    data_options,
    quiet_option,
    region_options,
)
from blemish.cli.progress import ProgressBar
from blemish.descriptions import point_lines
from blemish.operating_points import OperatingPoints
from blemish.point_files import LabelledChoice, PointFile, new_point, open_points
from blemish.threshold_choice import BY_COST, BY_F1

_OF_A_POINT = (
    *("false_alarm_rate", "value", "labelled", "pixel_false_alarm_rate", "pixel_value"),
    *("min_area", "max_regions", "mm_per_pixel"),
)


@click.command()
@click.argument("model", type=PATH)
@click.option("--name", help="Operating point to set or to change, strict for example.")
@click.option("--false-alarm-rate", type=RATE, help="Set it by this share of good images.")
@click.option("--value", type=float, help="Set it to this image score.")
@click.option("--labelled", type=PATH, help="Set it by labelled images, good and defective.")
@click.option(
    "--cost",
    type=Numbers(":", 2, float),
    help="With --labelled: for the least cost; of a false alarm and of a miss, as 1:50.",
)
@click.option("--best", type=click.Choice([BY_F1]), help="With --labelled: for the largest F1.")
@click.option(
    "--defect-share",
    type=RATE,
    help="With --labelled: share of defective parts to expect. Default for F1: as labelled.",
)
@click.option("--pixel-false-alarm-rate", type=RATE, help="Its pixel threshold, by this rate.")
@click.option("--pixel-value", type=float, help="Its pixel threshold, as this map value.")
@region_options
@click.option("--remove", help="Operating point to remove.")
@click.option("--default", help="Operating point to use unless another is named.")
@click.option("--out", "-o", type=PATH, help="Where to write. Default: MODEL itself, in one step.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@data_options
@quiet_option
def threshold(
    *,
    model: Path,
    name: str | None,
    false_alarm_rate: float | None,
    value: float | None,
    labelled: Path | None,
    cost: tuple[float, float] | None,
    best: str | None,
    defect_share: float | None,
    pixel_false_alarm_rate: float | None,
    pixel_value: float | None,
    min_area: tuple[float, str] | None,
    max_regions: int | None,
    mm_per_pixel: float | None,
    remove: str | None,
    default: str | None,
    out: Path | None,
    as_json: bool,
    layout: str | None,
    category: str | None,
    quiet: bool,
) -> None:
    """List the operating points of a MODEL (or of the folder of an export), set and remove them.

    Nothing is fitted or exported anew. Images that chose a threshold say nothing about how good it
    is: its errors are estimated by cross-validation, and others are needed to measure the model.

    \b
    Example:
        blemish threshold bottle.blemish
        blemish threshold bottle.blemish --name strict --false-alarm-rate 0.001
        blemish threshold bottle.blemish --name cheap --labelled rejects --cost 1:50 --defect-share 0.01
    """  # noqa: D301, E501
    choice = _choice(labelled, cost, best, defect_share, layout, category)
    if name is None and (given := _given(_OF_A_POINT)):
        raise click.UsageError(f"{', '.join(given)} must go with --name, the operating point.")
    changes = (name, remove, default) != (None, None, None)
    if out is not None and not changes:
        raise click.UsageError("--out must go with a change: --name, --remove or --default.")
    file = open_points(model)
    points = file.points
    if name is not None:
        with ProgressBar(quiet=quiet) as progress:
            point = new_point(
                file,
                name,
                false_alarm_rate=false_alarm_rate,
                value=value,
                labelled=choice,
                pixel_false_alarm_rate=pixel_false_alarm_rate,
                pixel_value=pixel_value,
                min_area=min_area,
                max_regions=max_regions,
                mm_per_pixel=mm_per_pixel,
                progress=progress,
            )
        points = points.with_point(point)
    points = points if remove is None else points.without(remove)
    points = points if default is None else points.with_default(default)
    if changes:
        file.write(points, out)
    _say(file, points, as_json=as_json)
    if labelled is not None and not quiet:
        click.echo(
            f"The images of {labelled} have chosen a threshold: measure the model on others.",
            err=True,
        )
    if changes and not quiet:
        click.echo(f"Wrote {out or model}.", err=True)


def _choice(
    labelled: Path | None,
    cost: tuple[float, float] | None,
    best: str | None,
    defect_share: float | None,
    layout: str | None,
    category: str | None,
) -> LabelledChoice | None:
    """What --labelled and the options that go with it ask for."""
    if labelled is None:
        if given := _given(("cost", "best", "defect_share", "layout", "category")):
            raise click.UsageError(f"{', '.join(given)} must go with --labelled.")
        return None
    if (cost is None) == (best is None):
        raise click.UsageError("--labelled needs either --cost or --best.")
    return LabelledChoice(
        folder=labelled,
        kind=BY_F1 if cost is None else BY_COST,
        costs=cost or (1.0, 1.0),
        defect_share=defect_share,
        layout=layout,
        category=category,
    )


def _given(names: Sequence[str]) -> list[str]:
    """Options among these that stand on the command line."""
    context = click.get_current_context()
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]


def _say(file: PointFile, points: OperatingPoints, *, as_json: bool) -> None:
    """List the points, and warn of those that never raise an alarm."""
    if as_json:
        described = [file.describe(point) for point in points]
        click.echo(json.dumps({"default": points.default, "points": described}, indent=2))
    else:
        width = max(len(point.name) for point in points)
        for point in points:
            first, *others = point_lines(point, file.calibration)
            click.echo(f"{point.name:<{width}}  {first}")
            for line in others:
                click.echo(f"{'':<{width}}  {line}")
        click.echo(f"Used unless another one is named: {points.default}.")
    for point in points:
        if warning := file.never_reached(point):
            click.echo(f"Warning: {point.name}: {warning}", err=True)
