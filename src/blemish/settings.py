"""Everything that decides what a fit does, in one frozen record that is saved in the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from blemish.embedding import REDUCTIONS
from blemish.errors import InputError
from blemish.gaussian import SHRINKAGES
from blemish.maps import MapSettings
from blemish.scorer import ScoreSettings

PRESETS = ("full", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Settings of a fit; each is also an option of `blemish fit`.

    Attributes
    ----------
    backbone : str, default "builtin"
        Name, or path of an ONNX feature extractor.
    layers : tuple of int from 1 to 4, optional
        Default: those of the backbone (1, 2, 3).
    preset : {"full", "paper"}, default "full"
        Full: the whole image, resized. Paper: resize to 256, centre crop of 224.
    size : (H, W), pixels, optional
        Input of the network, for preset "full". Default: the shape of the first image at an
        area of about 256 x 256.
    roi : (x, y, width, height), pixels of the source image, optional
        Region of interest, cut out first.
    value_range : (low, high), optional
        What 0 and 1 stand for in images of more than 8 bits that do not say so.
    interpolation : {"bicubic", "bilinear"}, default "bicubic"
        Of the resize, always with antialiasing.
    reduction, dims, layer_sums, seed
        See `choose_embedding`. Default dims: the backbone's.
    epsilon, shrinkage
        See `regularisation_of`.
    shared : bool, default False
        One Gaussian for all positions, for textures.
    score, chebyshev_scale
        See `ScoreSettings`.
    upsampling, blur, sigma
        See `MapSettings`.
    top_k : int >= 1, default 1
        Image score: mean of so many highest pixels.
    false_alarm_rate : float in (0, 1), default 0.05
        Share of good images that may be called anomalous.
    pixel_false_alarm_rate : float in (0, 1), default 0.001
        Share of pixels of good images that may lie in a predicted mask.
    """

    backbone: str = "builtin"
    layers: tuple[int, ...] | None = None
    preset: str = "full"
    size: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    value_range: tuple[float, float] | None = None
    interpolation: str = "bicubic"
    reduction: str = "random"
    dims: int | tuple[int, ...] | None = None
    layer_sums: bool = False
    seed: int = 0
    epsilon: float = 0.01
    shrinkage: str = "none"
    shared: bool = False
    score: str = "gaussian"
    chebyshev_scale: float = 1.0
    upsampling: str = "bilinear"
    blur: str = "gaussian"
    sigma: float = 4.0
    top_k: int = 1
    false_alarm_rate: float = 0.05
    pixel_false_alarm_rate: float = 0.001

    def __post_init__(self) -> None:
        for name, allowed in (
            ("preset", PRESETS),
            ("reduction", REDUCTIONS),
            ("shrinkage", SHRINKAGES),
        ):
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
        for name in ("false_alarm_rate", "pixel_false_alarm_rate"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise InputError(
                    f"{name} must be between 0 and 1, but is {getattr(self, name)}. Try 0.05."
                )
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, but is {self.seed}. Use 0, 1, 2 ...")
        if self.epsilon < 0:
            raise InputError(
                f"epsilon must be at least 0, but is {self.epsilon}. The paper's is 0.01."
            )
        if self.top_k < 1:
            raise InputError(f"top_k must be at least 1, but is {self.top_k}. The paper's is 1.")
        self.score_settings, self.map_settings  # noqa: B018 - they check themselves

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
