"""`blemish demo`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from blemish.arrays import BoolArray
from blemish.cli.options import PATH, quiet_option
from blemish.cli.progress import ProgressBar
from blemish.datasets import Sample
from blemish.descriptions import evaluation_lines, threshold_text
from blemish.errors import OutputError
from blemish.evaluation import Evaluation, evaluate
from blemish.fitting import fit
from blemish.generated import PRODUCTS, write_product
from blemish.inspection import Inspected
from blemish.model import Model
from blemish.results import ResultsFolder
from blemish.writing import write_bytes

_NOTE = "generated.json"


@click.command()
@click.option(
    "--out", "-o", type=PATH, default=Path("blemish-demo"), show_default=True, help="To write to."
)
@click.option(
    "--product",
    type=click.Choice(sorted(PRODUCTS)),
    default="plate",
    show_default=True,
    help="What to draw.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the images.")
@click.option(
    "--train", type=click.IntRange(3), default=120, show_default=True, help="Good images."
)
@click.option("--good", type=click.IntRange(1), default=20, show_default=True, help="Test images.")
@click.option(
    "--defective", type=click.IntRange(1), default=10, show_default=True, help="Per defect."
)
@click.option(
    "--open/--no-open", "show", default=True, help="Open the report if there is a display."
)
@quiet_option
def demo(
    *,
    out: Path,
    product: str,
    seed: int,
    train: int,
    good: int,
    defective: int,
    show: bool,
    quiet: bool,
) -> None:
    """See it work: generate a PRODUCT, learn it from good images, find the defects.

    Nothing is downloaded. A second run uses the images of the first.
    """
    say = _silent if quiet else click.echo
    folder = out / product
    wanted = {"seed": seed, "train": train, "good": good, "defective": defective}
    with ProgressBar(quiet=quiet) as progress:
        if _generated(folder, wanted):
            say(f"Images of the product {product!r} are in {folder} already.")
        else:
            write_product(
                folder,
                product=product,
                seed=seed,
                train=train,
                good=good,
                defective=defective,
                progress=lambda done, total: progress("drawing", done, total),
            )
            write_bytes(out / f"{product}.{_NOTE}", json.dumps(wanted).encode())
            say(f"Drew the product {product!r} into {folder}.")
        model = fit(folder, progress=progress)
        path = out / f"{product}.blemish"
        model.save(path)
        say(f"Learned from {model.count} good images: {path}, {path.stat().st_size / 1e6:.0f} MB.")
        say(f"Threshold {threshold_text(model.threshold())}.")
        results = ResultsFolder(out / f"{product}-results", model, title=f"Demo: {product}")
        measured = _measure(model, folder, results, progress)
    report = results.finish(evaluation=measured).resolve()
    for line in evaluation_lines(measured):
        say(f"  {line}")
    click.echo(f"Report: {report}")
    if show and _has_display():
        click.launch(str(report))


def _measure(
    model: Model, folder: Path, results: ResultsFolder, progress: ProgressBar
) -> Evaluation:
    """Inspect the test images, and compare with what was drawn."""

    def collect(sample: Sample, found: Inspected, mask: BoolArray | None) -> None:
        name = sample.image.relative_to(folder / "test").as_posix()
        results.add(name, found, label=sample.defect, truth=mask)

    with results:
        return evaluate(model, folder, progress=progress, on_image=collect)


def _silent(text: str) -> None:
    """Say nothing."""


def _generated(folder: Path, wanted: dict[str, int]) -> bool:
    """Whether an earlier demo drew these very images; another product there is an error."""
    note = folder.parent / f"{folder.name}.{_NOTE}"
    if not folder.is_dir() or not note.is_file():
        return False
    try:
        drawn = json.loads(note.read_text())
    except ValueError:
        drawn = None
    if drawn != wanted:
        raise OutputError(
            f"{folder} must be free or hold the images asked for, but holds others "
            f"({drawn}). Name another folder with --out, or remove it."
        )
    return True


def _has_display() -> bool:
    if sys.platform in ("win32", "darwin"):
        return sys.stdout.isatty()
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
