"""One HTML page with the course of every statistic that a watch compares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from blemish.drift.alarm import ANOMALOUS, Alarm
from blemish.drift.course_charts import Mark, course_svg
from blemish.drift.watch import Watch
from blemish.pages import page_template
from blemish.writing import write_bytes

_MOST_POINTS = 1000
_LEAST_EVIDENCE = 1e-6


class Course:
    """Levels and evidence over the images, in bounded memory: of very many, every so many.

    Parameters
    ----------
    most : int >= 2, default 1000
        Points to keep.

    Examples
    --------
    >>> watch = Watch({"score": [1.0, 2.0, 3.0]}, threshold=9.0)
    >>> course = Course(most=4)
    >>> for score in range(10):
    ...     _ = watch.add({"score": score % 4})
    ...     course.add(watch)
    >>> course.numbers
    [4, 8]
    """

    def __init__(self, most: int = _MOST_POINTS) -> None:
        self._most, self._step = most, 1
        self.numbers: list[int] = []
        self.levels: list[dict[str, float]] = []
        self.evidence: list[dict[str, float]] = []

    def add(self, watch: Watch) -> None:
        """Note where a watch is."""
        if watch.images % self._step:
            return
        self.numbers.append(watch.images)
        self.levels.append(watch.levels)
        self.evidence.append(watch.evidence)
        if len(self.numbers) > self._most:
            self._step *= 2
            kept = [k for k, number in enumerate(self.numbers) if number % self._step == 0]
            self.numbers = [self.numbers[k] for k in kept]
            self.levels = [self.levels[k] for k in kept]
            self.evidence = [self.evidence[k] for k in kept]


def watch_facts(watch: Watch) -> dict[str, str]:
    """What a watch compares and has seen, in words."""
    return {
        "images watched": f"{watch.images:,}",
        "anomalous": f"{watch.anomalous:,}",
        "compared with": f"{watch.training_images} training images",
        "anomalous from": f"a score of {watch.threshold:.6g}",
        "false alarms": f"at most one is to be expected in {watch.false_alarms_per:,} images",
        "open alarms": ", ".join(watch.open_alarms) or "none",
    }


def write_watch_report(
    path: Path,
    course: Course,
    *,
    title: str,
    statistics: Sequence[str],
    alarms: Sequence[Alarm],
    facts: Mapping[str, str],
) -> None:
    """Write the page; an existing file is replaced in one step.

    Parameters
    ----------
    path : Path
    course : Course
    title : str
    statistics : sequence of str
        In the order to show.
    alarms : sequence of Alarm
    facts : mapping of str to str
        What was used and seen.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    text = page_template("watch.html.jinja").render(
        title=title,
        alarms=alarms,
        facts=facts,
        charts=[_charts(course, name, alarms) for name in statistics] if course.numbers else [],
    )
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _charts(course: Course, statistic: str, alarms: Sequence[Alarm]) -> tuple[str, str]:
    """Level and evidence of one statistic."""
    own = [alarm for alarm in alarms if alarm.statistic == statistic]
    share = statistic == ANOMALOUS
    level = course_svg(
        course.numbers,
        [levels[statistic] for levels in course.levels],
        title="share of anomalous images" if share else statistic,
        y_label="share" if share else "standard deviations",
        y_range=(0.0, 0.5) if share else (-2.0, 2.0),
        line=0.0,
        marks=[Mark(alarm.since, alarm.number, f"image {alarm.number}") for alarm in own],
    )
    evidence = course_svg(
        course.numbers,
        [math.log10(max(each[statistic], _LEAST_EVIDENCE)) for each in course.evidence],
        title=f"evidence that {'it' if share else statistic} moved",
        y_label="power of ten",
        y_range=(math.log10(_LEAST_EVIDENCE), 0.5),
        line=0.0,
        marks=[Mark(alarm.number, alarm.number, "alarm") for alarm in own],
    )
    return level, evidence
