"""Labelled images -> scores that no image flatters, and the operating point that they choose.

An image that the model learned from scores lower than a new one. It is known by its digest, and
its leave-one-out score, which the calibration holds, takes the place of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from blemish.arrays import Float32Array, Float64Array, UInt8Array
from blemish.calibration import Calibration
from blemish.datasets import Sample, read_dataset
from blemish.datasets.read import detect_layout
from blemish.decision import Score
from blemish.errors import DatasetError, InputError, ShiftedImagesWarning
from blemish.loading import load_batches
from blemish.model import Progress
from blemish.operating_points import OperatingPoint, make_point
from blemish.preprocessing import Preprocessing
from blemish.records import digests_of
from blemish.regions import RegionSettings
from blemish.threshold_choice import BY_F1, Aim, choose_threshold, cross_validate

_BATCH = 8
_SHOWN = 3


class Scorer(Protocol):
    """A model, or an export of one."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every image."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Black and white of deep images."""

    @property
    def calibration(self) -> Calibration:
        """Leave-one-out scores."""

    @property
    def digests(self) -> UInt8Array:
        """Of the images that were learned from, (n, 16)."""

    def score_inputs(self, inputs: Float32Array) -> list[Score]:
        """Score a batch of preprocessed images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScores:
    """Scores to choose a threshold by.

    Attributes
    ----------
    folder : str
        Name of the folder of the images.
    good : float64 (g,)
        Of good images that the model did not learn from.
    left_out : float64 (n,)
        Leave-one-out scores of all images that it learned from.
    anomalous : float64 (m,)
    defects : tuple of str (m,)
        Kind of each.
    """

    folder: str
    good: Float64Array
    left_out: Float64Array
    anomalous: Float64Array
    defects: tuple[str, ...]


def read_labelled(
    folder: Path | str, *, layout: str | None = None, category: str | None = None
) -> list[Sample]:
    """List labelled images: the test split of a data set, or all of a plain folder.

    A plain folder has subfolders good and one per defect, and no split; none of its good images
    need be kept for another purpose.

    Raises
    ------
    DatasetError
        As `read_dataset`.
    """
    root = Path(folder)
    samples = read_dataset(root, split="test", layout=layout, category=category)
    if (layout or detect_layout(root)) == "folder" and not (root / "test").is_dir():
        samples = [*read_dataset(root, split="train", layout=layout), *samples]
    return samples


def score_labelled(
    scorer: Scorer, samples: Sequence[Sample], *, folder: str, progress: Progress | None = None
) -> LabelledScores:
    """Score labelled images, but for those that were learned from.

    Parameters
    ----------
    scorer : Model or Export
    samples : sequence of Sample
    folder : str
        Name for the record.
    progress : function, optional

    Returns
    -------
    LabelledScores

    Raises
    ------
    DatasetError
        The model learned from an image that is labelled as defective.
    ImageError
        Images cannot be read; names them.
    """
    learned = {digest.tobytes() for digest in scorer.digests}
    scores: list[float] = []
    is_known: list[bool] = []
    batches = load_batches(
        [sample.image for sample in samples],
        scorer.preprocessing,
        batch=_BATCH,
        value_range=scorer.value_range,
    )
    for inputs in batches:
        if progress is not None:
            progress("labelled images", len(scores), len(samples))
        known = [digest.tobytes() in learned for digest in digests_of(inputs)]
        new = inputs[~np.array(known)]
        found = iter(scorer.score_inputs(new) if len(new) else [])
        scores += [np.nan if each else next(found).image_score for each in known]
        is_known += known
    if progress is not None:
        progress("labelled images", len(samples), len(samples))
    _check_not_learned(samples, is_known)
    values, known_ones = np.array(scores), np.array(is_known, dtype=bool)
    anomalous = np.array([sample.is_anomalous for sample in samples], dtype=bool)
    return LabelledScores(
        folder=folder,
        good=values[~anomalous & ~known_ones],
        left_out=scorer.calibration.scores,
        anomalous=values[anomalous],
        defects=tuple(sample.defect for sample in samples if sample.is_anomalous),
    )


def labelled_point(
    name: str,
    scores: LabelledScores,
    calibration: Calibration,
    *,
    kind: str,
    defect_share: float | None = None,
    costs: tuple[float, float] = (1.0, 1.0),
    pixel_false_alarm_rate: float | None = None,
    pixel_value: float | None = None,
    regions: RegionSettings | None = None,
) -> OperatingPoint:
    """Operating point that labelled images choose, with its errors by cross-validation.

    Parameters
    ----------
    name : str
    scores : LabelledScores
        From `score_labelled`.
    calibration : Calibration
        Of the same model.
    kind : {"cost", "f1"}
    defect_share : float in (0, 1), optional
        Share of defective parts that is expected. Default for F1: that of the labelled images; for
        cost there is none.
    costs : (float, float), default (1, 1)
        Of a false alarm and of a miss.
    pixel_false_alarm_rate, pixel_value : float, one of the two
    regions : RegionSettings, optional

    Returns
    -------
    OperatingPoint

    Raises
    ------
    InputError
        Too few images, or no share of defective parts.

    Warns
    -----
    ShiftedImagesWarning
        The good images raise more alarms than those that were learned from.
    """
    good = len(scores.good)
    if defect_share is None and (kind != BY_F1 or not good or not len(scores.anomalous)):
        raise InputError(
            f"A threshold by {kind} must know the share of defective parts to expect, but it is "
            f"not given{' and there are no good images to tell' if kind == BY_F1 else ''}. "
            "Give what the line makes: --defect-share 0.01 (defect_share=0.01 in Python)."
        )
    if defect_share is None:
        defect_share = len(scores.anomalous) / (good + len(scores.anomalous))
    aim = Aim(kind=kind, defect_share=defect_share, false_alarm_cost=costs[0], miss_cost=costs[1])
    estimate = cross_validate(
        scores.good,
        scores.left_out,
        scores.anomalous,
        aim,
        defects=scores.defects,
        folder=scores.folder,
    )
    if estimate.is_shifted():
        warnings.warn(
            f"Of the good images in {scores.folder}, {estimate.false_alarms} of {good} are false "
            f"alarms, but only {estimate.false_alarms_left_out} of {estimate.left_out} of those "
            "the model learned from: they look different. Update the model with images of today.",
            ShiftedImagesWarning,
            stacklevel=2,
        )
    normal = np.concatenate([scores.good, scores.left_out])
    return make_point(
        name,
        calibration,
        value=choose_threshold(normal, scores.anomalous, aim),
        aim=aim,
        estimate=estimate,
        pixel_false_alarm_rate=pixel_false_alarm_rate,
        pixel_value=pixel_value,
        regions=regions,
    )


def _check_not_learned(samples: Sequence[Sample], is_known: Sequence[bool]) -> None:
    wrong = [
        str(sample.image)
        for sample, known in zip(samples, is_known, strict=True)
        if known and sample.is_anomalous
    ]
    if wrong:
        raise DatasetError(
            f"Defective images must not be among those that the model learned from, but "
            f"{len(wrong)} {'is' if len(wrong) == 1 else 'are'}: {', '.join(wrong[:_SHOWN])}"
            f"{' ...' if len(wrong) > _SHOWN else ''}. Correct the label, or make the model "
            "without them."
        )
