"""Categories x scores x seeds: fit and measure each, and keep what was measured.

One run is one fit and its evaluation. A run log (``runs.jsonl``) remembers runs, so that a
benchmark can be interrupted, continued and extended.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from blemish import __version__
from blemish.arrays import BoolArray
from blemish.backbones import Backbone, load_backbone
from blemish.datasets import VERSIONS, RdMvtec, Sample, categories, detect_layout, read_dataset
from blemish.engines.engine import EngineSettings
from blemish.errors import BlemishError, InputError, OutputError
from blemish.evaluation import Evaluation, evaluate
from blemish.fitting import fit
from blemish.inspection import Inspected
from blemish.loading import ImageLike
from blemish.model import Model, Progress
from blemish.run_log import Run, RunLog
from blemish.settings import FitSettings
from blemish.videos import file_of

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "pro": "PRO",
    "aupimo": "AUPIMO",
}
"""What is measured, by the name of its field in `Evaluation`, and what it is called."""

TIMED_IMAGES = 20

_ENGINE = ("engine", "device", "precision")
_DEFAULT_ENGINE = {name: getattr(EngineSettings(), name) for name in _ENGINE}


@dataclass(frozen=True, slots=True)
class Failed:
    """A category that could not be finished.

    Attributes
    ----------
    category : str
    reason : str
    """

    category: str
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """Where a benchmark is.

    Attributes
    ----------
    category, score : str
    seed : int
    number, total : int
        Of the runs, from 1.
    """

    category: str
    score: str
    seed: int
    number: int
    total: int


@dataclass(slots=True)
class Benchmark:
    """What was measured.

    Attributes
    ----------
    layout : str
        Of the data set.
    categories, scores, seeds : sequences
        What was asked for.
    runs : list of Run
        In the order of the categories, seeds and scores.
    reused : int
        How many of them come from the run log.
    failed : list of Failed
    protocol : RdMvtec or None
        What was done to the data; a seed is then one version of them.
    """

    layout: str
    categories: Sequence[str]
    scores: Sequence[str]
    seeds: Sequence[int]
    runs: list[Run] = field(default_factory=list)
    reused: int = 0
    failed: list[Failed] = field(default_factory=list)
    protocol: RdMvtec | None = None

    @property
    def unreadable(self) -> dict[str, int]:
        """Test images that could not be read or aligned and do not count, by category."""
        return {run.category: run.counts["unreadable"] for run in self.runs if run.is_incomplete}


def run_benchmark(
    root: Path,
    settings: FitSettings | None = None,
    *,
    only: Sequence[str] | None = None,
    scores: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    protocol: RdMvtec | None = None,
    weights: Path | None = None,
    layout: str | None = None,
    engine: EngineSettings | None = None,
    log: RunLog | None = None,
    progress: Callable[[Step, str, int, int], None] | None = None,
    on_run: Callable[[Run, bool], None] | None = None,
    on_failure: Callable[[Failed], None] | None = None,
) -> Benchmark:
    """Fit and measure every score on every category with every seed.

    Parameters
    ----------
    root : Path
        Data set, one of its categories, or a folder of normal and defective images.
    settings : FitSettings, optional
        Those that all runs share; its score and seed are replaced.
    only : sequence of str, optional
        Categories. Default: all.
    scores : sequence of str, optional
        Default: the one of the settings.
    seeds : sequence of int, optional
        Of the choice of channels, and under a protocol of the version of the data. Default: 0;
        under a protocol `VERSIONS`.
    protocol : RdMvtec, optional
        Move every image. The network then sees the square that is cut out as it is (preset "paper"
        is "full" at that size), unless the settings name another size.
    weights, layout : optional
        See `fit` and `read_dataset`.
    engine : EngineSettings, optional
        For fit and evaluation. Runs of another engine, device or precision are other runs.
    log : RunLog, optional
        Runs in it with the same data, settings and versions are not repeated; new ones are added.
    progress : function (step, stage, images done, images in all), optional
    on_run : function (run, whether it comes from the log), optional
    on_failure : function, optional

    Returns
    -------
    Benchmark
        A category that cannot be fitted or measured is in `failed`; the others are finished.

    Raises
    ------
    InputError
        An unknown or repeated category, score or seed; settings or weights that cannot be used;
        a region of interest under a protocol.
    OutputError
        The run log cannot be written.
    """
    settings = _settings_under(protocol, settings or FitSettings())
    seeds = seeds or (VERSIONS if protocol else (0,))
    engine = engine or EngineSettings()
    scores = list(scores or (settings.score,))
    layout = layout or detect_layout(root)
    chosen = _categories(root, layout, only)
    for name, values in (("category", chosen), ("score", scores), ("seed", seeds)):
        _check_given_once(name, values)
    grid = [(seed, replace(settings, score=score)) for seed in seeds for score in scores]
    loaded = load_backbone(settings.backbone, weights=weights, layers=settings.network_layers)
    benchmark = Benchmark(layout, list(chosen), scores, list(seeds), protocol=protocol)
    total = len(chosen) * len(grid)
    for number, (category, wanted) in enumerate(chosen.items()):
        steps = [
            Step(category, one.score, seed, number * len(grid) + place, total)
            for place, (seed, one) in enumerate(grid, start=1)
        ]
        try:
            data = _Data(root, layout, category, wanted)
            for step, (seed, one) in zip(steps, grid, strict=True):
                version, seeded = data.version(protocol, seed, one)
                run, reused = _run(version, seeded, loaded, engine, log, _at(step, progress))
                benchmark.runs.append(run)
                benchmark.reused += reused
                if on_run is not None:
                    on_run(run, reused)
        except OutputError:
            raise  # nothing more could be kept
        except (BlemishError, OSError) as error:
            failed = Failed(category, str(error))
            benchmark.failed.append(failed)
            if on_failure is not None:
                on_failure(failed)
    return benchmark


def _settings_under(protocol: RdMvtec | None, settings: FitSettings) -> FitSettings:
    """Settings under which the network sees what a protocol cuts out, not resized again."""
    if protocol is None:
        return settings
    if settings.roi is not None:
        raise InputError(
            f"A region of interest must lie still, but the protocol {protocol.name} moves every "
            "image. Leave the region out."
        )
    preset = "full" if settings.preset == "paper" else settings.preset
    return replace(settings, preset=preset, size=settings.size or (protocol.crop, protocol.crop))


def _categories(root: Path, layout: str, only: Sequence[str] | None) -> dict[str, str | None]:
    """Name to show -> category to ask the reader for (None where the layout has none)."""
    found = categories(root, layout)
    if not found:
        if only:
            raise InputError(
                f"{root} must have categories to choose from, but its layout '{layout}' has "
                "none. Leave the categories out."
            )
        return {root.resolve().name: None}
    if only is None:
        return dict(zip(found, found, strict=True))
    if unknown := [name for name in only if name not in found]:
        raise InputError(
            f"Categories must be of those in {root}, but {unknown[0]!r} is not. "
            f"Choose from: {', '.join(found)}."
        )
    _check_given_once("category", only)
    return dict(zip(only, only, strict=True))


def _check_given_once(name: str, values: Collection[object]) -> None:
    if len(set(values)) < len(values):
        given = ", ".join(str(value) for value in values)
        raise InputError(
            f"Each {name} must be given once, but they are {given}. Remove the repeated ones: "
            "they would count twice in the mean."
        )


def _at(step: Step, progress: Callable[[Step, str, int, int], None] | None) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(step, stage, done, total)


class _Data:
    """Both splits of one category, and a fingerprint that changes with its files."""

    def __init__(self, root: Path, layout: str, category: str, wanted: str | None) -> None:
        self.category = category
        self.train = read_dataset(root, split="train", layout=layout, category=wanted)
        self.test = read_dataset(root, split="test", layout=layout, category=wanted)
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for sample in split:
                digest.update("\n".join(_facts(sample, root)).encode(errors="surrogateescape"))
        self.sha256 = digest.hexdigest()
        self._protocol: dict[str, object] = {}

    def version(
        self, protocol: RdMvtec | None, seed: int, settings: FitSettings
    ) -> tuple[_Data, FitSettings]:
        """The data of one seed, and the settings with the seed that goes with them."""
        if protocol is None:
            return self, replace(settings, seed=seed)
        move = partial(
            protocol.version,
            category=self.category,
            seed=seed,
            interpolation=settings.interpolation,
        )
        moved = copy(self)
        moved.train, moved.test = move(self.train, split="train"), move(self.test, split="test")
        moved._protocol = {"protocol": {**protocol.to_json(), "seed": seed}}
        channels = seed if protocol.channel_seed is None else protocol.channel_seed
        return moved, replace(settings, seed=channels)

    def identity(
        self, settings: FitSettings, backbone: Backbone, engine: EngineSettings
    ) -> dict[str, object]:
        """All that decides what a run measures."""
        identity: dict[str, object] = {
            "category": self.category,
            "data_sha256": self.sha256,
            "settings": settings.to_json(),
            "backbone": backbone.name,
            "backbone_sha256": backbone.sha256,
            "versions": versions(),
            **self._protocol,
        }
        if (how := {name: getattr(engine, name) for name in _ENGINE}) != _DEFAULT_ENGINE:
            identity["engine"] = how
        as_in_the_log: dict[str, object] = json.loads(json.dumps(identity))
        return as_in_the_log


def _facts(sample: Sample, root: Path) -> Iterator[str]:
    """Names, labels, sizes and times of change: cheap, and other after any usual edit."""
    yield f"{sample.defect} {sample.mask_frame}"
    for path in (sample.image, sample.mask):
        if path is not None:
            name = path.relative_to(root) if path.is_relative_to(root) else path
            found = file_of(path).stat()
            yield f"{name} {found.st_size} {found.st_mtime_ns}"


def versions() -> dict[str, str]:
    """Versions of this package and of those that its figures depend on."""
    names = ("numpy", "opencv-python-headless", "openvino", "pillow")
    return {"blemish": __version__, **{name: version(name) for name in names}}


def _run(
    data: _Data,
    settings: FitSettings,
    backbone: Backbone,
    engine: EngineSettings,
    log: RunLog | None,
    progress: Progress | None,
) -> tuple[Run, bool]:
    """One run, and whether it comes from the log."""
    identity = data.identity(settings, backbone, engine)
    if log is not None and (known := log.find(identity)) is not None:
        return known, True
    run = _measure(data, settings, backbone, engine, identity, progress)
    if log is not None:
        log.add(run)
    return run, False


def _measure(
    data: _Data,
    settings: FitSettings,
    backbone: Backbone,
    engine: EngineSettings,
    identity: dict[str, object],
    progress: Progress | None,
) -> Run:
    started = time.perf_counter()
    images = [sample.source for sample in data.train]
    model = fit(images, settings, backbone=backbone, engine=engine, progress=progress)
    fit_seconds = time.perf_counter() - started
    readable: list[ImageLike] = []

    def collect(sample: Sample, found: Inspected, mask: BoolArray | None) -> None:  # noqa: ARG001
        if found.error is None:
            readable.append(sample.source)

    found = evaluate(model, data.test, progress=progress, on_image=collect)
    return Run(
        identity=identity,
        dims=sum(model.embedding.dims),
        metrics={name: getattr(found, name) for name in METRICS},
        counts=_counts(model, found),
        fit_seconds=fit_seconds,
        ms_per_image=_milliseconds(model, readable),
    )


def _counts(model: Model, found: Evaluation) -> dict[str, int]:
    return {
        "train_images": model.count,
        "good_images": found.good_images,
        "anomalous_images": found.anomalous_images,
        "unreadable": found.unreadable,
        "unaligned": found.unaligned,
        "blank_masks": found.blank_masks,
        "false_alarms": found.false_alarms,
        "missed": found.missed,
    }


def _milliseconds(model: Model, images: Sequence[ImageLike]) -> float:
    """Median time from a file to its score and map, one image at a time."""
    taken = []
    for image in images[:TIMED_IMAGES]:
        started = time.perf_counter()
        model.score(image)
        taken.append(time.perf_counter() - started)
    return 1e3 * statistics.median(taken)
