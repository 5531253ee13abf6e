"""What an export is and how far it is from its model: `parity.json` and `parity.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blemish.export.parity import Parity
from blemish.export.ranking import Ranking
from blemish.writing import write_bytes

JSON_FILE, MARKDOWN_FILE = "parity.json", "parity.md"

Row = tuple[str, str, str]
"""What, how much, and the limit."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Result of an export.

    Attributes
    ----------
    target, precision : str
    sizes : dict of str to int
        Bytes of every file of the graph.
    runtime : str
        What ran the export for the comparison.
    whole_constants : int
        Constants left in 32 bits because 16 cannot hold them.
    parity : Parity
    ranking : Ranking or None
        Without test images only of an int8 export.
    """

    target: str
    precision: str
    sizes: Mapping[str, int]
    runtime: str
    whole_constants: int
    parity: Parity
    ranking: Ranking | None = None

    @property
    def failures(self) -> list[str]:
        """Why the export must not be used; empty if it may."""
        return self.parity.failures + (self.ranking.failures if self.ranking else [])

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "target": self.target,
            "precision": self.precision,
            "bytes": dict(self.sizes),
            "runtime": self.runtime,
            "constants_left_in_32_bits": self.whole_constants,
            "parity": self.parity.to_json(),
            "ranking": None if self.ranking is None else self.ranking.to_json(),
            "passed": not self.failures,
        }

    def rows(self) -> list[Row]:
        """Table for people."""
        parity = self.parity
        kind = "made up, no real images" if parity.made_up else "real"
        files = " + ".join(self.sizes)
        rows: list[Row] = [
            ("format", f"{self.target}, {self.precision}", ""),
            ("size", f"{sum(self.sizes.values()) / 1e6:.1f} MB ({files})", ""),
            ("run by", self.runtime, ""),
            ("images compared", f"{parity.images} ({kind})", ""),
            ("spread of good images", f"{parity.spread:.4g}; pixels {parity.pixel_spread:.4g}", ""),
        ]
        for name, drift, difference, limit in (
            ("score", parity.score_drift, parity.score_difference, parity.limits.score),
            ("map", parity.map_drift, parity.map_difference, parity.limits.map),
            ("level", parity.level_drift, parity.level_difference, parity.limits.level),
        ):
            found = f"{drift:.2g} spreads ({difference:.2g})"
            rows.append((f"{name} difference", found, f"{limit:g} spreads"))
        least = f"at least {parity.limits.correlation:g}"
        rows.append(("correlation of maps", f"{parity.map_correlation:.4f}", least))
        rows.append(("mean shift of scores", f"{parity.score_shift:+.2g} spreads", ""))
        rows.append(("changed decisions", str(parity.changed_decisions), str(parity.most_changed)))
        if self.ranking is not None:
            ranking = self.ranking
            where = f"{ranking.good} good, {ranking.defective} with {ranking.on}"
            if ranking.on == "test images":
                where = f"{ranking.good} good and {ranking.defective} defective test images"
            rows.append(("AUROC measured on", where, ""))
            rows.append(("AUROC of the model", f"{ranking.model:.4f}", ""))
            least = f"at least {ranking.model - ranking.most_drop:.4f}"
            rows.append(("AUROC of the export", f"{ranking.export:.4f}", least))
        return rows

    def to_markdown(self) -> str:
        """The table as a page."""
        lines = [
            "# Parity of this export with its model",
            "",
            "The model in 32-bit floats against the files of this folder, run by the program they",
            "are made for. A spread is the standard deviation of the leave-one-out scores of good",
            "images, or of the pixels of their maps, or of the values of a level; above the",
            "threshold, what a value exceeds it by is added to the spread.",
            "",
            "| | found | limit |",
            "|---|---|---|",
            *(f"| {what} | {found} | {limit} |" for what, found, limit in self.rows()),
            "",
        ]
        if self.parity.made_up:
            lines += ["The images are made up: compare on real ones before you rely on it.", ""]
        return "\n".join(lines)


def write_report(report: ExportReport, folder: Path) -> None:
    """Write `parity.json` and `parity.md`.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    text = json.dumps(report.to_json(), indent=2) + "\n"
    write_bytes(folder / JSON_FILE, text.encode())
    write_bytes(folder / MARKDOWN_FILE, report.to_markdown().encode())
