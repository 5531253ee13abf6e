"""What a watch says when a statistic has moved: which one, how far, since when, what to check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

SCORE, ANOMALOUS = "score", "anomalous"

ADVICE = {
    (SCORE, "up"): "look at the parts, the camera and the light; if all is well, update the model",
    (SCORE, "down"): "check that these are new images and not those the model was fitted on, and "
    "that the camera still sees fine detail",
    (ANOMALOUS, "up"): "look at the parts first, then at the camera and the light",
    ("brightness", "up"): "check the lamp, the exposure and other light that falls in",
    ("brightness", "down"): "check the lamp, the exposure and dirt on the lens",
    ("contrast", "up"): "check the direction of the light and the gain of the camera",
    ("contrast", "down"): "check for haze and dirt on the lens, and other light that falls in",
    ("focus", "up"): "check the gain of the camera (noise) and the distance",
    ("focus", "down"): "check the lens and the distance",
    ("clipped", "up"): "check the exposure and for reflections",
    ("clipped", "down"): "check the exposure and the background",
    ("motion", "up"): "check the fixture and the trigger of the camera",
    ("motion", "down"): "check the fixture and the trigger of the camera",
    ("correlation", "up"): "check that the images are not copies",
    ("correlation", "down"): "check that these are the parts the model was fitted on, and the "
    "camera's place",
}
"""What to check, by statistic and direction."""

_OTHERWISE = "check what it measures"
_MOST_SHOWN = 10  # standard deviations


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A statistic that moved.

    Attributes
    ----------
    statistic : str
        "score", "anomalous" (the share of anomalous images), "brightness" ...
    direction : {"up", "down"}
    number : int
        Of the image that raised the alarm, from 1, anomalous ones counted.
    image : str
        Its name, if it was given.
    since : int
        Number of the first image after the change, as estimated.
    before, now : float
        Mean over the training images, and since the change.
    shift : float or None
        Their difference in standard deviations of the training images; None for the share of
        anomalous images, and if the training images were all alike. An estimate from few images,
        picked because it is large: often a little too large.
    differing : str or None
        Of an alarm about anomalous images: the statistic in which they differ most.
    """

    statistic: str
    direction: Literal["up", "down"]
    number: int
    image: str
    since: int
    before: float
    now: float
    shift: float | None = None
    differing: str | None = None

    @property
    def text(self) -> str:
        """What moved, how far, since when, and what to check."""
        verb = "rose" if self.direction == "up" else "fell"
        since = f"since about image {self.since}"
        advice = ADVICE.get((self.statistic, self.direction), _OTHERWISE)
        if self.statistic == ANOMALOUS:
            what = f"the share of anomalous images rose from {self.before:.1%} to {self.now:.1%}"
            how = "in the score only" if self.differing is None else f"also in {self.differing}"
            return f"{what} {since}; they differ {how}: {advice}"
        if self.shift is None:
            how = f"from {self.before:.4g} to {self.now:.4g}"
            return f"{self.statistic} {verb} {how} {since}: {advice}"
        size = abs(self.shift)
        by = f"{size:.1f}" if size <= _MOST_SHOWN else f"more than {_MOST_SHOWN}"
        return f"{self.statistic} {verb} by {by} standard deviations {since}: {advice}"

    def as_json(self) -> dict[str, Any]:
        """Fields and text, for JSON."""
        return {**asdict(self), "text": self.text}
