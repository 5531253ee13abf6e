"""The course of a statistic over the images, as SVG in the style of `charts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from blemish.charts import Area, ChartFrame, colour_of, svg_of

_WIDTH, _HEIGHT = 640, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 34, 48


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of a course to point out, up to where it was noticed.

    Attributes
    ----------
    since, number : float
        Where it began, and where it was noticed.
    label : str
    """

    since: float
    number: float
    label: str


def course_svg(
    numbers: Sequence[float],
    values: Sequence[float],
    *,
    title: str,
    y_label: str,
    y_range: tuple[float, float],
    line: float,
    marks: Sequence[Mark] = (),
) -> str:
    """Draw values over the numbers of the images.

    Parameters
    ----------
    numbers, values : sequence of float
        Of the same length, in order; at least one.
    title, y_label : str
    y_range : (low, high)
        Shown at least; more where values lie beyond.
    line : float
        A value to draw a line at.
    marks : sequence of Mark

    Returns
    -------
    str
        One ``<svg>`` element.

    Examples
    --------
    >>> drawn = course_svg([1, 2], [0, 3], title="focus", y_label="", y_range=(-1, 1), line=0)
    >>> drawn.startswith("<svg"), drawn.count("<polyline")
    (True, 1)
    """
    low, high = min(y_range[0], *values), max(y_range[1], *values)
    margin = 0.04 * (high - low)
    area = Area(left=_LEFT, right=_WIDTH - _RIGHT, top=_TOP, bottom=_HEIGHT - _BOTTOM)
    first, last = float(numbers[0]), float(numbers[-1])
    frame = ChartFrame(area, first, max(last, first + 1), low - margin, high + margin)
    points = " ".join(
        f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(numbers, values, strict=True)
    )
    parts = [frame.axes("image", y_label), *(_marked(frame, mark) for mark in marks)]
    parts.append(
        f'<path d="M{area.left} {frame.y(line):.1f}H{area.right}" stroke="currentColor" '
        'stroke-dasharray="5 4" opacity=".7"/>'
        f'<polyline points="{points}" fill="none" style="stroke:{colour_of(0)}" stroke-width="1.6" '
        'stroke-linejoin="round"/>'
    )
    return svg_of(title, parts, _WIDTH, _HEIGHT)


def _marked(frame: ChartFrame, mark: Mark) -> str:
    """A band from the change to the alarm, and a line at the alarm."""
    area = frame.area
    left, right = (max(frame.x(x), area.left) for x in (mark.since, mark.number))
    shift, anchor = (-5, "end") if right > (area.left + area.right) / 2 else (5, "start")
    return (
        f'<rect x="{left:.1f}" y="{area.top}" width="{max(right - left, 1):.1f}" '
        f'height="{area.bottom - area.top}" style="fill:{colour_of(1)}" fill-opacity=".18"/>'
        f'<path d="M{right:.1f} {area.top}V{area.bottom}" style="stroke:{colour_of(1)}" '
        f'stroke-width="1.8"/><text x="{right + shift:.1f}" y="{area.top + 12}" '
        f'text-anchor="{anchor}" style="fill:{colour_of(1)}">{escape(mark.label)}</text>'
    )
