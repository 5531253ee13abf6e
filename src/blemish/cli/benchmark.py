"""`blemish benchmark`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from blemish.benchmark import Benchmark, Failed, Step, run_benchmark
from blemish.benchmark_summary import Summary, runs_csv
from blemish.benchmark_tables import as_markdown, as_text, notes
from blemish.cli.fit import setting_options, settings_from
from blemish.cli.options import PATH, Seeds, Words, engine_options, quiet_option
from blemish.cli.protocol import protocol_from, protocol_options
from blemish.engines.engine import EngineSettings
from blemish.published import CLAIMS, published_systems
from blemish.run_log import Run, RunLog
from blemish.scoring import SCORES
from blemish.writing import write_bytes


@click.command()
@click.argument("root", type=PATH, required=False)
@click.option("--categories", type=Words(), help="Such as bottle,screw. Default: all.")
@click.option(
    "--scores",
    type=Words(SCORES),
    default="gaussian",
    show_default=True,
    help=f"Of {', '.join(SCORES)}.",
)
@click.option(
    "--seeds", type=Seeds(), help="As 0-2 or 0,1,5. Default: 0; of protocol rd-mvtec 0-4."
)
@click.option("--weights", type=PATH, help="State dict of the ResNet: .safetensors or .pth.")
@click.option("--layout", help="Layout of the data set; found by itself unless given.")
@click.option(
    "--against",
    type=click.Choice(published_systems()),
    metavar="SYSTEM",
    help="System whose published figures to compare with, such as "
    f"'{published_systems()[0]}'. Default: the one with the same backbone and dimensions.",
)
@click.option("--out", "-o", type=PATH, help="Folder for results.csv, table.md and runs.jsonl.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--claims", is_flag=True, help="List claims of others and how to verify each.")
@protocol_options
@setting_options
@engine_options
@quiet_option
def benchmark(
    *,
    root: Path | None,
    categories: tuple[str, ...] | None,
    scores: tuple[str, ...],
    seeds: tuple[int, ...] | None,
    weights: Path | None,
    layout: str | None,
    against: str | None,
    out: Path | None,
    as_json: bool,
    claims: bool,
    engine: str,
    device: str,
    precision: str,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Fit and measure categories x scores x seeds of the data set in ROOT.

    Prints mean and spread over the seeds beside published figures. With --out, runs are kept: the
    same command goes on where it was interrupted, and more seeds or scores repeat nothing. A
    category that fails is reported, the others are finished, and the exit status is 1.

    \b
    Example:
        blemish benchmark datasets/mvtec --backbone resnet18 --preset paper
            --scores gaussian,hybrid --seeds 0-2 --out results/
    """  # noqa: D301 - the backspace is for click
    if claims:
        click.echo(_claims(as_json=as_json))
        return
    if root is None:
        raise click.UsageError("Missing argument 'ROOT'.")
    protocol = protocol_from(options)
    runner = EngineSettings(engine=engine, device=device, precision=precision, threads=threads)
    settings = settings_from(options | {"score": scores[0], "seed": 0})
    log = None if out is None else RunLog(out / "runs.jsonl")
    if log is not None and not quiet:
        click.echo(f"{out}: {len(log)} runs known.", err=True)
    with _Watcher(quiet=quiet) as watcher:
        found = run_benchmark(
            root,
            settings,
            only=categories,
            scores=scores,
            seeds=seeds,
            protocol=protocol,
            weights=weights,
            layout=layout,
            engine=runner,
            log=log,
            progress=watcher.progress,
            on_run=watcher.run,
            on_failure=watcher.failure,
        )
    summary = Summary(found, against=against)
    if out is not None:
        write_bytes(out / "results.csv", runs_csv(found.runs).encode(errors="surrogateescape"))
        markdown = as_markdown(summary).encode(errors="surrogateescape")
        write_bytes(out / "table.md", markdown)
    if as_json:
        click.echo(json.dumps(summary.to_json() | {"notes": notes(summary)}, indent=2))
    else:
        # Names of files may hold bytes that are no text.
        click.echo(as_text(summary).encode(errors="backslashreplace").decode())
    _end(found)


benchmark.params = [
    # Here they are lists: --scores and --seeds.
    option
    for option in benchmark.params
    if option.name not in ("score", "seed")
]


def _end(found: Benchmark) -> None:
    for failed in found.failed:
        click.echo(f"Error: {failed.category}: {failed.reason}", err=True)
    for category, count in found.unreadable.items():
        click.echo(
            f"Error: {category}: {count} test images could not be read or aligned.", err=True
        )
    if found.failed or found.unreadable:
        raise click.exceptions.Exit(1)


class _Watcher:
    """Tells on standard error what is going on: a bar on a terminal, a line per run."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> _Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def progress(self, step: Step, stage: str, done: int, total: int) -> None:
        """Show the run under way."""
        if self._bar is None:
            off = self._quiet or not sys.stderr.isatty()
            self._bar = tqdm(total=step.total, unit="run", leave=False, disable=off)
        self._bar.n = step.number - 1
        self._bar.set_postfix_str(
            f"{step.category} {step.score} seed {step.seed}: {stage} {done}/{total}"
        )

    def run(self, run: Run, reused: bool) -> None:
        """Show the figures of a run."""
        auroc, pixel = run.metrics["image_auroc"], run.metrics["pixel_auroc"]
        figures = [
            f"{name} {value:.4f}"
            for name, value in (("image AUROC", auroc), ("pixel AUROC", pixel))
            if value is not None
        ]
        self._say(
            f"{run.category} {run.settings.score} seed {run.seed}: "
            + ", ".join([*figures, "known from before" if reused else f"{run.fit_seconds:.1f} s"])
        )

    def failure(self, failed: Failed) -> None:
        """Say at once that a category failed."""
        self._say(f"{failed.category}: failed. {failed.reason}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            tqdm.write(line, file=sys.stderr)


def _claims(*, as_json: bool) -> str:
    if as_json:
        from dataclasses import asdict  # noqa: PLC0415

        return json.dumps([asdict(claim) for claim in CLAIMS], indent=2)
    return "\n\n".join(
        f"{claim.dataset}: {claim.metric} {claim.value:g}, {claim.system}\n"
        f"  claimed by  {claim.source}\n"
        f"  verify      {claim.command}\n"
        f"  note        {claim.caveat}"
        for claim in CLAIMS
    )
