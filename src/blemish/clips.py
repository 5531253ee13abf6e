"""Scores of the frames of video clips: smoothed, scaled, and measured frame by frame.

The literature on video anomalies reports the AUROC over the frames of all clips together ("micro")
or its mean over clips ("macro"; Georgescu et al., TPAMI 2021), often after the scores of each clip
were smoothed over time, and often after they were scaled to 0..1 within each clip (Liu et al., CVPR
2018, eq. 10). Scaling needs the whole clip, and lets every clip reach 1, those without an anomaly
too: such figures tell nothing about a threshold. Both are off unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import BoolArray, Float64Array, IntArray
from blemish.charts import timeline_svg
from blemish.errors import InputError
from blemish.metrics import auroc

_REACH = 4.0  # standard deviations that the smoothing window reaches


@dataclass(frozen=True, slots=True)
class Clip:
    """Scores of one video clip.

    Attributes
    ----------
    name : str
    frames : int64 (F,)
        Numbers of the frames, counted from 0; frames that could not be read are left out.
    scores : float64 (F,)
    is_anomalous : bool (F,)
    """

    name: str
    frames: IntArray
    scores: Float64Array
    is_anomalous: BoolArray

    @property
    def intervals(self) -> list[tuple[int, int]]:
        """First and last frame of every run of anomalous frames.

        Examples
        --------
        >>> Clip("a", np.arange(5), np.zeros(5), np.array([0, 1, 1, 0, 1], bool)).intervals
        [(1, 2), (4, 4)]
        """
        change = np.flatnonzero(np.diff(self.is_anomalous.astype(np.int8), prepend=0, append=0))
        return [
            (int(self.frames[first]), int(self.frames[end - 1]))
            for first, end in zip(change[::2], change[1::2], strict=True)
        ]


class ClipScores:
    """Gathers the scores of frames, clip by clip, in the order of the frames.

    Examples
    --------
    >>> gathered = ClipScores()
    >>> for score in (1.0, None, 2.0):
    ...     gathered.add("01_0014", score, is_anomalous=False)
    >>> gathered.clips()[0].frames
    array([0, 2])
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._rows: dict[str, list[tuple[int, float, bool]]] = {}

    def add(self, clip: str, score: float | None, *, is_anomalous: bool) -> None:
        """Add the next frame of a clip; the score is None if it could not be read."""
        number = self._seen.get(clip, 0)
        self._seen[clip] = number + 1
        if score is not None:
            self._rows.setdefault(clip, []).append((number, score, is_anomalous))

    def clips(self) -> list[Clip]:
        """Clips of which a frame could be read, in the order in which they came."""
        return [
            Clip(
                name,
                np.array([row[0] for row in rows], np.int64),
                np.array([row[1] for row in rows], np.float64),
                np.array([row[2] for row in rows], np.bool_),
            )
            for name, rows in self._rows.items()
        ]


@dataclass(frozen=True, slots=True)
class FrameMetrics:
    """How well single frames of clips are told apart. None: undefined for these clips.

    Attributes
    ----------
    clips : tuple of Clip
        With the model's own scores, neither smoothed nor scaled.
    auroc : float in 0..1, or None
        Over the frames of all clips together.
    clip_auroc : float in 0..1, or None
        Mean over the clips that have normal and anomalous frames.
    mixed_clips : int
        How many those are.
    smoothing : float, frames
        Standard deviation of the Gaussian window, 0 for none.
    scaled : bool
        Whether the scores of each clip were scaled to 0..1.
    """

    clips: tuple[Clip, ...]
    auroc: float | None
    clip_auroc: float | None
    mixed_clips: int
    smoothing: float
    scaled: bool

    def to_json(self) -> dict[str, object]:
        """All but the scores, as plain data."""
        return {
            "clips": len(self.clips),
            "auroc": self.auroc,
            "clip_auroc": self.clip_auroc,
            "mixed_clips": self.mixed_clips,
            "smoothing": self.smoothing,
            "scaled": self.scaled,
        }


def frame_metrics(
    clips: Sequence[Clip], *, smoothing: float = 0.0, scaled: bool = False
) -> FrameMetrics:
    """Measure how well the scores tell anomalous frames from normal ones.

    Parameters
    ----------
    clips : sequence of Clip
    smoothing : float >= 0, frames, default 0
        Standard deviation of a Gaussian window over the frames of each clip, first.
    scaled : bool, default False
        Scale the scores of each clip to 0..1, then.

    Returns
    -------
    FrameMetrics

    Raises
    ------
    InputError
        The smoothing is negative or not finite.

    Examples
    --------
    >>> truth = np.array([0, 0, 1, 1], bool)
    >>> clip = Clip("a", np.arange(4), np.array([1.0, 2.0, 2.0, 5.0]), truth)
    >>> frame_metrics([clip]).auroc
    0.875
    """
    if not 0 <= smoothing < math.inf:
        raise InputError(
            f"The smoothing must be 0 frames or more, but is {smoothing:g}. Give the standard "
            "deviation of the window, 5 for example, or 0 for none."
        )
    scores = [smoothed(clip.scores, smoothing) for clip in clips]
    if scaled:
        scores = [to_unit_range(values) for values in scores]
    mixed = [
        auroc(values, clip.is_anomalous)
        for clip, values in zip(clips, scores, strict=True)
        if clip.is_anomalous.any() and not clip.is_anomalous.all()
    ]
    labels = np.concatenate([clip.is_anomalous for clip in clips]) if clips else np.zeros(0, bool)
    both = bool(labels.any() and not labels.all())
    return FrameMetrics(
        clips=tuple(clips),
        auroc=auroc(np.concatenate(scores), labels) if both else None,
        clip_auroc=float(np.mean(mixed)) if mixed else None,
        mixed_clips=len(mixed),
        smoothing=smoothing,
        scaled=scaled,
    )


def timelines(metrics: FrameMetrics, threshold: float) -> list[str]:
    """Score over frame number of every clip, as SVG, with its anomalous frames and a threshold."""
    return [
        timeline_svg(
            clip.frames,
            clip.scores,
            intervals=clip.intervals,
            threshold=threshold,
            title=f"Clip {clip.name}",
        )
        for clip in metrics.clips
    ]


def smoothed(scores: Float64Array, deviation: float) -> Float64Array:
    """Mean of the scores around each frame, weighted by a Gaussian; the ends are mirrored.

    As `scipy.ndimage.gaussian_filter1d` with its defaults.

    Parameters
    ----------
    scores : float64 (F,)
    deviation : float >= 0, frames
        0 leaves the scores as they are.

    Returns
    -------
    float64 (F,)

    Examples
    --------
    >>> smoothed(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), 0.5).round(3)
    array([0.   , 0.106, 0.787, 0.106, 0.   ])
    """
    reach = int(_REACH * deviation + 0.5)
    if reach == 0 or len(scores) == 0:
        return scores
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(scores, reach, mode="symmetric")
    return np.convolve(padded, window / window.sum(), mode="valid")


def to_unit_range(scores: Float64Array) -> Float64Array:
    """Scale scores so that the lowest is 0 and the highest 1; 0 throughout if all are equal.

    Examples
    --------
    >>> to_unit_range(np.array([3.0, 5.0, 4.0]))
    array([0. , 1. , 0.5])
    """
    if len(scores) == 0 or np.ptp(scores) == 0:
        return np.zeros_like(scores)
    scaled: Float64Array = (scores - scores.min()) / np.ptp(scores)
    return scaled
