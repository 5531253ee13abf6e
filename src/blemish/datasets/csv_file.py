"""Reads a CSV file that lists images; paths are relative to the file.

image,label,mask,split
good/000.png,good,,train
bad/007.png,scratch,masks/007.png,test

`label` may be called `defect`. Normal images are labelled good, ok, normal or 0; any other word
is the name of a defect, and 1 means one without a name. `mask` and `split` may be left out: then
only image metrics are possible, and every fourth normal image is kept for the test split if there
are defects (see `holdout`).
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.csv_table import Row, header_of, read_rows
from blemish.datasets.holdout import hold_out
from blemish.datasets.listing import names
from blemish.datasets.sample import ANOMALOUS, NORMAL, TEST, TRAIN, Sample, check_split
from blemish.errors import DatasetError
from blemish.videos import frame_of

NORMAL_LABELS = ("good", "ok", "normal", "0")


def is_csv_layout(root: Path) -> bool:
    """Whether `root` is a file named ``*.csv``."""
    return root.suffix.lower() == ".csv" and root.is_file()


def read_csv(root: Path, *, split: str) -> list[Sample]:
    """List one split of a CSV file, sorted by path.

    Parameters
    ----------
    root : Path
        The CSV file.
    split : "train" or "test"

    Raises
    ------
    DatasetError
        The file is no such table, a file it names is missing, or the split is empty.
    """
    check_split(split)
    columns = header_of(root)
    label_column = _label_column(root, columns)
    rows = read_rows(root, columns=("image", label_column))
    _check_no_image_twice(root, rows)
    labelled = [(row, _sample(root, row, label_column)) for row in rows]
    if "split" in columns:
        samples = [sample for row, sample in labelled if _split_of(root, row, sample) == split]
        samples.sort(key=lambda sample: sample.image)
    else:
        samples = hold_out([sample for _, sample in labelled], split)
    if not samples:
        raise DatasetError(
            f"{root} must list images for the split '{split}', but none of its {len(rows)} "
            "images belongs to it. Add images, or a column split that says train or test."
        )
    return samples


def _label_column(path: Path, columns: list[str]) -> str:
    found = [column for column in columns if column in ("label", "defect")]
    if len(found) != 1:
        raise DatasetError(
            f"{path} must have one column of labels, named label or defect, "
            f"but its columns are {names(columns)}. Add or rename it in the first line."
        )
    return found[0]


def _sample(path: Path, row: Row, label_column: str) -> Sample:
    label = row[label_column]
    if not label:
        raise DatasetError(
            f"Line {row.line} of {path} must have a {label_column}, but the cell is empty. "
            "Write good, or the name of the defect."
        )
    image = _file(path, row, "image")
    frame = frame_of(image)
    clip = "" if frame is None else frame[0].stem
    if label.lower() in NORMAL_LABELS:
        return Sample(image, NORMAL, clip=clip)
    mask = _file(path, row, "mask") if row["mask"] else None
    return Sample(image, ANOMALOUS if label == "1" else label, mask, clip=clip)


def _file(path: Path, row: Row, column: str) -> Path:
    file = path.parent / row[column]
    if not row[column] or not (file.is_file() or frame_of(file)):
        found = f"{file} is missing" if row[column] else "the cell is empty"
        raise DatasetError(
            f"Line {row.line} of {path} must name an existing {column}, but {found}. "
            f"Paths are relative to the folder of the CSV file."
        )
    return file


def _split_of(path: Path, row: Row, sample: Sample) -> str:
    split = row["split"].lower()
    if split not in (TRAIN, TEST):
        raise DatasetError(
            f"The split in line {row.line} of {path} must be train or test, "
            f"but is '{row['split']}'. Correct it, or remove the column."
        )
    if split == TRAIN and sample.is_anomalous:
        raise DatasetError(
            f"Line {row.line} of {path} must be normal since its split is train, "
            f"but its label is '{sample.defect}'. Correct the label, or move it to test."
        )
    return split


def _check_no_image_twice(path: Path, rows: list[Row]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        first = seen.setdefault(row["image"], row.line)
        if row["image"] and first != row.line:
            raise DatasetError(
                f"Each image must be listed once in {path}, but {row['image']} is in the lines "
                f"{first} and {row.line}. Remove one."
            )
