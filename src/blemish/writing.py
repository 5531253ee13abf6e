"""Writes whole files: the new content is there in full, or the old one is untouched."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from blemish.errors import OutputError


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file of one piece; see `write_pieces`."""
    write_pieces(path, [content], durable=durable)


def write_pieces(
    path: Path, pieces: Iterable[bytes | memoryview], *, durable: bool = False
) -> None:
    """Write a file in one step, making its folder if needed.

    The content goes into a file beside `path`, which then takes its name: a full disk or an
    interruption leaves what was there before, and no half file.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    pieces : iterable of bytes
        Written one after the other as they come, so that they need not be held together.
    durable : bool, default False
        Wait until the disk has it, so that even a power cut leaves the old file or the new one.

    Raises
    ------
    OutputError
        The folder cannot be made or written, the disk is full, or `path` is a folder.
    """
    beside = path.parent / f".{path.name[:40]}-{secrets.token_hex(6)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise OutputError(
            f"{path} must be a file that can be written, but writing it failed: "
            f"{error.strerror or error}. Name another place, or make room."
        ) from error


def check_writable(path: Path) -> None:
    """Find out before long work whether a file could be written at the end.

    Raises
    ------
    OutputError
        The folder cannot be made or written, or `path` is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path} must be a file to write, but is a folder. Name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.parent / f".{path.name[:40]}-{secrets.token_hex(6)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{path} must be a file that can be written, but cannot: "
            f"{error.strerror or error}. Name another place."
        ) from error
