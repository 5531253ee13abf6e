"""A benchmark for people: tables, and the notes without which they mislead."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from blemish.benchmark import METRICS, TIMED_IMAGES, Benchmark
from blemish.benchmark_summary import COMPARED, Row, Spread, Summary
from blemish.evaluation import PRO_LIMIT
from blemish.published import CLAIMS, Claim, find_published, published
from blemish.run_log import Run

_TITLES = {"pro": f"PRO (FPR <= {PRO_LIMIT})"}
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells to print.

    Attributes
    ----------
    title : str
    headers : tuple of str
    rows : list of tuple of str
    """

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(summary: Summary) -> list[Table]:
    """Tables for people: what others published first, then the rest, then decisions and time."""
    found = [_compared_table(metric, rows) for metric in COMPARED if (rows := summary.of(metric))]
    rest = [metric for metric in METRICS if metric not in COMPARED and summary.of(metric)]
    if rest:
        found.append(_rest_table(summary, rest))
    if summary.benchmark.runs:
        found.append(_run_table(summary.benchmark))
    return found


def notes(summary: Summary) -> list[str]:
    """What must be known to read the tables."""
    return [
        *_protocol(summary.benchmark),
        *_definitions(summary),
        *_sources(summary),
        *_claims(summary),
        *_gaps(summary.benchmark),
    ]


def as_text(summary: Summary) -> str:
    """All tables and notes, as plain text."""
    return "\n\n".join(
        [
            *(f"{table.title}\n\n{_drawn(table, 'simple')}" for table in tables(summary)),
            "\n".join(notes(summary)),
        ]
    )


def as_markdown(summary: Summary) -> str:
    """All tables and notes, as Markdown."""
    return "\n\n".join(
        [
            "# Benchmark",
            *(f"## {table.title}\n\n{_drawn(table, 'github')}" for table in tables(summary)),
            "\n".join(f"- {note}" for note in notes(summary)) + "\n",
        ]
    )


def _drawn(table: Table, style: str) -> str:
    align = ("left", "left", *["right"] * (len(table.headers) - 2))
    return tabulate(
        table.rows, headers=table.headers, tablefmt=style, disable_numparse=True, colalign=align
    )


def _rest_table(summary: Summary, metrics: Sequence[str]) -> Table:
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for metric in metrics:
        for row in summary.of(metric):
            cells.setdefault((row.label, row.score), {})[metric] = _with_spread(row.spread)
    headers = ("category", "score", *(METRICS[metric] for metric in metrics))
    rows = [(*key, *(cell.get(metric, _NONE) for metric in metrics)) for key, cell in cells.items()]
    return Table("Other metrics", headers, rows)


def _compared_table(metric: str, rows: Sequence[Row]) -> Table:
    cells: list[tuple[str, ...]] = [
        (
            row.label,
            row.score,
            f"{row.spread.mean:.4f}",
            _NONE if row.spread.std is None else f"{row.spread.std:.4f}",
            _NONE if row.published is None else f"{row.published:.3f}",
            _NONE if row.difference is None else f"{row.difference:+.3f}",
        )
        for row in rows
    ]
    headers = ("category", "score", "mean", "std", "published", "difference")
    return Table(_title(metric), headers, cells)


def _run_table(benchmark: Benchmark) -> Table:
    rows: list[tuple[str, ...]] = []
    for category in benchmark.categories:
        for score in benchmark.scores:
            runs = [
                run
                for run in benchmark.runs
                if (run.category, run.settings.score) == (category, score)
            ]
            if runs:
                rows.append((category, score, *_run_cells(runs)))
    headers = ("category", "score", "false alarms", "missed", "fit s", "ms/image")
    return Table("Decisions and time, medians over the seeds", headers, rows)


def _run_cells(runs: Sequence[Run]) -> tuple[str, ...]:
    counts = runs[0].counts

    def median(name: str) -> str:
        return f"{statistics.median(run.counts[name] for run in runs):g}"

    return (
        f"{median('false_alarms')} of {counts['good_images']}",
        f"{median('missed')} of {counts['anomalous_images']}",
        f"{statistics.median(run.fit_seconds for run in runs):.1f}",
        f"{statistics.median(run.ms_per_image for run in runs):.1f}",
    )


def _protocol(benchmark: Benchmark) -> Iterator[str]:
    """What was done to the data, and what the paper reports of that."""
    protocol = benchmark.protocol
    if protocol is None or not benchmark.runs:
        return
    yield (
        f"Protocol {protocol.name}: a seed is one version of the data, training and test. Every "
        f"image is {protocol}. All figures are of what is left in the square."
    )
    if benchmark.layout != "mvtec":
        return
    for one in published():
        if one.dataset == protocol.name:
            still = find_published(
                one.metric, backbone=one.backbone, dims=one.dims, reduction=one.reduction
            )
            aligned = "" if still is None else f" ({still.stated_mean:.3f} on the data as they are)"
            yield (
                f"{one.system} reports for this protocol a {METRICS[one.metric]} of "
                f"{one.stated_mean:.3f}{aligned}, the mean of all 15 categories."
            )


def _definitions(summary: Summary) -> Iterator[str]:
    benchmark = summary.benchmark
    if not benchmark.runs:
        return
    if len(benchmark.seeds) > 1:
        yield (
            f"std: sample standard deviation over {len(benchmark.seeds)} seeds "
            "(divisor n - 1). A mean row averages the categories per seed, computed from the rows."
        )
    else:
        yield (
            "One seed shows no spread: another choice of channels can move an image AUROC by "
            "several points."
        )
    if summary.of("pro"):
        yield (
            "PRO: mean overlap per connected defect region, integrated over false-positive rates "
            f"from 0 to {PRO_LIMIT} and divided by {PRO_LIMIT}."
        )
    if summary.of("image_f1_max"):
        yield (
            "F1-max: at the best threshold for the test images themselves. An upper bound, not "
            "what a threshold chosen beforehand gives; false alarms and missed are that."
        )
    yield (
        "fit s: from files to model, calibration included, backbone loaded before. ms/image: "
        f"median over {TIMED_IMAGES} images, one at a time, from file to score and map."
    )


def _sources(summary: Summary) -> Iterator[str]:
    benchmark = summary.benchmark
    if not benchmark.runs:
        return
    first = benchmark.runs[0]
    shown = {metric: one for metric, one in summary.published.items() if summary.of(metric)}
    if not shown:
        setting = f"{first.backbone}, {first.settings.reduction} {first.dims} dimensions"
        yield f"Published: nothing known for this data set with {setting}."
        return
    for metric, one in shown.items():
        only = "" if one.values else f" Only its average over all 15 categories, {one.stated_mean}."
        yield f"Published {_title(metric)}: {one.system} ({one.source}).{only}"
        if one.contradiction is not None:
            yield (
                f"{one.system} states the average {one.stated_mean} for its {_title(metric)}, "
                f"but its rows give {one.contradiction:.4f}; the rows count here."
            )
    yield (
        "Published figures are of PaDiM (score gaussian), on MVTec AD files of the original size; "
        "they are compared by the name of the category. Other sizes, selections and machines "
        "give other figures."
    )
    if first.settings.preset != "paper" and benchmark.protocol is None:
        yield f"The paper crops (preset paper); this run used preset {first.settings.preset}."
    if "transistor" in benchmark.categories:
        yield (
            "MVTec revised the transistor images: figures of about .925 image and .968 pixel AUROC "
            "are .887 and .959 on today's files."
        )


def _claims(summary: Summary) -> Iterator[str]:
    for claim in CLAIMS:
        if _is_claimed(claim, summary.benchmark):
            for row in summary.of(claim.metric)[-len(summary.benchmark.scores) :]:
                yield (
                    f"Claim for {claim.dataset}: {_title(claim.metric)} {claim.value:.3f} by "
                    f"{claim.system} ({claim.source}). Here, with score {row.score}: "
                    f"{_with_spread(row.spread)}. {claim.caveat}"
                )


def _is_claimed(claim: Claim, benchmark: Benchmark) -> bool:
    if claim.layout != benchmark.layout or not benchmark.runs or benchmark.failed:
        return False
    run = benchmark.runs[0]
    network = run.backbone.split(".", maxsplit=1)[0]
    return (
        benchmark.protocol is None
        and len(benchmark.categories) == claim.categories
        and claim.backbone in (None, network)
        and claim.dims in (None, run.dims)
    )


def _gaps(benchmark: Benchmark) -> Iterator[str]:
    for category in benchmark.categories:
        runs = [run for run in benchmark.runs if run.category == category]
        blank = sum(run.counts.get("blank_masks", 0) for run in runs)
        if blank:
            shown = sum(run.counts["anomalous_images"] for run in runs)
            yield (
                f"{category}: in {blank} of {shown} anomalous images, over all runs, the defect "
                "lies outside the network's input. They count as anomalous, their pixels as good."
            )
        unaligned = sum(run.counts.get("unaligned", 0) for run in runs)
        if unaligned:
            yield (
                f"{category}: {unaligned} test images, over all runs, could not be aligned. They "
                "count as alarms, in which no pixel is found."
            )
    for category, count in benchmark.unreadable.items():
        yield f"{category}: {count} test images could not be read or aligned and do not count."
    for one in benchmark.failed:
        yield f"{one.category}: not finished. {one.reason}"
    if benchmark.reused:
        yield (
            f"{benchmark.reused} of {len(benchmark.runs)} runs were known from before: same data, "
            "settings and versions. Their times are those of then."
        )


def _title(metric: str) -> str:
    name = _TITLES.get(metric, METRICS[metric])
    return name[0].upper() + name[1:]


def _with_spread(spread: Spread) -> str:
    return f"{spread.mean:.4f}" + ("" if spread.std is None else f" +- {spread.std:.4f}")
