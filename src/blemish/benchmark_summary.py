"""A benchmark in figures: mean and spread over the seeds, beside what others published."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blemish.benchmark import METRICS, Benchmark
from blemish.evaluation import PRO_LIMIT
from blemish.published import Published, find_published
from blemish.run_log import Run

COMPARED = ("image_auroc", "pixel_auroc", "pro", "image_f1_max")
"""Metrics that others published per category."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and spread over seeds.

    Attributes
    ----------
    mean : float
    std : float or None
        Sample standard deviation (divisor n - 1). None for one seed.
    seeds : int
    """

    mean: float
    std: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Spread of some values, at least one.

        Examples
        --------
        >>> Spread.of([1.0, 2.0, 3.0])
        Spread(mean=2.0, std=1.0, seeds=3)
        >>> Spread.of([0.5])
        Spread(mean=0.5, std=None, seeds=1)
        """
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values))


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one category, or of their mean, with one score.

    Attributes
    ----------
    metric, score : str
    label : str
        The category, or "mean of 3".
    spread : Spread
    published : float or None
        What `system` reports for the same category or categories.
    system : str or None
    """

    metric: str
    label: str
    score: str
    spread: Spread
    published: float | None = None
    system: str | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.published is None else self.spread.mean - self.published

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "metric": self.metric,
            "category": self.label,
            "score": self.score,
            "seeds": self.spread.seeds,
            "mean": self.spread.mean,
            "std": self.spread.std,
            "published": self.published,
            "difference": self.difference,
            "system": self.system,
        }


class Summary:
    """All figures of a benchmark.

    Parameters
    ----------
    benchmark : Benchmark
    against : str, optional
        System to compare with. Default: the one measured with the same backbone and dimensions.

    Attributes
    ----------
    benchmark : Benchmark
    published : dict of str to Published
        What is compared with, by metric.
    rows : list of Row
        By metric, then category, then score; the means over the categories last.

    Raises
    ------
    InputError
        The system is unknown.
    """

    def __init__(self, benchmark: Benchmark, *, against: str | None = None) -> None:
        self.benchmark = benchmark
        self.published = _published(benchmark, against)
        self.rows = [row for metric in METRICS for row in self._rows(metric)]

    def of(self, metric: str) -> list[Row]:
        """Rows of one metric."""
        return [row for row in self.rows if row.metric == metric]

    def _rows(self, metric: str) -> Iterator[Row]:
        names, scores = self.benchmark.categories, self.benchmark.scores
        for name in names:
            for score in scores:
                if values := self._values(metric, name, score):
                    yield self._row(metric, name, score, list(values.values()), [name])
        for score in scores if len(names) > 1 else ():
            table = {name: self._values(metric, name, score) for name in names}
            whole = [name for name in names if len(table[name]) == len(self.benchmark.seeds)]
            if whole:
                means = [
                    statistics.fmean(table[name][seed] for name in whole)
                    for seed in self.benchmark.seeds
                ]
                label = f"mean of {len(whole)}"
                label += f" (of {len(names)})" if len(whole) < len(names) else ""
                yield self._row(metric, label, score, means, whole)

    def _values(self, metric: str, category: str, score: str) -> dict[int, float]:
        """Figure by seed, where defined."""
        return {
            run.seed: value
            for run in self.benchmark.runs
            if (run.category, run.settings.score) == (category, score)
            and (value := run.metrics[metric]) is not None
        }

    def _row(
        self,
        metric: str,
        label: str,
        score: str,
        values: Sequence[float],
        categories: Sequence[str],
    ) -> Row:
        found = self.published.get(metric)
        value = None if found is None else found.mean(categories)
        system = None if found is None or value is None else found.system
        return Row(metric, label, score, Spread.of(values), value, system)

    def to_json(self) -> dict[str, object]:
        """Plain data: every run and every row."""
        return {
            "layout": self.benchmark.layout,
            "protocol": None if (moved := self.benchmark.protocol) is None else moved.to_json(),
            "pro_fpr_limit": PRO_LIMIT,
            "runs": [run.to_json() for run in self.benchmark.runs],
            "reused": self.benchmark.reused,
            "failed": {one.category: one.reason for one in self.benchmark.failed},
            "summary": [row.to_json() for row in self.rows],
        }


def runs_csv(runs: Sequence[Run]) -> str:
    """One line per run: category, score and seed, all figures, all settings.

    Settings have the prefix "setting:", what was done to the data "protocol:", versions "version:".
    """
    records = [_record(run) for run in runs]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
    if records:
        writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(run: Run) -> dict[str, object]:
    settings, versions = run.settings.to_json(), run.identity["versions"]
    found: dict[str, object] = {
        "category": run.category,
        "score": run.settings.score,
        "seed": run.seed,
        "backbone": run.backbone,
        "dims": run.dims,
        **run.metrics,
        **run.counts,
        "fit_seconds": run.fit_seconds,
        "ms_per_image": run.ms_per_image,
        **{f"setting:{k}": v for k, v in settings.items() if k not in ("score", "seed")},
        **{f"protocol:{k}": v for k, v in run.protocol.items() if k != "seed"},
    }
    if isinstance(versions, dict):
        found |= {f"version:{name}": value for name, value in versions.items()}
    return {name: "" if value is None else value for name, value in found.items()}


def _published(benchmark: Benchmark, against: str | None) -> dict[str, Published]:
    """What stands beside each metric. Only where the data set could be MVTec AD."""
    if against is not None:  # a wrong name is told even where nothing is compared
        find_published("image_auroc", backbone="", dims=None, system=against)
    if benchmark.layout != "mvtec" or not benchmark.runs:
        return {}
    run = benchmark.runs[0]
    found = {
        metric: find_published(
            metric,
            backbone=run.backbone,
            dims=run.dims,
            reduction=run.settings.reduction,
            system=against,
            dataset="mvtec" if benchmark.protocol is None else benchmark.protocol.name,
        )
        for metric in COMPARED
    }
    return {metric: one for metric, one in found.items() if one is not None}
