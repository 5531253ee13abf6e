"""A scene is a relief and its colours; light makes an image of them.

Everything is drawn into two layers: `height`, the relief, whose slopes catch the light, and
`colour`, what the surface reflects. A dent is then only a lower height, a stain only another
colour, and both are lit as the rest of the part is.

Lengths are in half the shorter image side: x grows to the right, y downwards, and the centre of
the frame is (0, 0), so the shorter side runs from -1 to 1. Shapes are signed distances, negative
inside, and edges are smooth over one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blemish.arrays import Float32Array

Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

_TEXT_PIXELS = 96  # font size of the stencil a text is sampled from


@dataclass(slots=True)
class Scene:
    """What is in front of the camera, before light and noise.

    Attributes
    ----------
    x, y : float32 (H, W)
        Where each pixel lies on the part.
    pixel : float
        Side of one pixel, in the unit of `x` and `y`.
    height : float32 (H, W)
        Relief, in the same unit; larger is nearer to the camera.
    colour : float32 (H, W, 3)
        RGB reflectance in 0..1.
    """

    x: Float32Array
    y: Float32Array
    pixel: float
    height: Float32Array
    colour: Float32Array

    @property
    def size(self) -> tuple[int, int]:
        """Image height and width in pixels."""
        return self.x.shape[0], self.x.shape[1]

    def coverage(self, distance: Float32Array, softness: float = 0.0) -> Float32Array:
        """How much of each pixel a shape covers, 0..1.

        Parameters
        ----------
        distance : float32 (H, W)
            Signed distance to the edge, negative inside.
        softness : float >= 0, default 0
            Width of a blurred edge; 0 blurs over one pixel only.
        """
        width = max(self.pixel, softness)
        linear = np.clip(0.5 - distance / width, 0, 1)
        if softness > self.pixel:
            linear = linear * linear * (3 - 2 * linear)
        return np.asarray(linear, np.float32)

    def paint(self, coverage: Float32Array, colour: Colour, opacity: float = 1.0) -> None:
        """Cover the surface with a colour where `coverage` is 1."""
        rows, columns = (np.flatnonzero(coverage.any(axis=axis)) for axis in (1, 0))
        if len(rows) == 0:
            return
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        alpha = (coverage[window] * np.float32(opacity))[..., None]
        part = self.colour[window]
        part += alpha * (np.asarray(colour, dtype=np.float32) - part)

    def lift(self, coverage: Float32Array, amount: float) -> None:
        """Raise the surface (or lower it, by a negative `amount`) where `coverage` is 1."""
        self.height += coverage * np.float32(amount)


def blank_scene(
    size: tuple[int, int], *, shift: tuple[float, float], angle: float, background: Colour
) -> Scene:
    """Return an empty scene whose part lies `shift` off the centre, turned by `angle` radians."""
    height, width = size
    pixel = 2.0 / min(size)
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * np.float32(pixel)
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * np.float32(pixel)
    right, down = np.meshgrid(columns - np.float32(shift[0]), rows - np.float32(shift[1]))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    colour = np.empty((height, width, 3), np.float32)
    colour[:] = background
    return Scene(
        x=cos * right + sin * down,
        y=cos * down - sin * right,
        pixel=pixel,
        height=np.zeros(size, np.float32),
        colour=colour,
    )


def disc(scene: Scene, centre: tuple[float, float], radius: float) -> Float32Array:
    """Signed distance to a circle, float32 (H, W)."""
    x, y = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    distance: Float32Array = np.sqrt(x * x + y * y) - np.float32(radius)
    return distance


def box(scene: Scene, half: tuple[float, float], radius: float) -> Float32Array:
    """Signed distance to a rectangle with round corners about (0, 0), float32 (H, W)."""
    outside_x = np.abs(scene.x) - np.float32(half[0] - radius)
    outside_y = np.abs(scene.y) - np.float32(half[1] - radius)
    corner = np.hypot(np.maximum(outside_x, 0), np.maximum(outside_y, 0))
    inside = np.minimum(np.maximum(outside_x, outside_y), 0)
    distance: Float32Array = corner + inside - np.float32(radius)
    return distance


def hexagon(scene: Scene, centre: tuple[float, float], radius: float, angle: float) -> Float32Array:
    """Signed distance (exact inside) to a hexagon with that inner radius, float32 (H, W)."""
    x, y = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    sides = [
        np.abs(x * np.float32(np.cos(angle + turn)) + y * np.float32(np.sin(angle + turn)))
        for turn in (0.0, np.pi / 3, 2 * np.pi / 3)
    ]
    farthest = np.maximum(np.maximum(sides[0], sides[1]), sides[2])
    distance: Float32Array = farthest - np.float32(radius)
    return distance


def stroke(scene: Scene, points: Points, half_width: float) -> Float32Array:
    """Signed distance to a line through `points`, thinner towards its ends, float32 (H, W)."""
    nearest = np.full(scene.size, np.inf, np.float32)
    last = len(points) - 1
    for index in range(last):
        (x0, y0), (x1, y1) = points[index], points[index + 1]
        dx, dy = x1 - x0, y1 - y0
        length = max(dx * dx + dy * dy, 1e-12)
        along = np.clip(
            ((scene.x - np.float32(x0)) * np.float32(dx / length))
            + ((scene.y - np.float32(y0)) * np.float32(dy / length)),
            0,
            1,
        )
        away = np.hypot(
            scene.x - np.float32(x0) - along * np.float32(dx),
            scene.y - np.float32(y0) - along * np.float32(dy),
        )
        place = (along + index) / np.float32(last)
        taper = np.float32(0.35) + np.float32(0.65) * np.sin(np.float32(np.pi) * place)
        nearest = np.minimum(nearest, away - np.float32(half_width) * taper)
    return nearest


def blob(
    scene: Scene, centre: tuple[float, float], radius: float, rng: np.random.Generator
) -> Float32Array:
    """Approximate signed distance to an uneven patch, float32 (H, W)."""
    x, y = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    turn = rng.uniform(0, np.pi)
    cos, sin, flat = np.float32(np.cos(turn)), np.float32(np.sin(turn)), rng.uniform(0.6, 1.0)
    across, along = cos * x + sin * y, (cos * y - sin * x) / np.float32(flat)
    angle = np.arctan2(along, across)
    edge = np.full(scene.size, radius, np.float32)
    for waves in (2, 3, 5):
        swing = radius * rng.uniform(0.05, 0.22) / np.sqrt(waves)
        edge += np.float32(swing) * np.cos(waves * angle + np.float32(rng.uniform(0, 6.3)))
    distance: Float32Array = np.hypot(across, along) - edge
    return distance


def wander(
    rng: np.random.Generator, start: tuple[float, float], length: float, bend: float, steps: int = 8
) -> list[tuple[float, float]]:
    """Points of a line that starts anywhere near `start` and slowly changes its direction."""
    heading, turn = rng.uniform(0, 2 * np.pi), rng.normal(0, bend)
    x = start[0] - 0.5 * length * np.cos(heading)
    y = start[1] - 0.5 * length * np.sin(heading)
    points = [(float(x), float(y))]
    for _ in range(steps):
        heading += (turn + rng.normal(0, bend)) / steps
        x += length / steps * np.cos(heading)
        y += length / steps * np.sin(heading)
        points.append((float(x), float(y)))
    return points


def clouds(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Float32Array:
    """Smooth noise of mean 0 and deviation near 1, `cells` bumps a side, float32 (H, W)."""
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))


def brushed(rng: np.random.Generator, size: tuple[int, int], length: int) -> Float32Array:
    """Noise drawn out sideways as on brushed metal, mean 0, deviation near 1, float32 (H, W)."""
    grain = rng.standard_normal(size, dtype=np.float32)
    drawn: Float32Array = cv2.blur(grain, (length, 1)) * np.float32(np.sqrt(length))
    return drawn


def lettering(scene: Scene, text: str, centre: tuple[float, float], height: float) -> Float32Array:
    """How much of each pixel the letters of `text` cover, 0..1, float32 (H, W)."""
    stencil = _stencil(text)
    scale = _TEXT_PIXELS / height
    column = (scene.x - np.float32(centre[0])) * np.float32(scale) + (stencil.shape[1] - 1) / 2
    row = (scene.y - np.float32(centre[1])) * np.float32(scale) + (stencil.shape[0] - 1) / 2
    spread = scene.pixel * scale / 2  # blur to the pixel size first, so that thin strokes survive
    soft = cv2.GaussianBlur(stencil, (0, 0), spread) if spread > 0.3 else stencil
    return np.asarray(
        cv2.remap(
            soft,
            column.astype(np.float32),
            row.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
    )


@lru_cache(maxsize=64)
def _stencil(text: str) -> Float32Array:
    font = ImageFont.load_default(_TEXT_PIXELS)
    left, top, right, bottom = font.getbbox(text)
    margin = _TEXT_PIXELS // 2
    canvas = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin))
    ImageDraw.Draw(canvas).text((margin - left, margin - top), text, fill=255, font=font)
    covered: Float32Array = np.asarray(canvas, dtype=np.float32) / np.float32(255)
    return covered


def shade(
    scene: Scene, *, direction: float, tilt: float, strength: float, gloss: float
) -> Float32Array:
    """Light the scene from one side and see it through a slightly soft lens.

    Parameters
    ----------
    scene : Scene
    direction : float, radians
        Where the light comes from; 0 is the right, growing clockwise.
    tilt : float
        How much brighter the near side of the frame is than its centre.
    strength : float
        How strongly slopes brighten or darken.
    gloss : float
        Strength of the highlight on slopes that face the light.

    Returns
    -------
    float32 (H, W, 3)
        Not clipped; about 0..1.
    """
    light_x, light_y = np.float32(np.cos(direction)), np.float32(np.sin(direction))
    slope_x = cv2.Scharr(scene.height, cv2.CV_32F, 1, 0, scale=1 / (32 * scene.pixel))
    slope_y = cv2.Scharr(scene.height, cv2.CV_32F, 0, 1, scale=1 / (32 * scene.pixel))
    facing = -(slope_x * light_x + slope_y * light_y) * np.float32(strength)
    facing /= np.sqrt(1 + facing * facing)  # no slope is brighter than full light
    gradient = 1 + np.float32(tilt) * (scene.x * light_x + scene.y * light_y)
    lit = scene.colour * (gradient * (1 + np.float32(0.55) * facing))[..., None]
    lit += (np.float32(gloss) * np.maximum(facing, 0) ** 3)[..., None]
    return np.asarray(cv2.GaussianBlur(lit, (0, 0), 0.55))
