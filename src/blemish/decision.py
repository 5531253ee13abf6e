"""What is said of one image: its score, and the decision."""

from __future__ import annotations

from dataclasses import dataclass, field

from blemish.alignment import restore
from blemish.arrays import BoolArray, Float32Array
from blemish.errors import InputError
from blemish.regions import Box, Regions, RegionSettings, find_regions
from blemish.registration import Placement
from blemish.threshold import Threshold


@dataclass(frozen=True, slots=True)
class Score:
    """What a model says of one image.

    Attributes
    ----------
    image_score : float
        Larger is more anomalous; compare it with a threshold.
    anomaly_map : float32 (H, W)
        Of the network's input, in the unit of the score.
    level_grids : dict of str to float32 (h, w)
        Per layer. With one Gaussian over all layers: its conditional distance, not squared (the
        squares of all layers, repeated to the finest grid, sum to the squared distance), or its
        largest Chebyshev bound. With separate layers: the layer's own score, standardised if the
        settings say so. With a neighbourhood: by the Gaussians that won; the squares are averaged
        over the finest positions of a cell.
    placement : Placement or None
        Where the part lay, if it was aligned. The score is that of the aligned image; map and grids
        are brought back to the image as it came, and 0 where it was not looked at.
    """

    image_score: float
    anomaly_map: Float32Array = field(repr=False)
    level_grids: dict[str, Float32Array] = field(repr=False)
    placement: Placement | None = None

    def restored(self, placement: Placement) -> Score:
        """Score of an aligned image, with map and grids as the image came."""
        size = (self.anomaly_map.shape[0], self.anomaly_map.shape[1])
        return Score(
            self.image_score,
            restore(self.anomaly_map, placement, size),
            {name: restore(grid, placement, size) for name, grid in self.level_grids.items()},
            placement,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """A score, judged.

    Attributes
    ----------
    is_anomalous : bool
        Whether the image score is at least the threshold.
    score : Score
    threshold : Threshold
    predicted_mask : bool (H, W)
        Where the map is at least `pixel_threshold`.
    pixel_threshold : float
    operating_point : str or None
        Name of the operating point; None if a false-alarm rate was asked for.
    source_box : tuple of float or None
        x, y, width and height of what the map covers, in pixels of the source image; None if its
        size is not known.
    region_settings : RegionSettings
        Those of the operating point.
    """

    is_anomalous: bool
    score: Score
    threshold: Threshold
    predicted_mask: BoolArray = field(repr=False)
    pixel_threshold: float
    operating_point: str | None = None
    source_box: Box | None = None
    region_settings: RegionSettings = field(default_factory=RegionSettings, repr=False)

    def regions(self, settings: RegionSettings | None = None) -> Regions:
        """Connected regions of the predicted mask, in the frame of the source image.

        They are told whatever the decision on the image is, as the mask is.

        Parameters
        ----------
        settings : RegionSettings, optional
            Default: those of the operating point.

        Returns
        -------
        Regions
            Largest peak first.

        Raises
        ------
        InputError
            The size of the source image is not known.
        """
        if self.source_box is None:
            raise InputError(
                "Regions must be told in the frame of the source image, but its size is not known. "
                "Classify the image itself, or give its size: classify(score, source_size=...)."
            )
        return find_regions(
            self.predicted_mask,
            self.score.anomaly_map,
            self.source_box,
            settings or self.region_settings,
        )
