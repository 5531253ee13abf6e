"""Writes a product that was never made, in the folder layout of MVTec AD.

Good parts with the variation of a real line, defective ones, and masks that are exact: each
defective part is drawn twice, with and without its defect, and the mask is where the two differ.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from blemish.arrays import BoolArray, Float32Array, UInt8Array
from blemish.errors import InputError, OutputError
from blemish.products import FABRIC_DEFECTS, PLATE_DEFECTS, draw_fabric, draw_plate

Draw = Callable[
    [tuple[int, int], np.random.Generator, "str | None", np.random.Generator], Float32Array
]

_PRODUCTS: Mapping[str, tuple[Draw, tuple[str, ...]]] = {
    "plate": (draw_plate, tuple(PLATE_DEFECTS)),
    "fabric": (draw_fabric, tuple(FABRIC_DEFECTS)),
}
PRODUCTS: Mapping[str, tuple[str, ...]] = {name: made[1] for name, made in _PRODUCTS.items()}
"""The products that can be drawn, and the names of their defects."""

SMALLEST_SIDE = 64
_VISIBLE = 5 / 255  # a smaller change is below the camera's noise
_NOISE = 0.010
_PARTIAL = ".unfinished"


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawn image.

    Attributes
    ----------
    image : uint8 (H, W, 3)
        RGB.
    mask : bool (H, W)
        True where the defect is; False everywhere for a good part.
    """

    image: UInt8Array
    mask: BoolArray


def draw_product(
    product: str,
    *,
    seed: int = 0,
    split: str = "train",
    defect: str = "good",
    index: int = 0,
    size: tuple[int, int] = (256, 256),
) -> Drawing:
    """Draw one image of a product and its mask.

    What is drawn depends on the arguments only, never on what was drawn before.

    Parameters
    ----------
    product : str
        A key of `PRODUCTS`.
    seed : int >= 0, default 0
    split : str, default "train"
    defect : str, default "good"
        "good" or one of ``PRODUCTS[product]``.
    index : int >= 0, default 0
        Number of the image within its split and defect.
    size : (int, int), default (256, 256)
        Image height and width, each at least 64.

    Raises
    ------
    InputError
        An argument is out of range, or names no product or defect.

    Examples
    --------
    >>> drawing = draw_product("plate", split="test", defect="scratch")
    >>> drawing.image.shape, bool(drawing.mask.any())
    ((256, 256, 3), True)
    """
    _check(product, seed=seed, size=size)
    draw, defects = _PRODUCTS[product]
    if defect != "good" and defect not in defects:
        raise InputError(
            f"A defect of {product} must be good or one of {', '.join(defects)}, but is {defect}. "
            "Choose one of these."
        )
    key = [seed, zlib.crc32(f"{product}/{split}/{defect}".encode()), index]

    def chance(stream: int) -> np.random.Generator:
        return np.random.default_rng([*key, stream])

    seen = draw(size, chance(0), None if defect == "good" else defect, chance(1))
    mask = np.zeros(size, np.bool_)
    if defect != "good":
        mask = _difference(seen, draw(size, chance(0), None, chance(1)))
    noise = np.float32(_NOISE) * chance(2).standard_normal(seen.shape, dtype=np.float32)
    image = np.clip((seen + noise) * 255, 0, 255).round().astype(np.uint8)
    return Drawing(image, mask)


def write_product(
    folder: Path,
    *,
    product: str = "plate",
    seed: int = 0,
    train: int = 60,
    good: int = 20,
    defective: int = 10,
    size: tuple[int, int] = (256, 256),
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the images of a drawn product as PNG files, in the layout of MVTec AD.

    ``train/good/000.png``, ``test/<defect>/000.png``, ``ground_truth/<defect>/000_mask.png``.
    The same arguments give the same bytes, and more images leave the first ones as they are.
    Either all is written or nothing.

    Parameters
    ----------
    folder : Path
        Made if it is missing; must be empty otherwise.
    product : str, default "plate"
        "plate", an object in a fixed pose, or "fabric", a texture.
    seed : int >= 0, default 0
    train, good : int >= 0, default 60 and 20
        Good images to learn from, and good images to test with.
    defective : int >= 0, default 10
        Images of each kind of defect.
    size : (int, int), default (256, 256)
        Image height and width, each at least 64.
    progress : callable, optional
        Called after each image with the number written and the number in all.

    Raises
    ------
    InputError
        An argument is out of range, or names no product.
    OutputError
        The folder is not empty, or cannot be written; nothing is left behind.
    """
    counts = {"train": train, "good": good, "defective": defective}
    _check(product, seed=seed, size=size, counts=counts)
    made_folder = not folder.exists()
    _check_empty(folder)
    partial = folder / _PARTIAL
    planned = list(_plan(product, counts))
    try:
        for number, (split, defect, index) in enumerate(planned, start=1):
            drawing = draw_product(
                product, seed=seed, split=split, defect=defect, index=index, size=size
            )
            _write(partial / split / defect / f"{index:03d}.png", drawing.image)
            if defect != "good":
                path = partial / "ground_truth" / defect / f"{index:03d}_mask.png"
                _write(path, drawing.mask.astype(np.uint8) * 255)
            if progress is not None:
                progress(number, len(planned))
        for written in sorted(partial.iterdir()) if planned else ():
            written.rename(folder / written.name)
    except OSError as error:
        raise OutputError(
            f"{folder} must be a folder that can be written, but writing the images failed: "
            f"{error.strerror or error}. Name another folder, or make room."
        ) from error
    finally:
        _remove_leftovers(folder, partial, made_folder)


def _check(
    product: str,
    *,
    seed: int,
    size: tuple[int, int],
    counts: Mapping[str, int] | None = None,
) -> None:
    if product not in _PRODUCTS:
        raise InputError(
            f"product must be one of {', '.join(_PRODUCTS)}, but is {product}. Choose one of these."
        )
    if min(size) < SMALLEST_SIDE:
        raise InputError(
            f"size must be at least {SMALLEST_SIDE} x {SMALLEST_SIDE}, but is "
            f"{size[0]} x {size[1]}. Smaller parts would show no defect."
        )
    for name, value in {"seed": seed, **(counts or {})}.items():
        if value < 0:
            raise InputError(f"{name} must be at least 0, but is {value}. Give 0 or more.")


def _check_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} must be a folder, but is a file. Name another folder.")
    if any(folder.iterdir()):
        raise OutputError(
            f"{folder} must be empty or missing, but holds files. "
            "Name another folder, or remove this one."
        )


def _plan(product: str, counts: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    for index in range(counts["train"]):
        yield "train", "good", index
    for index in range(counts["good"]):
        yield "test", "good", index
    for defect in PRODUCTS[product]:
        for index in range(counts["defective"]):
            yield "test", defect, index


def _difference(seen: Float32Array, good: Float32Array) -> BoolArray:
    """Where the defect can be seen, without gaps where the two images happen to agree."""
    changed = (np.abs(seen - good).max(axis=-1) > _VISIBLE).astype(np.uint8)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, ellipse)
    return np.asarray(closed, dtype=np.bool_)


def _write(path: Path, pixels: UInt8Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".png", bgr)[1]  # not imwrite: that hides why a write fails
    path.write_bytes(encoded.tobytes())


def _remove_leftovers(folder: Path, partial: Path, made_folder: bool) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    if made_folder and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
