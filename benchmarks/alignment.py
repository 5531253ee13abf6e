"""How well and how fast parts are aligned, and what is brought where the image ends.

Good images of a category are turned by any angle and shifted by up to 10 pixels, and found again:
the error is that of the corners of the middle half of the frame. Time is processor time of one
image of 256x256, estimation and warp. With --fills, what else could stand where the image ends is
fitted and measured as well (minutes).

    python -m benchmarks.alignment --data ../shared/data \
        --weights ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

import blemish
from blemish.alignment import Aligner, Alignment, seen_by_reference
from blemish.arrays import Float32Array
from blemish.groupwise import learn_alignment
from blemish.loading import load_input
from blemish.preprocessing import Preprocessing
from blemish.registration import Placement

CATEGORIES = ("screw", "bottle")
MOST_MILLISECONDS = 6.0
_SIDE, _MOVED, _LEARNED = 256, 60, 100


def images_of(data: Path, category: str, split: str = "train") -> list[Float32Array]:
    """Preprocessed good images."""
    preprocessing = Preprocessing.full((_SIDE, _SIDE))
    samples = blemish.read_dataset(data / "mvtec" / category, split=split)
    return [load_input(s.image, preprocessing) for s in samples if not s.is_anomalous]


def errors(aligner: Aligner, images: list[Float32Array]) -> list[float]:
    """Pixels by which known motions are missed."""
    generator = np.random.default_rng(0)
    middle = np.array([[x, y, 1.0] for x in (64, 192) for y in (64, 192)]).T
    found = []
    for number in generator.choice(len(images), _MOVED):
        image = images[number]
        before = aligner.place(image)
        dx, dy, angle = (generator.uniform(-most, most) for most in (10, 10, 180))
        moved_by = Placement(dx, dy, angle)
        moved, _ = seen_by_reference(image, moved_by)
        after = aligner.place(np.ascontiguousarray(moved.transpose(2, 0, 1)))
        whole = moved_by.after(after).matrix((_SIDE, _SIDE)) @ middle
        found.append(float(np.abs(whole - before.matrix((_SIDE, _SIDE)) @ middle).max()))
    return found


def milliseconds(aligner: Aligner, images: list[Float32Array]) -> list[float]:
    """Processor time of estimation and warp, per image."""
    found = []
    for image in images[:_MOVED]:
        start = time.thread_time()
        aligner.bring(image, aligner.place(image))
        found.append(1000 * (time.thread_time() - start))
    return found


def foreign(aligner: Aligner, images: list[Float32Array]) -> list[float]:
    """Correlations that images of something else reach."""
    anything = Alignment(
        kind=aligner.alignment.kind, reference=aligner.alignment.reference, least_correlation=-1.0
    )
    return [Aligner(anything).place(image).correlation for image in images[:_MOVED]]


class NearestPixels(Aligner):
    """Brings the nearest pixels where the image ends."""

    border = cv2.BORDER_REPLICATE

    def bring(self, image: Float32Array, placement: Placement) -> Float32Array:
        """Image as the network is to see it."""
        size = (image.shape[1], image.shape[2])
        brought = cv2.warpAffine(
            np.ascontiguousarray(image.transpose(1, 2, 0)),
            placement.matrix(size),
            size[::-1],
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=self.border,
        )
        return np.ascontiguousarray(brought.transpose(2, 0, 1).clip(0, 1))


class Mirrored(NearestPixels):
    """Brings the mirrored image where it ends."""

    border = cv2.BORDER_REFLECT_101


FILLS = {
    "reference at the light of the image": Aligner,
    "nearest pixels": NearestPixels,
    "mirrored": Mirrored,
}


def compare_fills(data: Path, weights: Path | None, category: str) -> None:
    """Fit and evaluate with each fill."""
    settings = blemish.FitSettings(
        backbone="builtin" if weights is None else "resnet18",
        preset="paper",
        dims=100,
        align="rigid",
    )
    print("\n| where the image ends | image AUROC | pixel AUROC |\n|---|---|---|")
    for name, kind in FILLS.items():
        with (
            mock.patch("blemish.training_features.Aligner", kind),
            mock.patch("blemish.model.Aligner", kind),
        ):
            model = blemish.fit(data / "mvtec" / category, settings, weights=weights)
            found = blemish.evaluate(model, data / "mvtec" / category)
        print(f"| {name} | {found.image_auroc:.4f} | {found.pixel_auroc:.4f} |", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="of ResNet-18, for --fills")
    parser.add_argument("--fills", action="store_true", help="compare fills on screw (minutes)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    everything = {category: images_of(options.data, category) for category in CATEGORIES}
    print("| | error, median | 95 % | correlation of good images | needed | of others | ms |")
    print("|---|---|---|---|---|---|---|")
    for category, images in everything.items():
        step = -(-len(images) // _LEARNED)
        aligner = Aligner(learn_alignment(images[::step], "rigid"))
        missed, took = errors(aligner, images), float(np.median(milliseconds(aligner, images)))
        own = [
            aligner.place(image).correlation for image in images_of(options.data, category, "test")
        ]
        others = [
            most
            for name, some in everything.items()
            if name != category
            for most in foreign(aligner, some)
        ]
        print(
            f"| {category} | {np.median(missed):.2f} px | {np.quantile(missed, 0.95):.2f} px "
            f"| {min(own):.3f} to {max(own):.3f} | {aligner.alignment.least_correlation:.3f} "
            f"| at most {max(others):.3f} "
            f"| {took:.1f} (bar: {MOST_MILLISECONDS:g}) |",
            flush=True,
        )
    if options.fills:
        compare_fills(options.data, options.weights, "screw")


if __name__ == "__main__":
    main()
