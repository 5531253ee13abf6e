"""A brushed steel plate: four screws, two dowel holes, a brass bushing, a number, a colour dot.

An object in a fixed pose: always the same place and size, apart from the small shift and rotation
of a real fixture. The screws are turned as chance has it, which is normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from blemish.arrays import Float32Array
from blemish.products.scene import (
    Scene,
    blank_scene,
    blob,
    box,
    brushed,
    clouds,
    disc,
    hexagon,
    lettering,
    shade,
    stroke,
    wander,
)

_HALF = (0.72, 0.66)  # half width and half height of the plate
_STEEL = (0.60, 0.62, 0.64)
_BRASS = (0.72, 0.56, 0.30)
_DARK = (0.055, 0.058, 0.065)
_TABLE = (0.135, 0.155, 0.175)
_DOT = (0.12, 0.36, 0.62)
_SCREWS = ((-0.54, -0.48), (0.54, -0.48), (-0.54, 0.48), (0.54, 0.48))
_DOWELS = ((-0.46, 0.0), (0.46, 0.0))
_TEXT_AT = (0.0, 0.47)
_DOT_AT = (0.0, -0.48)


@dataclass(slots=True)
class Parts:
    """What the plate is made of; a defect in the making changes it."""

    screws: list[bool] = field(default_factory=lambda: [True] * len(_SCREWS))
    dowels: list[bool] = field(default_factory=lambda: [True] * len(_DOWELS))
    bushing: bool = True
    dot: bool = True
    text: str = "BL-2704"
    text_shift: tuple[float, float] = (0.0, 0.0)
    text_strength: float = 1.0
    text_copies: int = 1


def draw_plate(
    size: tuple[int, int],
    normal: np.random.Generator,
    defect: str | None,
    defective: np.random.Generator,
) -> Float32Array:
    """Draw one plate, without camera noise.

    Parameters
    ----------
    size : (int, int)
        Image height and width.
    normal : numpy.random.Generator
        Chooses what differs between good plates.
    defect : str or None
        A key of `PLATE_DEFECTS`, or None for a good plate.
    defective : numpy.random.Generator
        Chooses what the defect looks like; unused for a good plate.

    Returns
    -------
    float32 (H, W, 3)
        RGB, about 0..1, not clipped. The same `normal` gives the same plate with and without a
        defect, so the two differ in the defect only.
    """
    shift = (float(normal.normal(0, 0.008)), float(normal.normal(0, 0.008)))
    angle = float(normal.normal(0, np.deg2rad(0.7)))
    scene = blank_scene(size, shift=shift, angle=angle, background=_TABLE)
    parts = Parts()
    making = PLATE_DEFECTS[defect][0] if defect else None
    surface = PLATE_DEFECTS[defect][1] if defect else None
    if making:
        making(parts, defective)
    _draw_table(scene, normal)
    _draw_steel(scene, normal)
    _draw_features(scene, parts, normal)
    if surface:
        surface(scene, defective)
    scene.colour *= np.float32(normal.normal(1.0, 0.02))
    return shade(
        scene,
        direction=float(normal.normal(-2.2, 0.08)),
        tilt=float(normal.normal(0.08, 0.02)),
        strength=1.3,
        gloss=float(normal.normal(0.35, 0.03)),
    )


def _draw_table(scene: Scene, normal: np.random.Generator) -> None:
    scene.colour *= (1 + np.float32(0.05) * clouds(normal, scene.size, 9))[..., None]
    shadow = box(scene, (_HALF[0] + 0.01, _HALF[1] + 0.01), 0.10)
    scene.paint(scene.coverage(shadow - np.float32(0.02), softness=0.14), (0.03, 0.03, 0.035), 0.75)


def _draw_steel(scene: Scene, normal: np.random.Generator) -> None:
    edge = box(scene, _HALF, 0.09)
    scene.paint(scene.coverage(edge), _STEEL)
    scene.lift(scene.coverage(edge + np.float32(0.012), softness=0.035), 0.03)
    short = max(3, round(0.06 / scene.pixel))
    grain = 0.6 * brushed(normal, scene.size, short) + 0.8 * brushed(normal, scene.size, 4 * short)
    metal = scene.coverage(edge)
    sheen = np.float32(0.03) * clouds(normal, scene.size, 3)
    scene.colour *= (1 + metal * (np.float32(0.035) * grain + sheen))[..., None]


def _draw_features(scene: Scene, parts: Parts, normal: np.random.Generator) -> None:
    turns = normal.uniform(0, np.pi / 3, len(_SCREWS))
    for present, centre, turn in zip(parts.screws, _SCREWS, turns, strict=True):
        _draw_hole(scene, centre, 0.088)
        if present:
            _draw_screw(scene, centre, float(turn))
    for present, centre in zip(parts.dowels, _DOWELS, strict=True):
        if present:
            _draw_hole(scene, centre, 0.052)
    _draw_hole(scene, (0.0, 0.0), 0.235)
    turned, dot_x = float(normal.uniform(0, 6.3)), float(normal.normal(0, 0.006))
    if parts.bushing:
        _draw_bushing(scene, turned)
    if parts.dot:
        dot = disc(scene, (_DOT_AT[0] + dot_x, _DOT_AT[1]), 0.062)
        scene.paint(scene.coverage(dot), _DOT, 0.9)
    for copy in range(parts.text_copies):
        x = _TEXT_AT[0] + parts.text_shift[0] * (copy or parts.text_copies == 1)
        y = _TEXT_AT[1] + parts.text_shift[1] * (copy or parts.text_copies == 1)
        letters = lettering(scene, parts.text, (x, y), 0.135)
        scene.lift(letters, -0.006 * parts.text_strength)
        scene.paint(letters, (0.16, 0.165, 0.17), 0.8 * parts.text_strength)


def _draw_hole(scene: Scene, centre: tuple[float, float], radius: float) -> None:
    edge = disc(scene, centre, radius)
    scene.lift(scene.coverage(edge - np.float32(0.012), softness=0.03), -0.02)
    scene.paint(scene.coverage(edge), _DARK)


def _draw_screw(scene: Scene, centre: tuple[float, float], turn: float) -> None:
    edge = disc(scene, centre, 0.077)
    scene.paint(scene.coverage(edge), (0.43, 0.44, 0.455))
    scene.lift(scene.coverage(edge + np.float32(0.012), softness=0.026), 0.028)
    socket = hexagon(scene, centre, 0.036, turn)
    scene.paint(scene.coverage(socket), (0.07, 0.07, 0.08))
    scene.lift(scene.coverage(socket, softness=0.014), -0.012)


def _draw_bushing(scene: Scene, turned: float) -> None:
    outer, inner = disc(scene, (0.0, 0.0), 0.222), disc(scene, (0.0, 0.0), 0.125)
    ring = scene.coverage(np.maximum(outer, -inner))
    scene.paint(ring, _BRASS)
    scene.lift(scene.coverage(np.maximum(outer, -inner) + np.float32(0.01), softness=0.03), 0.026)
    radius = np.hypot(scene.x, scene.y)
    grooves = np.sin(radius * np.float32(260) + np.float32(turned))
    scene.colour *= (1 + np.float32(0.03) * ring * grooves)[..., None]


def _on_plate(scene: Scene) -> Float32Array:
    return scene.coverage(box(scene, _HALF, 0.09))


def _somewhere(rng: np.random.Generator, reach: float = 0.85) -> tuple[float, float]:
    return (
        float(rng.uniform(-_HALF[0], _HALF[0]) * reach),
        float(rng.uniform(-_HALF[1], _HALF[1]) * reach),
    )


def _beside_holes(rng: np.random.Generator) -> tuple[float, float]:
    """Choose a place on the bare steel, where a shallow defect can be seen."""
    while True:
        x, y = _somewhere(rng)
        holes = [*((hole, 0.14) for hole in (*_SCREWS, *_DOWELS)), ((0.0, 0.0), 0.30)]
        if all(np.hypot(x - at[0], y - at[1]) > radius for at, radius in holes):
            return x, y


def _scratch(scene: Scene, rng: np.random.Generator) -> None:
    points = wander(rng, _beside_holes(rng), rng.uniform(0.18, 0.7), bend=0.5)
    line = stroke(scene, points, rng.uniform(0.005, 0.013))
    covered = scene.coverage(line) * _on_plate(scene)
    scene.lift(covered, -0.008)
    bright = rng.random() < 0.6
    scene.paint(covered, (0.86, 0.87, 0.88) if bright else (0.3, 0.3, 0.31), rng.uniform(0.4, 0.9))


def _dent(scene: Scene, rng: np.random.Generator) -> None:
    x, y = _beside_holes(rng)
    radius = rng.uniform(0.045, 0.11)
    away = np.hypot(scene.x - np.float32(x), scene.y - np.float32(y)) / np.float32(radius)
    bowl = np.clip(1 - away * away, 0, 1) ** 2 * _on_plate(scene)
    scene.lift(bowl, -radius * rng.uniform(0.12, 0.3))


def _stain(scene: Scene, rng: np.random.Generator) -> None:
    spot = blob(scene, _somewhere(rng), rng.uniform(0.07, 0.2), rng)
    covered = scene.coverage(spot, softness=rng.uniform(0.02, 0.06)) * _on_plate(scene)
    tone = ((0.30, 0.20, 0.11), (0.33, 0.25, 0.16), (0.22, 0.24, 0.30))[rng.integers(3)]
    scene.paint(covered, tone, rng.uniform(0.18, 0.6))


def _contamination(scene: Scene, rng: np.random.Generator) -> None:
    tone = ((0.82, 0.80, 0.74), (0.15, 0.13, 0.12), (0.62, 0.22, 0.17))[rng.integers(3)]
    centre = _somewhere(rng, 0.8)
    if rng.random() < 0.5:
        hair = stroke(scene, wander(rng, centre, rng.uniform(0.2, 0.45), 2.2, 14), 0.008)
        scene.paint(scene.coverage(hair), tone, 0.9)
        return
    for _ in range(rng.integers(2, 7)):
        at = (centre[0] + rng.normal(0, 0.05), centre[1] + rng.normal(0, 0.05))
        grain = scene.coverage(blob(scene, at, rng.uniform(0.014, 0.032), rng))
        scene.paint(grain, tone, 0.95)
        scene.lift(grain, 0.012)


def _chip(scene: Scene, rng: np.random.Generator) -> None:
    side, along = rng.integers(4), rng.uniform(-0.8, 0.8)
    places = ((1, along), (-1, along), (along, 1), (along, -1))
    at = (places[side][0] * (_HALF[0] + 0.01), places[side][1] * (_HALF[1] + 0.01))
    bite = blob(scene, at, rng.uniform(0.05, 0.11), rng)
    inside = np.maximum(bite, box(scene, _HALF, 0.09))
    scene.lift(scene.coverage(inside, softness=0.02), -0.03)
    scene.paint(scene.coverage(inside), (0.085, 0.09, 0.10))


def _missing_part(parts: Parts, rng: np.random.Generator) -> None:
    which = rng.integers(8)
    if which < 4:
        parts.screws[which] = False
    elif which < 6:
        parts.dowels[which - 4] = False
    elif which == 6:
        parts.bushing = False
    else:
        parts.dot = False


def _misprint(parts: Parts, rng: np.random.Generator) -> None:
    fault = rng.integers(4)
    if fault == 0:
        parts.text = ("BL-27O4", "BL-2784", "BL-270", "DL-2704", "BL-2740")[rng.integers(5)]
    elif fault == 1:
        parts.text_shift = (float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.1)), 0.0)
    elif fault == 2:
        parts.text_strength = float(rng.uniform(0.1, 0.45))
    else:
        parts.text_copies = 2
        parts.text_shift = (float(rng.uniform(0.02, 0.04)), float(rng.uniform(0.015, 0.03)))


Making = Callable[[Parts, np.random.Generator], None]
Surface = Callable[[Scene, np.random.Generator], None]

PLATE_DEFECTS: Mapping[str, tuple[Making | None, Surface | None]] = {
    "chip": (None, _chip),
    "contamination": (None, _contamination),
    "dent": (None, _dent),
    "misprint": (_misprint, None),
    "missing_part": (_missing_part, None),
    "scratch": (None, _scratch),
    "stain": (None, _stain),
}
