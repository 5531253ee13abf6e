"""Sources that have an end: image files, videos, and several sources one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from blemish.errors import ImageError
from blemish.frames import DecodedImage, UnreadableImage
from blemish.lazy_image import LazyImage
from blemish.sources.source import Frame, ImageSource
from blemish.videos import VideoReader, decoded_once, frame_path


class ImageList(ImageSource):
    """Images that are there.

    Parameters
    ----------
    images : sequence of Path or LazyImage
        Consecutive frames of a video (``clip.avi/000123``) are decoded in one pass.
    names : sequence of str, optional
        Default: the file names.
    stop : threading.Event, optional

    Examples
    --------
    >>> [frame.name for frame in ImageList([Path("a/0.png"), Path("a/1.png")])]
    ['0.png', '1.png']
    """

    def __init__(
        self,
        images: Sequence[Path | LazyImage],
        names: Sequence[str] | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(stop)
        self._images, self._names = images, names
        self.length = len(images)

    def __iter__(self) -> Iterator[Frame]:
        """Frames in the order of the list."""
        for number, image in enumerate(decoded_once(self._images)):
            if self._stop.is_set():
                return
            path = image.path if isinstance(image, LazyImage) else image
            self.counts.given += 1
            yield Frame(path.name if self._names is None else self._names[number], image)


class VideoSource(ImageSource):
    """A video file.

    A video that cannot be opened, or that ends before its header says, gives one more frame, under
    its own name, which says so when it is read.

    Parameters
    ----------
    path : Path
    every : int >= 1
        Frames 0, `every`, 2 `every` ... are given; the others are decoded too, but passed over.
    name : str, optional
        What frames are called, before their number. Default: the name of the file, as "clip".
    stop : threading.Event, optional

    Attributes
    ----------
    length : int or None
        By the header; it may be wrong by a few.
    """

    def __init__(
        self,
        path: Path,
        *,
        every: int = 1,
        name: str | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(stop)
        self.path, self._every, self._name = path, every, name or path.stem
        try:
            with closing(VideoReader(path)) as reader:
                self.length = -(-reader.declared // every) or None
        except ImageError:
            self.length = 1  # which says why

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they are decoded, named ``clip_000123`` by their number in the video."""
        try:
            with closing(VideoReader(self.path)) as reader:
                yield from self._frames(reader)
        except ImageError as error:
            self.counts.given += 1
            yield Frame(self.path.name, UnreadableImage(self.path, error))

    def _frames(self, reader: VideoReader) -> Iterator[Frame]:
        for number in reader.grabbed():
            if self._stop.is_set():
                return
            if number % self._every:
                continue
            path = frame_path(self.path, number)
            image: LazyImage
            try:
                image = DecodedImage(path, reader.retrieve())
            except ImageError as error:
                image = UnreadableImage(path, error)
            self.counts.given += 1
            yield Frame(f"{self._name}_{number:06d}", image, reader.seconds)


class SourceChain(ImageSource):
    """Sources one after another.

    Parameters
    ----------
    sources : sequence of ImageSource
        None of them live, but perhaps the last.
    """

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        super().__init__()
        self._sources = sources
        lengths = [source.length for source in sources]
        known = [length for length in lengths if length is not None]
        self.length = sum(known) if len(known) == len(lengths) else None

    def __iter__(self) -> Iterator[Frame]:
        """Frames of the first source, then of the second ..."""
        for source in self._sources:
            if self._stop.is_set():
                return
            for frame in source:
                self.counts.given += 1
                yield frame

    def stop(self) -> None:
        """End the source that is at work, and begin no other."""
        super().stop()
        for source in self._sources:
            source.stop()
