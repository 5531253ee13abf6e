"""Which of some images a model has learned from, told by their digests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, IntArray, UInt8Array
from blemish.datasets import read_dataset
from blemish.errors import BlemishError, InputError, ShapeError
from blemish.fitted import Fitted
from blemish.loading import ImageLike, load_ahead, name_of, one_of_all
from blemish.model import Progress
from blemish.records import ImageRecords, digests_of, places_among

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Known:
    """Images, compared with those a model has learned from.

    Attributes
    ----------
    images : list of m files or arrays
    digests : uint8 (m, 16)
    places : int64 (m,)
        Number among the model's images; -1 if the model does not know it.
    is_first : bool (m,)
        False for another copy of an image that came before.
    """

    images: list[ImageLike]
    digests: UInt8Array
    places: IntArray
    is_first: BoolArray

    def take(self, kept: BoolArray) -> list[ImageLike]:
        """Some of the images, bool (m,)."""
        return [image for image, keep in zip(self.images, kept, strict=True) if keep]

    def names(self, kept: BoolArray) -> list[str]:
        """Names of some of the images, bool (m,); their number, counted from 1, for arrays."""
        return [
            name_of(image) or f"image {number}"
            for number, (image, keep) in enumerate(zip(self.images, kept, strict=True), 1)
            if keep
        ]


def known_images(
    images: Path | str | Iterable[ImageLike], fitted: Fitted, progress: Progress | None = None
) -> Known:
    """Compare images with those of a model.

    Parameters
    ----------
    images : folder, or files or arrays
        Of a folder in the layout of a data set, the good training images.
    fitted : Fitted
    progress : function, optional

    Raises
    ------
    ImageError
        Images cannot be read; names all of them, if they are few.
    InputError
        There are none.
    """
    found = listed(images)
    loaded = load_ahead(found, fitted.preprocessing, value_range=fitted.settings.value_range)
    digests, errors = [], []
    for done, one in enumerate(loaded):
        if progress is not None:
            progress("comparison", done, len(found))
        if isinstance(one, BlemishError):
            errors.append(one)
        else:
            digests.append(digests_of(one[None])[0])
    if errors:
        raise one_of_all(errors, len(found))
    if progress is not None:
        progress("comparison", len(found), len(found))
    together = np.stack(digests)
    _, first = np.unique(together, axis=0, return_index=True)
    is_first = np.zeros(len(found), bool)
    is_first[first] = True
    return Known(found, together, fitted.records.find(together), is_first)


def of_the_model(
    images: Path | str | Iterable[ImageLike],
    fitted: Fitted,
    records: ImageRecords,
    progress: Progress | None = None,
) -> list[ImageLike]:
    """Every image of some records, in their order; others are left out.

    Raises
    ------
    InputError
        Some are missing.
    """
    known = known_images(images, fitted, progress)
    numbers = places_among(known.digests, records.digests)
    missing = np.flatnonzero(numbers < 0)
    if len(missing):
        names = [records.names[number] or f"image {number + 1}" for number in missing]
        raise InputError(
            f"To calibrate, all {len(records)} images of the model are needed, but {len(missing)} "
            f"are not among the {len(known.images)} given: {some(names)}. Give the folder that has "
            "them all, or leave it out and calibrate later."
        )
    return [known.images[number] for number in numbers]


def listed(images: Path | str | Iterable[ImageLike]) -> list[ImageLike]:
    """Images of a folder or list.

    Raises
    ------
    InputError
        There are none.
    ShapeError
        One array instead of several.
    """
    if isinstance(images, np.ndarray):
        raise ShapeError.of(
            "images", "a list of arrays", images.shape, "Put the images into a list, even one."
        )
    if isinstance(images, Path | str):
        return [sample.image for sample in read_dataset(Path(images), split="train")]
    found = list(images)
    if not found:
        raise InputError("There must be images, but the list is empty. Give at least one.")
    return found


def some(names: Sequence[str]) -> str:
    """Some names for a message.

    Examples
    --------
    >>> some(["a", "b"]), some("abcdefg")
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def check_known(found: Known) -> None:
    """Refuse to forget what was never learned."""
    unknown = found.names(found.places < 0)
    if unknown:
        raise InputError(
            f"Only what was learned can be forgotten, but of {len(found.images)} images "
            f"{len(unknown)} were not: {some(unknown)}. Leave them out."
        )
