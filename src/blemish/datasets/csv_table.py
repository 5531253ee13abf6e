"""A CSV file as rows of named, stripped cells; its errors name the file and the line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.datasets.listing import found_in, names
from blemish.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its number in the file (the header is line 1) and its cells by column name."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The cell, or "" where the table has no such column."""
        return self.cells.get(column, "")


def header_of(path: Path) -> list[str]:
    """Column names, in lower case."""
    return _table(path)[0]


def read_rows(path: Path, *, columns: Sequence[str]) -> list[Row]:
    """Rows of a UTF-8 CSV file, divided by commas or, if its header has none, semicolons.

    Column names are compared in lower case; empty lines are no rows.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        Those that must exist.

    Raises
    ------
    DatasetError
        No such file, no CSV, a column is missing or named twice, or a line has too many or too
        few cells.
    """
    header, lines = _table(path)
    missing = [column for column in columns if column not in header]
    if missing:
        raise DatasetError(
            f"{path} must have the columns {', '.join(columns)}, but has no {names(missing)}: "
            f"its columns are {names(header)}. Add or rename it in the first line."
        )
    if len(set(header)) < len(header):
        raise DatasetError(
            f"Each column of {path} must have its own name, but its columns are "
            f"{names(header)}. Rename or remove one."
        )
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise DatasetError(
                f"Line {line} of {path} must have {len(header)} cells as the first line has, "
                f"but has {len(cells)}. Quote cells that contain the divider."
            )
        rows.append(Row(line, dict(zip(header, cells, strict=True))))
    return rows


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header in lower case, and line number and cells of every line that is not empty."""
    if not path.is_file():
        raise DatasetError(f"{path} must be a CSV file, but {found_in(path)}. Give its path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            divider = ";" if ";" in first and "," not in first else ","
            reader = csv.reader(file, delimiter=divider, strict=True)
            lines = [
                (reader.line_num, [cell.strip() for cell in cells])
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DatasetError(
            f"{path} must be a CSV file in UTF-8, but cannot be read: {error}. Save it as one."
        ) from error
    if not lines:
        raise DatasetError(f"{path} must have a first line of column names, but is empty. Fill it.")
    return [cell.lower() for cell in lines[0][1]], lines[1:]
