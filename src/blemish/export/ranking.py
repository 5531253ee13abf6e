"""Does an export still tell defective from good? AUROC of the model beside that of the export.

On labelled test images if there are any, else on good images against the same images with
synthetic defects. The good images are usually those that were learned from, and they score lower
than new ones, which makes defects easy to find. So the defects are made fainter until the model
finds them no longer all: only then could an export be seen to find fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from blemish.arrays import BoolArray, Float32Array, Float64Array
from blemish.export.synthetic import KINDS, spoil
from blemish.metrics import auroc
from blemish.model import Progress

OPACITIES = (0.5, 0.25, 0.12, 0.06)
"""Of the defects that are put on every image, one of each."""

EASY = 0.98
"""AUROC of the model above which defects are made fainter."""

_MOST_HALVINGS = 5

Scores = Callable[[Float32Array], Float64Array]
"""Image scores (N,) of inputs (N, 3, H, W)."""

Batches = Callable[[], Iterable[Float32Array]]
"""Reads the images once more."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """AUROC of a model and of its export on the same images.

    Attributes
    ----------
    on : {"test images", "synthetic defects"}
    good, defective : int
        Images.
    model, export : float in 0..1
        AUROC.
    most_drop : float
        By how much that of the export may be lower.
    opacities : tuple of float
        Of the synthetic defects.
    """

    on: str
    good: int
    defective: int
    model: float
    export: float
    most_drop: float
    opacities: tuple[float, ...] = ()

    @property
    def drop(self) -> float:
        """By how much the export is worse; negative if it is better."""
        return self.model - self.export

    @property
    def failures(self) -> list[str]:
        """What is beyond its limit, in words."""
        if self.drop <= self.most_drop:
            return []
        return [
            f"the AUROC on {self.on} drops from {self.model:.4f} to {self.export:.4f}, by more "
            f"than {self.most_drop:g}"
        ]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {**asdict(self), "drop": self.drop, "passed": not self.failures}


def rank_test_images(
    model: Float64Array, export: Float64Array, labels: BoolArray, *, most_drop: float
) -> Ranking:
    """Compare on labelled images.

    Parameters
    ----------
    model, export : float64 (N,)
        Image scores.
    labels : bool (N,)
        True where the image is anomalous; there must be both kinds.
    most_drop : float
    """
    return Ranking(
        on="test images",
        good=int((~labels).sum()),
        defective=int(labels.sum()),
        model=auroc(model, labels),
        export=auroc(export, labels),
        most_drop=most_drop,
    )


def rank_synthetic_defects(
    model: Scores,
    export: Scores,
    batches: Batches,
    *,
    most_drop: float,
    ignored: BoolArray | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Ranking:
    """Compare on good images, and on the same images with synthetic defects.

    Parameters
    ----------
    model, export : function
    batches : function
        Good images, float32 (N, 3, H, W).
    most_drop : float
    ignored : bool (H, W), optional
    seed : int, default 0
        Of the defects. The same images and seed give the same result.
    progress : function, optional
    """
    images = sum(len(batch) for batch in batches())
    opacities = _hard_enough(model, batches, ignored, seed)
    aurocs, done = [], 0
    for scores in (model, export):
        gathered: tuple[list[Float64Array], list[Float64Array]] = ([], [])
        for good, spoiled in _pairs(batches(), opacities, ignored, seed):
            if progress is not None:
                progress("synthetic defects", done, 2 * images)
            gathered[0].append(scores(good))
            gathered[1].append(scores(spoiled))
            done += len(good)
        aurocs.append(_auroc(*gathered))
    if progress is not None:
        progress("synthetic defects", done, 2 * images)
    return Ranking(
        on="synthetic defects",
        good=images,
        defective=images * len(opacities),
        model=aurocs[0],
        export=aurocs[1],
        most_drop=most_drop,
        opacities=opacities,
    )


def _hard_enough(
    model: Scores, batches: Batches, ignored: BoolArray | None, seed: int
) -> tuple[float, ...]:
    """Opacities at which the model does not find everything, tried on one image of a batch."""
    some = [batch[:1] for batch in batches()]
    opacities: tuple[float, ...] = OPACITIES
    for _ in range(_MOST_HALVINGS):
        found = [(model(a), model(b)) for a, b in _pairs(some, opacities, ignored, seed)]
        if _auroc([a for a, _ in found], [b for _, b in found]) <= EASY:
            break
        opacities = tuple(opacity / 2 for opacity in opacities)
    return opacities


def _pairs(
    batches: Iterable[Float32Array],
    opacities: tuple[float, ...],
    ignored: BoolArray | None,
    seed: int,
) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Good images (N, 3, H, W), and each with every opacity, with one kind of defect after another.

    The defects of an image depend on its place among all images, not on the batches.
    """
    number = 0
    for batch in batches:
        spoiled = []
        for image in batch:
            for k, opacity in enumerate(opacities):
                found = spoil(
                    image,
                    kind=KINDS[(number + k) % len(KINDS)],
                    opacity=opacity,
                    generator=np.random.default_rng([seed, number, k]),
                    ignored=ignored,
                )
                spoiled.append(found)
            number += 1
        yield batch, np.stack(spoiled)


def _auroc(good: Sequence[Float64Array], defective: Sequence[Float64Array]) -> float:
    scores = [np.concatenate(good), np.concatenate(defective)]
    labels = np.arange(len(scores[0]) + len(scores[1])) >= len(scores[0])
    return auroc(np.concatenate(scores), labels)
