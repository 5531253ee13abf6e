"""How well does the builtin backbone find defects, and what does it cost?

PaDiM on real categories and on drawn ones, scored by the short float64 implementation below,
which shares no code with the library. Prints image AUROC / pixel AUROC per category, mean over
the seeds, for every setting asked for; with `--weights`, ResNet-18 on the same images, and the
time per image of both networks.

    python benchmarks/builtin_backbone.py ../shared/data --dims 100 150 200 \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.linalg import solve_triangular  # type: ignore[import-untyped]
from scipy.ndimage import gaussian_filter1d  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits

from blemish.arrays import BoolArray, Float32Array, Float64Array, IntArray, UInt8Array
from blemish.backbones import Backbone, load_backbone
from blemish.datasets import read_dataset
from blemish.engines.openvino import FeatureExtractor
from blemish.generated import PRODUCTS, draw_product
from blemish.images import read_image, read_mask

REAL = ("mvtec/bottle", "mvtec/screw", "mvtec/hazelnut_reduced", "kolektorsdd_small")
SIZE = 256
PAPER_CROP = 224
SIGMA = 4.0
COLUMNS, ROWS = np.meshgrid(np.arange(SIZE), np.arange(SIZE))

Drawn = tuple[Float64Array, BoolArray]


@dataclass(frozen=True, slots=True)
class Category:
    """Images uint8 (N, H, W, 3) to fit and to test, labels (N,) and masks (N, H, W) of the test."""

    name: str
    train: UInt8Array
    test: UInt8Array
    labels: BoolArray
    masks: BoolArray

    def cropped(self, side: int) -> Category:
        """The central `side` x `side` pixels, for images of 256 x 256."""
        if self.train.shape[1:3] != (SIZE, SIZE):
            return self
        cut = slice((SIZE - side) // 2, (SIZE + side) // 2)
        train, test = (images[:, cut, cut] for images in (self.train, self.test))
        return Category(self.name, train, test, self.labels, self.masks[:, cut, cut])


# Real images -------------------------------------------------------------------------------------


def read_category(root: Path) -> Category:
    """All images of a category; they must be of one size."""
    samples = read_dataset(root, split="test")
    train = [read_image(sample.image) for sample in read_dataset(root, split="train")]
    test = [read_image(sample.image) for sample in samples]
    masks = [
        np.zeros(image.shape[:2], bool) if sample.mask is None else read_mask(sample.mask)
        for sample, image in zip(samples, test, strict=True)
    ]
    labels = np.array([sample.is_anomalous for sample in samples])
    return Category(
        root.name.removesuffix("_reduced").removesuffix("_small"),
        np.stack(train).astype(np.uint8),
        np.stack(test).astype(np.uint8),
        labels,
        np.stack(masks),
    )


# Drawn images ------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, along_x: float, along_y: float | None = None) -> Float64Array:
    """Blurred white noise (SIZE, SIZE) of mean 0 and standard deviation 1."""
    white = rng.standard_normal((SIZE + 64, SIZE + 64))
    blurred = cv2.GaussianBlur(white, (0, 0), sigmaX=along_x, sigmaY=along_y or along_x)
    blurred = blurred[32:-32, 32:-32]
    return np.asarray((blurred - blurred.mean()) / blurred.std(), np.float64)


def soft(mask: BoolArray, sigma: float) -> Float64Array:
    """The mask with blurred edges, (SIZE, SIZE, 1)."""
    blurred = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), sigma)
    return np.asarray(blurred, np.float64)[..., None]


def scratch(rng: np.random.Generator) -> BoolArray:
    """A wandering line 2 pixels wide."""
    centre, angle = rng.uniform(50, 206, 2), rng.uniform(0, np.pi)
    along = np.linspace(-0.5, 0.5, 6) * rng.uniform(20, 60)
    points = centre + np.outer(along, [np.cos(angle), np.sin(angle)]) + rng.normal(0, 2, (6, 2))
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    cv2.polylines(canvas, [points.round().astype(np.int32)], False, 255, 2)
    return canvas > 0


def blob(rng: np.random.Generator, low: float, high: float) -> BoolArray:
    """A roundish spot with a radius from `low` to `high` pixels."""
    x, y = rng.uniform(50, 206, 2)
    angle = np.arctan2(ROWS - y, COLUMNS - x)
    lobes = 1 + 0.25 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.15 * np.sin(3 * angle)
    return np.asarray(np.hypot(COLUMNS - x, ROWS - y) < rng.uniform(low, high) * lobes)


def draw_wood(rng: np.random.Generator, is_defective: bool) -> Drawn:
    """Vertical grain. Defects: scratch, knot, discolouration."""
    grain = 0.5 + 0.05 * noise(rng, 2, 40) + 0.07 * noise(rng, 8, 80)
    image = grain[..., None] * np.array([1, 0.72, 0.45])
    if not is_defective:
        return image, np.zeros((SIZE, SIZE), bool)
    kind = rng.integers(3)
    if kind == 0:
        mask = scratch(rng)
        return image + 0.15 * soft(mask, 1), mask
    mask = blob(rng, 6, 15)
    if kind == 1:
        return image * (1 - 0.35 * soft(mask, 2)), mask
    return image + soft(mask, 2) * np.array([-0.05, 0, 0.09]), mask


def draw_leather(rng: np.random.Generator, is_defective: bool) -> Drawn:
    """Grains of one size, nowhere aligned. Defects: fold, hole, worn spot."""
    grain = 0.4 + 0.06 * np.abs(noise(rng, 2.2)) + 0.03 * noise(rng, 4)
    image = grain[..., None] * np.array([0.9, 0.6, 0.5])
    if not is_defective:
        return image, np.zeros((SIZE, SIZE), bool)
    kind = rng.integers(3)
    if kind == 0:
        mask = scratch(rng)
        return image - 0.15 * soft(mask, 1.2), mask
    mask = blob(rng, 3, 6) if kind == 1 else blob(rng, 9, 16)
    if kind == 1:
        return image * (1 - 0.5 * soft(mask, 1)), mask
    worn = cv2.GaussianBlur(image, (0, 0), 3)
    return image + soft(mask, 2) * (worn - image), mask


def draw_bolt(rng: np.random.Generator, is_defective: bool) -> Drawn:
    """A threaded bolt at any angle. Defects: lost thread, bitten edge, bright scratch."""
    kind = rng.integers(3) if is_defective else -1
    lost = int(rng.integers(2, 9))
    part, mask = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), np.uint8)
    part[102:155, 35:61], part[117:140, 60:216] = 0.55, 0.45
    for index, x in enumerate(range(95, 214, 11)):
        if kind == 0 and index == lost:
            mask[110:147, x - 3 : x + 9] = 255
        else:
            part[113:144, x : x + 6], part[115:142, x + 5 : x + 8] = 0.62, 0.3
    if kind == 1:
        x, y = int(rng.uniform(65, 200)), int(128 + rng.choice([-10, 10]))
        cv2.ellipse(mask, (x, y), (7, 6), 0, 0, 360, 255, -1)
        part[mask > 0] = 0
    if kind == 2:
        x, y = (int(rng.uniform(*span)) for span in ((45, 180), (120, 136)))
        end = (x + int(rng.uniform(15, 30)), y + int(rng.uniform(-8, 8)))
        cv2.line(mask, (x, y), end, 255, 3)
        part[mask > 0] = 0.85
    turn = cv2.getRotationMatrix2D((128, 128), rng.uniform(0, 360), 1)
    shift = np.outer(rng.normal(0, 4, 2), [0, 0, 1])
    turned, cover, spoilt = (
        np.asarray(cv2.warpAffine(plane, turn + shift, (SIZE, SIZE)), np.float64)
        for plane in (part, np.sign(part), mask)
    )
    image = cv2.GaussianBlur(turned + 0.85 * (1 - cover), (0, 0), 0.8) + 0.015 * noise(rng, 1.5)
    return np.repeat(image[..., None], 3, axis=2), spoilt > 0


PARTS = (
    (60, 60, 34, 20, (0.15, 0.15, 0.17)),
    (150, 70, 24, 24, (0.6, 0.6, 0.62)),
    (80, 140, 16, 40, (0.7, 0.55, 0.2)),
    (170, 150, 50, 30, (0.12, 0.12, 0.14)),
    (120, 205, 40, 14, (0.55, 0.2, 0.15)),
)


def draw_board(rng: np.random.Generator, is_defective: bool) -> Drawn:
    """Components on a green board. Defects: missing, turned, of another colour, scratch."""
    kind, chosen = (rng.integers(4) if is_defective else -1), rng.integers(len(PARTS))
    image = np.array([0.1, 0.35, 0.18]) + 0.02 * noise(rng, 3)[..., None]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    shift = rng.normal(0, 1.2, 2)
    for index, (x, y, width, height, colour) in enumerate(PARTS):
        tone = np.array(colour) * (1 + 0.06 * rng.standard_normal())
        dx, dy = shift + rng.normal(0, 0.8, 2)
        angle = float(rng.normal(0, 1.5))
        is_it = index == chosen
        if is_it and kind == 1:
            angle += rng.choice([-1, 1]) * rng.uniform(12, 25)
        if is_it and kind == 2:
            tone = tone * np.array([0.6, 1.2, 1.5])
        corners = cv2.boxPoints(((x + dx, y + dy), (width, height), angle)).round().astype(int)
        if is_it and kind in (0, 1, 2):
            cv2.fillPoly(mask, [corners], 255)
        if not (is_it and kind == 0):
            cv2.fillPoly(image, [corners], tone.tolist())
    if kind == 3:
        line = scratch(rng)
        return image + 0.2 * soft(line, 1), line
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), np.float64), mask > 0


DRAWERS: dict[str, Callable[[np.random.Generator, bool], Drawn]] = {
    "wood": draw_wood,
    "leather": draw_leather,
    "bolt": draw_bolt,
    "board": draw_board,
}


def photograph(image: Float64Array, rng: np.random.Generator) -> UInt8Array:
    """Uneven light and sensor noise."""
    light = image * (1 + 0.05 * rng.standard_normal()) + 0.02 * noise(rng, 60)[..., None]
    exposed = light + 0.012 * rng.standard_normal(image.shape)
    return np.clip(255 * exposed + 0.5, 0, 255).astype(np.uint8)


def draw_category(name: str, train: int = 60, good: int = 25, bad: int = 40) -> Category:
    """A category of drawn images; the name and the counts decide everything."""
    images: list[UInt8Array] = []
    masks: list[BoolArray] = []
    for index in range(train + good + bad):
        rng = np.random.default_rng([index, *name.encode()])
        is_defective = index >= train + good
        if name in PRODUCTS:
            defects = PRODUCTS[name]
            defect = defects[index % len(defects)] if is_defective else "good"
            drawing = draw_product(name, defect=defect, index=index)
            image, mask = drawing.image, drawing.mask
        else:
            drawn, mask = DRAWERS[name](rng, is_defective)
            image = photograph(drawn, rng)
        images.append(image)
        masks.append(mask)
    labels = np.arange(good + bad) >= good
    return Category(
        name, np.stack(images[:train]), np.stack(images[train:]), labels, np.stack(masks[train:])
    )


# PaDiM, the short way ----------------------------------------------------------------------------


def choose_channels(channels: Sequence[int], dims: int, seed: int, how: str) -> list[IntArray]:
    """Kept channels of each layer: `dims` of all at random, or of each layer its share."""
    rng = np.random.default_rng(seed)
    total = sum(channels)
    dims = min(dims, total)
    if how == "stratified":
        shares = [round(dims * count / total) for count in channels]
        return [
            np.sort(rng.choice(c, k, replace=False)) for c, k in zip(channels, shares, strict=True)
        ]
    kept = np.sort(rng.choice(total, dims, replace=False))
    starts = np.cumsum([0, *channels])
    return [kept[(kept >= a) & (kept < b)] - a for a, b in itertools.pairwise(starts)]


def distances(
    train: list[Float32Array], test: list[Float32Array], kept: list[IntArray], epsilon: float
) -> Float64Array:
    """Mahalanobis distances (N, h, w) on the finest grid; one full covariance per position."""
    height, width = test[0].shape[2:]
    result = np.empty((len(test[0]), height, width))
    for row, column in np.ndindex(height, width):
        fitted, judged = (
            np.concatenate(
                [
                    maps[:, chosen, row * maps.shape[2] // height, column * maps.shape[3] // width]
                    for maps, chosen in zip(layers, kept, strict=True)
                ],
                axis=1,
            ).astype(np.float64)
            for layers in (train, test)
        )
        mean = fitted.mean(axis=0)
        covariance = np.cov(fitted, rowvar=False) + epsilon * np.eye(fitted.shape[1])
        lower = np.linalg.cholesky(covariance)
        whitened = solve_triangular(lower, (judged - mean).T, lower=True, check_finite=False)
        result[:, row, column] = np.sqrt((whitened**2).sum(axis=0))
    return result


def smooth_matrix(cells: int, stride: int) -> Float64Array:
    """Bilinear upsampling and Gaussian blur along one axis, (pixels, cells)."""
    place = np.clip((np.arange(cells * stride) + 0.5) / stride - 0.5, 0, cells - 1)
    tents = np.maximum(1 - np.abs(place[:, None] - np.arange(cells)), 0)
    return np.asarray(gaussian_filter1d(tents, SIGMA, axis=0))


# Tables ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """What to keep of the features, and what to add to the covariance."""

    dims: int
    how: str
    epsilon: float
    seeds: int


def extract(backbone: Backbone, images: UInt8Array) -> list[Float32Array]:
    """Feature maps of all images, one array per layer."""
    extractor = FeatureExtractor(backbone, images.shape[1:3], threads=2)
    found = [
        extractor(batch.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        for batch in np.array_split(images, -(-len(images) // 16))
    ]
    return [np.concatenate(maps) for maps in zip(*found, strict=True)]


def measure(backbone: Backbone, category: Category, setting: Setting) -> Float64Array:
    """Image and pixel AUROC of every seed, (seeds, 2)."""
    train, test = (extract(backbone, images) for images in (category.train, category.test))
    rows = []
    for seed in range(setting.seeds):
        channels = [layer.channels for layer in backbone.layers]
        kept = choose_channels(channels, setting.dims, seed, setting.how)
        found = distances(train, test, kept, setting.epsilon)
        stride = backbone.layers[0].stride
        down, right = (smooth_matrix(cells, stride) for cells in found.shape[1:])
        maps = down @ found @ right.T
        of_images = roc_auc_score(category.labels, maps.max(axis=(1, 2)))
        rows.append((of_images, roc_auc_score(category.masks.ravel(), maps.ravel())))
    return np.array(rows)


def print_row(title: str, backbone: Backbone, categories: list[Category], setting: Setting) -> None:
    """Measure and print one row of the table; the mean leaves out hazelnut (two good images)."""
    results = {one.name: measure(backbone, one, setting) for one in categories}
    cells = [f"{row.mean(axis=0)[0]:.3f} / {row.mean(axis=0)[1]:.3f}" for row in results.values()]
    counted = [row.mean(axis=0) for name, row in results.items() if name != "hazelnut"]
    image, pixel = np.mean(counted, axis=0)
    print(f"| {title} | {' | '.join(cells)} | {image:.3f} / {pixel:.3f} |", flush=True)


def print_times(backbones: list[Backbone], repeats: int = 100) -> None:
    """Print the median time per image at batch 1 in float32, networks taking turns."""
    image = np.random.default_rng(0).random((1, 3, PAPER_CROP, PAPER_CROP), dtype=np.float32)
    extractors = [FeatureExtractor(one, image.shape[2:], threads=2) for one in backbones]
    times: list[list[float]] = [[] for _ in backbones]
    for _ in range(repeats):
        for extractor, taken in zip(extractors, times, strict=True):
            start = time.perf_counter()
            extractor(image)
            taken.append(time.perf_counter() - start)
    for backbone, taken in zip(backbones, times, strict=True):
        median = 1000 * float(np.median(taken))
        print(f"{backbone.name}: {median:.2f} ms per image, {len(backbone.onnx) / 1e6:.2f} MB")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="folder of the real categories")
    parser.add_argument("--weights", type=Path, help="ResNet-18, to compare with")
    parser.add_argument("--dims", type=int, nargs="+", default=[100])
    parser.add_argument("--how", nargs="+", choices=["random", "stratified"], default=["random"])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.01])
    parser.add_argument("--crop", type=int, nargs="+", default=[SIZE], help="256 full, 224 paper")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    roots = [options.data / name for name in REAL] if options.data else []
    categories = [read_category(root) for root in roots]
    categories += [draw_category(name) for name in (*DRAWERS, *PRODUCTS)]
    backbones = [load_backbone("builtin")]
    if options.weights:
        backbones.append(load_backbone("resnet18", weights=options.weights))
    print_times(backbones)
    threadpool_limits(1)  # many small matrices: more threads would only wait for each other
    print(f"| setting | {' | '.join(one.name for one in categories)} | mean |")
    print(f"|---|{'---|' * (len(categories) + 1)}")
    for crop, dims, how, epsilon, backbone in itertools.product(
        options.crop, options.dims, options.how, options.epsilon, backbones
    ):
        title = f"{backbone.name}, {crop}, {how} {dims}, eps {epsilon}"
        cut = [one.cropped(crop) for one in categories]
        print_row(title, backbone, cut, Setting(dims, how, epsilon, options.seeds))


if __name__ == "__main__":
    main()
