"""Which normal images are kept for testing where a dataset has no official split.

Every fourth, in sorted order: no generator, no seed, the same on every machine. The first of
four is never the one held out, so a dataset of one to three normal images trains on all.
"""

from __future__ import annotations

from collections.abc import Sequence

from blemish.datasets.sample import TRAIN, Sample

EVERY = 4


def is_held_out(position: int) -> bool:
    """Whether the normal image (or item) at this place of the sorted order is for testing.

    Examples
    --------
    >>> [position for position in range(9) if is_held_out(position)]
    [3, 7]
    """
    return position % EVERY == EVERY - 1


def hold_out(samples: Sequence[Sample], split: str) -> list[Sample]:
    """One split of samples that come without one.

    Parameters
    ----------
    samples : sequence of Sample
    split : "train" or "test"

    Returns
    -------
    list of Sample
        train: three of four normal samples, or all if no sample is anomalous (there is nothing
        to test then). test: the other normal samples and all anomalous ones, or none. Sorted by
        path.
    """
    ordered = sorted(samples, key=lambda sample: sample.image)
    normal = [sample for sample in ordered if not sample.is_anomalous]
    if len(normal) == len(ordered):
        return normal if split == TRAIN else []
    held_out = {sample for place, sample in enumerate(normal) if is_held_out(place)}
    if split == TRAIN:
        return [sample for sample in normal if sample not in held_out]
    return [sample for sample in ordered if sample.is_anomalous or sample in held_out]
