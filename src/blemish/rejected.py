"""Training images that a robust fit found to be no good parts, and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemish.arrays import Float64Array
from blemish.image_statistics import STATISTICS
from blemish.journal import JournalEntry, now
from blemish.records import DIGEST_BYTES, ImageRecords


@dataclass(frozen=True, slots=True)
class Rejected:
    """Images that were left out of a fit.

    Attributes
    ----------
    records : ImageRecords
        Of these k images, in the order they were given.
    scores : float64 (k,)
        By the model that was learned without them; for a score other than the distance, by the
        distance all the same.
    limit : float
        Each of the scores reaches it.
    """

    records: ImageRecords
    scores: Float64Array
    limit: float

    @property
    def names(self) -> tuple[str, ...]:
        """File names; "" for images that came as arrays."""
        return self.records.names

    def without(self, learned: ImageRecords) -> Rejected:
        """Those that have not been learned from after all."""
        out = learned.find(self.records.digests) < 0
        return Rejected(self.records.take(out), self.scores[out], self.limit)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the model file."""
        return {
            "names": list(self.names),
            "digests": [digest for _, digest in self.records.named()],
            "statistics": self.records.statistics.tolist(),
            "scores": self.scores.tolist(),
            "limit": self.limit,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rejected:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is something else.
        """
        names = tuple(str(name) for name in data["names"])
        count = len(names)
        digests = np.frombuffer(bytes.fromhex("".join(data["digests"])), np.uint8)
        statistics = np.array(data["statistics"], np.float64)
        scores, limit = np.array(data["scores"], np.float64), float(data["limit"])
        if not (np.isfinite(scores).all() and np.isfinite(statistics).all() and np.isfinite(limit)):
            raise ValueError("rejected images with scores or statistics that are not all finite")
        if scores.shape != (count,):
            raise ValueError(f"{scores.size} scores of {count} rejected images")
        records = ImageRecords(
            names=names,
            digests=digests.reshape(count, DIGEST_BYTES),
            statistics=statistics.reshape(count, len(STATISTICS)),
        )
        return cls(records, scores, limit)


def joined_rejected(parts: Sequence[Rejected | None], learned: ImageRecords) -> Rejected | None:
    """Images that several fits left out and none has learned; None if none of them rejects.

    The limit is the smallest one; scores stay those by their own models.
    """
    joined: Rejected | None = None
    for part in parts:
        if part is None:
            continue
        if joined is None:
            joined = part.without(learned)
            continue
        new = part.without(learned).without(joined.records)
        joined = Rejected(
            joined.records.plus(new.records),
            np.concatenate([joined.scores, new.scores]),
            min(joined.limit, new.limit),
        )
    return joined


def fit_entry(records: ImageRecords, rejected: Rejected | None) -> JournalEntry:
    """What a fit writes in the journal: images learned from, and those left out."""
    return JournalEntry(
        action="fit",
        when=now(),
        added=len(records),
        count=len(records),
        calibration="images",
        images=records.named(),
        rejected=() if rejected is None else rejected.records.named(),
    )
