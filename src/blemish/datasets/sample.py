"""One labelled image, the word for "normal", and the two splits: what all readers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blemish.datasets.motion import Motion, MovedImage
from blemish.errors import DatasetError

NORMAL = "good"
ANOMALOUS = "anomaly"
TRAIN = "train"
TEST = "test"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes
    ----------
    image : Path
    defect : str
        Name of the defect, or "good". "anomaly" where the dataset does not name its defects.
    mask : Path or None
        Ground truth, not black where the defect is. None for a normal image, and for an
        anomalous one of a dataset without masks (then only image metrics are possible).
    mask_frame : int or None
        Which mask of the file, where `mask` is a ``.npy`` of many masks (frames, H, W).
    category : str
        The product, object or scene; "" where the layout has no categories.
    clip : str
        The video that the image is a frame of; its frames come in order. "" for single images.
    motion : Motion or None
        What is done to image and mask when they are read: `RdMvtec`.

    Examples
    --------
    >>> Sample(Path("test/crack/000.png"), defect="crack").is_anomalous
    True
    """

    image: Path
    defect: str
    mask: Path | None = None
    mask_frame: int | None = None
    category: str = ""
    motion: Motion | None = None
    clip: str = ""

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != NORMAL

    @property
    def source(self) -> Path | MovedImage:
        """What to read for the image: its file, or the file and its motion."""
        return self.image if self.motion is None else MovedImage(self.image, self.motion)


def check_split(split: str) -> None:
    """Refuse a split that is neither "train" nor "test".

    Raises
    ------
    DatasetError
        Any other word.
    """
    if split not in (TRAIN, TEST):
        raise DatasetError(
            f"split must be 'train' or 'test', but is '{split}'. Use one of the two."
        )
