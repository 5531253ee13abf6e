"""Files -> network input, decoded ahead in threads, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from blemish.arrays import Float32Array, FloatArray, UInt8Array
from blemish.errors import BlemishError, ImageError
from blemish.images import read_image, to_rgb
from blemish.lazy_image import LazyImage
from blemish.preprocessing import Preprocessing
from blemish.videos import decoded_once, frame_of

ImageLike = Path | str | LazyImage | UInt8Array | FloatArray
"""An image file, something that is made of one, or an array as `images.to_rgb` takes it."""

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4  # items per thread that may wait or be worked on
_SHOWN = 5


def load_input(
    image: ImageLike,
    preprocessing: Preprocessing,
    *,
    value_range: tuple[float, float] | None = None,
) -> Float32Array:
    """Read one image, if it is a file, and preprocess it.

    Returns
    -------
    float32 (3, H, W), 0..1

    Raises
    ------
    ImageError
        The file cannot be read, or does not fit the preprocessing; names the file.
    """
    if isinstance(image, LazyImage):
        path, pixels = image.path, image.read(value_range=value_range)
    elif isinstance(image, Path | str):
        path, pixels = Path(image), read_image(Path(image), value_range=value_range)
    else:  # `to_rgb` refuses what is no array
        return preprocessing.apply(to_rgb(image, value_range=value_range))
    try:
        return preprocessing.apply(pixels)
    except BlemishError as error:
        raise ImageError(f"{path}: {error}") from error


def name_of(image: ImageLike) -> str:
    """File name of an image, "clip.avi/000123" for a frame of a video; "" for an array."""
    path = image.path if isinstance(image, LazyImage) else image
    if not isinstance(path, Path | str):
        return ""
    path = Path(path)
    return path.name if frame_of(path) is None else f"{path.parent.name}/{path.name}"


def path_of(image: ImageLike) -> str:
    """Path of an image, as errors show it; "" for an array."""
    if isinstance(image, LazyImage):
        return str(image.path)
    return str(image) if isinstance(image, Path | str) else ""


def load_or_error(
    image: ImageLike,
    preprocessing: Preprocessing,
    *,
    value_range: tuple[float, float] | None = None,
) -> Float32Array | BlemishError:
    """Input of one image, as `load_input`; where it cannot be had, the error is returned."""
    try:
        return load_input(image, preprocessing, value_range=value_range)
    except BlemishError as error:
        return error


def load_ahead(
    images: Iterable[ImageLike],
    preprocessing: Preprocessing,
    *,
    value_range: tuple[float, float] | None = None,
) -> Iterator[Float32Array | BlemishError]:
    """Inputs of many images in their order; an unreadable one yields its error instead.

    Never more than a few images are held at a time.
    """
    return in_order(
        partial(load_or_error, preprocessing=preprocessing, value_range=value_range),
        decoded_once(images),
    )


def in_order(
    function: Callable[[T], R], items: Iterable[T], *, threads: int = 2, ahead: int = _AHEAD
) -> Iterator[R]:
    """Results of a function in the order of its arguments, worked out ahead in threads.

    Never more than `ahead` items per thread are held at a time. An error of the function is raised
    where its result would have come; what was not begun by then never is.

    Examples
    --------
    >>> list(in_order(abs, [-3, 2, -1]))
    [3, 2, 1]
    """
    remaining = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[R]] = deque(
            pool.submit(function, item) for item in islice(remaining, ahead * threads)
        )
        try:
            while waiting:
                found = waiting.popleft().result()
                for item in islice(remaining, 1):
                    waiting.append(pool.submit(function, item))
                yield found
        finally:
            for future in waiting:
                future.cancel()


def load_batches(
    images: Sequence[ImageLike],
    preprocessing: Preprocessing,
    *,
    batch: int,
    value_range: tuple[float, float] | None = None,
) -> Iterator[Float32Array]:
    """Batches for a fit, where every image must be readable.

    Yields
    ------
    float32 (N, 3, H, W), N at most `batch`

    Raises
    ------
    ImageError
        Images cannot be read; names all of them, if they are few.
    """
    gathered: list[Float32Array] = []
    stream = load_ahead(images, preprocessing, value_range=value_range)
    for loaded in stream:
        if isinstance(loaded, BlemishError):
            errors = [loaded, *(one for one in stream if isinstance(one, BlemishError))]
            raise one_of_all(errors, len(images))
        gathered.append(loaded)
        if len(gathered) == batch:
            yield np.stack(gathered)
            gathered = []
    if gathered:
        yield np.stack(gathered)


def one_of_all(errors: Sequence[BlemishError], images: int) -> BlemishError:
    """One error for all images that cannot be used, of `images` in all."""
    if len(errors) == 1:
        return errors[0]
    shown = " ".join(str(error) for error in errors[:_SHOWN])
    more = f" And {len(errors) - _SHOWN} more." if len(errors) > _SHOWN else ""
    return ImageError(f"{len(errors)} of {images} images cannot be used. {shown}{more}")
