"""Reads a video of good parts: its frames are the images to learn from.

A frame has a path of its own: ``clip.avi/000123``.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.sample import NORMAL, TRAIN, Sample, check_split
from blemish.errors import DatasetError
from blemish.videos import video_frames


def read_video(root: Path, *, split: str) -> list[Sample]:
    """List the frames of a video, which is decoded to count them.

    Raises
    ------
    DatasetError
        Another split than "train": nothing says which frames are good.
    ImageError
        The file is no video, or is damaged.
    """
    check_split(split)
    if split != TRAIN:
        raise DatasetError(
            f"Test images must have labels, but the frames of {root} have none. Give a folder of "
            "labelled frames, or a CSV file that lists them."
        )
    return [Sample(frame, NORMAL, clip=root.stem) for frame in video_frames(root)]
