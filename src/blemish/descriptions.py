"""Metrics, thresholds and models in words, for the command line and the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.evaluation import Evaluation
from blemish.inference import MOST_DRIFT
from blemish.model import Model
from blemish.threshold import TAIL_BOUND, Threshold

_PIMO_LEVELS = 300


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
    levels = evaluation.aupimo_levels
    if evaluation.aupimo is not None and levels is not None and levels < _PIMO_LEVELS:
        rows["AUPIMO"] = f"{evaluation.aupimo:.4f} (rough: too few good test images)"
    if evaluation.blank_masks:
        rows["masks outside the input"] = f"{evaluation.blank_masks} images"
    if evaluation.good_images:
        low, high = evaluation.false_alarm_interval
        rows["false alarms"] = (
            f"{evaluation.false_alarms} of {evaluation.good_images} good images "
            f"(95 % interval of the rate: {low:.1%} to {high:.1%})"
        )
    if evaluation.anomalous_images:
        rows["missed"] = f"{evaluation.missed} of {evaluation.anomalous_images} anomalous images"
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
    if threshold.method == TAIL_BOUND:
        return (
            f"{threshold.value:.6g}, from {threshold.images} images: too few for "
            f"{threshold.false_alarm_rate:.2%} false alarms, which need "
            f"{threshold.images_needed}; fallback: mean + std * sqrt((1-a)/a), a careful bound "
            "that misses more defects"
        )
    return (
        f"{threshold.value:.6g}, for at most {threshold.false_alarm_rate:.2%} false alarms; "
        f"long-run rate {low:.2%} to {high:.2%} with {threshold.confidence:.0%} confidence, "
        f"from {threshold.images} leave-one-out scores"
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


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _covariance_text(model: Model) -> str:
    """How the covariances are regularised, and what they are over."""
    how = [part.regularisation for part in model.parts]
    ridges = ", ".join(f"{each.ridge:.4g}" for each in how)
    return (
        f"weight {how[0].weight:.4g}, ridge {ridges}, shrinkage {model.settings.shrinkage}"
        + (", shared by all positions" if model.settings.shared else "")
        + (", each layer by itself" if len(how) > 1 else "")
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
        "pixel threshold": f"{model.pixel_threshold():.4g}, reached by "
        f"{settings.pixel_false_alarm_rate:.2%} of the pixels of good images",
    }
    if any(window > 1 for window in model.embedding.windows):
        facts["averaging"] = "windows of " + ", ".join(map(str, model.embedding.windows))
    if settings.map_weights and settings.image_weights:
        facts["weights of layers"] = (
            f"in the map {_numbers(settings.map_weights)}, in the image score "
            f"{_numbers(settings.image_weights)}, fine to coarse"
        )
    if settings.standardise:
        facts["standardised"] = "scores of every position, by what is usual there"
    if model.fitted.bf16_drift is not None:
        facts["bf16"] = (
            f"moves scores of good images by up to {model.fitted.bf16_drift:.3f} of their standard "
            f"deviation: {'used' if model.fitted.bf16_drift <= MOST_DRIFT else 'not used'} unless "
            "asked otherwise"
        )
    if settings.value_range:
        facts["value range"] = "{:g} (black) to {:g} (white)".format(*settings.value_range)
    if model.ignored is not None:
        facts["ignored"] = f"{np.mean(model.ignored):.1%} of the pixels"
    if settings.roi:
        facts["region of interest"] = "x {}, y {}, {}x{} pixels".format(*settings.roi)
    return facts
