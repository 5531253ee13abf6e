"""Model and labelled samples -> metrics. The only place that sees ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, FloatArray
from blemish.clips import ClipScores, FrameMetrics, frame_metrics
from blemish.datasets import Sample, load_mask, read_dataset
from blemish.errors import AlignmentError, DatasetError, ImageError
from blemish.images import image_size
from blemish.inspection import Inspected, inspect_images
from blemish.metrics import Curve, auroc, average_precision, f1_max, roc_curve
from blemish.model import Model, Progress
from blemish.pixel_metrics import PixelScores
from blemish.preprocessing import check_mask_size
from blemish.threshold import Threshold, rate_interval

PRO_LIMIT = 0.3

OnImage = Callable[[Sample, Inspected, "BoolArray | None"], None]
"""Called with every sample, what was found, and its mask (H, W) in the frame of the map."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model does on labelled images. None: undefined for these samples.

    Attributes
    ----------
    image_auroc, image_ap, image_f1_max : float in 0..1
        F1-max is at the best threshold for these very images: an upper bound, not a forecast.
    pixel_auroc, pixel_ap, pixel_f1_max : float in 0..1
    pro : float in 0..1
        Mean overlap per defect region, over false-positive rates up to 0.3, divided by 0.3.
    aupimo : float in 0..1
        Mean per-image overlap at shared false-positive rates from 1e-5 to 1e-4.
    images, good_images, anomalous_images : int
    threshold : Threshold
        The model's own, from its training images.
    false_alarms, missed : int
        Good images at or above it, anomalous ones below it.
    recall_per_defect : dict of str to (found, images)
    unreadable : int
        Images that could not be read and do not count.
    unaligned : int
        Images whose part could not be aligned. A line sets them aside, so they count as alarms:
        above all scored images, with a map of 0 in which nothing is found.
    blank_masks : int
        Anomalous images whose mask shows nothing within the network's input: cropped away.
    aupimo_levels : int
        False-positive rates the good images resolve within AUPIMO's bounds. Its authors call 300
        the least for a reliable value.
    curves : dict of str to Curve
        "image ROC", "pixel ROC" and "PRO", as far as defined.
    frames : FrameMetrics or None
        Of the images that are frames of video clips.
    """

    image_auroc: float | None
    image_ap: float | None
    image_f1_max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1_max: float | None
    pro: float | None
    aupimo: float | None
    images: int
    good_images: int
    anomalous_images: int
    threshold: Threshold
    false_alarms: int
    missed: int
    recall_per_defect: dict[str, tuple[int, int]]
    unreadable: int = 0
    unaligned: int = 0
    blank_masks: int = 0
    aupimo_levels: int | None = None
    curves: dict[str, Curve] = field(default_factory=dict, repr=False)
    frames: FrameMetrics | None = field(default=None, repr=False)

    @property
    def false_alarm_interval(self) -> tuple[float, float]:
        """Clopper-Pearson 95 % interval of the false-alarm rate seen."""
        return rate_interval(self.false_alarms, self.good_images)

    def to_json(self) -> dict[str, object]:
        """All but the curves, as plain data."""
        low, high = self.false_alarm_interval
        return {
            "image_auroc": self.image_auroc,
            "image_ap": self.image_ap,
            "image_f1_max": self.image_f1_max,
            "pixel_auroc": self.pixel_auroc,
            "pixel_ap": self.pixel_ap,
            "pixel_f1_max": self.pixel_f1_max,
            "pro": self.pro,
            "pro_fpr_limit": PRO_LIMIT,
            "aupimo": self.aupimo,
            "aupimo_levels": self.aupimo_levels,
            "blank_masks": self.blank_masks,
            "images": self.images,
            "good_images": self.good_images,
            "anomalous_images": self.anomalous_images,
            "unreadable": self.unreadable,
            "unaligned": self.unaligned,
            "threshold": self.threshold.value,
            "threshold_method": self.threshold.method,
            "false_alarm_rate_asked": self.threshold.false_alarm_rate,
            "false_alarms": self.false_alarms,
            "false_alarm_rate_interval": [low, high],
            "missed": self.missed,
            "recall_per_defect": {
                defect: {"found": found, "images": images}
                for defect, (found, images) in self.recall_per_defect.items()
            },
            "frames": None if self.frames is None else self.frames.to_json(),
        }


def evaluate(
    model: Model,
    samples: Sequence[Sample] | Path | str,
    *,
    false_alarm_rate: float | None = None,
    clip_smoothing: float = 0.0,
    clip_scaling: bool = False,
    progress: Progress | None = None,
    on_image: OnImage | None = None,
) -> Evaluation:
    """Score labelled samples and measure.

    Parameters
    ----------
    model : Model
    samples : sequence of Sample, or folder of a data set
        Of a folder, the test images.
    false_alarm_rate : float in (0, 1), optional
        For the decisions; the metrics need no threshold.
    clip_smoothing, clip_scaling : float in frames, bool
        For `Evaluation.frames`, and nothing else: see `clips.frame_metrics`.
    progress, on_image : functions, optional

    Returns
    -------
    Evaluation

    Raises
    ------
    DatasetError
        No sample could be read.
    InputError
        A mask has another size than its image.

    Examples
    --------
    >>> import tempfile
    >>> from blemish import FitSettings, fit
    >>> from blemish.generated import write_product
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_product(Path(place), train=20, good=3, defective=1, size=(64, 64))
    ...     model = fit(place, FitSettings(size=(64, 64), dims=(5, 5, 5)))
    ...     measured = evaluate(model, place)
    >>> measured.good_images, measured.anomalous_images, measured.pixel_auroc > 0.5
    (3, 7, True)
    """
    if isinstance(samples, Path | str):
        samples = read_dataset(Path(samples), split="test")
    if not samples:
        raise DatasetError("There must be samples to evaluate, but there are none. Give some.")
    _check_masks(samples)
    frame_metrics([], smoothing=clip_smoothing)  # refuses what is wrong before any work
    gathered = _Gathered(model)
    sources = [sample.source for sample in samples]
    inspected = inspect_images(model, sources, false_alarm_rate=false_alarm_rate, progress=progress)
    for sample, found in zip(samples, inspected, strict=True):
        mask = gathered.add(sample, found)
        if on_image is not None:
            on_image(sample, found, mask)
    if not gathered.scores:
        raise DatasetError(
            f"There must be images to evaluate, but none of {len(samples)} could be read. "
            "Check the files."
        )
    clips = gathered.clips.clips()
    frames = frame_metrics(clips, smoothing=clip_smoothing, scaled=clip_scaling) if clips else None
    return replace(gathered.evaluation(model.threshold(false_alarm_rate)), frames=frames)


def _check_masks(samples: Sequence[Sample]) -> None:
    """Refuse a mask of another size before any work; only headers are read."""
    for sample in samples:
        if sample.mask is None or sample.mask_frame is not None:
            continue
        try:
            image = image_size(sample.image)
        except ImageError:
            continue  # reported in its turn
        check_mask_size(image_size(sample.mask), image, sample.mask)


class _Gathered:
    """Scores, labels and pixels, as they come in."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._valid = None if model.ignored is None else ~model.ignored
        self._pixels: PixelScores | None = PixelScores()
        self.scores: list[float] = []
        self.clips = ClipScores()
        self._defects: list[str] = []
        self._labels: list[bool] = []
        self._unreadable = self._unaligned = 0

    def add(self, sample: Sample, found: Inspected) -> BoolArray | None:
        """Take in one sample; return its mask in the frame of the map."""
        score = None if found.decision is None else found.decision.score
        if sample.clip:
            value = None if score is None else score.image_score
            self.clips.add(sample.clip, value, is_anomalous=sample.is_anomalous)
        set_aside = isinstance(found.error, AlignmentError)
        self._unaligned += set_aside
        if score is None and not set_aside:
            self._unreadable += 1
            return None
        self.scores.append(np.inf if score is None else score.image_score)
        self._labels.append(sample.is_anomalous)
        self._defects.append(sample.defect)
        mask = self._mask(sample)
        if sample.is_anomalous and mask is None:
            self._pixels = None  # without all masks there is no pixel metric
        if self._pixels is not None:
            blank = np.zeros(self._model.size, np.float32)
            found_map = blank if score is None else score.anomaly_map
            self._pixels.add(found_map, mask, valid=self._valid)
        return mask

    def _mask(self, sample: Sample) -> BoolArray | None:
        mask = load_mask(sample)
        if mask is None or sample.mask is None:
            return None
        check_mask_size(mask.shape, image_size(sample.image), sample.mask)
        if sample.motion is not None:
            mask = sample.motion.apply_to_mask(mask)
        return self._model.preprocessing.apply_to_mask(mask)

    def evaluation(self, threshold: Threshold) -> Evaluation:
        scores, labels = np.array(self.scores), np.array(self._labels)
        scored = scores[np.isfinite(scores)]  # the others are above all, and above the threshold
        scores[np.isinf(scores)] = scored.max(initial=threshold.value) + 1
        both = bool(labels.any() and not labels.all())
        pixels = self._pixels if self._pixels is not None and self._pixels.regions else None
        normal = bool((~labels).any())
        alarms = scores >= threshold.value
        pimo = pixels.aupimo() if pixels is not None and normal else None
        curves: dict[str, Curve] = {}
        if both:
            curves["image ROC"] = roc_curve(scores, labels)
        if pixels is not None:
            curves["pixel ROC"] = pixels.roc_curve()
            curves["PRO"] = pixels.pro_curve(fpr_limit=PRO_LIMIT)
        return Evaluation(
            image_auroc=auroc(scores, labels) if both else None,
            image_ap=average_precision(scores, labels) if both else None,
            image_f1_max=f1_max(scores, labels)[0] if both else None,
            pixel_auroc=pixels.auroc() if pixels else None,
            pixel_ap=pixels.average_precision() if pixels else None,
            pixel_f1_max=pixels.f1_max()[0] if pixels else None,
            pro=pixels.pro(PRO_LIMIT) if pixels else None,
            aupimo=pimo.mean if pimo else None,
            aupimo_levels=pimo.levels if pimo else None,
            blank_masks=self._pixels.blank_masks if self._pixels is not None else 0,
            images=len(scores),
            good_images=int((~labels).sum()),
            anomalous_images=int(labels.sum()),
            threshold=threshold,
            false_alarms=int((alarms & ~labels).sum()),
            missed=int((~alarms & labels).sum()),
            recall_per_defect=self._recall(alarms),
            unreadable=self._unreadable,
            unaligned=self._unaligned,
            curves=curves,
        )

    def _recall(self, alarms: FloatArray | BoolArray) -> dict[str, tuple[int, int]]:
        kinds = sorted({d for d, bad in zip(self._defects, self._labels, strict=True) if bad})
        defects = np.array(self._defects)
        return {
            kind: (int(alarms[defects == kind].sum()), int((defects == kind).sum()))
            for kind in kinds
        }
