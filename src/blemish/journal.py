"""The life of a model: what was learned, added, merged and forgotten, and when."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

ACTIONS = ("fit", "update", "merge", "forget", "calibrate")
CALIBRATIONS = ("images", "features", "combined")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One step.

    Attributes
    ----------
    action : {"fit", "update", "merge", "forget", "calibrate"}
    when : str
        ISO 8601, UTC, to the second.
    added, removed : int
        Images.
    count : int
        Images in the model afterwards.
    calibration : {"images", "features", "combined"}
        Where the thresholds came from: all training images, their kept features, or the
        calibrations before, put together.
    images : tuple of (name, digest)
        The images that were added or removed, digests in hexadecimal. Empty for a merge, whose
        parts have journals of their own (`merged`), and for "calibrate".
    rejected : tuple of (name, digest)
        For a fit: images that were given, but left out as outliers; see `robust`.
    merged : tuple of tuple of JournalEntry
        For a merge: the journals of the models.
    """

    action: str
    when: str
    added: int = 0
    removed: int = 0
    count: int
    calibration: str
    images: tuple[tuple[str, str], ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    merged: tuple[tuple[JournalEntry, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for the model file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JournalEntry:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is no entry.
        """
        fields = dict(data)
        for name in ("images", "rejected"):
            fields[name] = tuple((str(image), str(digest)) for image, digest in data[name])
        fields["merged"] = tuple(
            tuple(cls.from_json(entry) for entry in journal) for journal in data["merged"]
        )
        entry = cls(**fields)
        if entry.action not in ACTIONS or entry.calibration not in CALIBRATIONS:
            raise ValueError(f"an action {entry.action!r} with calibration {entry.calibration!r}")
        for number in (entry.added, entry.removed, entry.count):
            if type(number) is not int or number < 0:
                raise ValueError(f"a journal that counts {number!r} images")
        datetime.fromisoformat(entry.when)
        return entry


def now() -> str:
    """Time of an entry, UTC; that of SOURCE_DATE_EPOCH (seconds since 1970) where it is set.

    References
    ----------
    https://reproducible-builds.org/specs/source-date-epoch/
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = (
        datetime.fromtimestamp(int(epoch), timezone.utc)
        if epoch.isdigit()
        else datetime.now(timezone.utc)
    )
    return moment.isoformat(timespec="seconds")
