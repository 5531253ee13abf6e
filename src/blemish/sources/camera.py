"""Cameras: USB by number, or a stream by address. Always the newest frame; reconnects."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import UInt8Array
from blemish.errors import CameraError, InputError
from blemish.frames import DecodedImage
from blemish.sources.source import Frame, ImageSource
from blemish.videos import frame_path, open_capture

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt")
"""What the address of a camera may begin with, before "://"."""

DEFAULT_RECONNECTS = 10
_LONGEST_PAUSE = 30.0  # seconds between two attempts to reconnect
_LOOK_FOR_STOP = 0.1  # seconds

_Newest = tuple[int, UInt8Array, float]
"""Number, pixels (BGR) and time of a frame."""


class CameraSource(ImageSource):
    """A camera. A thread reads it all the time, so that the frame given out is always the newest.

    A camera that cannot be opened at first is an error at once. One that is lost later is opened
    again: after `back_off` seconds, then after twice as many each time, up to 30, until a frame
    comes or `reconnects` attempts in a row have failed.

    Parameters
    ----------
    address : int or str
        Number of a USB camera, or an address such as ``rtsp://user:password@10.0.0.5/stream``.
        User, password, path and query are never shown.
    every : int >= 1
        Only every so many frames are given; the others do not count as dropped.
    reconnects : int >= 0, default 10
        Attempts in a row, about 2.5 minutes with the default `back_off`.
    back_off : float, default 0.5, seconds
    timeout : float, default 10, seconds
        For a stream to open, and for each of its frames, before it counts as lost.
    stop : threading.Event, optional

    Raises
    ------
    InputError
        The address is none of a camera.
    CameraError
        While iterating: the camera cannot be opened, or is lost for good.
    """

    is_live = True

    def __init__(
        self,
        address: int | str,
        *,
        every: int = 1,
        reconnects: int = DEFAULT_RECONNECTS,
        back_off: float = 0.5,
        timeout: float = 10.0,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(stop)
        self.shown = without_credentials(address)
        if isinstance(address, str) and not is_camera_address(address):
            raise InputError(
                f"The address of a camera must begin with {', '.join(SCHEMES)} and ://, but begins "
                f"with {address.partition(':')[0]!r}. Give it whole, or the number of a USB camera."
            )
        self._address, self._every = address, every
        self._reconnects, self._back_off, self._timeout = reconnects, back_off, timeout
        self._changed = threading.Condition()
        self._newest: _Newest | None = None
        self._ended = False
        self._error: CameraError | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Newest frames, as they are asked for, until a stop."""
        capture = open_capture(self._address, timeout=self._timeout)
        if capture is None:
            raise CameraError(
                f"{self.shown} must be a camera that delivers frames, but cannot be opened. Check "
                "its number or address, user and password, and that no other program uses it."
            )
        thread = threading.Thread(target=self._read, args=(capture,), name="camera", daemon=True)
        thread.start()
        prefix = re.sub(r"[^\w.-]+", "-", self.shown.rpartition("://")[2]).strip("-") or "camera"
        try:
            while (newest := self._take()) is not None:
                number, pixels, seconds = newest
                self.counts.given += 1
                yield Frame(
                    f"{prefix}_{number:06d}",
                    DecodedImage(
                        frame_path(Path(prefix), number), np.ascontiguousarray(pixels[..., ::-1])
                    ),
                    seconds,
                )
        finally:
            self._ended = True
            thread.join(self._timeout)
        if self._error is not None:
            raise self._error

    def _take(self) -> _Newest | None:
        """Wait for a frame nobody has taken; None at the end."""
        with self._changed:
            while self._newest is None:
                if self._is_over():
                    return None
                self._changed.wait(_LOOK_FOR_STOP)
            newest, self._newest = self._newest, None
        return None if self._stop.is_set() else newest

    def _is_over(self) -> bool:
        return self._ended or self._stop.is_set()

    def _read(self, capture: Any) -> None:
        """Put the newest frame where `_take` finds it, in a thread; reconnect where it must."""
        number, failures, lost_at = 0, 0, 0.0
        try:
            while not self._is_over():
                pixels = None if capture is None else _read_one(capture)
                if pixels is not None:
                    self.counts.reconnects += failures > 0
                    failures = 0
                    self._put(number, pixels)
                    number += 1
                    continue
                if capture is not None:
                    capture.release()
                lost_at = lost_at if failures else time.monotonic()
                if failures == self._reconnects:
                    self._error = self._lost(time.monotonic() - lost_at)
                    return
                self._pause(min(self._back_off * 2**failures, _LONGEST_PAUSE))
                failures += 1
                capture = None
                if not self._is_over():
                    capture = open_capture(self._address, timeout=self._timeout)
        finally:
            self._ended = True
            if capture is not None:
                capture.release()

    def _put(self, number: int, pixels: UInt8Array) -> None:
        if number % self._every:
            return
        with self._changed:
            self.counts.dropped += self._newest is not None
            self._newest = (number, pixels, time.time())
            self._changed.notify()

    def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        until = time.monotonic() + seconds
        while not self._is_over() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_FOR_STOP))

    def _lost(self, seconds: float) -> CameraError:
        return CameraError(
            f"{self.shown} must deliver frames, but the connection was lost and {self._reconnects} "
            f"attempts in {seconds:.0f} s did not bring it back. Check its power and network, or "
            "allow more attempts."
        )


def _read_one(capture: Any) -> UInt8Array | None:
    import cv2  # noqa: PLC0415 - takes longer to load than everything else here

    try:
        there, pixels = capture.read()
    except cv2.error:
        return None
    return pixels if there and pixels is not None else None


def is_camera_address(text: str) -> bool:
    """Whether a text is the address of a stream.

    Examples
    --------
    >>> is_camera_address("rtsp://10.0.0.5/stream"), is_camera_address("images/000.png")
    (True, False)
    """
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def without_credentials(address: int | str) -> str:
    """Name of a camera that may be shown: neither user nor password, path nor query.

    Examples
    --------
    >>> without_credentials("rtsp://admin:secret@10.0.0.5:554/stream?token=1")
    'rtsp://10.0.0.5:554'
    >>> without_credentials("rtsp://admin:se/cret@10.0.0.5/stream")
    'rtsp://...'
    >>> without_credentials(0)
    'camera 0'
    """
    if isinstance(address, int):
        return f"camera {address}"
    scheme, _, rest = address.partition("://")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    is_clear = "@" not in rest[len(authority) :] and re.fullmatch(r"[\w.:\[\]-]+", host)
    return f"{scheme}://{host if is_clear else '...'}"
