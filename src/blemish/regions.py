"""From a predicted mask to regions: where each defect is, how large, how anomalous.

Regions are the connected components of the mask (8 neighbours), told in the frame of the source
image, so that a box can be drawn on the photo or sent to a robot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, Float64Array, FloatArray, IntArray
from blemish.errors import InputError, ShapeError

Box = tuple[float, float, float, float]
"""x, y, width and height."""

AREA_UNITS = ("px", "mm2")
MOST_REGIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """Which regions are told, and in what unit.

    Attributes
    ----------
    min_area : float >= 0, default 0
        Smaller regions are left out.
    area_unit : {"px", "mm2"}
        Of `min_area`: pixels of the source image, or square millimetres.
    max_regions : int >= 1, default 20
        At most so many: those with the largest peak.
    mm_per_pixel : float > 0, optional
        Millimetres per pixel of the source image.

    Raises
    ------
    InputError
        A value is not as described, or an area in mm2 comes without a scale.
    """

    min_area: float = 0.0
    area_unit: str = AREA_UNITS[0]
    max_regions: int = MOST_REGIONS
    mm_per_pixel: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.min_area) or self.min_area < 0:
            raise InputError(
                f"The minimum area must be a number from 0, but is {self.min_area!r}. "
                "Use 0 to keep all regions."
            )
        if self.area_unit not in AREA_UNITS:
            raise InputError(
                f"The unit of an area must be one of {', '.join(AREA_UNITS)}, but is "
                f"{self.area_unit!r}. Choose one."
            )
        if type(self.max_regions) is not int or self.max_regions < 1:
            raise InputError(
                f"The number of regions must be a whole number from 1, but is "
                f"{self.max_regions!r}. Try {MOST_REGIONS}."
            )
        scale = self.mm_per_pixel
        if scale is not None and (not _is_number(scale) or scale <= 0):
            raise InputError(
                f"The scale must be millimetres per pixel, a number above 0, but is {scale!r}. "
                "Measure something of known length in a photo."
            )
        if self.area_unit == "mm2" and scale is None:
            raise InputError(
                f"A minimum area in mm2 must come with a scale, but {self.min_area:g} mm2 has "
                "none. Give the millimetres per pixel, or the area in pixels."
            )

    @property
    def min_pixels(self) -> float:
        """Least area, in pixels of the source image."""
        if self.area_unit == "mm2" and self.mm_per_pixel is not None:
            return self.min_area / self.mm_per_pixel**2
        return self.min_area

    def changed(
        self,
        *,
        min_area: tuple[float, str] | None = None,
        max_regions: int | None = None,
        mm_per_pixel: float | None = None,
    ) -> RegionSettings:
        """Return these settings but for those that are given; an area goes with its unit."""
        given: dict[str, Any] = {"max_regions": max_regions, "mm_per_pixel": mm_per_pixel}
        if min_area is not None:
            given |= {"min_area": min_area[0], "area_unit": min_area[1]}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RegionSettings:
        """Read what `to_json` gave; another set of keys is a TypeError."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One connected component of a predicted mask. Lengths are in pixels of the source image.

    Attributes
    ----------
    box : tuple of float
        x, y, width and height of the smallest upright rectangle; pixel 0 covers 0 to 1.
    centroid : tuple of float
        x and y of its middle; it may lie outside a bent region.
    area : float
        Square pixels, without holes.
    mm2 : float or None
        The same in square millimetres, where there is a scale.
    peak, mean : float
        Largest and mean value of the anomaly map in it.
    map_box : tuple of int
        `box` in pixels of the anomaly map.
    component : bool (h, w)
        Which pixels in `map_box` belong to it.
    """

    box: Box
    centroid: tuple[float, float]
    area: float
    mm2: float | None
    peak: float
    mean: float
    map_box: tuple[int, int, int, int]
    component: BoolArray = field(repr=False)

    @property
    def polygon(self) -> Float64Array:
        """Corners of the outline, without holes, clockwise as seen: x and y, float64 (K, 2).

        It follows the edges of the map's pixels. It is traced anew each time.
        """
        across, down = self.box[2] / self.map_box[2], self.box[3] / self.map_box[3]
        corners: Float64Array = outline(self.component) * [across, down] + self.box[:2]
        return corners

    def to_json(self) -> dict[str, object]:
        """Plain data; lengths to a hundredth of a pixel."""
        return {
            "box": [round(value, 2) for value in self.box],
            "polygon": self.polygon.round(2).tolist(),
            "centroid": [round(value, 2) for value in self.centroid],
            "area_px": round(self.area, 2),
            "area_mm2": None if self.mm2 is None else float(f"{self.mm2:.6g}"),
            "peak": self.peak,
            "mean": self.mean,
        }


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of one image, the largest peak first; of equal peaks, the larger region.

    Attributes
    ----------
    told : tuple of Region
    too_small : int
        Regions below the minimum area.
    too_many : int
        Regions beyond the largest number: large enough, but of a lower peak than all that are told.
    """

    told: tuple[Region, ...] = ()
    too_small: int = 0
    too_many: int = 0

    def __iter__(self) -> Iterator[Region]:
        """The regions that are told."""
        return iter(self.told)

    def __len__(self) -> int:
        """How many are told."""
        return len(self.told)


def find_regions(
    predicted_mask: BoolArray,
    anomaly_map: FloatArray,
    source_box: Box,
    settings: RegionSettings | None = None,
) -> Regions:
    """Take a predicted mask apart.

    Parameters
    ----------
    predicted_mask : bool (H, W)
    anomaly_map : float (H, W)
    source_box : tuple of float
        Rectangle of the source image that mask and map cover; see `Preprocessing.source_box`.
    settings : RegionSettings, optional

    Returns
    -------
    Regions

    Raises
    ------
    ShapeError
        Mask and map differ in shape.

    Examples
    --------
    >>> mask = np.zeros((4, 4), bool)
    >>> mask[1, 1] = mask[2, 2] = mask[0, 3] = True
    >>> found = find_regions(mask, mask * 2.0, (10, 20, 8, 4), RegionSettings(min_area=3))
    >>> [(region.box, region.area) for region in found], found.too_small
    ([((12.0, 21.0, 4.0, 2.0), 4.0)], 1)
    """
    if predicted_mask.ndim != 2 or predicted_mask.shape != anomaly_map.shape:
        raise ShapeError(
            f"predicted_mask and anomaly_map must have one shape (H, W), but have "
            f"{predicted_mask.shape} and {anomaly_map.shape}. Pass those of one decision."
        )
    settings = settings or RegionSettings()
    if not predicted_mask.any():
        return Regions()
    _, labels, boxes, centroids = cv2.connectedComponentsWithStats(
        predicted_mask.astype(np.uint8), connectivity=8
    )
    # The background comes first.
    areas, boxes, centroids = boxes[1:, cv2.CC_STAT_AREA], boxes[1:, :4], centroids[1:]
    height, width = predicted_mask.shape
    scale = np.array([source_box[2] / width, source_box[3] / height])
    large = np.flatnonzero(areas * scale.prod() >= settings.min_pixels)
    numbers = np.asarray(labels, dtype=np.int32)
    cuts = [_cut(numbers, label + 1, boxes[label]) for label in large]
    values = [anomaly_map[_window(boxes[k])][cut] for k, cut in zip(large, cuts, strict=True)]
    peaks = [float(found.max()) for found in values]
    order = sorted(range(len(large)), key=lambda k: (-peaks[k], -areas[large[k]], k))
    told = [
        _region(
            boxes[large[k]], centroids[large[k]], cuts[k], values[k], source_box, scale, settings
        )
        for k in order[: settings.max_regions]
    ]
    return Regions(tuple(told), len(areas) - len(large), len(order) - len(told))


def outline(component: BoolArray) -> IntArray:
    """Corners of the outline of one connected component, along the edges of its pixels.

    The component is drawn on the lattice of half pixels, where every pixel covers its edges and
    corners. The outline of that, as OpenCV follows it, runs through the corners, but for those
    that it cuts in a step across: they are put back.

    Parameters
    ----------
    component : bool (H, W)

    Returns
    -------
    int64 (K, 2)
        x and y; pixel 0 covers 0 to 1.

    Examples
    --------
    >>> outline(np.array([[True, False], [True, True]])).tolist()
    [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]]
    """
    height, width = component.shape
    lattice = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    for row in range(3):
        for column in range(3):
            lattice[row : row + 2 * height : 2, column : column + 2 * width : 2] |= component
    found, _ = cv2.findContours(lattice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = found[0][::-1, 0].astype(np.int64)
    following = np.roll(points, -1, axis=0)
    across = (points != following).all(axis=1)
    corners = np.where(points % 2 == 0, points, following)  # of a step across, the even ones
    every = np.stack([points, np.where(across[:, None], corners, points)], axis=1).reshape(-1, 2)
    every = every[(every != np.roll(every, -1, axis=0)).any(axis=1)]
    before, after = every - np.roll(every, 1, axis=0), np.roll(every, -1, axis=0) - every
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    turns |= (before * after).sum(axis=1) < 0
    kept = every[turns] // 2
    first = int(np.lexsort((kept[:, 0], kept[:, 1]))[0])  # the topmost, of these the leftmost
    return np.roll(kept, -first, axis=0)


def _region(
    map_box: IntArray,
    centroid: Float64Array,
    cut: BoolArray,
    values: FloatArray,
    source_box: Box,
    scale: Float64Array,
    settings: RegionSettings,
) -> Region:
    """One component, from the frame of the map to that of the source image."""
    corner = np.array(source_box[:2])
    x, y = corner + map_box[:2] * scale
    width, height = map_box[2:] * scale
    middle = corner + (centroid + 0.5) * scale  # pixel 0 covers 0 to 1
    area = float(values.size * scale.prod())
    left, top, across, down = map_box.tolist()
    return Region(
        box=(float(x), float(y), float(width), float(height)),
        centroid=(float(middle[0]), float(middle[1])),
        area=area,
        mm2=None if settings.mm_per_pixel is None else area * settings.mm_per_pixel**2,
        peak=float(values.max()),
        mean=float(values.mean(dtype=np.float64)),
        map_box=(left, top, across, down),
        component=cut,
    )


def _cut(labels: NDArray[np.int32], label: int, map_box: IntArray) -> BoolArray:
    """Where a component is, inside its box."""
    found: BoolArray = labels[_window(map_box)] == label
    return found


def _window(map_box: IntArray) -> tuple[slice, slice]:
    x, y, width, height = map_box.tolist()
    return slice(y, y + height), slice(x, x + width)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
