"""An explanation as one picture: where, unlike what, by which layers and channels, how rarely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blemish.arrays import Float32Array, UInt8Array
from blemish.explanation import words
from blemish.explanation.explanation import Explanation
from blemish.model import Model
from blemish.panels import (
    ALARM,
    CALM,
    FAINT,
    INK,
    MARGIN,
    PAPER,
    draw_header,
    draw_legend,
    shortened,
)
from blemish.results import colour_scale
from blemish.visuals import ColourScale, boxed, displayable, heat_map, overlay, resized

_WIDE, _GAP = 1400, 14
_HEADER, _LINE, _LABEL = 50, 21, 26
_PANEL = 256  # least height of the pictures of the first row, at most
_BAR, _ROW = 13, 34
_CHANNELS = 8
_ZOOM = 3.0  # side of the patch in boxes
_LEAST_ZOOM = 0.2  # of the shorter side of the image
_TRACK = (238, 240, 242)
_GOOD = (120, 160, 200)


def explanation_picture(model: Model, explanation: Explanation) -> UInt8Array:
    """Draw an explanation.

    Parameters
    ----------
    model : Model
        Its colours are those of all its pictures.
    explanation : Explanation

    Returns
    -------
    uint8 (H', 1400, 3)
    """
    scale = colour_scale(model)
    sheet = _Sheet(explanation, scale)
    sheet.sentences()
    sheet.pictures()
    sheet.layers()
    sheet.channels_and_scores()
    return sheet.picture()


class _Sheet:
    """A picture that grows downwards, row by row."""

    def __init__(self, explanation: Explanation, scale: ColourScale) -> None:
        self._found, self._scale = explanation, scale
        self._canvas = Image.new("RGB", (_WIDE, 2400), PAPER)
        self._draw = ImageDraw.Draw(self._canvas)
        self._top = _HEADER
        draw_header(
            self._draw,
            _WIDE,
            explanation.image,
            words.decision(explanation),
            explanation.image_score,
        )

    def picture(self) -> UInt8Array:
        """What was drawn, with the legend of the colours below."""
        draw_legend(self._canvas, self._top + 8, self._scale)
        whole = np.asarray(self._canvas, dtype=np.uint8)
        return np.ascontiguousarray(whole[: self._top + 56])

    def sentences(self) -> None:
        """Say it in words."""
        found = self._found
        lines = [
            words.verdict(found),
            words.why(found),
            *words.rarity(found.tail, approximate=found.is_approximate),
        ]
        if found.is_training_image:
            lines.append("The model has learned from this very image: its score is too low.")
        font = ImageFont.load_default(14)
        for line in lines:
            self._text(MARGIN, self._top + 15, shortened(line, font, _WIDE - 2 * MARGIN), size=14)
            self._top += _LINE
        self._top += 6

    def pictures(self) -> None:
        """Image and heat map with the peaks; the first peak beside what good images look like."""
        found = self._found
        image, anomaly_map = displayable(found.pixels), found.anomaly_map
        peaks = [peak.input_box for peak in found.peaks]
        first = peaks[0]
        aligned = ", aligned" if found.is_aligned else ""
        usual = "what parts are aligned to" if found.is_aligned else "mean of the good images"
        panels: list[tuple[str, UInt8Array]] = [
            (f"image{aligned}", _with_boxes(image, peaks)),
            ("anomaly map", _with_boxes(overlay(image, anomaly_map, self._scale), peaks)),
            ("1: this image", _patch(found.pixels, first)),
            (f"1: {usual}", _patch(found.mean_pixels, first)),
        ]
        for patch, where in ((found.similar, "here"), (found.similar_anywhere, "anywhere")):
            if patch is not None and patch.pixels is not None:
                panels.append(
                    (f"most similar {where}: {patch.image}", _patch(patch.pixels, patch.box))
                )
        side = (_WIDE - 2 * MARGIN - _GAP * (len(panels) - 1)) // len(panels)
        self._row([(name, picture) for name, picture in panels], min(side, _PANEL), side)
        captions = []
        if len(peaks) > 1:
            captions.append(words.boxes(found))
        if found.similar is not None:
            captions.append(f"Most similar: {words.likeness(found.similar)}.")
        for caption in captions:
            self._text(MARGIN, self._top + 8, caption, FAINT)
            self._top += _LINE

    def layers(self) -> None:
        """Map of every layer, and what it adds to the score."""
        found, side = self._found, 150
        left, top = MARGIN, self._top
        for layer in found.layers:
            picture = heat_map(found.layer_maps[layer.layer], _own_scale(self._scale, layer.median))
            fitted = _fitted(picture, side, side)
            self._text(left, top + 16, layer.layer, FAINT)
            self._canvas.paste(Image.fromarray(fitted), (left, top + _LABEL))
            left += side + _GAP
        bars = [
            (words.layer_name(layer), layer.image, words.layer_text(layer))
            for layer in found.layers
        ]
        if found.constant:
            bars.append(("standardisation", found.constant, f"{found.constant:.4g}"))
        title = "what each layer adds to the score"
        below = self._bars(left + 16, top, _WIDE - MARGIN - left - 16, title, bars)
        self._text(
            MARGIN,
            top + _LABEL + side + 16,
            "layers: black is the median of this image",
            FAINT,
            size=12,
        )
        self._top = max(top + _LABEL + side + _LINE, below) + 8

    def channels_and_scores(self) -> None:
        """What the channels add, and where the score lies among those of good images."""
        found, top = self._found, self._top
        half = 800
        bars = [
            (words.channel_name(each), each.contribution, words.channel_text(each))
            for each in found.channels[:_CHANNELS]
        ]
        title = "what the strongest channels add to the score"
        below = self._bars(MARGIN, top, half, title, bars) + _LINE
        rest = sum(each.contribution for each in found.channels[_CHANNELS:]) + found.other_channels
        self._text(MARGIN, below - 6, words.others(found, rest), FAINT)
        area = (MARGIN + half + 40, top, _WIDE - MARGIN, max(below - 10, top + 230))
        self._histogram(area)
        self._top = max(below, area[3] + 20)

    def _row(self, panels: Sequence[tuple[str, UInt8Array]], high: int, wide: int) -> None:
        """Pictures side by side, each with a name."""
        font = ImageFont.load_default(13)
        for index, (name, picture) in enumerate(panels):
            left = MARGIN + index * (wide + _GAP)
            fitted = _fitted(picture, high, wide)
            self._text(left, self._top + 16, shortened(name, font, wide), FAINT)
            self._canvas.paste(Image.fromarray(fitted), (left, self._top + _LABEL))
        self._top += _LABEL + high + 12

    def _bars(
        self, left: int, top: int, wide: int, title: str, bars: Sequence[tuple[str, float, str]]
    ) -> int:
        """Bars with a name above each and a text beside; returns where they end."""
        self._text(left, top + 16, title, INK, size=14)
        top += _LABEL
        font = ImageFont.load_default(13)
        most = max(max((abs(value) for _, value, _ in bars), default=1.0), 1e-12)
        track = wide // 2 - 20
        for name, value, text in bars:
            self._text(left, top + 12, shortened(name, font, track), INK)
            self._draw.rectangle((left, top + 17, left + track, top + 17 + _BAR), fill=_TRACK)
            length = round(track * abs(value) / most)
            colour = CALM if value >= 0 else FAINT
            self._draw.rectangle((left, top + 17, left + length, top + 17 + _BAR), fill=colour)
            place = left + track + 12
            shown = shortened(text, font, wide - track - 12)
            self._text(place, top + 17 + _BAR - 1, shown, FAINT)
            top += _ROW
        return top

    def _histogram(self, area: tuple[int, int, int, int]) -> None:
        """Scores of good images, the threshold, and this image."""
        left, top, right, bottom = area
        found = self._found
        self._text(
            left,
            top + 16,
            f"score of this image among those of {len(found.good_scores)} good images",
            INK,
            size=14,
        )
        top, bottom = top + 70, bottom - 22
        scores, threshold = np.asarray(found.good_scores), found.threshold
        low = float(min(scores.min(), found.image_score))
        reach = max(float(scores.max()), threshold)
        high = max(reach, min(found.image_score, reach + 2 * (reach - low)))
        margin = 0.03 * (high - low) or 0.5
        low, high = low - margin, high + margin

        def at(value: float) -> int:
            return left + round((right - left) * (min(value, high) - low) / (high - low))

        edges = np.linspace(low, high, 61)
        counts = np.histogram(scores, edges)[0]
        for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
            if count:
                tip = bottom - max(2, round((bottom - top) * float(count) / float(counts.max())))
                self._draw.rectangle((at(start), tip, at(end) - 1, bottom), fill=_GOOD)
        self._draw.line((left, bottom, right, bottom), fill=FAINT)
        for y in range(top - 14, bottom, 9):
            self._draw.line((at(threshold), y, at(threshold), min(y + 5, bottom)), fill=INK)
        colour = ALARM if found.is_anomalous else CALM
        here = at(found.image_score)
        self._draw.line((here, top - 30, here, bottom), fill=colour, width=3)
        self._label(at(threshold), top - 16, f"threshold {threshold:.4g}", INK, area)
        arrow = " beyond the axis" if found.image_score > high else ""
        self._label(here, top - 34, f"this image {found.image_score:.4g}{arrow}", colour, area)
        middle, most = float(np.median(scores)), float(scores.max())
        self._label(at(middle), bottom + 16, f"median {middle:.4g}", FAINT, area)
        self._label(
            max(at(most), at(middle) + 130), bottom + 16, f"highest {most:.4g}", FAINT, area
        )

    def _label(
        self,
        x: int,
        y: int,
        text: str,
        colour: tuple[int, int, int],
        area: tuple[int, int, int, int],
    ) -> None:
        """Text centred at x, but within the area."""
        length = ImageFont.load_default(13).getlength(text)
        left = min(max(x - length / 2, area[0]), area[2] - length)
        self._text(round(left), y, text, colour)

    def _text(
        self, x: int, y: int, text: str, colour: tuple[int, int, int] = INK, *, size: int = 13
    ) -> None:
        self._draw.text((x, y), text, fill=colour, font=ImageFont.load_default(size), anchor="ls")


def _with_boxes(
    picture: UInt8Array, boxes: Sequence[tuple[float, float, float, float]]
) -> UInt8Array:
    """Numbered boxes on a picture, enlarged first so that they stay thin."""
    factor = max(1, round(512 / min(picture.shape[:2])))
    size = (picture.shape[0] * factor, picture.shape[1] * factor)
    x, y, wide, high = range(4)
    large = [tuple(round(factor * box[k]) for k in (x, y, wide, high)) for box in boxes]
    return boxed(resized(picture, size), [(b[0], b[1], b[2], b[3]) for b in large])


def _patch(pixels: Float32Array, box: tuple[float, float, float, float]) -> UInt8Array:
    """Square around a box, enlarged, with the box in it."""
    height, width = pixels.shape[:2]
    side = round(max(_ZOOM * max(box[2:]), _LEAST_ZOOM * min(height, width), 8))
    side = min(side, height, width)
    left = round(min(max(box[0] + box[2] / 2 - side / 2, 0), width - side))
    top = round(min(max(box[1] + box[3] / 2 - side / 2, 0), height - side))
    cut = displayable(pixels[top : top + side, left : left + side])
    factor = 512 / side
    inner = [round(factor * value) for value in (box[0] - left, box[1] - top, box[2], box[3])]
    large = Image.fromarray(resized(cut, (512, 512)))
    draw = ImageDraw.Draw(large)
    x, y, wide, high = inner
    for grow, colour in ((1, (0, 0, 0)), (0, (255, 255, 255))):
        draw.rectangle(
            (x - grow, y - grow, x + wide + grow, y + high + grow), outline=colour, width=3
        )
    return np.asarray(large, dtype=np.uint8)


def _fitted(picture: UInt8Array, high: int, wide: int) -> UInt8Array:
    """A picture made as large as fits into so many pixels."""
    factor = min(high / picture.shape[0], wide / picture.shape[1])
    size = (max(1, round(picture.shape[0] * factor)), max(1, round(picture.shape[1] * factor)))
    return resized(picture, size)


def _own_scale(scale: ColourScale, median: float) -> ColourScale:
    """Colours of a layer's map: from its median in the image, as steep as the model's own."""
    base = max(median, 1e-6)
    steep = max(scale.threshold / max(scale.low, 1e-6), 1.0 + 1e-3)
    return ColourScale.from_normal(median=base, threshold=base * steep)
