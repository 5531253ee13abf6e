"""The folder of an export: written whole or not at all, and never over the files of others."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blemish.errors import OutputError

DESCRIPTION_FILE, EXAMPLE_FILE = "model.json", "example.py"
FORMAT = "blemish-export"
FILES = frozenset(
    {
        "model.onnx",
        "model.xml",
        "model.bin",
        DESCRIPTION_FILE,
        EXAMPLE_FILE,
        "parity.json",
        "parity.md",
    }
)
"""All that an export may hold."""

_CANNOT_BE_RENAMED = (errno.EBUSY, errno.EXDEV)


def check_folder(folder: Path, *, besides: str = "") -> None:
    """Refuse a folder that holds anything but an older export, `besides` one name.

    Raises
    ------
    OutputError
        It is a file, or holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} must be a folder, but is a file. Name another folder.")
    found = sorted(path.name for path in folder.iterdir() if path.name != besides)
    if not found or (_is_export(folder) and FILES.issuperset(found)):
        return
    other = [name for name in found if name not in FILES] or found
    raise OutputError(
        f"{folder} must be missing, empty, or an older export, but holds {', '.join(other[:5])}"
        f"{' ...' if len(other) > 5 else ''}. Name another folder, or clear this one."
    )


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a new folder that takes the place of `folder` if all goes well.

    It lies beside `folder` and is renamed. Only where that cannot be, since `folder` is the working
    directory or a mount point, are its files moved into `folder` one by one, `model.json` last:
    until then, checksums that do not fit tell that the export is not whole.

    Yields
    ------
    Path
        Where to write. Gone, with all in it, if there was an error.

    Raises
    ------
    OutputError
        As `check_folder`; or the folder cannot be written.
    """
    target = Path(os.path.realpath(folder))  # a link stays, and leads to what is new
    check_folder(folder)
    stays = _must_stay(target)
    new = (target if stays else target.parent) / f".{target.name[:40]}-{secrets.token_hex(6)}"
    with _writing(folder):
        new.mkdir(parents=True)
    try:
        yield new
        with _writing(folder):
            check_folder(folder, besides=new.name)  # minutes may have gone by
            if stays:
                _move_in(new, target)
            else:
                _take_place(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} must be a folder that can be written, but writing it failed: "
            f"{error.strerror or error}. Name another place, or make room."
        ) from error


def _is_export(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        return isinstance(found, dict) and found.get("format") == FORMAT
    return False


def _must_stay(target: Path) -> bool:
    """Whether a folder is the working directory or a mount point, which no other can replace."""
    with contextlib.suppress(OSError):
        return target.exists() and (os.path.ismount(target) or target.samefile(Path.cwd()))
    return False


def _take_place(new: Path, target: Path) -> None:
    """Rename, or else move in; what was there before is back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    old = target.parent / f".{target.name[:40]}-{secrets.token_hex(6)}"
    try:
        target.rename(old)
    except OSError as error:
        if error.errno not in _CANNOT_BE_RENAMED:
            raise
        _move_in(new, target)
        return
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _move_in(new: Path, target: Path) -> None:
    """Move the files of one folder into another, and remove what an older export leaves."""
    before = {path.name for path in target.iterdir()}
    names = sorted(path.name for path in new.iterdir())
    try:
        for name in sorted(names, key=DESCRIPTION_FILE.__eq__):  # the description last
            shutil.move(new / name, target / name)
    except BaseException:
        for name in set(names) - before:
            (target / name).unlink(missing_ok=True)
        raise
    for name in FILES.intersection(before).difference(names):
        (target / name).unlink()
