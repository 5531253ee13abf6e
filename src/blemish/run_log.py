"""One measured run, and the file that remembers them: a JSON object per line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from blemish.errors import BlemishWarning, InputError
from blemish.settings import FitSettings
from blemish.writing import check_writable, write_bytes


@dataclass(frozen=True, slots=True)
class Run:
    """One fit and what was measured of it.

    Attributes
    ----------
    identity : dict
        All that decides what the run measures: category, data, settings, backbone, versions.
    dims : int
        Dimensions of the embedding in all.
    metrics : dict of str to float or None
        None: undefined for these images.
    counts : dict of str to int
        train_images, good_images, anomalous_images, unreadable, blank_masks, false_alarms, missed.
    fit_seconds : float
        From files to model, the backbone loaded before.
    ms_per_image : float
        Median milliseconds from a file to its score and map, one image at a time.
    """

    identity: dict[str, object]
    dims: int
    metrics: dict[str, float | None]
    counts: dict[str, int]
    fit_seconds: float
    ms_per_image: float

    @property
    def category(self) -> str:
        """Name of the product."""
        return str(self.identity["category"])

    @property
    def settings(self) -> FitSettings:
        """Settings of the fit."""
        settings = self.identity["settings"]
        if not isinstance(settings, Mapping):
            raise InputError(f"The settings of a run must be an object, but are {settings!r}.")
        return FitSettings.from_json(settings)

    @property
    def protocol(self) -> Mapping[str, object]:
        """What was done to the data, and the seed of their version; empty for the data as is."""
        found = self.identity.get("protocol")
        return found if isinstance(found, Mapping) else {}

    @property
    def seed(self) -> int:
        """Seed of the version of the data; of the choice of channels, for the data as is."""
        found = self.protocol.get("seed")
        return found if isinstance(found, int) else self.settings.seed

    @property
    def backbone(self) -> str:
        """Name of the backbone, with the tag of its weights."""
        return str(self.identity["backbone"])

    @property
    def is_incomplete(self) -> bool:
        """Whether test images are missing from the figures because they cannot be read."""
        return self.counts["unreadable"] > 0

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Run:
        """Run from a line of the file.

        Raises
        ------
        InputError
            It is something else.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != names:
            raise InputError("it is no object with the fields of a run")
        return cls(**data)


class RunLog:
    """Runs of this and earlier benchmarks in a file.

    Parameters
    ----------
    path : Path
        Read if it exists. Every run is added at once, in one step: an interruption loses only
        the run under way. A last line that is cut off (by a full disk, a broken copy) is dropped
        with a `BlemishWarning`. For one benchmark at a time.

    Raises
    ------
    InputError
        The file holds something else.
    OutputError
        It could not be written.
    """

    def __init__(self, path: Path) -> None:
        check_writable(path)
        self._path = path
        self._runs: list[Run] = []
        if path.exists():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise InputError(self._complaint(1, str(error))) from error
            self._read(text.splitlines())

    def _read(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, start=1):
            try:
                self._runs.append(Run.from_json(json.loads(line)))
            except json.JSONDecodeError as error:
                if number < len(lines) or not line.startswith("{"):
                    raise InputError(self._complaint(number, str(error))) from error
                warnings.warn(
                    f"{self._path}: the last line is incomplete. Its run is measured again.",
                    BlemishWarning,
                    stacklevel=3,
                )
            except InputError as error:
                raise InputError(self._complaint(number, str(error))) from error

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, identity: Mapping[str, object]) -> Run | None:
        """The run that measured exactly this, or None."""
        wanted = _canonical(identity)
        return next((run for run in self._runs if _canonical(run.identity) == wanted), None)

    def add(self, run: Run) -> None:
        """Remember a run.

        Raises
        ------
        OutputError
            The file cannot be written; it is as before.
        """
        runs = [*self._runs, run]
        lines = "".join(json.dumps(one.to_json(), sort_keys=True) + "\n" for one in runs)
        write_bytes(self._path, lines.encode())
        self._runs = runs

    def _complaint(self, number: int, reason: str) -> str:
        return (
            f"{self._path} must hold one run of a benchmark per line, but line {number} holds "
            f"something else: {reason}. Remove the file, or name another folder."
        )


def _canonical(identity: Mapping[str, object]) -> str:
    return json.dumps(identity, sort_keys=True)
