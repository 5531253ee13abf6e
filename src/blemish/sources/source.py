"""What all image sources are: frames with names, one after another, until the end or a stop."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blemish.lazy_image import LazyImage


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a source.

    Attributes
    ----------
    name : str
        To show, and for the name of its picture: "crack/000.png", "clip_000123".
    image : Path or LazyImage
        What `loading.load_input` reads: a file, or pixels in memory.
    time : float or None
        Seconds: of a video since its start; of a camera or a followed folder when the image came,
        since 1970-01-01 UTC. None for files.
    """

    name: str
    image: Path | LazyImage
    time: float | None = None

    @property
    def path(self) -> Path:
        """File of the image; ``clip.avi/000123`` for a frame of a video."""
        return self.image.path if isinstance(self.image, LazyImage) else self.image


@dataclass(slots=True)
class SourceCounts:
    """What became of the frames of a source; kept up to date while it runs.

    Attributes
    ----------
    given : int
        Frames given out.
    dropped : int
        Frames of a camera that a newer one replaced before anybody asked for them.
    reconnects : int
        How often the connection to a camera was lost and made again.
    """

    given: int = 0
    dropped: int = 0
    reconnects: int = 0


class ImageSource(ABC):
    """Where images come from. Iterate over it once.

    Parameters
    ----------
    stop : threading.Event, optional
        Ends the iteration once it is set, as `stop` does.

    Attributes
    ----------
    counts : SourceCounts
    is_live : bool
        Whether images come in their own time, so that nobody should wait for several.
    length : int or None
        How many there will be, as far as is known.
    """

    is_live: bool = False
    length: int | None = None

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.counts = SourceCounts()
        self._stop = stop or threading.Event()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Frames in order. What cannot be read is a frame too, and fails when it is read."""

    def stop(self) -> None:
        """End the iteration soon, from any thread; what was given out stays valid."""
        self._stop.set()
