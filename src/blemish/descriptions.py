"""Metrics, thresholds and models in words, for the command line and the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.calibration import Calibration
from blemish.clips import FrameMetrics
from blemish.evaluation import Evaluation
from blemish.inference import MOST_DRIFT
from blemish.journal import JournalEntry
from blemish.lifecycle.same_images import some
from blemish.lifecycle.steps import Change
from blemish.model import Model
from blemish.operating_points import OperatingPoint
from blemish.regions import RegionSettings
from blemish.scorer import WITH_STATISTICS
from blemish.threshold import FIXED, LABELLED, TAIL_BOUND, Threshold
from blemish.threshold_choice import BY_COST, Aim, Estimate

_PIMO_LEVELS = 300
_MOST_NAMES = 30


def metric_rows(evaluation: Evaluation) -> dict[str, float | str]:
    """Metrics as the report and the command line show them."""
    named = {
        "image AUROC": evaluation.image_auroc,
        "image AP": evaluation.image_ap,
        "image F1-max": evaluation.image_f1_max,
        "pixel AUROC": evaluation.pixel_auroc,
        "pixel AP": evaluation.pixel_ap,
        "pixel F1-max": evaluation.pixel_f1_max,
        "PRO (FPR <= 0.3)": evaluation.pro,
        "AUPIMO": evaluation.aupimo,
    }
    rows: dict[str, float | str] = {k: v for k, v in named.items() if v is not None}
    rows |= _frame_rows(evaluation.frames)
    levels = evaluation.aupimo_levels
    if evaluation.aupimo is not None and levels is not None and levels < _PIMO_LEVELS:
        rows["AUPIMO"] = f"{evaluation.aupimo:.4f} (rough: too few good test images)"
    if evaluation.blank_masks:
        rows["masks outside the input"] = f"{evaluation.blank_masks} images"
    if evaluation.unaligned:
        rows["not aligned"] = f"{evaluation.unaligned} images: they count as alarms"
    if evaluation.good_images:
        low, high = evaluation.false_alarm_interval
        rows["false alarms"] = (
            f"{evaluation.false_alarms} of {evaluation.good_images} good images "
            f"(95 % interval of the rate: {low:.1%} to {high:.1%})"
        )
    if evaluation.anomalous_images:
        rows["missed"] = f"{evaluation.missed} of {evaluation.anomalous_images} anomalous images"
    return rows


def _frame_rows(frames: FrameMetrics | None) -> dict[str, float | str]:
    """Metrics of the frames of clips; that of all frames only if it is not the image AUROC."""
    if frames is None:
        return {}
    steps = [f"smoothed over {frames.smoothing:g} frames"] if frames.smoothing else []
    steps += ["scaled per clip"] if frames.scaled else []
    how = f" ({', '.join(steps)})" if steps else ""
    rows: dict[str, float | str] = {}
    if frames.auroc is not None and steps:
        rows["frame AUROC"] = f"{frames.auroc:.4f}{how}"
    if frames.clip_auroc is not None:
        clips = f"mean of {frames.mixed_clips} clips"
        rows["clip AUROC"] = f"{frames.clip_auroc:.4f} ({', '.join([clips, *steps])})"
    return rows


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Metrics, and what was found of every kind of defect, as aligned lines of text."""
    lines = [
        f"{name:<18} {value if isinstance(value, str) else format(value, '.4f')}"
        for name, value in metric_rows(evaluation).items()
    ]
    for defect, (found, images) in evaluation.recall_per_defect.items():
        lines.append(f"{'found ' + defect:<18} {found} of {images}")
    return lines


def threshold_text(threshold: Threshold) -> str:
    """One sentence on where a threshold comes from and what it promises."""
    low, high = threshold.interval
    known = "approximate leave-one-out scores" if threshold.approximate else "leave-one-out scores"
    if threshold.method == TAIL_BOUND:
        of = " (approximate scores)" if threshold.approximate else ""
        return (
            f"{threshold.value:.6g}, from {threshold.images} images{of}: too few for "
            f"{threshold.false_alarm_rate:.2%} false alarms, which need "
            f"{threshold.images_needed}; fallback: mean + std * sqrt((1-a)/a), a careful bound "
            "that misses more defects"
        )
    if threshold.method == LABELLED:
        return (
            f"{threshold.value:.6g}, chosen by labelled images; false-alarm rate {low:.2%} to "
            f"{high:.2%} with {threshold.confidence:.0%} confidence, from {threshold.images} "
            "normal scores by cross-validation"
        )
    if threshold.method == FIXED:
        return (
            f"{threshold.value:.6g}, as given; reached by {threshold.false_alarm_rate:.2%} of "
            f"{threshold.images} {known}, long-run rate {low:.2%} to {high:.2%} with "
            f"{threshold.confidence:.0%} confidence"
        )
    return (
        f"{threshold.value:.6g}, for at most {threshold.false_alarm_rate:.2%} false alarms; "
        f"long-run rate {low:.2%} to {high:.2%} with {threshold.confidence:.0%} confidence, "
        f"from {threshold.images} {known}"
    )


def point_text(point: OperatingPoint, calibration: Calibration) -> str:
    """`point_lines` as one line."""
    return "; ".join(point_lines(point, calibration))


def point_lines(point: OperatingPoint, calibration: Calibration) -> list[str]:
    """Say of an operating point what its thresholds are, and how good."""
    parts = [threshold_text(point.threshold(calibration))]
    if point.aim is not None and point.estimate is not None:
        parts = [
            f"{point.value:.6g}, {_chosen_text(point.aim, point.estimate)}",
            _errors_text(point.aim, point.estimate),
        ]
    pixel, rate = point.pixel_threshold(calibration), point.pixel_false_alarm_rate
    by = "as given" if rate is None else f"for {rate:.2%} of the pixels of good images"
    parts += [f"pixel threshold {pixel:.4g}, {by}", *_region_texts(point.regions)]
    if point.is_older_than(calibration):
        parts.append("OLDER than the model, which has changed since: set it anew")
    return parts


def labelled_note(model: Model, threshold: Threshold) -> str:
    """Say that labelled images chose the threshold of a model, which flatters it; "" if not."""
    estimate = model.operating_points.get().estimate
    if threshold.method != LABELLED or estimate is None:
        return ""
    return (
        f"the threshold was chosen by {estimate.defective} defective and {estimate.good} good "
        f"images of {estimate.folder}. If these are among them, false alarms and misses are "
        "flattered: measure on others."
    )


def _chosen_text(aim: Aim, estimate: Estimate) -> str:
    """What labelled images chose a threshold for, and which they were."""
    what = "the largest F1"
    if aim.kind == BY_COST:
        what = f"the least cost (false alarm {aim.false_alarm_cost:g}, miss {aim.miss_cost:g})"
    return (
        f"for {what} with {aim.defect_share:.2%} defective parts, chosen by "
        f"{estimate.defective} defective and {estimate.good} good images of {estimate.folder} and "
        f"{estimate.left_out} leave-one-out scores"
    )


def _errors_text(aim: Aim, estimate: Estimate) -> str:
    """Errors on images that did not choose the threshold."""
    (low, high), (least, most) = estimate.false_alarm_interval(), estimate.miss_interval()
    name = "cost per part" if aim.kind == BY_COST else "F1"
    worst, best = estimate.figure_interval(aim)
    return (
        f"by {estimate.folds}-fold cross-validation {estimate.false_alarm_rate:.2%} false alarms "
        f"({low:.2%} to {high:.2%}), {estimate.miss_rate:.2%} missed ({least:.2%} to {most:.2%}), "
        f"{name} {estimate.figure(aim):.4g} ({worst:.4g} to {best:.4g}), 95% intervals; thresholds "
        f"of the folds {estimate.lowest:.6g} to {estimate.highest:.6g}"
    )


def _region_texts(regions: RegionSettings) -> list[str]:
    """What is unlike the default of the regions that are told."""
    usual, texts = RegionSettings(), []
    if regions.min_area:
        texts.append(f"regions from {regions.min_area:g} {regions.area_unit}")
    if regions.max_regions != usual.max_regions:
        texts.append(f"at most {regions.max_regions} regions")
    if regions.mm_per_pixel is not None:
        texts.append(f"{regions.mm_per_pixel:g} mm per pixel")
    return texts


def rejected_text(model: Model) -> str:
    """Which images a fit with `reject_outliers` left out, the highest scores first."""
    rejected = model.fitted.rejected
    if rejected is None or not rejected.names:
        return "no image"
    highest = np.argsort(-rejected.scores, kind="stable")
    shown = [f"{rejected.names[k] or 'array'} ({rejected.scores[k]:.4g})" for k in highest]
    count = len(shown)
    more = f" and {count - _MOST_NAMES} more" if count > _MOST_NAMES else ""
    return (
        f"{count} image{'s' if count > 1 else ''} as outliers, with image scores from "
        f"{rejected.limit:.4g} on: {', '.join(shown[:_MOST_NAMES])}{more}"
    )


_CALIBRATED = {
    "images": "calibrated on all images",
    "features": "calibrated on the features kept of all images",
    "combined": "calibrations put together, approximate until blemish calibrate is run",
}


def journal_lines(journal: Sequence[JournalEntry]) -> list[str]:
    """What happened to a model, oldest first, a line each."""
    return [
        f"{entry.when[:10]} {entry.when[11:16]}  {_happened(entry)}, "
        f"{_CALIBRATED[entry.calibration]}"
        for entry in journal
    ]


def _left_out(entry: JournalEntry) -> str:
    return f", {len(entry.rejected)} rejected as outliers" if entry.rejected else ""


def _happened(entry: JournalEntry) -> str:
    if entry.action == "merge":
        parts = " and ".join(str(journal[-1].count) for journal in entry.merged)
        return f"merged models of {parts} images: {entry.count} images"
    words = {
        "fit": f"fitted on {images_text(entry.added)}{_left_out(entry)}",
        "update": f"added {images_text(entry.added)}: {entry.count} images",
        "forget": f"forgot {images_text(entry.removed)}: {entry.count} images",
        "calibrate": f"looked at {entry.count} images once more",
    }
    return words[entry.action]


def images_text(count: int) -> str:
    """Number of images.

    Examples
    --------
    >>> images_text(1), images_text(2)
    ('1 image', '2 images')
    """
    return f"{count} image{'' if count == 1 else 's'}"


def change_lines(before: Sequence[Model], change: Change) -> list[str]:
    """What a step in a model's life changed, as lines of text."""
    model, happened = change.model, _happened(change.entry)
    lines = [f"{happened[0].upper()}{happened[1:]}."]
    if change.skipped:
        lines.append(f"Skipped {len(change.skipped)} known already: {some(change.skipped)}.")
    if change.unlike:
        lines.append(
            f"Look at {images_text(len(change.unlike))} of those added, anomalous by the scores of "
            f"the others: {some(change.unlike)}."
        )
    old = " and ".join(f"{each.threshold().value:.6g}" for each in before)
    lines.append(f"Threshold {old} before; now {threshold_text(model.threshold())}.")
    how = _CALIBRATED[change.entry.calibration]
    lines.append(f"{how[0].upper()}{how[1:]}.")
    if change.entry.calibration == "combined" and _moves(model):
        lines.append(
            "Scores are standardised by what is normal, which is approximate too: calibrate before "
            "the model is relied on."
        )
    older = [
        point.name for point in model.operating_points if point.is_older_than(model.calibration)
    ]
    if older:
        lines.append(
            f"Operating points older than the model now: {', '.join(older)}. Set them anew."
        )
    return lines


def _moves(model: Model) -> bool:
    """Whether scores depend on more than the moments."""
    return (
        model.settings.standardise
        or model.settings.separate
        or (model.settings.score in WITH_STATISTICS)
    )


def _choice(model: Model) -> str:
    """How the dimensions were chosen, if there was a choice."""
    selections = model.embedding.selections
    if all(
        selection is not None and len(selection) == layer.channels
        for selection, layer in zip(selections, model.backbone.layers, strict=True)
    ):
        return "all there are"
    return f"{model.settings.reduction}, seed {model.settings.seed}"


def _pixel_text(model: Model) -> str:
    rate = model.operating_points.get().pixel_false_alarm_rate
    by = "as given" if rate is None else f"reached by {rate:.2%} of the pixels of good images"
    return f"{model.pixel_threshold():.4g}, {by}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _covariance_text(model: Model) -> str:
    """How the covariances are regularised, and what they are over."""
    how = [part.regularisation for part in model.parts]
    ridges = ", ".join(f"{each.ridge:.4g}" for each in how)
    return (
        f"weight {how[0].weight:.4g}, ridge {ridges}, shrinkage {model.settings.shrinkage}"
        + (", shared by all positions" if model.settings.shared else "")
        + (f", neighbourhood {near}" if (near := model.settings.neighbourhood) else "")
        + (", each layer by itself" if len(how) > 1 else "")
    )


def _alignment_text(model: Model) -> str:
    """How parts are aligned, and how well good ones are."""
    alignment, placements = model.fitted.alignment, model.fitted.records.placements
    if alignment is None or placements is None:
        return "none"
    low, high = placements[:, -1].min(), placements[:, -1].max()
    return (
        f"{alignment.kind}; good images correlate with the reference by {low:.3f} to {high:.3f}, "
        f"{alignment.least_correlation:.3f} is needed"
    )


def model_facts(model: Model, threshold: Threshold | None = None) -> dict[str, str]:
    """What a model is, in words: for `info` and the report."""
    settings, pyramid = model.settings, model.pyramid
    height, width = model.size
    levels = [
        f"{name} {dims} at {grid[0]}x{grid[1]}"
        for name, dims, grid in zip(model.level_names, pyramid.dims, pyramid.grids, strict=True)
    ]
    highest = "positions" if settings.separate else "pixels"
    facts = {
        "images learned from": str(model.count),
        "backbone": f"{model.backbone.name} (licence {model.backbone.licence})",
        "input": f"{height}x{width} pixels (height x width), preset {settings.preset}",
        "embedding": f"{sum(pyramid.dims)} dimensions, {_choice(model)}: " + ", ".join(levels),
        "covariance": _covariance_text(model),
        "score": settings.score
        + (f", mean of the {settings.top_k} highest {highest}" if settings.top_k > 1 else ""),
        "map": f"{settings.upsampling}, blur {settings.blur}"
        + (f", sigma {settings.sigma:g} px" if settings.blur != "none" else ""),
        "image threshold": threshold_text(threshold or model.threshold()),
        "pixel threshold": _pixel_text(model),
    }
    if model.fitted.operating_points:
        facts["default point"] = model.operating_points.default
    for point in model.operating_points if model.fitted.operating_points else ():
        facts[f"point {point.name}"] = point_text(point, model.calibration)
    return {**facts, **_scoring_facts(model), **_image_facts(model)}


def _scoring_facts(model: Model) -> dict[str, str]:
    """What else decides a score, where it is not usual."""
    settings, facts = model.settings, {}
    if any(window > 1 for window in model.embedding.windows):
        facts["averaging"] = "windows of " + ", ".join(map(str, model.embedding.windows))
    if settings.map_weights and settings.image_weights:
        facts["weights of layers"] = (
            f"in the map {_numbers(settings.map_weights)}, in the image score "
            f"{_numbers(settings.image_weights)}, fine to coarse"
        )
    if model.fitted.alignment is not None:
        facts["alignment"] = _alignment_text(model)
    if settings.standardise:
        facts["standardised"] = "scores of every position, by what is usual there"
    if model.fitted.bf16_drift is not None:
        facts["bf16"] = (
            f"moves scores of good images by up to {model.fitted.bf16_drift:.3f} of their standard "
            f"deviation: {'used' if model.fitted.bf16_drift <= MOST_DRIFT else 'not used'} unless "
            "asked otherwise"
        )
    return facts


def _image_facts(model: Model) -> dict[str, str]:
    """What is done to images, and known of those learned from, where it is not usual."""
    settings, facts = model.settings, {}
    if model.calibration.approximate:
        facts["calibration"] = _CALIBRATED["combined"]
    if model.fitted.kept is not None:
        facts["features"] = f"kept of all {model.count} images"
    if model.fitted.rejected is not None:
        facts["rejected"] = rejected_text(model)
    if settings.value_range:
        facts["value range"] = "{:g} (black) to {:g} (white)".format(*settings.value_range)
    if model.ignored is not None:
        facts["ignored"] = f"{np.mean(model.ignored):.1%} of the pixels"
    if settings.roi:
        facts["region of interest"] = "x {}, y {}, {}x{} pixels".format(*settings.roi)
    return facts
