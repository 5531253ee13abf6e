"""A folder that is being filled: each image once, when it is whole."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError, DatasetError, InputError
from blemish.frames import DecodedImage, UnreadableImage
from blemish.images import SUFFIXES, read_image
from blemish.lazy_image import LazyImage
from blemish.sources.source import Frame, ImageSource

_Signature = tuple[int, int, int]
"""Inode, size and time of change: what tells a file from another of the same name."""

_REMEMBERED = 100_000  # files that are gone, in case their folder was gone and comes back
_SCANNING_SHARE = 4  # a scan is followed by a pause of so many times its length


@dataclass(slots=True)
class _Arriving:
    """A file that is not known to be whole yet; times of the monotonic clock."""

    signature: _Signature
    unchanged_since: float


class FolderSource(ImageSource):
    """Images of a folder, and of all below it, as they arrive.

    Looks at the folder again and again, which works on network drives as well. A file is taken once
    its size and time have not changed for `settle` seconds and it can be read whole; one that
    does not change any more and still cannot be read is given out as unreadable after `patience`
    seconds. Every file is taken once, in the order in which they became whole, by time of change
    among those found at once. A file that is replaced or written anew is a new image. Files that
    vanish before they are read were never there. Names that start with a dot are left out. The
    memory grows with the number of files that lie in the folder only, about 300 bytes each, and
    with the last 100,000 that are gone.

    Parameters
    ----------
    folder : Path
    idle_timeout : float, optional
        Seconds without a new file after which the iteration ends. Default: never.
    poll : float, default 0.2
        Seconds between two looks. Longer where a look itself takes long.
    settle, patience : float, default 0.5 and 10, seconds
    value_range : (low, high), optional
        As in `images.read_image`; usually the model's `settings.value_range`.
    leave_out : Path, optional
        A folder whose images are not taken: that of the results.
    stop : threading.Event, optional

    Raises
    ------
    DatasetError
        There is no such folder.
    InputError
        A time that is negative, or `poll` 0.
    """

    is_live = True

    def __init__(
        self,
        folder: Path,
        *,
        idle_timeout: float | None = None,
        poll: float = 0.2,
        settle: float = 0.5,
        patience: float = 10.0,
        value_range: tuple[float, float] | None = None,
        leave_out: Path | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(stop)
        if not folder.is_dir():
            found = "a file" if folder.exists() else "missing"
            raise DatasetError(
                f"{folder} must be a folder to follow, but is {found}. Name the folder that the "
                "images are written to."
            )
        if poll <= 0 or min(settle, patience, idle_timeout or 0) < 0:
            raise InputError(
                f"poll must be above 0 and other times at least 0 seconds, but poll is {poll:g}, "
                f"settle {settle:g}, patience {patience:g} and idle_timeout {idle_timeout}. "
                "Leave them out for the defaults."
            )
        self.folder, self._value_range = folder, value_range
        self._idle_timeout, self._poll = idle_timeout, poll
        self._settle, self._patience = settle, patience
        self._leave_out = None if leave_out is None else Path(os.path.abspath(leave_out))  # noqa: PTH100
        self._taken: dict[Path, _Signature] = {}
        self._arriving: dict[Path, _Arriving] = {}

    def __iter__(self) -> Iterator[Frame]:
        """Frames as files become whole; their pixels are in memory."""
        busy = time.monotonic()
        while not self._stop.is_set():
            begun = time.monotonic()
            waiting = self._look(begun)
            pause = max(self._poll, _SCANNING_SHARE * (time.monotonic() - begun))
            if self._arriving:
                busy = begun
            for path in waiting:
                if self._stop.is_set():
                    return
                image = self._read_if_whole(path)
                if image is not None:
                    self.counts.given += 1
                    yield Frame(path.relative_to(self.folder).as_posix(), image, time.time())
                    busy = time.monotonic()
            if self._idle_timeout is not None and time.monotonic() - busy >= self._idle_timeout:
                return
            self._stop.wait(pause)

    def _look(self, now: float) -> list[Path]:
        """Files that do not change any more and were not taken yet, in order of arrival."""
        there, complete = self._scan()
        for path, signature in there.items():
            if self._taken.get(path) == signature:
                continue
            known = self._arriving.get(path)
            if known is None or known.signature != signature:
                self._arriving[path] = _Arriving(signature, now)
        for path in [path for path in self._arriving if path not in there]:
            del self._arriving[path]
        if complete and len(self._taken) > len(there) + _REMEMBERED:
            gone = [path for path in self._taken if path not in there]
            for path in gone[: len(gone) - _REMEMBERED]:
                del self._taken[path]
        settled = [
            (file.unchanged_since, file.signature[2], path)
            for path, file in self._arriving.items()
            if now - file.unchanged_since >= self._settle
        ]
        return [path for _, _, path in sorted(settled)]

    def _scan(self) -> tuple[dict[Path, _Signature], bool]:
        """Image files that lie in the folder now, and whether all of it could be looked at."""
        errors: list[OSError] = []
        found: dict[Path, _Signature] = {}
        for place, folders, names in os.walk(self.folder, onerror=errors.append):
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and not self._is_left_out(Path(place, name))
            ]
            for name in names:
                if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                    continue
                path = Path(place, name)
                signature = _signature(path)
                if signature is not None:
                    found[path] = signature
        return found, not errors

    def _is_left_out(self, place: Path) -> bool:
        return self._leave_out is not None and Path(os.path.abspath(place)) == self._leave_out  # noqa: PTH100

    def _read_if_whole(self, path: Path) -> LazyImage | None:
        """Image of a file; None if it is gone, or may still become readable."""
        file = self._arriving[path]
        image: LazyImage
        try:
            pixels = read_image(path, value_range=self._value_range)
            image = DecodedImage(path, pixels, self._value_range)
        except BlemishError as error:
            if time.monotonic() - file.unchanged_since < self._patience:
                return None
            image = UnreadableImage(path, error)
        if _signature(path) != file.signature:  # gone, or changed while it was read
            return None
        del self._arriving[path]
        self._taken.pop(path, None)  # so that those gone longest come first
        self._taken[path] = file.signature
        return image


def _signature(path: Path) -> _Signature | None:
    """What a file is told by; None if it is gone, or a link to nothing."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns
