"""Feature maps and embeddings of the training images, streamed for every pass of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from blemish.arrays import Float32Array
from blemish.backbones import Backbone
from blemish.embedding import Embedding
from blemish.loading import ImageLike, load_batches
from blemish.preprocessing import Preprocessing
from blemish.spool import EmbeddingSpool

_BATCH = 16


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
    progress : function
        Called with the name of a stage, images done and images in all.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        extractor: Callable[[Float32Array], list[Float32Array]],
        backbone: Backbone,
        preprocessing: Preprocessing,
        *,
        value_range: tuple[float, float] | None,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._images, self.preprocessing, self._value_range = images, preprocessing, value_range
        self._extractor, self._progress = extractor, progress
        self._spool = EmbeddingSpool(len(images))
        height, width = preprocessing.size
        self.grids = [(height // la.stride, width // la.stride) for la in backbone.layers]

    def close(self) -> None:
        """Remove what was spooled."""
        self._spool.close()

    def probe(self, count: int) -> list[Float32Array]:
        """Feature maps of a few images from all over the list."""
        return self._extractor(self.some_inputs(count))

    def some_inputs(self, count: int) -> Float32Array:
        """Inputs (N, 3, H, W) of a few images from all over the list."""
        step = max(1, len(self._images) // count)
        few = self._images[::step][:count]
        batches = load_batches(few, self.preprocessing, batch=count, value_range=self._value_range)
        return next(batches)

    def maps(self, stage: str) -> Iterator[list[Float32Array]]:
        """Feature maps per batch: list of float32 (N, C, h, w), fine to coarse."""
        done, total = 0, len(self._images)
        self._progress(stage, done, total)
        for inputs in load_batches(
            self._images, self.preprocessing, batch=_BATCH, value_range=self._value_range
        ):
            yield self._extractor(inputs)
            done += len(inputs)
            self._progress(stage, done, total)

    def levels(self, embedding: Embedding, stage: str) -> Iterator[list[Float32Array]]:
        """Embeddings per batch: list of float32 (N, P, d), coarse to fine."""
        if self._spool.complete:
            done, total = 0, len(self._images)
            for levels in self._spool:
                self._progress(stage, done, total)
                yield levels
                done += len(levels[0])
            self._progress(stage, total, total)
            return
        for maps in self.maps(stage):
            levels = embedding(maps)
            self._spool.append(levels)
            yield levels
        self._spool.close_pass()
