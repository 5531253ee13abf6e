"""The images to learn from: enough of them, readable, and of one shape."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from blemish.alignment import Alignment
from blemish.arrays import Float16Array
from blemish.datasets import read_dataset
from blemish.errors import BlemishError, NotFittedError, OtherShapeWarning, ShapeError
from blemish.groupwise import learn_alignment
from blemish.images import as_array, image_size, to_rgb
from blemish.lazy_image import LazyImage
from blemish.loading import ImageLike, load_batches, load_input, one_of_all
from blemish.preprocessing import Preprocessing

LEAST_IMAGES = 3
_SHAPE_TOLERANCE = 0.02
_MOST_ALIGNED, _ALIGNED_BYTES = 100, 256 << 20


def training_images(images: Path | str | Iterable[ImageLike]) -> Sequence[ImageLike]:
    """Images to learn from: as given, or the good training images of a folder or data set.

    Raises
    ------
    ShapeError
        One array instead of several.
    NotFittedError
        Fewer than 3.
    """
    if isinstance(images, np.ndarray):
        raise ShapeError.of(
            "images", "a list of arrays", images.shape, "Put the images into a list, even one."
        )
    if isinstance(images, Path | str):
        images = [sample.image for sample in read_dataset(Path(images), split="train")]
    found = list(images)
    if len(found) < LEAST_IMAGES:
        raise NotFittedError(
            f"A model needs at least {LEAST_IMAGES} images of good parts, but there "
            f"{'is' if len(found) == 1 else 'are'} {len(found)}. Give more; 20 to 300 are usual."
        )
    return found


def source_sizes(images: Sequence[ImageLike]) -> list[tuple[int, int]]:
    """Height and width of every image, by its header; refuses before any work what is none.

    Raises
    ------
    ImageError
        Names all images that cannot be used, if they are few.
    """
    sizes, errors = [], []
    for image in images:
        try:
            sizes.append(source_size(image))
        except BlemishError as error:
            errors.append(error)
    if errors:
        raise one_of_all(errors, len(images))
    return sizes


def source_size(image: ImageLike) -> tuple[int, int]:
    """Height and width of an image; of a file only the header is read."""
    if isinstance(image, LazyImage):
        return image.read_size()
    if isinstance(image, Path | str):
        return image_size(Path(image))
    pixels = as_array(image)
    if pixels.ndim < 2:
        pixels = to_rgb(pixels)  # which refuses, and says why
    return pixels.shape[0], pixels.shape[1]


def warn_of_other_shapes(sizes: Sequence[tuple[int, int]]) -> None:
    """Say how many images have another shape than the first: they are stretched alike."""
    first = sizes[0][0] / sizes[0][1]
    others = sum(abs(height / width / first - 1) > _SHAPE_TOLERANCE for height, width in sizes)
    if others:
        warnings.warn(
            f"{others} of {len(sizes)} images have another shape (height / width) than the first, "
            f"{sizes[0][0]}x{sizes[0][1]}: all are stretched to one. Are they of one camera?",
            OtherShapeWarning,
            stacklevel=3,
        )


def learn_to_align(
    images: Sequence[ImageLike],
    kind: str,
    preprocessing: Preprocessing,
    *,
    reference: ImageLike | None,
    value_range: tuple[float, float] | None,
) -> Alignment:
    """Alignment of good images, learned from at most 100 of them; see `learn_alignment`.

    Parameters
    ----------
    images : sequence of files or arrays
    kind : {"shift", "rigid"}
    preprocessing : Preprocessing
    reference : file or array, or None
        To align with, instead of the mean of the images.
    value_range : (low, high) or None

    Raises
    ------
    AlignmentError
        The images look too different to be aligned.
    ImageError
        Images cannot be read.
    """
    image_bytes = 2 * 3 * preprocessing.size[0] * preprocessing.size[1]
    most = max(LEAST_IMAGES, min(_MOST_ALIGNED, _ALIGNED_BYTES // image_bytes))
    step = -(-len(images) // most)
    some: list[Float16Array] = []
    for batch in load_batches(images[::step], preprocessing, batch=8, value_range=value_range):
        some += [image.astype(np.float16) for image in batch]
    chosen = None
    if reference is not None:
        chosen = load_input(reference, preprocessing, value_range=value_range)
    return learn_alignment(some, kind, chosen)
