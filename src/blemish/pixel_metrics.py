"""How well anomaly maps find the defects that the masks show: pixel metrics, PRO, AUPIMO.

Maps are added one image at a time; every metric is then exact over all pixels of all images,
with ties counted as in `blemish.metrics`. Higher is better; 1 is a perfect score.

How it stays small and exact. A map is taken apart into defect-free pixels (4 bytes each) and
defect pixels (8 bytes each: score and region), sorted in place at the first question. Every
area under a curve here is a mean over defect pixels: as the threshold falls past its score, a
pixel lifts the curve by its weight, while the false-positive rate runs from `above` (share of
defect-free pixels with a higher score) to `reached` (a higher or equal one). So no curve is ever
stored: two binary searches per defect pixel suffice, and they are done in slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from blemish.errors import InputError, ShapeError
from blemish.metrics import Curve
from blemish.pixel_curves import trace_curve
from blemish.pixel_rates import (
    DefectPixels,
    FalsePositives,
    compare,
    require_bounds,
    require_limit,
    share_of_log_rates,
    share_of_rates,
)
from blemish.pixel_store import Pool, encode_keys


@dataclass(frozen=True, slots=True)
class PimoResult:
    """Area under the per-image overlap curve of every image that shows a defect.

    Attributes
    ----------
    mean : float, 0..1
        Mean of `per_image`.
    per_image : float64 (A,), 0..1
        One value per image with defect pixels: its true-positive rate, averaged over the
        logarithm of the shared false-positive rate between the bounds.
    images : int64 (A,)
        Which call of `PixelScores.add` each value belongs to, counted from 0.
    levels : int
        Distinct false-positive rates within the bounds: how finely the good images resolve
        them. The authors' own program refuses 30 or fewer and warns below 300.
    """

    mean: float
    per_image: Float64Array
    images: IntArray
    levels: int


class PixelScores:
    """Anomaly maps and masks, gathered one image at a time, and the metrics over all of them.

    Scores are held as float32, the dtype of anomaly maps. 100 maps of 1024 x 1024 take 420 MB
    plus 4 bytes per defect pixel, and the metrics need some 100 MB more. Add every map before
    the first question: adding later is correct, but holds the scores twice for a moment.

    Attributes
    ----------
    images : int
        Maps added.
    regions : int
        Connected defect regions with at least one valid pixel, in all images together.
    blank_masks : int
        Images that were given a mask without a valid defect pixel (a crop may have cut the
        defect off). Their pixels count as defect-free, as in MVTec's evaluation, but they are
        not good images: the shared false-positive rate of AUPIMO leaves them out. Report it.

    Examples
    --------
    >>> pixels = PixelScores()
    >>> pixels.add(np.array([[0.1, 0.2, 0.3, 0.4]]), mask=None)
    >>> pixels.add(np.array([[0.1, 0.4, 0.9, 0.8]]), mask=np.array([[False, True, True, False]]))
    >>> pixels.auroc()
    0.875
    """

    def __init__(self) -> None:
        self.images = 0
        self.blank_masks = 0
        self._good: dict[int, Pool[np.float32]] = {}  # by the number of valid pixels in an image
        self._background = Pool(np.float32)  # defect-free pixels of images with a mask
        self._defects = Pool(np.uint64)
        self._region_sizes: list[int] = []
        self._region_images: list[int] = []

    @property
    def regions(self) -> int:
        """Connected defect regions with at least one valid pixel."""
        return len(self._region_sizes)

    def add(
        self, anomaly_map: FloatArray, mask: BoolArray | None, *, valid: BoolArray | None = None
    ) -> None:
        """Add the map of one image. Nothing is changed if it is refused.

        Parameters
        ----------
        anomaly_map : float (H, W)
            Higher is more anomalous. H and W may differ from image to image.
        mask : bool (H, W) or None
            True where the defect is. None for a good image. All False: see `blank_masks`.
        valid : bool (H, W), optional
            False where a pixel is ignored. A region cut apart by ignored pixels stays one.

        Raises
        ------
        ShapeError
            The map has not two axes, or `mask` or `valid` has another shape.
        InputError
            A valid score is not finite in float32, no pixel is valid, or a mask is not bool.
        """
        scores, mask, valid = _validate_map(anomaly_map, mask, valid)
        if mask is None:
            pixels = scores.ravel() if valid is None else scores[valid]
            self._good.setdefault(len(pixels), Pool(np.float32)).append(pixels)
        else:
            self._add_defects(scores, mask, valid)
            self._background.append(scores[~mask if valid is None else ~mask & valid])
        self.images += 1

    def auroc(self) -> float:
        """Chance that a random defect pixel scores above a random defect-free one (ties: 1/2).

        Returns
        -------
        float, 0..1

        Raises
        ------
        InputError
            There is no defect pixel, or no defect-free one.
        """
        doubled = 0
        for pixels in self._compare(self._normal(total=1)):
            doubled += int(np.sum(pixels.above + pixels.reached))
        return 1 - doubled / (2 * self._defects.count * self._normal_count())

    def average_precision(self) -> float:
        """Precision at every threshold, averaged over the recall each adds (no interpolation).

        Returns
        -------
        float, 0..1

        Raises
        ------
        InputError
            As for `auroc`.
        """
        summed = 0.0
        for pixels in self._compare(self._normal(total=1)):
            summed += float(np.sum(pixels.true / (pixels.true + pixels.reached)))
        return summed / self._defects.count

    def f1_max(self) -> tuple[float, float]:
        """Best F1 over all thresholds, and the threshold that reaches it.

        Returns
        -------
        tuple of float
            F1 (0..1) and its threshold, the score of a defect pixel: at or above it is
            anomalous. Of several equally good thresholds, the highest.

        Raises
        ------
        InputError
            As for `auroc`.
        """
        best = (0.0, 0.0)
        for pixels in self._compare(self._normal(total=1)):
            f1 = 2 * pixels.true / (pixels.true + pixels.reached + self._defects.count)
            at = len(f1) - 1 - int(np.argmax(f1[::-1]))
            best = max(best, (float(f1[at]), float(pixels.scores[at])))
        return best

    def pro(self, fpr_limit: float = 0.3) -> float:
        """Per-region overlap, averaged over false-positive rates from 0 to `fpr_limit`.

        The overlap of a connected defect region (8 neighbours, as in MVTec's evaluation) is the
        share of it at or above the threshold; regions of all images weigh the same. The rate is
        that of the defect-free pixels of all images together. The area under the curve, linear
        between its points and cut at the limit, is divided by the limit [1]_.

        Parameters
        ----------
        fpr_limit : float in (0, 1], default 0.3 (as in the paper)

        Returns
        -------
        float, 0..1
            About ``fpr_limit / 2`` for scores that say nothing.

        Raises
        ------
        InputError
            As for `auroc`, or the limit is out of range.

        References
        ----------
        .. [1] Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021,
           doi:10.1007/s11263-020-01400-4, section 4.
        """
        require_limit(fpr_limit)
        overlaps = np.zeros(self.regions)
        for pixels in self._compare(self._normal(total=self._normal_count())):
            share = share_of_rates(pixels.above, pixels.reached, fpr_limit)
            overlaps += np.bincount(pixels.regions, share, minlength=self.regions)
        return float(np.mean(overlaps / np.array(self._region_sizes)))

    def aupimo(self, bounds: tuple[float, float] = (1e-5, 1e-4)) -> PimoResult:
        """Area under the per-image overlap (PIMO) curve, for every image with a defect.

        PIMO is the true-positive rate within one image against a false-positive rate shared by
        all: the mean, over good images only, of the rate in each. It is averaged over the
        logarithm of the shared rate between the bounds [1]_.

        The authors sample thresholds and join the points; here every score is a threshold and
        the integral has a closed form. In a tie, true and false positives grow in proportion.

        Parameters
        ----------
        bounds : tuple of float, default (1e-5, 1e-4) (as in the paper)
            Lowest and highest shared false-positive rate, ``0 < low < high <= 1``.

        Returns
        -------
        PimoResult

        Raises
        ------
        InputError
            There is no defect pixel or no good image, or the bounds are out of range.

        References
        ----------
        .. [1] Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with
           High Speed and Low Tolerance", 2024, arXiv:2401.01984.
        """
        require_bounds(bounds)
        shared = self._mean_of_good()
        region_images = np.array(self._region_images, dtype=np.int64)
        images, place = np.unique(region_images, return_inverse=True)
        summed = np.zeros(len(images))
        for pixels in self._compare(shared):
            share = share_of_log_rates(pixels.above, pixels.reached, bounds)
            summed += np.bincount(place[pixels.regions], share, minlength=len(images))
        per_image = summed / np.bincount(place, self._region_sizes)
        return PimoResult(float(per_image.mean()), per_image, images, shared.levels(bounds))

    def roc_curve(self, max_points: int = 1000) -> Curve:
        """True-positive rate against false-positive rate, over all pixels.

        Parameters
        ----------
        max_points : int >= 2
            All points are exact and spread evenly along the curve. If no more than
            `max_points` are needed, one for each distinct score, the curve is complete.

        Returns
        -------
        Curve
            From (0, 0) at threshold infinity to (1, 1) at the lowest score.

        Raises
        ------
        InputError
            As for `auroc`, or `max_points` is below 2.
        """
        self._require_both()
        normal = self._normal(total=self._normal_count())
        return trace_curve(self._defects.sorted(), np.ones(self.regions), normal, max_points)

    def pro_curve(self, max_points: int = 1000, *, fpr_limit: float = 0.3) -> Curve:
        """Mean overlap per defect region against false-positive rate, as `pro` integrates it.

        Parameters
        ----------
        max_points : int >= 2
            As for `roc_curve`.
        fpr_limit : float in (0, 1], default 0.3
            Where the curve ends, interpolated if no threshold meets it.

        Returns
        -------
        Curve
            From (0, 0) to x = `fpr_limit`.

        Raises
        ------
        InputError
            As for `pro`, or `max_points` is below 2.
        """
        require_limit(fpr_limit)
        self._require_both()
        weights = 1 / np.array(self._region_sizes)
        normal = self._normal(total=self._normal_count())
        return trace_curve(self._defects.sorted(), weights, normal, max_points, fpr_limit=fpr_limit)

    def _compare(self, normal: FalsePositives) -> Iterator[DefectPixels]:
        self._require_both()
        return compare(self._defects.sorted(), normal)

    def _add_defects(self, scores: Float32Array, mask: BoolArray, valid: BoolArray | None) -> None:
        """Number the regions of the mask, and pool its pixels under score and region."""
        import cv2  # noqa: PLC0415  # loading it costs more than all else in this file

        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        defect = mask if valid is None else mask & valid
        labelled = labels[defect]
        sizes = np.bincount(labelled, minlength=count)
        seen = sizes > 0  # not so for the background, nor where all of a region is ignored
        numbers = (np.cumsum(seen) - 1 + self.regions)[labelled]
        self._defects.append(encode_keys(scores[defect]) | numbers.astype(np.uint64))
        self._region_sizes.extend(sizes[seen].tolist())
        self._region_images.extend([self.images] * int(np.count_nonzero(seen)))
        self.blank_masks += not seen.any()

    def _normal_count(self) -> int:
        return self._background.count + sum(pool.count for pool in self._good.values())

    def _normal(self, total: int) -> FalsePositives:
        """Counts (or rates, by `total`) over the defect-free pixels of all images together."""
        pools = (self._background, *self._good.values())
        return FalsePositives(tuple((pool.sorted(), 1) for pool in pools if pool.count), total)

    def _mean_of_good(self) -> FalsePositives:
        """Mean over the good images of the rate in each."""
        if not self._good:
            raise InputError(
                f"AUPIMO needs good images, but none of the {self.images} images added is one. "
                "Add at least one with mask=None."
            )
        groups = tuple((pool.sorted(), pixels) for pixels, pool in self._good.items())
        return FalsePositives(groups, sum(len(scores) // pixels for scores, pixels in groups))

    def _require_both(self) -> None:
        normal, defect = self._normal_count(), self._defects.count
        if normal and defect:
            return
        raise InputError(
            "Pixel metrics need defect pixels and defect-free ones, but there are "
            f"{defect} and {normal} in the {self.images} images added. "
            f"Add images {'without a defect' if defect else 'with masks that show a defect'}."
        )


def _validate_map(
    anomaly_map: FloatArray, mask: BoolArray | None, valid: BoolArray | None
) -> tuple[Float32Array, BoolArray | None, BoolArray | None]:
    """Check one map and what belongs to it; hand back contiguous arrays."""
    if anomaly_map.ndim != 2:
        raise ShapeError.of("anomaly_map", "(H, W)", anomaly_map.shape, "Add one image at a time.")
    mask = _validate_flags("mask", mask, anomaly_map)
    valid = _validate_flags("valid", valid, anomaly_map)
    with np.errstate(over="ignore"):
        scores: Float32Array = np.ascontiguousarray(anomaly_map, dtype=np.float32)
    inside = scores.ravel() if valid is None else scores[valid]
    if len(inside) == 0:
        raise InputError(
            f"An anomaly map needs at least one valid pixel, but of shape {scores.shape} none is. "
            "Leave the image out, or ignore less of it."
        )
    if not np.isfinite(inside).all():
        found = anomaly_map[~np.isfinite(scores) & (True if valid is None else valid)][0]
        raise InputError(
            f"Scores must be finite in float32, but the anomaly map has a pixel of {found}. "
            "Find out why the model gave it; it cannot be ranked."
        )
    return scores, mask, valid


def _validate_flags(
    name: str, flags: BoolArray | None, anomaly_map: NDArray[Any]
) -> BoolArray | None:
    """Check a mask or valid pixels against the map; contiguous, or None as given."""
    if flags is None:
        return None
    if flags.shape != anomaly_map.shape:
        raise ShapeError.of(
            name, f"{anomaly_map.shape}", flags.shape, "It must have the size of the anomaly map."
        )
    if flags.dtype != np.bool_:
        raise InputError(
            f"{name} must be bool, but its dtype is {flags.dtype}. Pass `{name} != 0`, if that "
            "is what is meant."
        )
    return np.ascontiguousarray(flags)
