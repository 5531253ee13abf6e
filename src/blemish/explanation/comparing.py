"""The good image that is most alike where an image is most unusual."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array, Float64Array, UInt8Array
from blemish.explanation.accounts import Accountant
from blemish.explanation.explanation import SimilarPatch
from blemish.explanation.peaks import Place
from blemish.explanation.similar_patches import Probe, finest_grid, neighbours, p_value_at_place
from blemish.judge import Judge
from blemish.loading import ImageLike, load_batches, load_input, name_of
from blemish.model import Model, Progress
from blemish.records import digests_of
from blemish.training_images import training_images

ALL_LAYERS = "all layers"
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Compared:
    """An image beside good ones, at one place.

    Attributes
    ----------
    here, anywhere : SimilarPatch or None
        The most similar good image at the same place, and at any.
    p_values : dict of str to float
        See `Explanation.position_p_values`.
    """

    here: SimilarPatch | None = None
    anywhere: SimilarPatch | None = None
    p_values: dict[str, float] = field(default_factory=dict)


def probes_at(model: Model, judge: Judge, accountant: Accountant, place: Place) -> list[Probe]:
    """How every part of a model sees one place."""
    combination, probes = judge.combination, []
    for part, scorer in enumerate(judge.scorers):
        grid = scorer.pyramid.finest
        row = place.row * grid[0] // model.size[0]
        column = place.column * grid[1] // model.size[1]
        position = row * grid[1] + column
        standardise = combination.standardisations[part]
        gain = 1.0 if standardise is None else float(standardise.gain[position])
        weight = 1.0 if combination.weights is None else combination.weights.image[part]
        judged_by = int(accountant.judged_by(part, np.array([position]))[0])
        probes.append(Probe(scorer, position, judged_by, gain * weight))
    return probes


class Comparison:
    """Compares an image with good ones: those given, or the features that the model keeps.

    Parameters
    ----------
    model : Model
    extract : function
        Inputs (N, 3, H, W) -> feature maps, fine to coarse.
    good : folder, or files or arrays, optional
    progress : function, optional
    """

    def __init__(
        self,
        model: Model,
        extract: Callable[[Float32Array], list[Float32Array]],
        good: Path | str | Iterable[ImageLike] | None,
        progress: Progress | None,
    ) -> None:
        self._model, self._extract, self._progress = model, extract, progress
        self._images = None if good is None else training_images(good)
        self._taken: list[int] = []  # numbers of the good images that are compared
        self._learned = 0

    def __call__(
        self,
        own: UInt8Array,
        levels: Sequence[Float32Array],
        probes: Sequence[Probe],
        place: Place,
        *,
        anywhere: bool,
    ) -> Compared:
        """Compare an image, by its digest (1, 16) and embedding (P, d) per level, at a place.

        The image itself, if it is among the good ones, is left out.
        """
        if self._images is not None:
            batches = self._embeddings(self._images, own)
        elif self._model.fitted.kept is not None:
            batches = self._kept(own)
        else:
            return Compared()
        found = neighbours(levels, batches, probes, anywhere=anywhere)
        distances, usual = found.distances(probes)
        nearest = int(distances.argmin())
        box = place.box
        here = self._patch(nearest, float(distances[nearest]), usual, box)
        elsewhere = None
        if found.elsewhere is not None:
            number, position, distance = found.elsewhere
            grid, size = finest_grid(probes), self._model.size
            high, wide = size[0] / grid[0], size[1] / grid[1]
            middle = ((position % grid[1] + 0.5) * wide, (position // grid[1] + 0.5) * high)
            moved = (middle[0] - box[2] / 2, middle[1] - box[3] / 2, box[2], box[3])
            elsewhere = self._patch(number, distance, usual, moved)
        return Compared(here, elsewhere, self._p_values(found.here, found.good, probes))

    def _embeddings(
        self, images: Sequence[ImageLike], own: UInt8Array
    ) -> Iterator[list[Float32Array]]:
        """Embeddings of the good images but the one explained, in batches."""
        model, done, learned = self._model, 0, set()
        for inputs in load_batches(
            images, model.preprocessing, batch=_BATCH, value_range=model.settings.value_range
        ):
            digests = digests_of(inputs)
            others = np.flatnonzero((digests != own).any(axis=1))
            learned |= {int(n) for n in model.fitted.records.find(digests[others]) if n >= 0}
            self._taken += [done + int(k) for k in others]
            done += len(inputs)
            if self._progress is not None:
                self._progress("good images", done, len(images))
            if len(others):
                yield model.embedding(self._extract(model.as_seen(inputs[others])))
        self._learned = len(learned)

    def _kept(self, own: UInt8Array) -> Iterator[list[Float32Array]]:
        """Embeddings that the model keeps, but the one of the image explained."""
        fitted = self._model.fitted
        kept = (fitted.records.digests != own).any(axis=1)
        self._taken = [int(k) for k in np.flatnonzero(kept)]
        self._learned = len(self._taken)
        if fitted.kept is not None:
            yield from fitted.kept.batches(kept)

    def _patch(
        self, number: int, distance: float, usual: float, box: tuple[float, float, float, float]
    ) -> SimilarPatch:
        number = self._taken[number]
        model, pixels = self._model, None
        if self._images is None:
            name = model.fitted.records.names[number]
        else:
            image = self._images[number]
            name = name_of(image)
            loaded = load_input(image, model.preprocessing, value_range=model.settings.value_range)
            pixels = np.ascontiguousarray(model.as_seen(loaded[None])[0].transpose(1, 2, 0))
        return SimilarPatch(
            image=name or f"image {number}",
            distance=distance,
            usual=usual,
            box=box,
            pixels=pixels,
        )

    def _p_values(
        self,
        here: Sequence[Float64Array],
        good: Sequence[Float64Array],
        probes: Sequence[Probe],
    ) -> dict[str, float]:
        """How rare the place is; only if exactly those learned from were gone through."""
        fitted = self._model.fitted
        if (
            not self._learned == len(self._taken) == fitted.count
            or fitted.settings.score != "gaussian"
            or fitted.settings.shared
            or fitted.settings.neighbourhood
        ):
            return {}
        names = [ALL_LAYERS] if len(probes) == 1 else self._model.level_names
        return {
            names[k]: p_value_at_place(here[k], good[k], fitted.parts[k].regularisation)
            for k, probe in enumerate(probes)
            if probe.factor > 0
        }
