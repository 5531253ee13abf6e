"""Reads VisA as it is published, with its own one-class split.

<root>/split_csv/1cls.csv                  object,split,label,image,mask; paths relative to <root>
<root>/<category>/Data/Images/Normal/0000.JPG, Data/Images/Anomaly/000.JPG
<root>/<category>/Data/Masks/Anomaly/000.png
<root>/<category>/image_anno.csv           image,label,mask; label is the name of the defect

Masks hold small class numbers, not 255: whatever is not black is a defect. The copy that the
authors' prepare_data.py writes is in the layout of MVTec AD. Zou et al., ECCV 2022.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.category import choose_category, own_name
from blemish.datasets.csv_table import Row, read_rows
from blemish.datasets.listing import found_in
from blemish.datasets.sample import ANOMALOUS, NORMAL, TEST, TRAIN, Sample, check_split
from blemish.errors import DatasetError

SPLIT_FILE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


def is_visa_layout(root: Path) -> bool:
    """Whether `root` has VisA's split file, or is a category beside it."""
    return (root / SPLIT_FILE).is_file() or _is_category(root)


def visa_categories(root: Path) -> list[str]:
    """Objects in the split file; its own name if `root` is the folder of a category."""
    if _is_category(root):
        return [own_name(root)]
    return sorted({row["object"] for row in _rows(root)})


def read_visa(root: Path, *, split: str, category: str | None = None) -> list[Sample]:
    """List one split of one category, sorted by path.

    Parameters
    ----------
    root : Path
        Folder that has ``split_csv``, or of one category in it.
    split : "train" or "test"
    category : str or None

    Raises
    ------
    DatasetError
        The split file is another or missing, or a file it names is missing.
    """
    check_split(split)
    chosen = choose_category(root, category, visa_categories(root))
    top = root.resolve().parent if _is_category(root) else root
    defects = _defects(top, chosen)
    samples = [
        _sample(top, row, defects)
        for row in _rows(top)
        if row["object"] == chosen and row["split"] == split
    ]
    if not samples:
        raise DatasetError(
            f"{top / SPLIT_FILE} must list images of '{chosen}' for the split '{split}', "
            "but lists none. Restore the file."
        )
    return sorted(samples, key=lambda sample: sample.image)


def _is_category(root: Path) -> bool:
    parent = root.resolve().parent
    return (root / "Data" / "Images").is_dir() and (parent / SPLIT_FILE).is_file()


def _rows(top: Path) -> list[Row]:
    path = top / SPLIT_FILE
    if not path.is_file():
        raise DatasetError(
            f"{top} must hold {SPLIT_FILE.as_posix()}, but {found_in(top)}. "
            "Download the dataset again, or copy the file from the authors' repository."
        )
    rows = read_rows(path, columns=COLUMNS)
    for row in rows:
        if row["split"] not in (TRAIN, TEST) or row["label"] not in ("normal", "anomaly"):
            raise DatasetError(
                f"Line {row.line} of {path} must have the split train or test and the label "
                f"normal or anomaly, but has '{row['split']}' and '{row['label']}'. "
                "Restore the file."
            )
    return rows


def _defects(top: Path, category: str) -> dict[str, str]:
    """Name of the defect by image, from the category's own list if it is there."""
    path = top / category / "image_anno.csv"
    if not path.is_file():
        return {}
    return {row["image"]: row["label"] for row in read_rows(path, columns=("image", "label"))}


def _sample(top: Path, row: Row, defects: dict[str, str]) -> Sample:
    image = _file(top, row, "image")
    if row["label"] == "normal":
        return Sample(image, NORMAL, category=row["object"])
    defect = defects.get(row["image"]) or ANOMALOUS
    return Sample(image, defect, _file(top, row, "mask"), category=row["object"])


def _file(top: Path, row: Row, column: str) -> Path:
    file = top / row[column]
    if not row[column] or not file.is_file():
        found = f"{file} is missing" if row[column] else "the cell is empty"
        raise DatasetError(
            f"Line {row.line} of {top / SPLIT_FILE} must name an existing {column}, but {found}. "
            "Download the dataset again."
        )
    return file
