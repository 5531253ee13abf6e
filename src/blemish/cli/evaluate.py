"""`blemish evaluate`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import click

from blemish.arrays import BoolArray
from blemish.cli.names import absolute, unique_names
from blemish.cli.options import (
    PATH,
    data_options,
    engine_for,
    engine_options,
    model_at,
    pictures_option,
    quiet_option,
    rate_options,
    report_failures,
    results_folder,
    warn_of_labels,
    warn_of_threshold,
)
from blemish.cli.progress import ProgressBar
from blemish.datasets import Sample, read_dataset
from blemish.descriptions import evaluation_lines, model_facts
from blemish.evaluation import evaluate as evaluate_model
from blemish.inspection import Inspected
from blemish.model import load_model


@click.command()
@click.argument("model", type=PATH)
@click.argument("data", type=PATH)
@click.option("--out", "-o", type=PATH, help="Folder for results.csv, pictures and report.html.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@pictures_option
@data_options
@click.option(
    "--clip-smoothing",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="For frame metrics: smooth each clip's scores; standard deviation in frames.",
)
@click.option("--clip-scaling", is_flag=True, help="For them: scale each clip's scores to 0..1.")
@rate_options
@engine_options
@quiet_option
def evaluate(
    *,
    model: Path,
    data: Path,
    out: Path | None,
    pictures: tuple[str, ...],
    as_json: bool,
    layout: str | None,
    category: str | None,
    clip_smoothing: float,
    clip_scaling: bool,
    operating_point: str | None,
    false_alarm_rate: float | None,
    engine: str,
    device: str,
    precision: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Measure a MODEL on the labelled test images of DATA.

    The threshold is the model's own, from its training images unless an operating point says
    otherwise; the labels of DATA are never used to choose it.

    \b
    Example:
        blemish evaluate bottle.blemish datasets/mvtec/bottle --json
    """  # noqa: D301
    samples = read_dataset(data, split="test", layout=layout, category=category)
    runs = engine_for(
        len(samples), engine=engine, device=device, precision=precision, threads=threads
    )
    loaded = model_at(
        load_model(model, runs), operating_point=operating_point, false_alarm_rate=false_alarm_rate
    )
    if not quiet:
        good = sum(not sample.is_anomalous for sample in samples)
        click.echo(f"Test images: {good} good, {len(samples) - good} anomalous.", err=True)
    threshold = loaded.threshold(false_alarm_rate)
    warn_of_threshold(loaded, threshold)
    warn_of_labels(loaded, threshold)
    folder = results_folder(out, loaded, title=model.stem, threshold=threshold, pictures=pictures)
    failed: list[str] = []

    root = data if data.is_dir() else data.parent
    named = unique_names([(sample.image, root) for sample in samples])
    names = {absolute(path): name for path, name in named}

    def collect(sample: Sample, found: Inspected, mask: BoolArray | None) -> None:
        if found.error is not None:
            failed.append(str(found.error))
        if folder is not None:
            folder.add(names[absolute(sample.image)], found, label=sample.defect, truth=mask)

    with ProgressBar(quiet=quiet) as progress, nullcontext() if folder is None else folder:
        result = evaluate_model(
            loaded,
            samples,
            false_alarm_rate=false_alarm_rate,
            clip_smoothing=clip_smoothing,
            clip_scaling=clip_scaling,
            progress=progress,
            on_image=collect,
        )
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        click.echo("\n".join(evaluation_lines(result)))
    if folder is not None:
        report = folder.finish(evaluation=result, facts=model_facts(loaded, threshold))
        click.echo(f"Report: {report}", err=as_json)
    report_failures(failed)
