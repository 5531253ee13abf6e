"""Embeddings of one pass, kept on disk for the next, so that the network runs once per image."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from blemish.arrays import Float32Array

_MOST_BYTES = 4 << 30
_FREE_SHARE = 0.5


class EmbeddingSpool:
    """A temporary file of embeddings, gone when closed.

    It is a convenience: where it would take more than 4 GB or half of the free space of the
    temporary folder, or writing fails, it gives up, and the embeddings are computed again.

    Parameters
    ----------
    images : int
        How many images will be written.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._file: IO[bytes] | None = None
        self._shapes: list[list[tuple[int, ...]]] = []
        self._given_up = False
        self.complete = False

    def append(self, levels: Sequence[Float32Array]) -> None:
        """Keep a batch: list of float32 (N, P, d)."""
        if self._given_up:
            return
        try:
            if self._file is None:
                self._open(sum(array[0].nbytes for array in levels))
            if self._file is not None:
                for array in levels:
                    self._file.write(np.ascontiguousarray(array).data)
                self._shapes.append([array.shape for array in levels])
        except OSError:
            self._give_up()

    def close_pass(self) -> None:
        """Say that every image has been appended."""
        try:
            if self._file is not None:
                self._file.flush()  # a full disk may only show now
        except OSError:
            self._give_up()
        self.complete = not self._given_up and self._file is not None

    def __iter__(self) -> Iterator[list[Float32Array]]:
        """Batches as they were appended."""
        if self._file is None:
            return
        self._file.seek(0)
        for shapes in self._shapes:
            batch = []
            for shape in shapes:
                array = np.empty(shape, np.float32)
                self._file.readinto(array.data.cast("B"))  # type: ignore[attr-defined]
                batch.append(array)
            yield batch

    def close(self) -> None:
        """Remove the file."""
        self.complete = False
        self._give_up()

    def _open(self, image_bytes: int) -> None:
        needed = image_bytes * self._images
        free = shutil.disk_usage(Path(tempfile.gettempdir())).free
        if needed > min(_MOST_BYTES, _FREE_SHARE * free):
            self._give_up()
            return
        self._file = tempfile.TemporaryFile(prefix="blemish-")  # noqa: SIM115

    def _give_up(self) -> None:
        self._given_up = True
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing flushes, and the disk may be full
                self._file.close()
        self._file, self._shapes = None, []
