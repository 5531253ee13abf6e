"""What a model keeps of its training images, in its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from blemish.alignment import PLACEMENT_COLUMNS, Alignment
from blemish.fitted import Fitted
from blemish.image_statistics import STATISTICS
from blemish.kept_features import KeptFeatures
from blemish.packing import Tensors
from blemish.part_tensors import check_floats
from blemish.records import DIGEST_BYTES, ImageRecords, pack_names, unpack_names
from blemish.unusual import UnusualImages


def image_tensors(model: Fitted) -> Tensors:
    """Arrays about the training images, by name."""
    records = model.records
    tensors: Tensors = {
        "records.names": pack_names(records.names),
        "records.digests": records.digests,
        "records.statistics": records.statistics,
        "mean_image": model.mean_image,
    }
    if records.placements is not None:
        tensors["records.placements"] = records.placements
    if model.alignment is not None:
        tensors["alignment.reference"] = model.alignment.reference
    if model.kept is not None:
        for number, level in enumerate(model.kept.levels):
            tensors[f"kept.{number}.features"] = level
    if model.unusual is not None:
        tensors["unusual.numbers"] = model.unusual.numbers
        for number, level in enumerate(model.unusual.features.levels):
            tensors[f"unusual.{number}.features"] = level
    return tensors


def records_of(tensors: Tensors) -> ImageRecords:
    """Records from `image_tensors`."""
    return ImageRecords(
        names=unpack_names(tensors["records.names"]),
        digests=tensors["records.digests"],
        statistics=tensors["records.statistics"],
        placements=tensors.get("records.placements"),
    )


def alignment_of(described: Mapping[str, Any] | None, tensors: Tensors) -> Alignment | None:
    """Alignment from its description and `image_tensors`; None if there is none."""
    if described is None:
        return None
    return Alignment(
        kind=described["kind"],
        reference=tensors["alignment.reference"],
        least_correlation=float(described["least_correlation"]),
    )


def kept_of(tensors: Tensors, levels: int) -> KeptFeatures | None:
    """Kept features from `image_tensors`; None if there are none."""
    if "kept.0.features" not in tensors:
        return None
    return KeptFeatures(tuple(tensors[f"kept.{level}.features"] for level in range(levels)))


def unusual_images(tensors: Tensors, levels: int) -> UnusualImages | None:
    """Unusual images from `image_tensors`; None if there are none."""
    if "unusual.numbers" not in tensors:
        return None
    features = KeptFeatures(tuple(tensors[f"unusual.{level}.features"] for level in range(levels)))
    return UnusualImages(tensors["unusual.numbers"], features)


def check_images(fitted: Fitted) -> None:
    """Refuse what no fit has kept of its images.

    Raises
    ------
    ValueError
        Arrays of other shapes or types.
    """
    count, records = fitted.count, fitted.records
    check_floats("statistics", records.statistics, (count, len(STATISTICS)))
    _check("digests", records.digests, np.dtype(np.uint8), (count, DIGEST_BYTES))
    if len(records.names) != count:
        raise ValueError(f"{len(records.names)} names of {count} images")
    mean_image = fitted.mean_image
    _check_alignment(fitted)
    _check("mean image", mean_image, np.dtype(np.float32), (3, *fitted.preprocessing.size))
    if not np.isfinite(mean_image).all():
        raise ValueError("a mean image that is not all finite")
    if (fitted.kept is None) == (fitted.unusual is None):
        raise ValueError("features kept of all images and of unusual ones, or of none")
    if fitted.kept is not None:
        _check_features(fitted, fitted.kept, count)
    if fitted.unusual is not None:
        numbers = fitted.unusual.numbers
        _check("unusual images", numbers, np.dtype(np.int64), (len(numbers),))
        if np.any(np.diff(numbers) <= 0) or np.any((numbers < 0) | (numbers >= count)):
            raise ValueError(f"unusual images that are not among the {count}")
        _check_features(fitted, fitted.unusual.features, len(numbers))


def _check_features(fitted: Fitted, features: KeptFeatures, count: int) -> None:
    pyramid = fitted.pyramid
    for number, level in enumerate(features.levels):
        shape = (count, pyramid.positions(number), pyramid.dims[number])
        _check(f"features of level {number}", level, np.dtype(np.float16), shape)


def _check_alignment(fitted: Fitted) -> None:
    alignment, placements = fitted.alignment, fitted.records.placements
    kind = "none" if alignment is None else alignment.kind
    if kind != fitted.settings.align:
        raise ValueError(f"align is {fitted.settings.align}, but the alignment is {kind}")
    if (alignment is None) != (placements is None):
        raise ValueError("placements must come with an alignment, and an alignment with them")
    if alignment is None or placements is None:
        return
    size = (3, *fitted.preprocessing.size)
    _check("reference pixels", alignment.reference, np.dtype(np.float32), size)
    if not np.isfinite(alignment.reference).all() or not 0 <= alignment.least_correlation <= 1:
        raise ValueError("a reference, or a least correlation, that cannot be")
    check_floats("placements", placements, (fitted.count, len(PLACEMENT_COLUMNS)))


def _check(name: str, found: object, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    its_dtype, its_shape = getattr(found, "dtype", None), getattr(found, "shape", None)
    if its_dtype != dtype or its_shape != shape:
        raise ValueError(f"{name} are {its_dtype} {its_shape}, not {dtype} {shape}")
