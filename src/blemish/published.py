"""Figures that others published, to stand beside measured ones, and claims to be verified.

The figures are in ``published.csv``, one line per metric and system: where they come from, what
they were measured with, one column per MVTec AD category, and the average that the source states.
An empty cell was not published. All metrics are fractions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from blemish.errors import InputError

MVTEC_CATEGORIES = (
    "carpet",
    "grid",
    "leather",
    "tile",
    "wood",
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)
_ROUNDED_TO = 3


@dataclass(frozen=True, slots=True)
class Published:
    """What one source reports of one metric.

    Attributes
    ----------
    metric : str
        "image_auroc", "image_f1_max", "pixel_auroc", "pro" (fractions), "seconds_per_image" or
        "memory_gb".
    dataset : str
        "mvtec", "rd-mvtec" (MVTec AD, randomly rotated and cropped) or "shanghaitech".
    system : str
        Who measured, and with which backbone and dimensions.
    backbone : str
    dims : int or None
        Dimensions in all; None: all channels, or not stated.
    reduction : str
        As in `FitSettings`; "" if not stated.
    source : str
    values : dict of str to float
        By category; empty if only an average is published.
    stated_mean : float
        The average as the source states it.
    """

    metric: str
    dataset: str
    system: str
    backbone: str
    dims: int | None
    reduction: str
    source: str
    values: dict[str, float]
    stated_mean: float

    def mean(self, categories: Sequence[str]) -> float | None:
        """Average over some categories, computed from the rows.

        Returns
        -------
        float or None
            The stated average if no category is published but all 15 are asked for. None if one
            of the categories is not published.

        Examples
        --------
        >>> found = find_published("image_auroc", backbone="resnet18", dims=100)
        >>> found.system, round(found.mean(["bottle", "screw"]), 4)
        ('anomalib 0.3.6 R18-100', 0.8765)
        """
        if not self.values:
            return self.stated_mean if set(categories) == set(MVTEC_CATEGORIES) else None
        if not categories or any(category not in self.values for category in categories):
            return None
        return sum(self.values[category] for category in categories) / len(categories)

    @property
    def contradiction(self) -> float | None:
        """The average of the rows, where the stated one is further from it than by rounding."""
        if not self.values:
            return None
        computed = sum(self.values.values()) / len(self.values)
        return computed if abs(computed - self.stated_mean) > 10.0**-_ROUNDED_TO else None


@cache
def published() -> tuple[Published, ...]:
    """All figures, the preferred ones of a setting first."""
    text = (files("blemish") / "published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            metric=row["metric"],
            dataset=row["dataset"],
            system=row["system"],
            backbone=row["backbone"],
            dims=int(row["dims"]) if row["dims"] else None,
            reduction=row["reduction"],
            source=row["source"],
            values={name: float(row[name]) for name in MVTEC_CATEGORIES if row[name]},
            stated_mean=float(row["stated_mean"]),
        )
        for row in csv.DictReader(io.StringIO(text))
    )


def published_systems() -> tuple[str, ...]:
    """Names of the systems with figures for MVTec AD.

    Examples
    --------
    >>> published_systems()[:2]
    ('anomalib 0.3.6 R18-100', 'anomalib 0.3.6 WR50-550')
    """
    return tuple(dict.fromkeys(one.system for one in published() if one.dataset == "mvtec"))


def find_published(
    metric: str,
    *,
    backbone: str,
    dims: int | None,
    reduction: str = "random",
    system: str | None = None,
    dataset: str = "mvtec",
) -> Published | None:
    """The figures that belong beside a run.

    Parameters
    ----------
    metric : str
    backbone : str
        With or without the tag of its weights.
    dims : int or None
        Dimensions in all. With reduction "none" they do not matter.
    reduction : str, default "random"
    system : str, optional
        This one, whatever it was measured with.
    dataset : {"mvtec", "rd-mvtec"}, default "mvtec"

    Returns
    -------
    Published or None
        The paper's own figures per category before those of others, and those before a mere
        average. None where nothing was published for this setting.

    Raises
    ------
    InputError
        The system is unknown.
    """
    if system is not None and system not in published_systems():
        raise InputError(
            f"The system must be one of {'; '.join(published_systems())}; but is {system!r}. "
            "Choose one."
        )
    if reduction == "none":
        dims = None
    setting = (backbone.split(".", maxsplit=1)[0], dims, reduction)
    found = [
        one
        for one in published()
        if (one.metric, one.dataset) == (metric, dataset)
        and (one.system == system or (system is None and _setting(one) == setting))
    ]
    return min(found, key=lambda one: not one.values, default=None)


def _setting(one: Published) -> tuple[str, int | None, str]:
    return one.backbone, one.dims, one.reduction


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure that somebody claims, and how to find out.

    Attributes
    ----------
    dataset : str
    layout : str
        Name of its layout, as `read_dataset` knows it.
    categories : int
        Of the data set, as claimed; 1 where it has none.
    metric : str
        Key of the metric in the results of a benchmark.
    value : float in 0..1
    system : str
        As the claim names it.
    source : str
    backbone : str or None
        None: not stated.
    dims : int or None
    command : str
        What measures the same, given the data set.
    caveat : str
        What the claim leaves open.
    """

    dataset: str
    layout: str
    categories: int
    metric: str
    value: float
    system: str
    source: str
    backbone: str | None
    dims: int | None
    command: str
    caveat: str


_PAGE = "a public results page, unverified there"
_WR50 = "--backbone wide_resnet50_2 --dims 550"
_SETTING_NOT_STATED = "The claim names neither backbone nor input size"
_SPLIT = "; its list of training images is not part of the data set, every fourth is held out here."

CLAIMS = (
    Claim(
        dataset="MVTec AD",
        layout="mvtec",
        categories=15,
        metric="image_auroc",
        value=0.979,
        system="PaDiM (EfficientNet-B5)",
        source=_PAGE,
        backbone="efficientnet_b5",
        dims=None,
        command="blemish benchmark datasets/mvtec --backbone efficientnet_b5.onnx --preset paper "
        "--reduction none --out claim-mvtec-b5",
        caveat="Needs EfficientNet-B5 as an ONNX feature extractor with the blocks 7, 20 and 26; "
        "the number of dimensions is not stated, so all are kept.",
    ),
    Claim(
        dataset="MVTec AD",
        layout="mvtec",
        categories=15,
        metric="image_auroc",
        value=0.953,
        system="PaDiM-WR50-Rd550",
        source=_PAGE,
        backbone="wide_resnet50_2",
        dims=550,
        command=f"blemish benchmark datasets/mvtec {_WR50} --preset paper --seeds 0-9 "
        "--out claim-mvtec-wr50",
        caveat="The mean of 10 random selections, on the files as published before the "
        "transistor images were revised.",
    ),
    Claim(
        dataset="MVTec AD",
        layout="mvtec",
        categories=15,
        metric="pixel_auroc",
        value=0.967,
        system="PaDiM-R18-Rd100",
        source=_PAGE,
        backbone="resnet18",
        dims=100,
        command="blemish benchmark datasets/mvtec --backbone resnet18 --dims 100 --preset paper "
        "--seeds 0-9 --out claim-mvtec-r18",
        caveat="The mean of 10 random selections, on the files as published before the "
        "transistor images were revised.",
    ),
    Claim(
        dataset="VisA",
        layout="visa",
        categories=12,
        metric="pro",
        value=0.859,
        system="PaDiM",
        source=_PAGE,
        backbone=None,
        dims=None,
        command=f"blemish benchmark datasets/visa {_WR50} --out claim-visa",
        caveat=f"{_SETTING_NOT_STATED}.",
    ),
    Claim(
        dataset="Hyper-Kvasir",
        layout="hyper-kvasir",
        categories=1,
        metric="image_auroc",
        value=0.92,
        system="PaDiM",
        source=_PAGE,
        backbone=None,
        dims=None,
        command=f"blemish benchmark datasets/hyper-kvasir {_WR50} --out claim-hyper-kvasir",
        caveat=f"{_SETTING_NOT_STATED}{_SPLIT}",
    ),
    Claim(
        dataset="LAG",
        layout="lag",
        categories=1,
        metric="image_auroc",
        value=0.69,
        system="PaDiM",
        source=_PAGE,
        backbone=None,
        dims=None,
        command=f"blemish benchmark datasets/lag {_WR50} --out claim-lag",
        caveat=f"{_SETTING_NOT_STATED}{_SPLIT}",
    ),
    Claim(
        dataset="ShanghaiTech Campus",
        layout="shanghaitech",
        categories=12,
        metric="pixel_auroc",
        value=0.912,
        system="PaDiM-R18-Rd100",
        source="arXiv:2011.08785",
        backbone="resnet18",
        dims=100,
        command="blemish benchmark datasets/shanghaitech --backbone resnet18 --dims 100 "
        "--size 256x256 --categories 01,02,03,04,05,06,07,08,09,10,11,12 "
        "--out claim-shanghaitech",
        caveat="Scene 13 has no test clips. Here the mean over scenes; the claim may pool all "
        "frames, and implementations use other values of epsilon (0.3).",
    ),
)
"""Claims that a benchmark can check."""
