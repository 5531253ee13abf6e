"""CSV files that list images."""

import pytest

from blemish.datasets import NORMAL, read_csv
from blemish.errors import DatasetError
from made_up_trees import images, listed, plant, plant_table


@pytest.fixture
def root(tmp_path):
    return plant(tmp_path, *(f"i/{number}.png" for number in range(8)), "m/7.png")


def error_of(path, split="train"):
    with pytest.raises(DatasetError) as caught:
        read_csv(path, split=split)
    return str(caught.value)


def table(root, *lines):
    return plant_table(root / "list.csv", *lines)


def test_a_table_with_everything(root):
    path = table(
        root,
        "Image,Label,Mask,Split,Note",
        "i/7.png,scratch,m/7.png,test,x",
        "i/6.png,burr,,Test,",
        "i/5.png,OK,m/7.png,test,",
        "i/1.png,good,,train,",
        "i/0.png,0,,train,",
    )
    assert listed(read_csv(path, split="train"), root) == [
        ("i/0.png", NORMAL, None),
        ("i/1.png", NORMAL, None),
    ]
    assert listed(read_csv(path, split="test"), root) == [
        ("i/5.png", NORMAL, None),
        ("i/6.png", "burr", None),
        ("i/7.png", "scratch", "m/7.png"),
    ]


def test_without_a_split_every_fourth_normal_image_is_for_testing(root):
    lines = [f"i/{number}.png,{1 if number == 7 else 0}" for number in reversed(range(8))]
    path = table(root, "image,label", *lines)
    train, test = read_csv(path, split="train"), read_csv(path, split="test")
    assert images(train, root) == [f"i/{number}.png" for number in (0, 1, 2, 4, 5, 6)]
    assert listed(test, root) == [("i/3.png", NORMAL, None), ("i/7.png", "anomaly", None)]


def test_a_spreadsheet_with_semicolons_a_byte_order_mark_and_empty_lines(root):
    path = root / "list.csv"
    path.write_text("\ufeffimage;defect\r\n i/0.png ;good\r\n;\r\n\r\n", encoding="utf-8")
    assert images(read_csv(path, split="train"), root) == ["i/0.png"]


def test_an_absolute_path_and_a_quoted_comma(root):
    plant(root, "i/a, b.png")
    path = root / "list.csv"
    path.write_text(f'image,label\n"i/a, b.png",good\n{root}/i/1.png,good\n', encoding="utf-8")
    assert images(read_csv(path, split="train"), root) == ["i/1.png", "i/a, b.png"]


def test_the_text_of_each_error(root):
    where = f"{root}/list.csv"
    cases = {
        ("image,class", "i/0.png,good"): (
            f"{where} must have one column of labels, named label or defect, "
            "but its columns are image, class. Add or rename it in the first line."
        ),
        ("image,label,defect", "i/0.png,good,"): (
            f"{where} must have one column of labels, named label or defect, "
            "but its columns are image, label, defect. Add or rename it in the first line."
        ),
        ("path,label", "i/0.png,good"): (
            f"{where} must have the columns image, label, but has no image: "
            "its columns are path, label. Add or rename it in the first line."
        ),
        ("image,label,mask,mask", "i/0.png,good,,"): (
            f"Each column of {where} must have its own name, but its columns are "
            "image, label, mask, mask. Rename or remove one."
        ),
        ("image,label", "i/0.png,good", "i/1.png"): (
            f"Line 3 of {where} must have 2 cells as the first line has, but has 1. "
            "Quote cells that contain the divider."
        ),
        ("image,label", "i/0.png,"): (
            f"Line 2 of {where} must have a label, but the cell is empty. "
            "Write good, or the name of the defect."
        ),
        ("image,label", "i/99.png,good"): (
            f"Line 2 of {where} must name an existing image, but {root}/i/99.png is missing. "
            "Paths are relative to the folder of the CSV file."
        ),
        ("image,label", ",good"): (
            f"Line 2 of {where} must name an existing image, but the cell is empty. "
            "Paths are relative to the folder of the CSV file."
        ),
        ("image,label,mask", "i/0.png,dent,m/0.png"): (
            f"Line 2 of {where} must name an existing mask, but {root}/m/0.png is missing. "
            "Paths are relative to the folder of the CSV file."
        ),
        ("image,label,split", "i/0.png,good,val"): (
            f"The split in line 2 of {where} must be train or test, but is 'val'. "
            "Correct it, or remove the column."
        ),
        ("image,label,split", "i/0.png,dent,train"): (
            f"Line 2 of {where} must be normal since its split is train, "
            "but its label is 'dent'. Correct the label, or move it to test."
        ),
        ("image,label", "i/0.png,good", "i/1.png,good", "i/0.png,dent"): (
            f"Each image must be listed once in {where}, but i/0.png is in the lines 2 and 4. "
            "Remove one."
        ),
        ("image,label", "i/0.png,dent"): (
            f"{where} must list images for the split 'train', but none of its 1 images belongs "
            "to it. Add images, or a column split that says train or test."
        ),
        (): (f"{where} must have a first line of column names, but is empty. Fill it."),
    }
    for lines, text in cases.items():
        assert error_of(table(root, *lines)) == text


def test_no_file(root):
    assert error_of(root / "none.csv") == (
        f"{root}/none.csv must be a CSV file, but it does not exist. Give its path."
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"image,label\nf\xfcr.png,good\n", "'utf-8' codec can't decode byte 0xfc"),
        (b'image,label\n"i/0.png,good\n', "unexpected end of data"),
    ],
)
def test_a_file_that_is_no_csv_in_utf8(root, content, reason):
    path = root / "list.csv"
    path.write_bytes(content)
    text = error_of(path)
    assert text.startswith(f"{path} must be a CSV file in UTF-8, but cannot be read: {reason}")
    assert text.endswith(". Save it as one.")
