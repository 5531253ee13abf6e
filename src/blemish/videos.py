"""Frames of video files, decoded in their order.

A frame has a path of its own, as if the video were a folder: ``clip.avi/000123`` is frame 123,
counted from 0. `images.read_image` and `images.image_size` take such a path as that of any image.
To read one frame, all before it in the file must be decoded; `decoded_once` reads many frames of a
list of images in one pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from blemish.arrays import UInt8Array
from blemish.errors import ImageError
from blemish.frames import DecodedImage

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")

_TOLERATED = 2  # frames: headers count what packing, or an edit list, takes away
_ALWAYS_COUNTED = (".avi", ".m4v", ".mov", ".mp4")  # other headers state a duration
_LOG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"
_SILENT = "-8"  # FFmpeg's AV_LOG_QUIET

T = TypeVar("T")


def is_video(path: Path) -> bool:
    """Whether `path` is a file named like a video; it is not opened.

    Examples
    --------
    >>> is_video(Path("images/000.png"))
    False
    """
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def frame_path(video: Path, number: int) -> Path:
    """Path of a frame, counted from 0.

    Examples
    --------
    >>> frame_path(Path("clip.avi"), 123).as_posix()
    'clip.avi/000123'
    """
    return video / f"{number:06d}"


def frame_of(path: Path) -> tuple[Path, int] | None:
    """Video and number of a frame's path; None for any other path.

    Examples
    --------
    >>> frame_of(Path("good/000123.png"))
    """
    digits = path.name.isascii() and path.name.isdecimal()
    return (path.parent, int(path.name)) if digits and is_video(path.parent) else None


def file_of(path: Path) -> Path:
    """File that holds an image: the video of a frame, else the path itself.

    Examples
    --------
    >>> file_of(Path("good/000123.png")).as_posix()
    'good/000123.png'
    """
    found = frame_of(path)
    return path if found is None else found[0]


def video_frames(video: Path, *, every: int = 1) -> list[Path]:
    """Paths of the frames 0, `every`, 2 `every` ... of a video, which is decoded to count them.

    Raises
    ------
    ImageError
        The file is no video, or is damaged: names how many frames it declares and holds.
    """
    with closing(VideoReader(video)) as reader:
        count = sum(1 for _ in reader.grabbed())
    return [frame_path(video, number) for number in range(0, count, every)]


def decoded_frame(path: Path) -> DecodedImage:
    """Decode the frame of a path that `frame_of` knows, and all before it.

    Raises
    ------
    ImageError
        The video cannot be read so far.
    """
    video, number = path.parent, int(path.name)
    with closing(VideoReader(video)) as reader:
        return DecodedImage(frame_path(video, number), reader.read(number))


def frame_size(path: Path) -> tuple[int, int]:
    """Height and width of a frame of a path that `frame_of` knows; nothing is decoded."""
    about = path.parent.stat()
    return _video_size(path.parent, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1024)
def _video_size(video: Path, changed: int, length: int) -> tuple[int, int]:  # noqa: ARG001
    """Size of the frames of a video, as long as the file is the same."""
    with closing(VideoReader(video)) as reader:
        return reader.size


def decoded_once(images: Iterable[T]) -> Iterator[T | DecodedImage]:
    """Give images on as they are, but frames of videos decoded: consecutive ones in one pass.

    A frame that cannot be decoded is given on as its path, and fails when it is read.
    """
    reader: VideoReader | None = None
    try:
        for image in images:
            found = frame_of(image) if isinstance(image, Path) else None
            if found is None:
                yield image
                continue
            video, number = found
            try:
                if reader is None or reader.path != video or reader.position > number:
                    if reader is not None:
                        reader.close()
                    reader = None
                    reader = VideoReader(video)
                frame = DecodedImage(frame_path(video, number), reader.read(number))
            except ImageError:
                yield image
            else:
                yield frame
    finally:
        if reader is not None:
            reader.close()


class VideoReader:
    """An open video file, read forwards.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    position : int
        Number of the frame that comes next.
    declared : int
        Frames the header declares; where it states a duration, what that comes to. 0: unknown.

    Raises
    ------
    ImageError
        The file is missing or is no video.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0
        self._capture = open_capture(_address(path))
        if self._capture is None:
            raise ImageError(
                f"{path} cannot be read: it must be a video that FFmpeg decodes, but 0 frames can "
                "be read of it. Its end may be missing: record or copy it again, or convert it."
            )
        self._seconds = 0.0
        self.declared = max(0, int(self._property("FRAME_COUNT")))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame, in pixels."""
        return int(self._property("FRAME_HEIGHT")), int(self._property("FRAME_WIDTH"))

    @property
    def seconds(self) -> float:
        """When the frame last grabbed is shown, from the start of the video."""
        return self._seconds

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()

    def grabbed(self) -> Iterator[int]:
        """Numbers of the frames left, each once it is the one that `retrieve` gives.

        Raises
        ------
        ImageError
            After the last, if frames are missing.
        """
        while self._grab():
            yield self.position - 1
        self._check_complete()

    def retrieve(self) -> UInt8Array:
        """Frame last grabbed, uint8 (H, W, 3), RGB, upright."""
        import cv2  # noqa: PLC0415 - takes longer to load than everything else here

        there, pixels = self._capture.retrieve()
        if not there or pixels is None:
            raise ImageError(
                f"{frame_path(self.path, self.position - 1)} cannot be read: the video must hold a "
                "whole frame there, but it cannot be decoded. Record or copy the video again."
            )
        rgb: UInt8Array = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return rgb

    def read(self, number: int) -> UInt8Array:
        """Frame `number`, at least `position`: what lies between is passed over.

        Raises
        ------
        ImageError
            The video has no such frame that can be read.
        """
        while self.position <= number:
            if not self._grab():
                raise ImageError(
                    f"{frame_path(self.path, number)} cannot be read: the video must hold more "
                    f"than {number} frames, but {self.position} can be read. Take another frame, "
                    "or copy the video again."
                )
        return self.retrieve()

    def _grab(self) -> bool:
        import cv2  # noqa: PLC0415 - takes longer to load than everything else here

        try:
            there = bool(self._capture.grab())
        except cv2.error:
            there = False
        if there:
            self.position += 1
            self._seconds = round(self._property("POS_MSEC") / 1000, 6)
        return there

    def _check_complete(self) -> None:
        """Refuse a file that ends before its header says."""
        missing = self.declared - self.position
        rate = self._property("FPS")
        if self.path.suffix.lower() not in _ALWAYS_COUNTED and rate > 0:
            missing = self.declared - 1 - round(self._seconds * rate)
        if self.position == 0 or missing > _TOLERATED:
            raise ImageError(
                f"{self.path} must hold {self.declared} frames, as it declares, but "
                f"{self.position} can be read. The file is damaged or was not written to its end: "
                "record or copy it again."
            )

    def _property(self, name: str) -> float:
        import cv2  # noqa: PLC0415 - takes longer to load than everything else here

        return float(self._capture.get(getattr(cv2, f"CAP_PROP_{name}")))


def open_capture(address: int | str, *, timeout: float | None = None) -> Any:
    """Open a file, a stream, or the camera of a number with OpenCV; None if that fails.

    FFmpeg's messages are silenced, since they may hold the password of an address; set
    ``OPENCV_FFMPEG_LOGLEVEL`` to see them.

    Parameters
    ----------
    address : int or str
    timeout : float, optional
        Seconds to wait for a stream to open, and for each of its frames.

    Returns
    -------
    cv2.VideoCapture or None
    """
    os.environ.setdefault(_LOG_LEVEL, _SILENT)  # read once, when the first video is opened
    import cv2  # noqa: PLC0415 - takes longer to load than everything else here

    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if isinstance(address, int):
            capture = cv2.VideoCapture(address)
        else:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
            wait = [] if timeout is None else [int(timeout * 1000)]
            settings = [each for limit in limits for value in wait for each in (limit, value)]
            capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, settings)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(before)
    return capture if capture.isOpened() else None


def _address(path: Path) -> str:
    """Whole path of a file: never one that FFmpeg takes for the address of a stream."""
    if not path.is_file():
        found = "something else" if path.exists() else "missing"
        raise ImageError(
            f"{path} cannot be read: it must be a video file, but is {found}. Check the path."
        )
    whole = str(path.absolute())
    try:
        whole.encode()
    except UnicodeEncodeError as error:  # OpenCV would crash
        raise ImageError(
            f"{path!r} cannot be read: the path of a video must be text in UTF-8, but is not. "
            "Rename it."
        ) from error
    return whole
