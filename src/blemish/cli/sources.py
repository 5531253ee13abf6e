"""What a command line names as its images: files, folders, videos, a folder to follow, a camera."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from blemish.cli.names import absolute, unique_names
from blemish.errors import DatasetError
from blemish.images import list_images
from blemish.sources import (
    DEFAULT_RECONNECTS,
    CameraSource,
    FolderSource,
    ImageList,
    ImageSource,
    SourceChain,
    VideoSource,
    is_camera_address,
)
from blemish.videos import VIDEO_SUFFIXES

F = TypeVar("F", bound=Callable[..., Any])


class Place(click.ParamType[Any]):
    """A path, or the address of a camera, which is no path."""

    name = "path"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Path | str:
        """Text to a path or an address."""
        text = str(value)
        return text if is_camera_address(text) else Path(text)


class Camera(click.ParamType[Any]):
    """Number of a USB camera, or the address of one."""

    name = "camera"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Text to a number or an address."""
        text = str(value)
        if text.isascii() and text.isdecimal():
            return int(text)
        if not is_camera_address(text):  # which is not shown: it may hold a password
            self.fail("it is neither a number nor begins like rtsp:// or http://", param, ctx)
        return text


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options that say how images are taken from where they are."""

    camera: int | str | None
    follow: bool
    every: int
    idle_timeout: float | None
    reconnects: int | None


def source_options(command: F) -> F:
    """How images are taken from folders, videos and cameras."""
    for option in (
        click.option(
            "--reconnects",
            type=click.IntRange(0),
            help="Attempts to find a lost camera again. Default: 10.",
        ),
        click.option(
            "--idle-timeout",
            type=click.FloatRange(0, min_open=True),
            help="With --follow: end after so many seconds without a new image.",
        ),
        every_option,
        click.option("--follow", is_flag=True, help="Go on with images that a folder gets."),
        click.option("--camera", type=Camera(), help="Number of a USB camera, or an address."),
    ):
        command = option(command)
    return command


def every_option(command: F) -> F:
    """--every."""
    return click.option(
        "--every",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Take one of so many frames, or images of a fit.",
    )(command)


@dataclass(frozen=True, slots=True)
class Named:
    """What a command line names.

    Attributes
    ----------
    count : int
        Images, as far as is known; 1 where they come one by one.
    others : int
        Files that are no images.
    open : function
        Range of values -> source.
    """

    count: int
    others: int
    open: Callable[[tuple[float, float] | None], ImageSource]


def named_source(
    places: Sequence[Path | str], options: SourceOptions, *, leave_out: Path | None
) -> Named:
    """Find what to take images from; pictures in `leave_out`, the folder of results, are not."""
    addresses = [place for place in places if isinstance(place, str)]
    paths = [place for place in places if isinstance(place, Path)]
    if options.camera is not None:
        addresses.append(options.camera)  # type: ignore[arg-type]
    _check_usage(paths, addresses, options)
    if addresses:
        tries = DEFAULT_RECONNECTS if options.reconnects is None else options.reconnects
        camera = CameraSource(addresses[0], every=options.every, reconnects=tries)
        return Named(1, 0, lambda _: camera)
    if options.follow:
        folder = paths[0]
        return Named(
            1,
            0,
            lambda value_range: FolderSource(
                folder,
                idle_timeout=options.idle_timeout,
                value_range=value_range,
                leave_out=leave_out,
            ),
        )
    return _finite(paths, every=options.every, leave_out=leave_out)


def _check_usage(paths: list[Path], addresses: list[str], options: SourceOptions) -> None:
    if not paths and not addresses:
        raise click.UsageError("Missing argument 'IMAGES...'.")
    if addresses and (len(addresses) > 1 or paths):
        raise click.UsageError("A camera must be the only source. Run one command per camera.")
    if options.follow and (addresses or len(paths) != 1):
        raise click.UsageError("--follow takes exactly one folder.")
    if options.idle_timeout is not None and not options.follow:
        raise click.UsageError("--idle-timeout needs --follow.")
    if options.reconnects is not None and not addresses:
        raise click.UsageError("--reconnects needs a camera.")
    if options.every > 1 and not addresses and not any(map(_is_named_video, paths)):
        raise click.UsageError("--every needs a video or a camera.")


def _finite(paths: list[Path], *, every: int, leave_out: Path | None) -> Named:
    videos = [path for path in paths if _is_named_video(path)]
    sources: list[ImageSource] = []
    others = 0
    if len(videos) < len(paths):
        images = [path for path in paths if path not in videos]
        named, others = find_images(images, leave_out=leave_out)
        sources.append(ImageList([path for path, _ in named], [name for _, name in named]))
    sources += [VideoSource(path, every=every, name=name) for path, name in video_names(videos)]
    source = sources[0] if len(sources) == 1 else SourceChain(sources)
    return Named(source.length or 1, others, lambda _: source)


def video_names(videos: Sequence[Path]) -> list[tuple[Path, str]]:
    """Videos, each once, with what its frames are called; the suffix only where it is needed.

    Examples
    --------
    >>> [name for _, name in video_names([Path("a/clip.avi"), Path("b/clip.avi")])]
    ['a/clip', 'b/clip']
    """
    named = unique_names([(path, path.parent) for path in videos]) if videos else []
    short = [name.rpartition(".")[0] for _, name in named]
    if len(set(short)) < len(short):
        return named
    return [(path, name) for (path, _), name in zip(named, short, strict=True)]


def find_images(
    places: Sequence[Path], *, leave_out: Path | None = None
) -> tuple[list[tuple[Path, str]], int]:
    """Images of files and folders with the names to show, and the number of other files.

    Pictures in `leave_out`, the folder of results, are left out.
    """
    found: list[tuple[Path, Path]] = []
    others = 0
    for place in places:
        if place.is_dir():
            paths, count = list_images(place)
            others += count
            found += [(path, place) for path in paths]
        else:
            found.append((place, place.parent))
    if leave_out is not None and leave_out.is_dir():
        results = absolute(leave_out)
        if any(results.is_relative_to(absolute(place)) for place in places):
            others -= list_images(leave_out)[1]
        found = [each for each in found if not absolute(each[0]).is_relative_to(results)]
    if not found:
        raise DatasetError(
            f"There must be images in {', '.join(map(str, places))}, but there are none "
            f"({others} other files). Name another folder."
        )
    return unique_names(found), others


@contextmanager
def ended_by_signals(source: ImageSource) -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM, end a live source orderly; a second Ctrl-C interrupts at once."""
    if not source.is_live or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: FrameType | None) -> None:
        source.stop()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_named_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()
