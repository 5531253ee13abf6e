"""Why an image got its score, as data: where, by which layers and channels, how rarely.


Made by `explaining`; `explanation_panels` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blemish.arrays import Float32Array, Float64Array
from blemish.explanation.dimension_names import Dimension
from blemish.explanation.tail_probability import TailProbability

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels; pixel 0 covers 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A place that drove the image score, or stands out in the map.

    Attributes
    ----------
    x, y : float
        The strongest point, in pixels of the source image.
    box : Box
        The cells that supply most of it, in pixels of the source image.
    input_box : Box
        The same in pixels of the network's input.
    pixel : (row, column)
        The strongest point in the map.
    map_value : float
        Of the map at that pixel.
    good_share : float in 0..1
        Share of the pixels of good images, left out, whose map value is at least as high; 1e-5
        stands for at most that, 0 for none at all.
    share : float in 0..1
        Of the image score. 0: high in the map, but without a say in the score.
    """

    x: float
    y: float
    box: Box
    input_box: Box
    pixel: tuple[int, int]
    map_value: float
    good_share: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContribution:
    """What one layer adds to the image score.

    Attributes
    ----------
    layer : str
    cell : (height, width)
        Pixels of the network's input per position of its grid: how coarse it looks.
    image : float
        Contribution to the image score: the sum of the next three.
    distance, deviation, standardisation : float
        By the Mahalanobis distance; by the channel that deviates most, if it is of this layer; by
        what standardising its scores adds.
    share : float
        `image` as a part of the score.
    map : float
        Contribution to the map at the first peak.
    at_peak, median : float
        The layer's own score (`Score.level_grids`) at the first peak, and its median over the
        image: how far the place stands out from the rest of the same image.
    """

    layer: str
    cell: tuple[float, float]
    image: float
    distance: float
    deviation: float
    standardisation: float
    share: float
    map: float
    at_peak: float
    median: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContribution:
    """What one kept dimension adds to the image score.

    Attributes
    ----------
    dimension : Dimension
        Layer, channel and name.
    kind : {"distance", "deviation"}
    contribution, share : float
        To the image score, over all positions that have a say; at least 0 by the distance.
    value : float
        Of the image, at the position where the channel contributes most.
    mean, std : float
        Of the good images there.
    spread : float
        The standard deviation that the score goes by: with epsilon or shrinkage, or floored.
    deviations : float
        How many spreads the value is from the mean.
    expected : float
        Value that the coarser layers of the same image let expect; the mean where there are none.
    """

    dimension: Dimension
    kind: str
    contribution: float
    share: float
    value: float
    mean: float
    std: float
    spread: float
    deviations: float
    expected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPatch:
    """A good image that is most alike at the first peak.

    Attributes
    ----------
    image : str
        File name, or "image 17" for one that came as an array.
    distance : float
        To the image explained, in the unit of the score.
    usual : float
        Such a distance between good images: median over them of that to the nearest other.
    box : Box
        In pixels of the network's input, which is `pixels`.
    pixels : float32 (H, W, 3), or None
        The good image as the network saw it; None if only its features were at hand.
    """

    image: str
    distance: float
    usual: float
    box: Box
    pixels: Float32Array | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an image got its score.

    The contributions of all layers and `constant` sum to `image_score`, and so do those of
    `channels`, `other_channels`, the layers' standardisation and `constant`.

    Attributes
    ----------
    image : str
        File name; "" for an array.
    image_score, threshold : float
    is_anomalous : bool
    median_score : float
        Of good images, left out.
    score : str
        Which score the model has.
    separate : bool
        Whether layers are judged each by itself: then the score is the weighted sum of their
        highest position scores, perhaps at several places; else it is the highest of the map.
    is_training_image : bool
        Then it is judged by a model that knows it, and scores too low.
    is_aligned : bool
        Whether the model aligns parts. Then peaks are told in the source image as ever, but
        `pixels`, the maps and all boxes in "the network's input" are of the aligned image.
    peaks : tuple of Peak
        By share, then by map value; at most 3, and they do not overlap.
    layers : tuple of LayerContribution
        Coarse to fine.
    constant : float
        What standardising adds to the score of a model with one Gaussian over all layers.
    channels : tuple of ChannelContribution
        The largest, largest first.
    other_channels : float
        Contribution of all others.
    tail : TailProbability
        Of the image score among good images.
    is_approximate : bool
        Whether the good scores it rests on are only approximate; see `Calibration`.
    position_p_values : dict of str to float
        Per layer judged by itself, or "all layers": conformal p-value of the distance at the first
        peak among the left-out distances of the good images at the same place. The peak is where
        the image is most unusual, so a small value is no alarm by itself. Empty unless all good
        images were given or kept, and the score is "gaussian".
    similar, similar_anywhere : SimilarPatch or None
        At the same place, and at any.
    good_scores : float (n,)
        Image scores of good images, left out.
    pixels, mean_pixels : float32 (H, W, 3)
        What the network saw, and the mean of the good images; of a model that aligns, what they
        are aligned to.
    anomaly_map, layer_maps : float32 (H, W), dict of str to float32 (H, W)
    """

    image: str
    image_score: float
    threshold: float
    is_anomalous: bool
    median_score: float
    score: str
    separate: bool
    is_training_image: bool
    is_aligned: bool
    peaks: tuple[Peak, ...]
    layers: tuple[LayerContribution, ...]
    constant: float
    channels: tuple[ChannelContribution, ...]
    other_channels: float
    tail: TailProbability
    is_approximate: bool
    position_p_values: dict[str, float]
    similar: SimilarPatch | None
    similar_anywhere: SimilarPatch | None
    good_scores: Float64Array = field(repr=False)
    pixels: Float32Array = field(repr=False)
    mean_pixels: Float32Array = field(repr=False)
    anomaly_map: Float32Array = field(repr=False)
    layer_maps: dict[str, Float32Array] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """All that is not a picture, as JSON values."""
        return {
            "image": self.image,
            "score": self.image_score,
            "decision": "anomalous" if self.is_anomalous else "normal",
            "threshold": self.threshold,
            "score_kind": self.score,
            "separate": self.separate,
            "is_training_image": self.is_training_image,
            "is_aligned": self.is_aligned,
            "good_images": {
                "count": self.tail.images,
                "approximate": self.is_approximate,
                "median_score": self.median_score,
                "at_least_as_high": self.tail.higher,
                "p_value": self.tail.p_value,
                "extrapolated": self.tail.extrapolated,
                "interval": None if self.tail.interval is None else list(self.tail.interval),
            },
            "peaks": [
                _values_of(peak, "x", "y", "box", "pixel", "map_value", "good_share", "share")
                for peak in self.peaks
            ],
            "layers": [
                _values_of(
                    layer,
                    "layer",
                    "cell",
                    "image",
                    "distance",
                    "deviation",
                    "standardisation",
                    "share",
                    "map",
                    "at_peak",
                    "median",
                )
                for layer in self.layers
            ],
            "constant": self.constant,
            "channels": [
                _values_of(each.dimension, "layer", "channel", "number", "name")
                | _values_of(
                    each,
                    "kind",
                    "contribution",
                    "share",
                    "value",
                    "mean",
                    "std",
                    "spread",
                    "deviations",
                    "expected",
                )
                for each in self.channels
            ],
            "other_channels": self.other_channels,
            "position_p_values": self.position_p_values,
            "similar": _similar_values(self.similar),
            "similar_anywhere": _similar_values(self.similar_anywhere),
        }


def _values_of(record: object, *names: str) -> dict[str, Any]:
    """Some attributes as JSON values."""
    values = {name: getattr(record, name) for name in names}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _similar_values(patch: SimilarPatch | None) -> dict[str, Any] | None:
    return None if patch is None else _values_of(patch, "image", "distance", "usual", "box")
