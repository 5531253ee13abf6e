"""The tag directory that TIFF files consist of and that EXIF data are written in."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from blemish.errors import ImageError
from blemish.image_formats.pixels import COPY_AGAIN

Values = tuple[int, ...]

ORIENTATION = 274
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}


class TagFile:
    """Reads the directories of a classic or big TIFF, or of EXIF data; integer tags only.

    Attributes
    ----------
    order : str
        "<" or ">", the byte order of the file.
    first : int
        Offset of the first directory.
    """

    def __init__(self, content: bytes) -> None:
        orders = {b"II": "<", b"MM": ">"}
        if content[:2] not in orders:
            raise ImageError(
                f"a tag directory must start with II or MM, but does not. {COPY_AGAIN}"
            )
        self._content = content
        self.order = orders[content[:2]]
        self._is_big = self._at("H", 2) == 43
        self.first = self._at("Q", 8) if self._is_big else self._at("I", 4)

    def _at(self, code: str, offset: int) -> int:
        try:
            value: int = struct.unpack_from(self.order + code, self._content, offset)[0]
        except (struct.error, OverflowError) as error:
            raise ImageError(
                f"its tags must lie inside the file, but one is at byte {offset} "
                f"of {len(self._content)}. {COPY_AGAIN}"
            ) from error
        return value

    def directory(self, offset: int) -> tuple[dict[int, Values], int]:
        """Read the directory at `offset`.

        Returns
        -------
        tuple
            Tag number -> its values, and the offset of the next directory (0: none).

        Raises
        ------
        ImageError
            The directory or a value reaches beyond the end of the file.
        """
        count_code, count_bytes, entry_bytes, inline, pointer = (
            ("Q", 8, 20, 8, "Q") if self._is_big else ("H", 2, 12, 4, "I")
        )
        entries = self._at(count_code, offset)
        start = offset + count_bytes
        tags = {}
        if start + entries * entry_bytes > len(self._content):
            self._at(pointer, len(self._content))
        for entry in range(start, start + entries * entry_bytes, entry_bytes):
            code = _CODES.get(self._at("H", entry + 2))
            count = self._at(pointer, entry + 4)
            if code is None or count == 0:
                continue
            value = entry + 4 + inline
            if count * struct.calcsize(code) > inline:
                value = self._at(pointer, value)
            self._at("B", value + count * struct.calcsize(code) - 1)
            tags[self._at("H", entry)] = struct.unpack_from(
                f"{self.order}{count}{code}", self._content, value
            )
        return tags, self._at(pointer, start + entries * entry_bytes)


def orientation_of(tags: Mapping[int, Values]) -> int:
    """Orientation 1 to 8; 1 if it is not stated or not a known one."""
    value = tags.get(ORIENTATION, (1,))[0]
    return value if 1 <= value <= 8 else 1


def exif_orientation(exif: bytes) -> int:
    """Orientation in EXIF data, with or without their "Exif" prefix.

    Damaged EXIF data say nothing about the pixels, so they count as none.
    """
    content = exif[6:] if exif[:6] == b"Exif\0\0" else exif
    try:
        source = TagFile(content)
        return orientation_of(source.directory(source.first)[0])
    except ImageError:
        return 1
