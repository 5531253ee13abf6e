"""Everything that decides what a fit does, in one frozen record that is saved in the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from blemish.alignment import ALIGNMENTS
from blemish.backbones import Backbone
from blemish.embedding import REDUCTIONS
from blemish.errors import InputError
from blemish.gaussian import SHRINKAGES
from blemish.maps import MapSettings
from blemish.presets import PRESETS, preset_network_layers, preset_values
from blemish.scorer import WITHOUT_NEIGHBOURHOOD, ScoreSettings

_CHOICES = {
    "preset": PRESETS,
    "align": ALIGNMENTS,
    "reduction": REDUCTIONS,
    "shrinkage": SHRINKAGES,
}
MOST_OUTLIERS = 0.2
"""Largest share of the training images that may be rejected."""

_TUPLES = (
    "layers",
    "size",
    "roi",
    "value_range",
    "dims",
    "averaging",
    "map_weights",
    "image_weights",
)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and _is_whole(value) and value > 0


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _are(value: object, kind: Callable[[Any], bool], count: int | None = None) -> bool:
    """Whether a value is a tuple of such, or None."""
    return value is None or (
        isinstance(value, tuple)
        and (len(value) == count if count else len(value) > 0)
        and all(kind(each) for each in value)
    )


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _is_region(value: Any) -> bool:
    return _are(value, _is_whole, 4) and (
        value is None or (min(value[:2]) >= 0 and min(value[2:]) > 0)
    )


def _are_weights(value: Any) -> bool:
    return _are(value, lambda v: _is_number(v) and v >= 0) and (value is None or any(value))


_WEIGHTS = "numbers of at least 0, one per layer and not only 0"

_WEIGHTS_OF = ("map_weights", "image_weights")
_DECIDED = {"epsilon", "relative_epsilon", "separate", "standardise"}
"""Settings that are None until `resolved`."""

# What each setting must be, and how to see that it is; choices and scores are checked apart.
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "backbone": ("a name or path", lambda v: isinstance(v, str) and v != ""),
    "layers": ("whole numbers", lambda v: _are(v, _is_whole)),
    "size": (
        "(height, width), both at least 1",
        lambda v: _are(v, _is_length, 2),
    ),
    "roi": ("(x, y, width, height), none negative, the last two at least 1", _is_region),
    "value_range": ("(low, high)", lambda v: _are(v, _is_number, 2) and (v is None or v[0] < v[1])),
    "dims": ("a whole number, or one per layer", lambda v: _is_whole(v) or _are(v, _is_whole)),
    "layer_sums": ("True or False", lambda v: isinstance(v, bool)),
    "seed": ("a whole number of at least 0", lambda v: _is_whole(v) and v >= 0),
    "epsilon": ("a number from 0 to 1e6", lambda v: _is_number(v) and 0 <= v <= 1e6),
    "relative_epsilon": ("a number from 0 to 1e6", lambda v: _is_number(v) and 0 <= v <= 1e6),
    "shared": ("True or False", lambda v: isinstance(v, bool)),
    "neighbourhood": ("a whole number of at least 0", lambda v: _is_whole(v) and v >= 0),
    "keep_features": ("True or False", lambda v: isinstance(v, bool)),
    "reject_outliers": (
        f"a share from 0 to {MOST_OUTLIERS:g}",
        lambda v: _is_number(v) and 0 <= v <= MOST_OUTLIERS,
    ),
    "averaging": ("1, 3 or 4 per layer", lambda v: _are(v, lambda w: w in (1, 3, 4))),
    "separate": ("True or False", lambda v: isinstance(v, bool)),
    "standardise": ("True or False", lambda v: isinstance(v, bool)),
    "map_weights": (_WEIGHTS, _are_weights),
    "image_weights": (_WEIGHTS, _are_weights),
    "chebyshev_scale": ("a number", _is_number),
    "sigma": ("a number", _is_number),
    "top_k": ("a whole number of at least 1", lambda v: _is_whole(v) and v >= 1),
    "false_alarm_rate": ("a number between 0 and 1", _is_rate),
    "pixel_false_alarm_rate": ("a number between 0 and 1", _is_rate),
}
_HINTS = {
    "backbone": "The default is builtin.",
    "layers": "Give numbers from 1 to 4, such as 1,2,3.",
    "size": "Give multiples of the backbone's coarsest stride, such as 256x256.",
    "roi": "Give pixels of the source images.",
    "value_range": "Give what black and white are, such as 0,4095.",
    "dims": "Give, for example, 100, or 16,64,256.",
    "layer_sums": "The default is False.",
    "seed": "Use 0, 1, 2 ...",
    "epsilon": "The paper's is 0.01.",
    "relative_epsilon": "The preset accurate has 0.1.",
    "shared": "The default is False.",
    "neighbourhood": "Try 1; the default is 0.",
    "keep_features": "The default is False.",
    "reject_outliers": "Try 0.1; 0 keeps all images.",
    "averaging": "Give, for example, 4,4,3.",
    "separate": "The default is that of the preset.",
    "standardise": "The default is that of the preset.",
    "map_weights": "Give, for example, 1,1,0.",
    "image_weights": "Give, for example, 0.5,1,1.",
    "chebyshev_scale": "The default is 1.",
    "sigma": "The paper's is 4.",
    "top_k": "The paper's is 1.",
    "false_alarm_rate": "Try 0.05.",
    "pixel_false_alarm_rate": "Try 0.001.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Settings of a fit; each is also an option of `blemish fit`.

    Attributes
    ----------
    backbone : str, default "builtin"
        Name, or path of an ONNX feature extractor.
    layers : tuple of int from 1 to 4, optional
        Default: those of the backbone (1, 2, 3).
    preset : {"full", "paper", "accurate", "tiny"}, default "full"
        Full: PaDiM on the whole image, resized. Paper: as published, resize to 256 and centre crop
        of 224. Accurate and tiny: the whole image, each layer judged by itself. A preset decides
        what is left out below; see `presets`.
    size : (H, W), pixels, optional
        Input of the network, but for preset "paper". Default: the shape of the first image at an
        area of about 256 x 256.
    roi : (x, y, width, height), pixels of the source image, optional
        Region of interest, cut out first.
    value_range : (low, high), optional
        What 0 and 1 stand for in images of more than 8 bits that do not say so.
    interpolation : {"bicubic", "bilinear"}, default "bicubic"
        Of the resize, always with antialiasing.
    align : {"none", "shift", "rigid"}, default "none"
        Bring every part to where the reference has it before the network sees it: shifted, or
        turned by any angle and shifted; see `alignment`.
    reduction, dims, layer_sums, seed
        See `choose_embedding`. Default dims: the backbone's.
    epsilon, relative_epsilon, shrinkage
        See `regularisation_of`. Default: the preset's; 0.01 and 0 for "full" and "paper".
    shared : bool, default False
        One Gaussian for all positions, for textures.
    neighbourhood : int >= 0, default 0
        A position is judged by that Gaussian, of those at most so many positions of the finest
        layer away, which finds it most usual: for parts that are not aligned; see `nearest`.
    averaging : tuple of {1, 3, 4}, one per layer, optional
        Window over which features are averaged with their neighbours; see `Embedding`.
    separate : bool, optional
        One Gaussian per layer in place of one over all; their scores are put together.
    standardise : bool, optional
        Make the scores of all positions alike by what is usual at each; see `standardisation`.
    map_weights, image_weights : tuple of float, one per layer, optional
        For `separate`: how much each layer's score counts in the map, and in the image score.
    score, chebyshev_scale
        See `ScoreSettings`.
    upsampling, blur, sigma
        See `MapSettings`.
    top_k : int >= 1, default 1
        Image score: mean of so many highest pixels; of positions, if layers are separate.
    false_alarm_rate : float in (0, 1), default 0.05
        Share of good images that may be called anomalous.
    pixel_false_alarm_rate : float in (0, 1), default 0.001
        Share of pixels of good images that may lie in a predicted mask.
    keep_features : bool, default False
        Keep the embeddings of all training images in the model, in 16 bits, so that it can be
        calibrated again without the images.
    reject_outliers : float in 0..0.2, default 0
        Largest share of the images that may be outliers, such as defective parts: those that are
        evident are left out and named; see `robust`. 0 keeps all.
    """

    backbone: str = "builtin"
    layers: tuple[int, ...] | None = None
    preset: str = "full"
    size: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    value_range: tuple[float, float] | None = None
    interpolation: str = "bicubic"
    align: str = "none"
    reduction: str = "random"
    dims: int | tuple[int, ...] | None = None
    layer_sums: bool = False
    seed: int = 0
    averaging: tuple[int, ...] | None = None
    epsilon: float = None  # type: ignore[assignment] # None until `resolved`, as those below
    relative_epsilon: float = None  # type: ignore[assignment]
    shrinkage: str = "none"
    shared: bool = False
    neighbourhood: int = 0
    separate: bool = None  # type: ignore[assignment]
    standardise: bool = None  # type: ignore[assignment]
    map_weights: tuple[float, ...] | None = None
    image_weights: tuple[float, ...] | None = None
    score: str = "gaussian"
    chebyshev_scale: float = 1.0
    upsampling: str = "bilinear"
    blur: str = "gaussian"
    sigma: float = 4.0
    top_k: int = 1
    false_alarm_rate: float = 0.05
    pixel_false_alarm_rate: float = 0.001
    keep_features: bool = False
    reject_outliers: float = 0.0

    def __post_init__(self) -> None:
        for name in _TUPLES:
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        self._check_values()
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, but is "
                    f"{getattr(self, name)!r}. Choose one."
                )
        if self.preset == "paper" and self.size is not None:
            raise InputError(
                f"Preset 'paper' is 224x224 by definition, but size is "
                f"{self.size[0]}x{self.size[1]}. Use preset 'full' with a size."
            )
        self.score_settings, self.map_settings  # noqa: B018 - they check themselves
        self._check_neighbourhood()

    def _check_values(self) -> None:
        """Refuse what no fit can mean; None is what the preset will decide."""
        for name, (wanted, is_right) in _CHECKS.items():
            value = getattr(self, name)
            if not is_right(value) and not (value is None and name in _DECIDED):
                raise InputError(f"{name} must be {wanted}, but is {value!r}. {_HINTS[name]}")

    def _check_neighbourhood(self) -> None:
        """Refuse a neighbourhood where all positions are judged alike, or not by one Gaussian."""
        if self.neighbourhood and self.shared:
            raise InputError(
                "A neighbourhood needs one Gaussian per position, but shared is True, which has "
                "one for all. Leave out one of the two."
            )
        if self.neighbourhood and self.score in WITHOUT_NEIGHBOURHOOD:
            raise InputError(
                "A neighbourhood needs a score by which each position's Gaussian judges, but the "
                f"score is {self.score}. Use gaussian, chebyshev, hybrid or hybrid-calibrated."
            )

    @property
    def network_layers(self) -> tuple[int, ...] | None:
        """Layers to load of the backbone that is named; None for its own."""
        return self.layers or preset_network_layers(self.preset, self.backbone)

    def resolved(self, backbone: Backbone) -> FitSettings:
        """Settings with all that is left out decided by the preset, for this backbone.

        Raises
        ------
        InputError
            A setting has not one value per layer, or weights are given for layers that are not
            judged separately.
        """
        channels = [layer.channels for layer in backbone.layers]
        strides = [layer.stride for layer in backbone.layers]
        decided = preset_values(self.preset, backbone.name, channels, strides)
        separate = decided["separate"] if self.separate is None else self.separate
        given = [name for name in _WEIGHTS_OF if getattr(self, name) is not None]
        if given and not separate:
            raise InputError(
                f"{' and '.join(given)} must go with separate layers, but there is one Gaussian "
                "over all, which has one score. Leave the weights out, or judge the layers "
                "separately."
            )
        for name in _WEIGHTS_OF:
            decided[name] = decided.get(name, (1.0,) * len(channels)) if separate else None
        missing = {name: v for name, v in decided.items() if getattr(self, name) is None}
        settings = replace(self, **missing)  # type: ignore[arg-type]
        for name in ("averaging", *_WEIGHTS_OF):
            value = getattr(settings, name)
            if value is not None and len(value) != len(channels):
                raise InputError(
                    f"{name} must give one value for each of the {len(channels)} layers, but is "
                    f"{', '.join(map(str, value))}. Give them fine to coarse."
                )
        return settings

    @property
    def score_settings(self) -> ScoreSettings:
        """Which position score."""
        return ScoreSettings(self.score, self.chebyshev_scale)

    @property
    def map_settings(self) -> MapSettings:
        """How position scores become a map."""
        return MapSettings(self.upsampling, self.blur, self.sigma)

    def to_json(self) -> dict[str, object]:
        """Plain data for the model file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> FitSettings:
        """Settings from a model file; unknown keys are an error, missing ones the default."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise InputError(
                f"The settings must be known to this version, but {', '.join(unknown)} "
                "are not. Use a newer version of blemish."
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)  # type: ignore[arg-type]
