"""What normal looks like in numbers: leave-one-out scores of the training images.

A second pass over the training images gives every one the score it would have had, had it not
been among them. Thresholds come from these, so no good image has to be held out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from blemish.arrays import BoolArray, Float64Array, FloatArray
from blemish.combination import Combination
from blemish.errors import InputError
from blemish.threshold import PixelHistogram, Threshold, threshold_for

# Shares of pixels above: 100 % down to 0.001 %, three to a decade, and 0 for the largest.
_RATES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
_TAIL = (0.001, 0.0005, 0.0002, 0.0001, 0.00005, 0.00002, 0.00001, 0.0)
PIXEL_PROBABILITIES = 1.0 - np.array([*_RATES, *_TAIL])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Leave-one-out scores of the training images.

    Attributes
    ----------
    scores : float64 (n,)
        Image scores, in the order of the images.
    pixel_quantiles : float64 (19,)
        Of the pixel values of all leave-one-out maps, at `PIXEL_PROBABILITIES`.
    approximate : bool
        Whether images have been added, merged or forgotten since, without the others at hand:
        their scores are then those of before, corrected for the number of images.
    """

    scores: Float64Array
    pixel_quantiles: Float64Array
    approximate: bool = False

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """Image threshold for a false-alarm rate; see `threshold_for`."""
        found = threshold_for(self.scores, false_alarm_rate)
        return replace(found, approximate=self.approximate)

    def pixel_threshold(self, false_alarm_rate: float) -> float:
        """Map value that at most this share of the pixels of good images reach.

        Between the kept quantiles it is interpolated in log rate; below the smallest rate kept
        (1e-5) it is the largest value seen.

        Raises
        ------
        InputError
            A rate outside (0, 1).
        """
        if not 0.0 < false_alarm_rate < 1.0:
            raise InputError(
                f"The pixel false-alarm rate must be between 0 and 1, but is "
                f"{false_alarm_rate}. Try 0.001."
            )
        rates = 1.0 - PIXEL_PROBABILITIES
        if false_alarm_rate < rates[-2] * (1 - 1e-9):
            return float(self.pixel_quantiles[-1])
        kept = slice(len(rates) - 2, None, -1)
        return float(
            np.interp(np.log(false_alarm_rate), np.log(rates[kept]), self.pixel_quantiles[kept])
        )


@dataclass(frozen=True, slots=True)
class Before:
    """Calibrations of models that are put together without all of their images.

    Attributes
    ----------
    scores : float64 (m,)
        Image scores of images that are not at hand, by the models they were in.
    pixel_quantiles : float64 (19,)
        Of the images of all these models.
    again : float64 (k,)
        Scores, by the models they were in, of the first k images of the passes.
    pixels : int
        Pixels that count in the map of an image.
    """

    scores: Float64Array
    pixel_quantiles: Float64Array
    again: Float64Array
    pixels: int

    def growth(self, scores: Float64Array) -> float:
        """By what factor scores have changed: the median over the images that are seen again.

        Parameters
        ----------
        scores : float64 (k,)
            Of the same images now.
        """
        if len(self.again) == 0:
            return 1.0
        return float(np.median(scores / np.maximum(self.again, np.finfo(np.float64).tiny)))


def calibrate(
    batches: Iterable[Sequence[FloatArray]],
    combination: Combination,
    *,
    ignored: BoolArray | None = None,
    before: Before | None = None,
    on_scores: Callable[[Float64Array], None] | None = None,
) -> Calibration:
    """Gather the leave-one-out scores of the training images.

    Parameters
    ----------
    batches : iterable of lists of float (N, P)
        Left-out position scores of every part, for the very images the moments were gathered from.
    combination : Combination
    ignored : bool (H, W), optional
        Pixels that do not count.
    before : Before, optional
        About images that are not at hand. Their scores come first.
    on_scores : function, optional
        Called with the image scores (N,) of every batch.

    Returns
    -------
    Calibration
    """
    histogram = PixelHistogram()
    scores: list[Float64Array] = []
    kept = slice(None) if ignored is None else ~ignored
    for totals in batches:
        maps, found = combination(combination.standardised(totals))
        scores.append(found)
        histogram.add(maps[:, kept])
        if on_scores is not None:
            on_scores(found)
    if before is not None:
        growth = before.growth(np.concatenate([*scores, np.zeros(0)])[: len(before.again)])
        scores.insert(0, before.scores * growth)
        histogram.add_quantiles(
            before.pixel_quantiles * growth,
            PIXEL_PROBABILITIES,
            len(before.scores) * before.pixels,
        )
    return Calibration(
        np.concatenate(scores), histogram.quantiles(PIXEL_PROBABILITIES), before is not None
    )
