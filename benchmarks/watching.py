"""Does a watch keep its rate of false alarms, and how soon does it notice a drift?

Streams are drawn from real good images, with their leave-one-out scores and statistics:

* "same": with replacement from the training images themselves;
* "other half": the model is fitted on a random half, the stream is drawn from the other half, which
  the model scores as new images. Two halves differ by chance, so this shows whether a test takes
  into account how few images it was told.

Prints, over many seeds: how many streams of 10,000 images had no alarm, and after how many images a
shift of one standard deviation was noticed; beside a CUSUM with the usual, fixed reference
(Page, Biometrika 41, 1954; limits by Siegmund, Sequential Analysis, 1985, with his correction for
overshoot) and one whose reference value is widened by what the training images leave open.

    python benchmarks/watching.py ../shared/data/mvtec/bottle \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

import blemish
from blemish.arrays import Float32Array, Float64Array
from blemish.datasets import NORMAL, read_dataset
from blemish.drift.images import training_statistics
from blemish.drift.sequential_test import GapBets
from blemish.drift.watch import DEFAULT_FALSE_ALARMS_PER, Watch
from blemish.image_statistics import image_statistics
from blemish.loading import load_batches

TESTS = 6  # score, four statistics, share of anomalous images
SHIFTED = (("brightness", 1), ("brightness", -1), ("focus", 1), ("focus", -1))
STARTS = (0, 200, 1000)
FOLLOWED = 300  # images after a shift
SOON = 50
PARTS = ("rest", "delays", "false-alarms")
STREAMS = ("same", "other half", "others of 20")


class Case:
    """Training statistics of a model, and the images that streams are drawn from."""

    def __init__(self, name: str, model: blemish.Model, pool: Float64Array | None = None) -> None:
        self.name, self.training = name, training_statistics(model)
        self.names = tuple(self.training)
        self.columns = np.stack(list(self.training.values()), axis=1)
        self.pool = self.columns if pool is None else pool
        self.threshold = model.threshold().value
        kept = self.columns[:, 0] < self.threshold
        self.std = self.columns[kept].std(axis=0, ddof=1)

    def watch(self, per: int) -> Watch:
        """A new watch."""
        return Watch(self.training, threshold=self.threshold, false_alarms_per=per)

    def stream(self, seed: int, length: int) -> Float64Array:
        """Rows of the pool, with replacement."""
        return self.pool[np.random.default_rng(seed).integers(0, len(self.pool), length)]

    def shifted(self, seed: int, start: int, name: str, size: float) -> Float64Array:
        """A stream in which one statistic moves by so many standard deviations."""
        rows, column = self.stream(seed, start + FOLLOWED), self.names.index(name)
        rows[start:, column] += size * self.std[column]
        return rows

    def first_alarm(self, rows: Float64Array, per: int, wanted: str | None = None) -> float:
        """Number of images up to the first alarm, of one statistic or of any; inf if none."""
        watch = self.watch(per)
        for number, row in enumerate(rows.tolist(), 1):
            for alarm in watch.add(dict(zip(self.names, row, strict=True))):
                if wanted in (None, alarm.statistic):
                    return number
        return math.inf

    def normal_scores(self, rows: Float64Array, column: int) -> Float64Array:
        """Place of every value of a statistic among the training images; ties have their mean."""
        values = np.sort(self.columns[:, column])
        running = np.append(0.0, np.cumsum(GapBets(values).scores))
        low = np.searchsorted(values, rows[:, column], "left")
        high = np.searchsorted(values, rows[:, column], "right") + 1
        means: Float64Array = (running[high] - running[low]) / (high - low)
        return means

    def first_of_cusum(
        self, rows: Float64Array, reference: float, limit: float, wanted: str | None = None
    ) -> float:
        """The same of two-sided CUSUMs over normal scores among the training images."""
        first = math.inf
        for column, name in enumerate(self.names):
            if wanted not in (None, name):
                continue
            scores, high, low = self.normal_scores(rows, column), 0.0, 0.0
            for number, score in enumerate(scores.tolist(), 1):
                high, low = max(high + score - reference, 0.0), max(low - score - reference, 0.0)
                if max(high, low) >= limit or number >= first:
                    first = min(first, number)
                    break
        return first


def cusum_limit(drift: float, length: float) -> float:
    """Limit of a one-sided CUSUM of N(-drift, 1) with an average run length; Siegmund 1985."""
    if drift <= 0:  # the reference is wider than what is to be noticed: no limit keeps the rate
        return math.inf
    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        scaled = 2 * drift * (middle + 1.166)
        found = (math.exp(scaled) - 1 - scaled) / (2 * drift**2)
        low, high = (middle, high) if found < length else (low, middle)
    return high


def methods(case: Case, per: int) -> dict[str, Callable[[Float64Array, str | None], float]]:
    """First alarm by each way to test, all with the same budget."""
    widening = 2.64 / math.sqrt(len(case.columns))  # 95 % over six two-sided statistics
    fixed = cusum_limit(0.5, 2.0 * TESTS * per)
    widened = cusum_limit(0.5 - widening, 2.0 * TESTS * per)
    return {
        "watch": lambda rows, wanted: case.first_alarm(rows, per, wanted),
        "CUSUM, fixed": lambda rows, wanted: case.first_of_cusum(rows, 0.5, fixed, wanted),
        "CUSUM, widened": lambda rows, wanted: case.first_of_cusum(rows, 0.5, widened, wanted),
    }


def false_alarms(cases: Sequence[Case], per: int, seeds: int, length: int) -> None:
    """Streams without any alarm."""
    print(
        f"\nStreams of {length:,} images without an alarm, of {seeds}; one false alarm per {per:,}"
    )
    print("| stream | training images | " + " | ".join(methods(cases[0], per)) + " |")
    print("|---|---|---|---|---|")
    for case in cases:
        quiet = [
            sum(first(case.stream(seed, length), None) == math.inf for seed in range(seeds))
            for first in methods(case, per).values()
        ]
        print(f"| {case.name} | {len(case.columns)} | {' | '.join(map(str, quiet))} |", flush=True)


def delays(cases: Sequence[Case], per: int, seeds: int) -> None:
    """Images until a shift by one standard deviation is noticed."""
    print(f"\nImages to the alarm, median / 95 % / noticed within {SOON} (of {seeds} seeds)")
    print("| stream | shift | after images | " + " | ".join(methods(cases[0], per)) + " |")
    print("|---|---|---|---|---|---|")
    for case in cases:
        for name, sign in SHIFTED:
            for start in STARTS:
                cells = []
                for first in methods(case, per).values():
                    found = [
                        first(case.shifted(seed, start, name, float(sign)), name) - start
                        for seed in range(seeds)
                    ]
                    cells.append(delay_text(found))
                what = f"{name} {sign:+d} sd"
                print(f"| {case.name} | {what} | {start} | {' | '.join(cells)} |", flush=True)


def delay_text(found: Sequence[float]) -> str:
    """Median, 95 % and how many soon; alarms before the shift are not counted as noticed."""
    real = [delay if delay > 0 else math.inf for delay in found]
    middle, late = (float(np.sort(real)[int(share * (len(real) - 1))]) for share in (0.5, 0.95))
    return f"{middle:.0f} / {late:.0f} / {sum(delay <= SOON for delay in real)}"


def scored(model: blemish.Model, images: Sequence[Path]) -> Float64Array:
    """Score and statistics of new images."""
    return measured(model, next(load_batches(images, model.preprocessing, batch=len(images))))


def measured(model: blemish.Model, inputs: Float32Array) -> Float64Array:
    """Score and statistics of inputs."""
    scores = [
        score.image_score
        for part in np.split(inputs, range(16, len(inputs), 16))
        for score in model.score_inputs(part)
    ]
    return np.column_stack([scores, image_statistics(inputs)])


def real_changes(
    model: blemish.Model, case: Case, images: Sequence[Path], per: int, seeds: int
) -> None:
    """Images of the other half under another lamp, or out of focus: measured and scored anew."""
    inputs = next(load_batches(images, model.preprocessing, batch=len(images)))

    changes: dict[str, tuple[str, float, Callable[[float], Float32Array]]] = {
        "lamp brighter": ("brightness", 1.0, lambda a: np.clip(inputs * np.float32(1 + a), 0, 1)),
        "lamp darker": ("brightness", -1.0, lambda a: inputs * np.float32(1 - a)),
        "out of focus": ("focus", -1.0, lambda a: _blurred(inputs, 0.2 + a)),
    }
    print("\nReal images changed so that one statistic moves by one standard deviation, after 200")
    print("| change | image score moves by | seeds noticed within 50 | median | first to alarm |")
    print("|---|---|---|---|---|")
    plain = measured(model, inputs)
    for name, (statistic, size, change) in changes.items():
        column = case.names.index(statistic)
        target = size * case.std[column]
        low, high = 0.0, 0.8
        for _ in range(12):
            middle = (low + high) / 2
            moved = image_statistics(change(middle))[:, column - 1] - plain[:, column]
            low, high = (middle, high) if abs(moved.mean()) < abs(target) else (low, middle)
        pool = measured(model, change(high))
        found, names = [], []
        for seed in range(seeds):
            generator = np.random.default_rng(seed)
            after = pool[generator.integers(0, len(pool), FOLLOWED)]
            watch = case.watch(per)
            delay = math.inf
            for number, row in enumerate(np.concatenate([case.stream(seed, 200), after]).tolist()):
                if alarms := watch.add(dict(zip(case.names, row, strict=True))):
                    delay = number + 1 - 200
                    names.append(alarms[0].statistic)
                    break
            found.append(delay)
        often = {each: names.count(each) for each in sorted(set(names), key=names.count)[::-1]}
        score = (pool[:, 0] - plain[:, 0]).mean() / case.std[0]
        print(
            f"| {name} | {score:+.2f} sd | {sum(0 < d <= SOON for d in found)} | "
            f"{np.median(found):.0f} | {', '.join(f'{k} {v}' for k, v in often.items())} |",
            flush=True,
        )


def _blurred(inputs: Float32Array, sigma: float) -> Float32Array:
    return np.stack(
        [np.stack([cv2.GaussianBlur(c, (0, 0), sigma) for c in image]) for image in inputs]
    ).astype(np.float32)


def defects(model: blemish.Model, case: Case, root: Path, per: int, seeds: int) -> None:
    """A share of defective parts among good ones: which statistics raise an alarm."""
    bad = [sample.image for sample in read_dataset(root, split="test") if sample.defect != NORMAL]
    pool = scored(model, bad)
    print(f"\nDefective parts among good ones from image 201 on, 1,000 images, {seeds} seeds")
    print("| share | alarms by statistic (seeds) | median images to that of the share |")
    print("|---|---|---|")
    for share in (0.05, 0.1, 0.25, 0.5):
        counts = dict.fromkeys((*case.names, "anomalous"), 0)
        delay = []
        for seed in range(seeds):
            generator = np.random.default_rng(seed)
            rows = case.stream(seed, 1200)
            hit = np.flatnonzero(generator.random(1000) < share) + 200
            rows[hit] = pool[generator.integers(0, len(pool), len(hit))]
            watch = case.watch(per)
            for row in rows.tolist():
                for alarm in watch.add(dict(zip(case.names, row, strict=True))):
                    counts[alarm.statistic] += 1
                    if alarm.statistic == "anomalous":
                        delay.append(alarm.number - 200)
        raised = ", ".join(f"{k} {v}" for k, v in counts.items() if v) or "none"
        print(f"| {share:.0%} | {raised} | {np.median(delay) if delay else '-'} |", flush=True)


def slow_drift(case: Case, per: int, seeds: int) -> None:
    """Brightness that rises evenly: does the test get used to it?"""
    print(f"\nBrightness rising by one sd per so many images, {seeds} seeds")
    print("| images per sd | noticed | median: risen by |")
    print("|---|---|---|")
    for pace in (200, 1000, 5000):
        found = []
        for seed in range(seeds):
            rows = case.stream(seed, 3 * pace)
            rows[:, 1] += np.arange(len(rows)) / pace * case.std[1]
            found.append(case.first_alarm(rows, per, "brightness"))
        print(
            f"| {pace:,} | {sum(map(math.isfinite, found))} | {np.median(found) / pace:.2f} sd |",
            flush=True,
        )


def cost(case: Case, per: int) -> None:
    """Processor time per image."""
    rows, watch = case.stream(0, 20_000).tolist(), case.watch(per)
    begun = time.process_time()
    for row in rows:
        watch.add(dict(zip(case.names, row, strict=True)))
    print(f"\nProcessor time per image: {(time.process_time() - begun) / len(rows) * 1e6:.0f} us")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--per", type=int, default=DEFAULT_FALSE_ALARMS_PER)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=STREAMS)
    options = parser.parse_args()
    images = [sample.image for sample in read_dataset(options.root, split="train")]
    order = np.random.default_rng(0).permutation(len(images))
    half, other = ([images[k] for k in part] for part in np.array_split(order, 2))
    told = {
        "same": (images, images),
        "other half": (half, other),
        "others of 20": ([images[k] for k in order[:20]], [images[k] for k in order[20:]]),
    }
    settings = blemish.FitSettings(backbone=options.backbone, preset="paper")
    models = {
        name: blemish.fit(told[name][0], settings, weights=options.weights)
        for name in options.streams
    }
    cases = {
        name: Case(name, model, None if name == "same" else scored(model, told[name][1]))
        for name, model in models.items()
    }
    every, per, seeds = list(cases.values()), options.per, options.seeds
    if "rest" in options.parts:
        cost(every[0], per)
        slow_drift(every[0], per, min(seeds, 20))
        defects(models[every[0].name], every[0], options.root, per, seeds)
        if "other half" in cases:
            real_changes(models["other half"], cases["other half"], other, per, seeds)
    if "delays" in options.parts:
        delays(every, per, seeds)
    if "false-alarms" in options.parts:
        false_alarms(every, per, seeds, options.images)


if __name__ == "__main__":
    main()
