"""A plain weave in two colours of yarn: a texture without a fixed place for anything.

Every good image shows another piece of the same cloth: the threads lie elsewhere, are unevenly
thick and dyed, and the cloth is slightly warped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float32Array
from blemish.products.scene import (
    Scene,
    blank_scene,
    blob,
    clouds,
    disc,
    shade,
    stroke,
    wander,
)

_PITCH = 0.058  # distance between threads
_WARP = (0.20, 0.29, 0.43)
_WEFT = (0.62, 0.64, 0.66)
_BACKING = (0.06, 0.06, 0.07)


@dataclass(slots=True)
class Weave:
    """Where the threads run; a defect in the weaving changes it.

    Attributes
    ----------
    u, v : float32 (H, W)
        Position across the warp and across the weft, counted in threads.
    warp, weft : float32 (H, W)
        How much of a thread is there, 1 where it is whole.
    """

    u: Float32Array
    v: Float32Array
    warp: Float32Array
    weft: Float32Array


def draw_fabric(
    size: tuple[int, int],
    normal: np.random.Generator,
    defect: str | None,
    defective: np.random.Generator,
) -> Float32Array:
    """Draw one piece of cloth, without camera noise.

    Parameters
    ----------
    size : (int, int)
        Image height and width.
    normal : numpy.random.Generator
        Chooses what differs between good pieces.
    defect : str or None
        A key of `FABRIC_DEFECTS`, or None for a good piece.
    defective : numpy.random.Generator
        Chooses what the defect looks like; unused for a good piece.

    Returns
    -------
    float32 (H, W, 3)
        RGB, about 0..1, not clipped. The same `normal` gives the same piece with and without a
        defect, so the two differ in the defect only.
    """
    angle = float(normal.normal(0, np.deg2rad(1.0)))
    shift = (float(normal.uniform(-0.5, 0.5)) * _PITCH, float(normal.uniform(-0.5, 0.5)) * _PITCH)
    scene = blank_scene(size, shift=shift, angle=angle, background=_BACKING)
    weave = _new_weave(scene, normal)
    weaving = FABRIC_DEFECTS[defect][0] if defect else None
    surface = FABRIC_DEFECTS[defect][1] if defect else None
    if weaving:
        weaving(scene, weave, defective)
    _draw_threads(scene, weave, normal)
    if surface:
        surface(scene, defective)
    scene.colour *= np.float32(normal.normal(1.0, 0.02))
    return shade(
        scene,
        direction=float(normal.normal(-2.0, 0.1)),
        tilt=float(normal.normal(0.06, 0.02)),
        strength=0.9,
        gloss=0.04,
    )


def _new_weave(scene: Scene, normal: np.random.Generator) -> Weave:
    whole = np.ones(scene.size, np.float32)
    u = scene.x / np.float32(_PITCH) + np.float32(0.12) * clouds(normal, scene.size, 4)
    v = scene.y / np.float32(_PITCH) + np.float32(0.12) * clouds(normal, scene.size, 4)
    return Weave(u + np.float32(500), v + np.float32(500), whole, whole.copy())


def _draw_threads(scene: Scene, weave: Weave, normal: np.random.Generator) -> None:
    which_u, which_v = np.floor(weave.u).astype(int), np.floor(weave.v).astype(int)
    round_u = np.sin(np.float32(np.pi) * (weave.u % 1)) * weave.warp
    round_v = np.sin(np.float32(np.pi) * (weave.v % 1)) * weave.weft
    over = np.where((which_u + which_v) % 2 == 0, np.float32(1), np.float32(-1))
    wave = (
        over * np.sin(np.float32(np.pi) * (weave.u % 1)) * np.sin(np.float32(np.pi) * (weave.v % 1))
    )
    warp_height = np.sqrt(round_u) * (1 + np.float32(0.6) * wave) - (1 - weave.warp)
    weft_height = np.sqrt(round_v) * (1 - np.float32(0.6) * wave) - (1 - weave.weft)
    front = np.clip(np.float32(0.5) + 6 * (warp_height - weft_height), 0, 1)
    dye_u = normal.normal(1, 0.045, 1024).astype(np.float32)[which_u % 1024]
    dye_v = normal.normal(1, 0.035, 1024).astype(np.float32)[which_v % 1024]
    fluff = 1 + np.float32(0.05) * normal.standard_normal(scene.size, dtype=np.float32)
    top = np.maximum(warp_height, weft_height)
    there = np.clip(top * np.float32(2.5), 0, 1) * fluff
    body = np.float32(0.45) + np.float32(0.55) * np.clip(top, 0, 1.3) / np.float32(1.3)
    warp = np.asarray(_WARP, np.float32) * (dye_u * front)[..., None]
    weft = np.asarray(_WEFT, np.float32) * (dye_v * (1 - front))[..., None]
    scene.colour += there[..., None] * ((warp + weft) * body[..., None] - scene.colour)
    scene.height += np.float32(0.010) * np.clip(top, -0.2, 2)


def _somewhere(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    wide, high = scene.size[1] * scene.pixel / 2, scene.size[0] * scene.pixel / 2
    return float(rng.uniform(-0.75, 0.75) * wide), float(rng.uniform(-0.75, 0.75) * high)


def _broken_thread(scene: Scene, weave: Weave, rng: np.random.Generator) -> None:
    x, y = _somewhere(scene, rng)
    reach = rng.uniform(0.12, 0.4)
    at_u = np.abs(scene.x - np.float32(x)) < scene.pixel
    here = at_u & (np.abs(scene.y - np.float32(y)) < scene.pixel)
    row, column = (int(index[0]) for index in np.nonzero(here))
    threads = rng.integers(1, 3)
    if rng.random() < 0.5:
        across, along, target = weave.u, scene.y - np.float32(y), weave.warp
    else:
        across, along, target = weave.v, scene.x - np.float32(x), weave.weft
    first = np.floor(across[row, column])
    gone = (np.floor(across) >= first) & (np.floor(across) < first + threads)
    target *= 1 - scene.coverage(np.abs(along) - np.float32(reach), softness=0.03) * gone


def _snag(scene: Scene, weave: Weave, rng: np.random.Generator) -> None:
    x, y = _somewhere(scene, rng)
    radius, turn = rng.uniform(0.12, 0.24), rng.uniform(0, 2 * np.pi)
    away = np.hypot(scene.x - np.float32(x), scene.y - np.float32(y)) / np.float32(radius)
    pull = np.clip(1 - away * away, 0, 1) ** 2 * np.float32(rng.uniform(0.8, 1.8))
    weave.u += pull * np.float32(np.cos(turn))
    weave.v += pull * np.float32(np.sin(turn))


def _hole(scene: Scene, weave: Weave, rng: np.random.Generator) -> None:
    gap = blob(scene, _somewhere(scene, rng), rng.uniform(0.035, 0.1), rng)
    left = 1 - scene.coverage(gap, softness=0.02)
    weave.warp *= left
    weave.weft *= left


def _stain(scene: Scene, rng: np.random.Generator) -> None:
    spot = blob(scene, _somewhere(scene, rng), rng.uniform(0.09, 0.22), rng)
    covered = scene.coverage(spot, softness=rng.uniform(0.03, 0.08))
    tone = ((0.28, 0.19, 0.10), (0.10, 0.12, 0.10), (0.40, 0.33, 0.18))[rng.integers(3)]
    scene.paint(covered, tone, rng.uniform(0.22, 0.6))


def _contamination(scene: Scene, rng: np.random.Generator) -> None:
    tone = ((0.78, 0.20, 0.16), (0.85, 0.80, 0.62), (0.05, 0.05, 0.05))[rng.integers(3)]
    centre = _somewhere(scene, rng)
    if rng.random() < 0.6:
        yarn = stroke(scene, wander(rng, centre, rng.uniform(0.25, 0.6), 2.0, 14), 0.011)
        scene.paint(scene.coverage(yarn), tone, 0.85)
        return
    for _ in range(rng.integers(1, 4)):
        at = (centre[0] + float(rng.normal(0, 0.06)), centre[1] + float(rng.normal(0, 0.06)))
        speck = scene.coverage(disc(scene, at, float(rng.uniform(0.018, 0.035))), softness=0.01)
        scene.paint(speck, tone, 0.9)


Weaving = Callable[[Scene, Weave, np.random.Generator], None]
Surface = Callable[[Scene, np.random.Generator], None]

FABRIC_DEFECTS: Mapping[str, tuple[Weaving | None, Surface | None]] = {
    "broken_thread": (_broken_thread, None),
    "contamination": (None, _contamination),
    "hole": (_hole, None),
    "snag": (_snag, None),
    "stain": (None, _stain),
}
