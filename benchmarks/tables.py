"""Tables of measurements as Markdown, and sections of a report that can be replaced one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEADING = """# Measurements

Written by `make bench`; a part is measured anew by `python -m benchmarks.run --only PART`. Every
time is a median. What is compared took turns in one process, and a ratio is the median over the
turns, so that a change of the machine's speed meets both. MB are 10^6 bytes.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header.

    Attributes
    ----------
    title : str
    header : sequence of str
    rows : sequence of sequence of str
    notes : sequence of str
        Paragraphs below the table.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def markdown(self) -> str:
        """The table as Markdown.

        Raises
        ------
        ValueError
            A row has not as many cells as the header.

        Examples
        --------
        >>> print(Table("Speed", ["what", "ms"], [["decode", "14.0"]]).markdown())
        **Speed**
        <BLANKLINE>
        | what | ms |
        |---|---:|
        | decode | 14.0 |
        """
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"A row of '{self.title}' must have {len(self.header)} cells, but has "
                    f"{len(row)}: {row}."
                )
        lines = [f"**{self.title}**", ""] if self.title else []
        if self.rows:
            lines += [_line(self.header), "|---|" + "---:|" * (len(self.header) - 1)]
            lines += [_line(row) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines)


def verdict(value: float, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """Whether a value keeps a bar.

    Examples
    --------
    >>> verdict(1.2, at_most=1.3), verdict(8.0, at_least=12)
    ('met', 'MISSED')
    """
    kept = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    return "met" if kept else "MISSED"


def milliseconds(seconds: float) -> str:
    """Three digits.

    Examples
    --------
    >>> milliseconds(0.0123), milliseconds(0.00123), milliseconds(0.123)
    ('12.3', '1.23', '123')
    """
    value = 1e3 * seconds
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def section(title: str, tables: Sequence[Table], *, measured: str) -> str:
    """One section of the report: when and where it was measured, and its tables."""
    parts = [f"## {title}", measured, *(table.markdown() for table in tables)]
    return "\n\n".join(parts) + "\n"


def replace_sections(report: str, sections: Mapping[str, str], order: Sequence[str]) -> str:
    """Put sections into a report; those that are not given stay as they are.

    Parameters
    ----------
    report : str
        What this function gave before, or "".
    sections : dict of str to str
    order : sequence of str
        Names of all sections that there are, as they follow each other.

    Examples
    --------
    >>> report = replace_sections("", {"b": "before", "a": "untouched"}, "ab")
    >>> report = replace_sections(report, {"b": "after"}, "ab")
    >>> "before" in report, report.index("untouched") < report.index("after")
    (False, True)
    """
    kept = dict(re.findall(r"<!-- part (\w+) -->\n(.*?)<!-- end -->", report, flags=re.DOTALL))
    kept |= {name: text.rstrip("\n") + "\n" for name, text in sections.items()}
    parts = [f"<!-- part {name} -->\n{kept[name]}<!-- end -->\n" for name in order if name in kept]
    return "\n".join([HEADING, *parts])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
