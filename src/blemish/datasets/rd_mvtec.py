"""Rd-MVTec: a data set whose images are randomly rotated and cropped, in training and in test.

PaDiM's second experiment (Defard et al., arXiv:2011.08785: rotation by -10 to +10 degrees, crop
from 256x256 to 224x224, five versions, averaged) asks what a model of aligned parts is worth where
parts are not aligned. Nothing is written: every image is moved when it is read. What the paper
leaves open is a parameter; docs/decisions/0016-rd-mvtec.md says why the defaults are what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from blemish.datasets.motion import BORDERS, ORDERS, ROTATIONS, Motion, centred
from blemish.datasets.sample import Sample
from blemish.errors import InputError

VERSIONS = (0, 1, 2, 3, 4)
"""Seeds of the five versions that are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RdMvtec:
    """Parameters of the protocol.

    Attributes
    ----------
    max_rotation : float, 0..180 degrees, default 10
        Angles are uniform between minus this and this.
    size : int, pixels, default 256
        Shorter side to which an image is resized; the aspect ratio is kept.
    crop : int, pixels, default 224
        Side of the square that is cut out, at most `size`; what the network sees, without another
        resize.
    random_crop : bool, default True
        The square moves from the centre by up to (size - crop) / 2 pixels each way, uniformly; of
        a square image these are all places where it fits. False: centred.
    border : {"replicate", "reflect", "black"}, default "replicate"
        What is seen where the turned image ends.
    order : {"resize-first", "rotate-first"}, default "resize-first"
    rotation : {"bilinear", "bicubic", "nearest"}, default "bilinear"
        Interpolation of the rotation; the resize has that of the settings.
    channel_seed : int, optional
        Seed of the random choice of channels for all versions. Default: that of the version, so
        that the spread over versions holds both.

    Raises
    ------
    InputError
        A value is not as described.

    Examples
    --------
    >>> RdMvtec().motion("bottle", "test", "good/000.png", seed=0, interpolation="bicubic").down
    8
    """

    name: ClassVar[str] = "rd-mvtec"

    max_rotation: float = 10.0
    size: int = 256
    crop: int = 224
    random_crop: bool = True
    border: str = BORDERS[0]
    order: str = ORDERS[0]
    rotation: str = ROTATIONS[0]
    channel_seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_rotation <= 180:
            raise InputError(
                f"max_rotation must be from 0 to 180 degrees, but is {self.max_rotation}. "
                "The paper's is 10."
            )
        if not 1 <= self.crop <= self.size:
            raise InputError(
                "crop must be from 1 to the size it is cut out of, but they are "
                f"{self.crop} and {self.size}. The paper's are 224 and 256."
            )
        for name, allowed in (("border", BORDERS), ("order", ORDERS), ("rotation", ROTATIONS)):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, but is "
                    f"{getattr(self, name)!r}. Choose one."
                )

    def motion(
        self, category: str, split: str, name: str, *, seed: int, interpolation: str
    ) -> Motion:
        """What is done to one image: decided by nothing but these arguments.

        The random numbers are a SHA-256 of them, so they are the same on every machine, with every
        version of NumPy, and in whatever order images are read.

        Parameters
        ----------
        category, split, name : str
            Which image.
        seed : int
            Of the version.
        interpolation : {"bicubic", "bilinear"}
            Of the resize.
        """
        turn, down, right = _uniform("rd-mvtec", str(seed), category, split, name)
        places = self.size - self.crop + 1
        middle = centred(self.size, self.crop)
        return Motion(
            angle=(2 * turn - 1) * self.max_rotation,
            down=int(down * places) - middle if self.random_crop else 0,
            right=int(right * places) - middle if self.random_crop else 0,
            size=self.size,
            crop=self.crop,
            border=self.border,
            order=self.order,
            interpolation=interpolation,
            rotation=self.rotation,
        )

    def version(
        self,
        samples: Sequence[Sample],
        *,
        category: str,
        split: str,
        seed: int,
        interpolation: str = "bicubic",
    ) -> list[Sample]:
        """One version of a split: the same samples, each with its motion.

        An image goes by the names of its folder and its file (``crack/000.png``), so a data set
        may be moved to another place.
        """
        return [
            replace(
                sample,
                motion=self.motion(
                    category,
                    split,
                    f"{sample.image.parent.name}/{sample.image.name}",
                    seed=seed,
                    interpolation=interpolation,
                ),
            )
            for sample in samples
        ]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {"name": self.name, **asdict(self)}

    def __str__(self) -> str:
        """What is done to every image, in words."""
        turned = f"turned by up to {self.max_rotation:g} degrees ({self.rotation}, {self.order})"
        moved = (self.size - self.crop) / 2 if self.random_crop else 0
        return (
            f"resized to a shorter side of {self.size}, {turned}, and cut to "
            f"{self.crop}x{self.crop} up to {moved:g} pixels from its centre; border {self.border}"
        )


def _uniform(*words: str) -> Iterator[float]:
    """Three numbers in [0, 1), a function of some words."""
    digest = hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).digest()
    return (int.from_bytes(digest[k : k + 8], "big") / 2**64 for k in (0, 8, 16))
