"""The folder of an export: written whole or not at all, and never over the files of others."""

from __future__ import annotations

import contextlib
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


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an older export.

    Raises
    ------
    OutputError
        It is a file, or holds other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} must be a folder, but is a file. Name another folder.")
    found = sorted(path.name for path in folder.iterdir())
    if not found or (_is_export(folder) and FILES.issuperset(found)):
        return
    other = [name for name in found if name not in FILES] or found
    raise OutputError(
        f"{folder} must be missing, empty, or an older export, but holds {', '.join(other[:5])}"
        f"{' ...' if len(other) > 5 else ''}. Name another folder, or clear this one."
    )


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder` that takes its name if all goes well.

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
    beside = target.parent / f".{target.name[:40]}-{secrets.token_hex(6)}"
    try:
        beside.mkdir(parents=True)
        yield beside
        check_folder(folder)  # minutes may have gone by
        _take_place(beside, target)
    except OSError as error:
        raise OutputError(
            f"{folder} must be a folder that can be written, but writing it failed: "
            f"{error.strerror or error}. Name another place, or make room."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_export(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        return isinstance(found, dict) and found.get("format") == FORMAT
    return False


def _take_place(new: Path, target: Path) -> None:
    """Rename; what was there before is back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    old = target.parent / f".{target.name[:40]}-{secrets.token_hex(6)}"
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
