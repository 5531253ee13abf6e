"""Compiled graphs, kept in a folder, so that the next start need not compile again.

A cache: whatever is wrong with it, the graph is compiled as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path

from blemish.backbones.weights import cache_folder
from blemish.writing import write_bytes

KEPT = 8
"""Compiled graphs that are kept; the ones used longest ago go first."""


_DIGEST = 32  # bytes of sha256 in front of each file: a damaged file must never be run


def cache_key(*parts: object) -> str:
    """Name of a compiled graph: of all that decides what it does, the kind of machine included.

    Examples
    --------
    >>> cache_key("model", "bf16") == cache_key("model", "f32")
    False
    """
    machine = (platform.machine(), platform.processor(), os.cpu_count(), _cpu_flags())
    return hashlib.sha256(repr((machine, parts)).encode()).hexdigest()


def read_compiled(key: str) -> bytes | None:
    """Read a compiled graph; None if there is none, or it is damaged."""
    path = _folder() / key
    try:
        content = path.read_bytes()
        os.utime(path)  # used now
    except OSError:
        return None
    digest, compiled = content[:_DIGEST], content[_DIGEST:]
    return compiled if hashlib.sha256(compiled).digest() == digest else None


def write_compiled(key: str, compiled: bytes) -> None:
    """Keep a compiled graph, and let go of the oldest; if that cannot be done, nothing happens."""
    folder = _folder()
    with contextlib.suppress(Exception):
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / key, hashlib.sha256(compiled).digest() + compiled)
        found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in found[KEPT:]:
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "compiled"


def _cpu_flags() -> str:
    """Instructions of this CPU, where the system says: a home folder may serve several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")
