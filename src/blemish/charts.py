"""Curves and histograms as SVG: crisp at any size, and in the colours of the page around them.

Lines and text take the colour of the surrounding text (`currentColor`), so a chart suits a dark
and a light page; its own colours (Okabe-Ito, told apart with any colour blindness) may be
replaced by the CSS variables ``--series-1`` ... ``--series-4``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from blemish.arrays import FloatArray, IntArray
from blemish.errors import InputError

_WIDTH, _HEIGHT = 480, 320  # of a curve
_WIDE, _LOW = 980, 280  # of a histogram
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 34, 48
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_DASHES = ("none", "7 4", "2 3", "9 3 2 3")
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart.

    Attributes
    ----------
    label : str
        As shown in the legend, for example ``"image AUROC 0.993"``.
    x, y : float (K,)
        Points in the order they are joined.
    """

    label: str
    x: FloatArray
    y: FloatArray


def curve_svg(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str = "false-positive rate",
    y_label: str = "true-positive rate",
    x_limit: float = 1.0,
    diagonal: bool = False,
) -> str:
    """Draw curves from 0 to 1, such as ROC and PRO curves.

    Parameters
    ----------
    lines : sequence of Line
        At most 4.
    title, x_label, y_label : str
    x_limit : float > 0, default 1
        Right end of the axis; 0.3 for the range a PRO value is the mean over.
    diagonal : bool, default False
        Draw the line of chance.

    Returns
    -------
    str
        One ``<svg>`` element.

    Raises
    ------
    InputError
        There is no line, or more than 4, or one without points.

    Examples
    --------
    >>> line = Line("AUROC 1", np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    >>> curve_svg([line], title="ROC").startswith("<svg")
    True
    """
    if not 1 <= len(lines) <= len(_SERIES):
        raise InputError(
            f"A chart must have 1 to {len(_SERIES)} lines, but has {len(lines)}. Draw several."
        )
    area = Area(left=_LEFT, right=_WIDTH - _RIGHT, top=_TOP, bottom=_HEIGHT - _BOTTOM)
    frame = ChartFrame(area, 0.0, x_limit, 0.0, 1.0)
    parts = [frame.axes(x_label, y_label)]
    if diagonal:
        parts.append(
            f'<path d="M{frame.x(0):.1f} {frame.y(0):.1f}L{frame.x(1):.1f} {frame.y(1):.1f}" '
            'fill="none" stroke="currentColor" opacity=".3" stroke-dasharray="3 4"/>'
        )
    for index, line in enumerate(lines):
        points = _thinned(line, x_limit)
        path = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in points)
        parts.append(f'<path d="M{path}" fill="none" {_stroke(index)}/>')
    parts.append(_line_legend(frame, [line.label for line in lines]))
    return svg_of(title, parts, _WIDTH, _HEIGHT)


def histogram_svg(
    groups: Mapping[str, FloatArray],
    *,
    threshold: float,
    title: str = "Image scores",
    bins: int = 60,
) -> str:
    """Draw how many images have which score, with the threshold.

    Parameters
    ----------
    groups : mapping of label to float (K,)
        Scores, for example of the images labelled good and of the others. At most 4 groups; a
        group may be empty.
    threshold : float
    title : str
    bins : int >= 1, default 60

    Returns
    -------
    str
        One ``<svg>`` element. Bars of several groups stand in front of each other, see-through.
        Scores far beyond the threshold are counted in the last bar, which the axis then says.

    Raises
    ------
    InputError
        There are more than 4 groups, or no score at all.
    """
    if len(groups) > len(_SERIES) or not any(len(scores) for scores in groups.values()):
        raise InputError(
            f"A histogram must have 1 to {len(_SERIES)} groups and at least one score, but has "
            f"{len(groups)} groups and {sum(map(len, groups.values()))} scores. Pass some scores."
        )
    everything = np.concatenate([np.asarray(scores, float) for scores in groups.values()])
    edges, beyond = _edges(everything, threshold, bins)
    counts = [np.histogram(np.minimum(scores, edges[-1]), edges)[0] for scores in groups.values()]
    most = max(int(count.max()) for count in counts)
    area = Area(left=_LEFT, right=_WIDE - _RIGHT, top=54, bottom=_LOW - _BOTTOM)
    frame = ChartFrame(area, float(edges[0]), float(edges[-1]), 0.0, most * 1.08)
    name = f"image score ({beyond} beyond {edges[-1]:.3g} in the last bar)" if beyond else ""
    parts = [frame.axes(name or "image score", "images")]
    parts += [_bars(frame, edges, count, index) for index, count in enumerate(counts)]
    at = frame.x(threshold)
    shift, anchor = (-6, "end") if at > (area.left + area.right) / 2 else (6, "start")
    parts.append(
        f'<path d="M{at:.1f} {area.top}V{area.bottom}" stroke="currentColor" '
        f'stroke-width="1.5" stroke-dasharray="5 4"/><text x="{at + shift:.1f}" '
        f'y="{area.top + 11}" text-anchor="{anchor}">threshold {threshold:.4g}</text>'
    )
    parts.append(_bar_legend([f"{name} ({len(scores)})" for name, scores in groups.items()]))
    return svg_of(title, parts, _WIDE, _LOW)


def timeline_svg(
    frames: IntArray,
    scores: FloatArray,
    *,
    intervals: Sequence[tuple[int, int]],
    threshold: float,
    title: str,
) -> str:
    """Draw the score of every frame of a clip over its number, and where the clip is anomalous.

    Parameters
    ----------
    frames : int64 (F,)
        Numbers, ascending.
    scores : float (F,)
    intervals : sequence of (first, last)
        Frames that are anomalous in truth: shaded.
    threshold : float
    title : str

    Returns
    -------
    str
        One ``<svg>`` element. Of very long clips the highest and lowest scores of neighbours stay.

    Raises
    ------
    InputError
        There is no frame, or not a score for each.
    """
    if len(frames) == 0 or len(frames) != len(scores):
        raise InputError(
            f"A timeline must have a score for every frame and at least one, but has {len(frames)} "
            f"frames and {len(scores)} scores. Pass the whole clip."
        )
    low, high = min(float(scores.min()), threshold), max(float(scores.max()), threshold)
    margin = 0.06 * (high - low) or 0.5 * max(abs(high), 1e-6)
    area = Area(left=_LEFT, right=_WIDE - _RIGHT, top=54, bottom=_LOW - _BOTTOM)
    frame = ChartFrame(area, frames[0] - 0.5, frames[-1] + 0.5, low - margin, high + margin)
    parts = [frame.axes("frame", "image score")]
    for first, last in intervals:
        left, right = frame.x(first - 0.5), frame.x(last + 0.5)
        parts.append(
            f'<rect x="{left:.1f}" y="{area.top}" width="{right - left:.1f}" '
            f'height="{area.bottom - area.top}" style="fill:{colour_of(1)}" fill-opacity=".25"/>'
        )
    path = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in _extremes(frames, scores))
    at = frame.y(threshold)
    parts.append(
        f'<path d="M{path}" fill="none" style="stroke:{colour_of(0)}" stroke-width="1.6"/>'
        f'<path d="M{area.left} {at:.1f}H{area.right}" stroke="currentColor" stroke-width="1.2" '
        'stroke-dasharray="5 4"/>'
        f'<text x="{area.right}" y="40" text-anchor="end">- - threshold {threshold:.4g}</text>'
    )
    if intervals:
        parts.append(
            f'<rect x="{area.left}" y="31" width="10" height="10" rx="2" '
            f'style="fill:{colour_of(1)}" fill-opacity=".4"/>'
            f'<text x="{area.left + 16}" y="40">anomalous</text>'
        )
    return svg_of(title, parts, _WIDE, _LOW)


def _extremes(frames: IntArray, scores: FloatArray) -> list[tuple[float, float]]:
    """Points of a timeline; of a long one the lowest and highest of each of 400 stretches."""
    if len(frames) <= 2 * _MOST_POINTS:
        kept = np.arange(len(frames))
    else:
        stretches = np.array_split(np.arange(len(frames)), _MOST_POINTS)
        kept = np.unique(
            [each[pick(scores[each])] for each in stretches for pick in (np.argmin, np.argmax)]
        )
    return [(float(frames[k]), float(scores[k])) for k in kept]


def _edges(scores: FloatArray, threshold: float, bins: int) -> tuple[FloatArray, int]:
    """Bar edges from the lowest score to the highest, or to well above the threshold.

    Returns the edges, and how many scores lie beyond the last one.
    """
    low, high = float(min(scores.min(), threshold)), float(max(scores.max(), threshold))
    if threshold > low:
        high = min(high, threshold + 8 * (threshold - low))
    margin = 0.02 * (high - low) or 0.5 * max(abs(high), 1e-6)
    edges = np.linspace(low - margin, high + margin, bins + 1)
    return edges, int((scores > edges[-1]).sum())


@dataclass(frozen=True, slots=True)
class Area:
    """The rectangle between the axes, in SVG units."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class ChartFrame:
    """The values at the four sides of an area; turns values into SVG coordinates."""

    area: Area
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Pixels from the left of a value."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return self.area.left + share * (self.area.right - self.area.left)

    def y(self, value: float) -> float:
        """Pixels from the top of a value."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.area.bottom - share * (self.area.bottom - self.area.top)

    def axes(self, x_label: str, y_label: str) -> str:
        """Grid lines, ticks, their numbers and the names of both axes."""
        left, right, top, bottom = self.area.left, self.area.right, self.area.top, self.area.bottom
        parts = []
        for tick in _ticks(self.x_low, self.x_high):
            at = self.x(tick)
            parts.append(
                f'<path d="M{at:.1f} {top}V{bottom}" class="grid"/>'
                f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>'
            )
        for tick in _ticks(self.y_low, self.y_high):
            at = self.y(tick)
            parts.append(
                f'<path d="M{left} {at:.1f}H{right}" class="grid"/>'
                f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
            )
        across, down = (left + right) / 2, (top + bottom) / 2
        parts.append(
            f'<path d="M{left} {top}V{bottom}H{right}" fill="none" '
            'stroke="currentColor" opacity=".6"/>'
            f'<text x="{across}" y="{bottom + 38}" text-anchor="middle">{escape(x_label)}</text>'
            f'<text transform="translate(15 {down}) rotate(-90)" text-anchor="middle">'
            f"{escape(y_label)}</text>"
        )
        return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two values."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _thinned(line: Line, x_limit: float) -> list[tuple[float, float]]:
    """At most 400 points of a line, cut at the right end of the axis."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if len(x) == 0 or len(x) != len(y):
        raise InputError(
            f"The line {line.label!r} must have as many x as y and at least one, but has "
            f"{len(x)} and {len(y)}. Pass the whole curve."
        )
    inside = x <= x_limit
    if not inside.all():
        y = np.append(y[inside], np.interp(x_limit, x, y))
        x = np.append(x[inside], x_limit)
    if len(x) > _MOST_POINTS:  # equal steps along the drawn line keep both steep and flat parts
        along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / x_limit, np.diff(y)))])
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _MOST_POINTS)))
        x, y = x[kept], y[kept]
    return list(zip(x.tolist(), y.tolist(), strict=True))


def colour_of(index: int) -> str:
    """Colour of a series, which a page may set for its theme."""
    return f"var(--series-{index + 1},{_SERIES[index]})"


def _stroke(index: int) -> str:
    return (
        f'style="stroke:{colour_of(index)}" stroke-width="2.2" stroke-linejoin="round" '
        f'stroke-dasharray="{_DASHES[index]}"'
    )


def _line_legend(frame: ChartFrame, labels: Sequence[str]) -> str:
    """Name the lines in the lower right, where good curves leave room."""
    right, parts = frame.x(frame.x_high) - 12, []
    width = max(len(label) for label in labels) * 6.6 + 36
    for index, label in enumerate(labels):
        y = frame.area.bottom - 16 - 19 * (len(labels) - 1 - index)
        parts.append(
            f'<path d="M{right - width:.0f} {y - 4}h28" {_stroke(index)}/>'
            f'<text x="{right - width + 35:.0f}" y="{y}">{escape(label)}</text>'
        )
    return "".join(parts)


def _bars(frame: ChartFrame, edges: FloatArray, count: FloatArray, index: int) -> str:
    ground = frame.y(0)
    bars = []
    for left, right, height in zip(edges[:-1], edges[1:], count, strict=True):
        if height:
            x0, x1, top = frame.x(left) + 0.5, frame.x(right) - 0.5, frame.y(height)
            bars.append(f"M{x0:.1f} {ground:.1f}V{top:.1f}H{x1:.1f}V{ground:.1f}Z")
    return f'<path d="{"".join(bars)}" style="fill:{colour_of(index)}" fill-opacity=".62"/>'


def _bar_legend(labels: Sequence[str]) -> str:
    """Name the groups below the title, from left to right."""
    x, parts = float(_LEFT), []
    for index, label in enumerate(labels):
        parts.append(
            f'<rect x="{x:.0f}" y="31" width="10" height="10" rx="2" '
            f'style="fill:{colour_of(index)}" fill-opacity=".62"/>'
            f'<text x="{x + 16:.0f}" y="40">{escape(label)}</text>'
        )
        x += len(label) * 6.9 + 36
    return "".join(parts)


def svg_of(title: str, parts: Sequence[str], width: int, height: int) -> str:
    """Put the parts of a chart together."""
    quoted = escape(title, {'"': "&quot;"})
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{quoted}" font-family="system-ui,sans-serif" '
        'font-size="12" fill="currentColor"><style>.grid{stroke:currentColor;opacity:.13}</style>'
        f'<text x="{_LEFT}" y="20" font-size="13" font-weight="600">{escape(title)}</text>'
        f"{''.join(parts)}</svg>"
    )
