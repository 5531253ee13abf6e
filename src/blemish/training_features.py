"""Feature maps and embeddings of the training images, streamed for every pass of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.alignment import Aligner, Alignment, as_row
from blemish.arrays import (
    BoolArray,
    Float16Array,
    Float32Array,
    Float64Array,
    IntArray,
    UInt8Array,
)
from blemish.backbones import Backbone
from blemish.embedding import Embedding
from blemish.errors import AlignmentError, BlemishError, NotFittedError
from blemish.image_statistics import image_statistics
from blemish.kept_features import KeptFeatures, features_of, to_16_bits
from blemish.loading import ImageLike, load_batches, name_of, one_of_all
from blemish.preprocessing import Preprocessing
from blemish.records import ImageRecords, digests_of
from blemish.registration import Placement
from blemish.spool import EmbeddingSpool

_BATCH = 16

T = TypeVar("T")


class TrainingFeatures:
    """Feature maps of the training images, streamed for every pass.

    Embeddings of the first whole pass are spooled, so that the network runs once per image.

    Parameters
    ----------
    images : sequence of files or arrays
    extractor : function
        Inputs (N, 3, H, W) -> feature maps, fine to coarse.
    backbone : Backbone
    preprocessing : Preprocessing
    value_range : (low, high) or None
    progress : function, optional
        Called with the name of a stage, images done and images in all.
    keep : bool
        Round embeddings to 16 bits and keep them; see `kept_features`.
    alignment : Alignment, optional
        What the network sees is aligned; records and the mean image are of what came.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        extractor: Callable[[Float32Array], list[Float32Array]],
        backbone: Backbone,
        preprocessing: Preprocessing,
        *,
        value_range: tuple[float, float] | None,
        progress: Callable[[str, int, int], None] | None = None,
        keep: bool = False,
        alignment: Alignment | None = None,
    ) -> None:
        self._images, self.preprocessing, self._value_range = images, preprocessing, value_range
        self._extractor, self._progress = extractor, progress or _silent
        self._spool = EmbeddingSpool(len(images))
        self.alignment = alignment
        self._aligner = None if alignment is None else Aligner(alignment)
        self._notes: _Notes | None = None
        self._keep, self._features = keep, None if not keep else KeptFeatures(())
        self._chosen: BoolArray | None = None
        height, width = preprocessing.size
        self.grids = [(height // la.stride, width // la.stride) for la in backbone.layers]

    def close(self) -> None:
        """Remove what was spooled."""
        self._spool.close()

    def choose(self, chosen: BoolArray) -> None:
        """Bring only some of the images from now on, bool (n,); after the first whole pass."""
        notes = _there(self._notes)
        for inputs in self._inputs(np.flatnonzero(~chosen)):
            notes.total -= inputs.sum(axis=0, dtype=np.float64)
        self._chosen = chosen

    @property
    def kept(self) -> KeptFeatures | None:
        """Features of the images that are brought, if they are kept; after the first pass."""
        if self._features is None or self._chosen is None:
            return self._features
        return self._features.take(self._chosen)

    @property
    def records(self) -> ImageRecords:
        """Of the images that are brought, once a pass has gone through all."""
        notes = _there(self._notes)
        records = ImageRecords(
            names=tuple(name_of(image) for image in self._images),
            digests=np.concatenate(notes.digests),
            statistics=np.concatenate(notes.statistics),
            placements=None if self._aligner is None else np.stack(notes.placements),
        )
        return records if self._chosen is None else records.take(self._chosen)

    @property
    def mean_image(self) -> Float32Array:
        """Mean of their inputs, float32 (3, H, W)."""
        return np.asarray(_there(self._notes).total / self._places.size, np.float32)

    @property
    def _places(self) -> IntArray:
        """Numbers of the images that are brought."""
        everything = np.arange(len(self._images))
        return everything if self._chosen is None else everything[self._chosen]

    def _inputs(self, places: IntArray, batch: int = _BATCH) -> Iterator[Float32Array]:
        """Inputs (N, 3, H, W) of some images."""
        images = [self._images[place] for place in places]
        return load_batches(images, self.preprocessing, batch=batch, value_range=self._value_range)

    def probe(self, count: int) -> list[Float32Array]:
        """Feature maps of a few images from all over the list."""
        inputs = self.some_inputs(count)
        if self._aligner is not None:
            inputs = self._aligner(inputs)[0]
        return self._extractor(inputs)

    def some_inputs(self, count: int) -> Float32Array:
        """Inputs (N, 3, H, W) of a few images from all over the list, as they come."""
        places = self._places
        step = max(1, len(places) // count)
        return next(self._inputs(places[::step][:count], count))

    def maps(self, stage: str) -> Iterator[list[Float32Array]]:
        """Feature maps per batch: list of float32 (N, C, h, w), fine to coarse."""
        done, total = 0, len(self._images)
        notes = _Notes(self.preprocessing.size)
        self._progress(stage, done, total)
        errors: list[BlemishError] = []
        for inputs in self._inputs(np.arange(total)):
            if self._notes is None:
                notes.add(inputs)
            seen = inputs
            if self._aligner is not None:
                names = [name_of(image) for image in self._images[done : done + len(inputs)]]
                seen, found = self._aligner(inputs, names)
                errors += notes.place(found)
            if not errors:
                yield self._extractor(seen)
            done += len(inputs)
            self._progress(stage, done, total)
        if errors:
            raise AlignmentError(str(one_of_all(errors, total)))
        self._notes = self._notes or notes

    def levels(
        self, embedding: Embedding, stage: str, only: BoolArray | None = None
    ) -> Iterator[list[Float32Array]]:
        """Embeddings per batch: list of float32 (N, P, d), coarse to fine.

        Of the chosen images, or only of some: bool (n,).
        """
        wanted = self._chosen if only is None else only
        start = 0
        for levels in self._all_levels(embedding, stage):
            end = start + len(levels[0])
            if wanted is None:
                yield levels
            elif wanted[start:end].any():
                yield [level[wanted[start:end]] for level in levels]
            start = end

    def _all_levels(self, embedding: Embedding, stage: str) -> Iterator[list[Float32Array]]:
        """Embeddings of all images."""
        if self._features is not None and self._features.levels:
            yield from self._told(self._features.batches(), stage)
        elif self._spool.complete:
            yield from self._told(self._spool, stage)
        elif self._keep:
            yield from self._keeping(embedding, stage)
        else:
            for maps in self.maps(stage):
                levels = embedding(maps)
                self._spool.append(levels)
                yield levels
            self._spool.close_pass()

    def _keeping(self, embedding: Embedding, stage: str) -> Iterator[list[Float32Array]]:
        """First pass if features are kept: what is learned from are the rounded ones."""
        rows: list[list[Float16Array]] = []
        for maps in self.maps(stage):
            rounded = to_16_bits(embedding(maps))
            rows.append(rounded)
            yield [level.astype(np.float32) for level in rounded]
        self._features = features_of(rows)

    def _told(
        self, batches: Iterator[list[Float32Array]] | EmbeddingSpool, stage: str
    ) -> Iterator[list[Float32Array]]:
        """Batches, with progress."""
        done, total = 0, len(self._images)
        for levels in batches:
            self._progress(stage, done, total)
            yield levels
            done += len(levels[0])
        self._progress(stage, total, total)


class _Notes:
    """What the first pass writes down of every image."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.digests: list[UInt8Array] = []
        self.statistics: list[Float64Array] = []
        self.placements: list[Float64Array] = []
        self.total: NDArray[np.float64] = np.zeros((3, *size))

    def place(self, found: Sequence[Placement | AlignmentError]) -> list[AlignmentError]:
        """Note how the parts of a batch lie; return what could not be aligned."""
        self.placements += [as_row(one) for one in found if isinstance(one, Placement)]
        return [one for one in found if isinstance(one, AlignmentError)]

    def add(self, inputs: Float32Array) -> None:
        """Note a batch, float32 (N, 3, H, W)."""
        self.digests.append(digests_of(inputs))
        self.statistics.append(image_statistics(inputs))
        self.total += inputs.sum(axis=0, dtype=np.float64)


def _there(notes: T | None) -> T:
    if notes is None:
        raise NotFittedError(
            "Records need one whole pass over the images, but there was none. Go through them."
        )
    return notes


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
