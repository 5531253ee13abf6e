"""What is measured on: images, weights, and models fitted to them.

Real ones where they are; otherwise images that Blemish draws and random weights, which take the
same time, and are said to be that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

import blemish
from blemish.datasets import read_dataset
from blemish.engines.engine import EngineSettings
from blemish.generated import draw_product
from blemish.images import list_images
from blemish.model import Model, load_model

R18, BUILTIN = "R18-Rd100", "builtin"
SETTINGS = {
    R18: blemish.FitSettings(backbone="resnet18", preset="paper", dims=100),
    BUILTIN: blemish.FitSettings(),
}
FLAGS = {R18: ("--backbone", "resnet18", "--dims", "100"), BUILTIN: ()}
"""The same on the command line, without the size."""

MODELS = tuple(SETTINGS)
_FITTED = 120  # images; the time of a model does not depend on it
_DRAWN, _DRAWN_LARGE, _LARGE_SIDE = 60, 8, 900


@dataclass(frozen=True, slots=True)
class Materials:
    """Images, weights and a place to write to.

    Attributes
    ----------
    place : Path
        A folder that goes when the measurements are done.
    train : list of Path
        Images of 256x256 pixels to fit to.
    large : list of Path
        Photos of 900x900 pixels.
    weights : Path
        State dict of ResNet-18.
    description : str
        Whether these are real.
    """

    place: Path
    train: list[Path]
    large: list[Path]
    weights: Path
    description: str

    def weights_of(self, name: str) -> Path | None:
        """Weights for the backbone of a model."""
        return None if SETTINGS[name].backbone == "builtin" else self.weights

    def model_file(self, name: str) -> Path:
        """File of a model, fitted when it is first asked for."""
        path = self.place / f"{name}.blemish"
        if not path.exists():
            fitted = blemish.fit(
                self.train[:_FITTED], SETTINGS[name], weights=self.weights_of(name)
            )
            fitted.save(path)
        return path

    def model(self, name: str, precision: str = "auto", streams: int = 1) -> Model:
        """A model, run in some way."""
        engine = EngineSettings(precision=precision, streams=streams)
        return load_model(self.model_file(name), engine)


@contextmanager
def gather(data: Path, weights: Path) -> Iterator[Materials]:
    """Find the data and weights, or make some, for as long as they are used."""
    with tempfile.TemporaryDirectory(prefix="blemish-bench-") as name:
        place = Path(name)
        said = []
        bottles, photos = data / "mvtec" / "bottle", data / "full_resolution" / "bottle"
        if bottles.is_dir() and photos.is_dir():
            train = [sample.image for sample in read_dataset(bottles, split="train")]
            large = list_images(photos)[0]
            said.append("Images: MVTec AD bottle, 256x256, and originals of 900x900.")
        else:
            train, large = draw(place / "drawn")
            said.append("Images: drawn by `blemish.generated`, since there is no MVTec AD here.")
        if weights.is_file():
            said.append(f"Weights: {weights.name}.")
        else:
            weights = random_weights(place / "random.safetensors")
            said.append("Weights: RANDOM, since there are none here; times are the same.")
        yield Materials(place, train, large, weights, " ".join(said))


def draw(folder: Path) -> tuple[list[Path], list[Path]]:
    """Write drawn images: small ones to fit to, and large ones."""
    folder.mkdir(parents=True)
    small: list[Path] = []
    large: list[Path] = []
    for paths, count, side in ((small, _DRAWN, 256), (large, _DRAWN_LARGE, _LARGE_SIDE)):
        for index in range(count):
            drawing = draw_product("plate", index=index, size=(side, side))
            path = folder / f"{side}-{index:03}.png"
            cv2.imwrite(str(path), cv2.cvtColor(drawing.image, cv2.COLOR_RGB2BGR))
            paths.append(path)
    return small, large


def random_weights(path: Path) -> Path:
    """Write a state dict of ResNet-18, up to layer 3, that keeps values near 1."""
    rng = np.random.default_rng(0)
    tensors = {}

    def add(conv: str, norm: str, out: int, into: int, kernel: int) -> None:
        drawn = rng.standard_normal((out, into, kernel, kernel), dtype=np.float32)
        tensors[f"{conv}.weight"] = drawn / np.float32(np.sqrt(into * kernel**2))
        for key, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            tensors[f"{norm}.{key}"] = np.full(out, value, np.float32)

    add("conv1", "bn1", 64, 3, 7)
    before = 64
    for layer, width in ((1, 64), (2, 128), (3, 256)):
        for block in range(2):
            at = f"layer{layer}.{block}"
            add(f"{at}.conv1", f"{at}.bn1", width, before, 3)
            add(f"{at}.conv2", f"{at}.bn2", width, width, 3)
            if before != width:
                add(f"{at}.downsample.0", f"{at}.downsample.1", width, before, 1)
            before = width
    save_file(tensors, path)
    return path
