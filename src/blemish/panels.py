"""Pictures side by side, with names, decision and legend: one result at a glance.

The five panels in which results of the hybrid method are shown (image, ground truth, heat map,
predicted mask, segmentation contour), and the levels (which scale is anomalous).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blemish.arrays import BoolArray, FloatArray, UInt8Array
from blemish.visuals import (
    Boxes,
    ColourScale,
    boxed,
    colour_at,
    contour,
    displayable,
    heat_map,
    mask_picture,
    resized,
)

PAPER, INK, FAINT = (255, 255, 255), (28, 32, 38), (108, 116, 126)
ALARM, CALM = (178, 34, 20), (38, 92, 150)
MARGIN, _GAP, _HEADER, _LABELS, _LEGEND = 20, 12, 50, 28, 46
_LEGEND_WIDTH = 330


def five_panel(
    image: UInt8Array | FloatArray,
    truth: BoolArray | None,
    anomaly_map: FloatArray,
    predicted_mask: BoolArray,
    scale: ColourScale,
    *,
    title: str = "",
    decision: str | None = None,
    score: float | None = None,
    boxes: Boxes = (),
    panel_height: int = 256,
) -> UInt8Array:
    """Draw the five panels side by side, with a heading and the legend of the colours.

    Parameters
    ----------
    image : uint8 (H, W, 3), or float (H, W, 3) in 0..1
    truth : bool (H, W), or None
        Ground truth; without it that panel says so.
    anomaly_map : float (H, W)
    predicted_mask : bool (H, W)
    scale : ColourScale
    title : str, default ""
        Shortened in the middle if it is too long for the picture.
    decision : {"normal", "anomalous"}, optional
    score : float, optional
    boxes : sequence of (x, y, width, height), optional
        Of the regions, in pixels of the map; drawn on the last panel.
    panel_height : int, default 256
        Height of each panel in pixels; images are resized to it.

    Returns
    -------
    uint8 (H', W', 3)

    Raises
    ------
    ShapeError, InputError
        Shapes do not fit together, or the map holds a NaN.
    """
    picture = displayable(image)
    size = _panel_size(picture, panel_height)
    panels = [
        ("image", picture),
        ("ground truth", None if truth is None else mask_picture(truth)),
        ("heat map", heat_map(anomaly_map, scale)),
        ("predicted mask", mask_picture(predicted_mask)),
        ("segmentation contour", _large_contour(picture, predicted_mask, boxes, size)),
    ]
    return _row(panels, size, scale, title=title, decision=decision, score=score)


def level_panels(
    image: UInt8Array | FloatArray,
    level_maps: Mapping[str, FloatArray],
    scales: Mapping[str, ColourScale],
    anomaly_map: FloatArray,
    scale: ColourScale,
    *,
    title: str = "",
    decision: str | None = None,
    score: float | None = None,
    panel_height: int = 256,
) -> UInt8Array:
    """Draw the image, the heat map, and the map of every level: which scale is anomalous.

    Parameters
    ----------
    image : uint8 (H, W, 3), or float (H, W, 3) in 0..1
    level_maps : dict of str to float (H, W)
        Per layer, coarse to fine.
    scales : dict of str to ColourScale
        Of the same layers.
    anomaly_map : float (H, W)
    scale : ColourScale
        Of the anomaly map; shown in the legend.
    title, decision, score, panel_height
        As in `five_panel`.

    Returns
    -------
    uint8 (H', W', 3)
    """
    picture = displayable(image)
    size = _panel_size(picture, panel_height)
    panels: list[tuple[str, UInt8Array | None]] = [
        ("image", picture),
        ("all levels", heat_map(anomaly_map, scale)),
    ]
    panels += [(name, heat_map(found, scales[name])) for name, found in level_maps.items()]
    return _row(panels, size, scale, title=title, decision=decision, score=score)


def _panel_size(picture: UInt8Array, panel_height: int) -> tuple[int, int]:
    """Height and width of each panel: the shape of the picture, but never too narrow to see."""
    height, width = picture.shape[:2]
    return panel_height, max(48, round(width * panel_height / height))


def _row(
    panels: Sequence[tuple[str, UInt8Array | None]],
    size: tuple[int, int],
    scale: ColourScale,
    *,
    title: str,
    decision: str | None,
    score: float | None,
) -> UInt8Array:
    """Pictures side by side under a heading, above the legend."""
    label_font = ImageFont.load_default(13)
    step = max(size[1], *(int(label_font.getlength(name)) for name, _ in panels)) + _GAP
    wide = max(2 * MARGIN + len(panels) * step - _GAP, 640)
    canvas = Image.new("RGB", (wide, _HEADER + _LABELS + size[0] + _LEGEND + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw_header(draw, wide, title, decision, score)
    for index, (name, panel) in enumerate(panels):
        left, top = MARGIN + index * step, _HEADER + _LABELS
        draw.text((left, top - 9), name, fill=FAINT, font=label_font, anchor="ls")
        if panel is None:
            _draw_missing(draw, left, top, size)
        else:
            canvas.paste(Image.fromarray(resized(panel, size)), (left, top))
    draw_legend(canvas, _HEADER + _LABELS + size[0] + 14, scale)
    return np.asarray(canvas, dtype=np.uint8)


def _large_contour(
    picture: UInt8Array, predicted_mask: BoolArray, boxes: Boxes, size: tuple[int, int]
) -> UInt8Array:
    """Draw the contour at the size of the panel, so that its line does not get thin."""
    if predicted_mask.shape != picture.shape[:2]:
        return contour(picture, predicted_mask)  # which refuses
    mask = resized(mask_picture(predicted_mask), size)[..., 0] >= 128
    down, across = size[0] / picture.shape[0], size[1] / picture.shape[1]
    large = [
        (round(x * across), round(y * down), round(width * across), round(height * down))
        for x, y, width, height in boxes
    ]
    return boxed(contour(resized(picture, size), mask), large)


def draw_header(
    draw: ImageDraw.ImageDraw, wide: int, title: str, decision: str | None, score: float | None
) -> None:
    """Draw title, decision and score along the upper edge of a picture that is so wide."""
    font = ImageFont.load_default(17)
    right = wide - MARGIN
    if score is not None:
        text = f"score {score:.4g}"
        draw.text((right, 34), text, fill=INK, font=font, anchor="rs")
        right -= int(font.getlength(text)) + 14
    if decision is not None:
        length = int(font.getlength(decision))
        colour = ALARM if decision == "anomalous" else CALM
        draw.rounded_rectangle((right - length - 20, 15, right, 40), 6, fill=colour)
        draw.text((right - 10, 34), decision, fill=PAPER, font=font, anchor="rs")
        right -= length + 34
    shown = shortened(title, font, right - MARGIN)
    draw.text((MARGIN, 34), shown, fill=INK, font=font, anchor="ls")


def shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, length: float) -> str:
    """Drop characters from the middle: the start and the end of a path tell the most."""
    text = " ".join(text.split())
    if font.getlength(text) <= length:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}"
        if font.getlength(short) <= length:
            return short
    return ""


def _draw_missing(draw: ImageDraw.ImageDraw, left: int, top: int, size: tuple[int, int]) -> None:
    draw.rectangle(
        (left, top, left + size[1] - 1, top + size[0] - 1),
        fill=(244, 245, 246),
        outline=(214, 217, 220),
    )
    middle = (left + size[1] // 2, top + size[0] // 2)
    font = ImageFont.load_default(13)
    draw.text(middle, "none given", fill=FAINT, font=font, anchor="mm")


def draw_legend(canvas: Image.Image, top: int, scale: ColourScale) -> None:
    """Draw the colours of a scale, with their values, at the left margin."""
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(12)
    for column in range(_LEGEND_WIDTH):
        x = MARGIN + column
        draw.line((x, top, x, top + 11), fill=colour_at(column / (_LEGEND_WIDTH - 1)))
    ticks = ((0.0, scale.low, "", "ls"), (0.5, scale.threshold, "pixel threshold ", "ms"))
    for place, value, name, anchor in (*ticks, (1.0, scale.high, "", "rs")):
        x = MARGIN + round(place * (_LEGEND_WIDTH - 1))
        draw.line((x, top + 11, x, top + 15), fill=INK)
        draw.text((x, top + 29), f"{name}{value:.3g}", fill=FAINT, font=font, anchor=anchor)
    text = "anomaly value: one scale for all images of the model"
    draw.text((MARGIN + _LEGEND_WIDTH + 16, top + 10), text, fill=FAINT, font=font, anchor="ls")
