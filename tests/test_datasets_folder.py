"""Plain folders, and the rule for what is held out where there is no split."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.datasets import NORMAL, Sample, read_folder, read_folders
from blemish.datasets.holdout import hold_out
from blemish.errors import DatasetError
from made_up_trees import images, listed, plant


def error_of(root, split="train"):
    with pytest.raises(DatasetError) as caught:
        read_folder(root, split=split)
    return str(caught.value)


def test_a_plain_folder_is_all_good(tmp_path):
    plant(tmp_path, "b.png", "a.JPEG", "notes.txt", "empty/notes.txt", *"cdef")
    assert listed(read_folder(tmp_path, split="train"), tmp_path) == [
        ("a.JPEG", NORMAL, None),
        ("b.png", NORMAL, None),
    ]


@pytest.mark.parametrize("name", ["good", "OK", "Normal"])
def test_subfolders_name_the_label(tmp_path, name):
    plant(tmp_path, *(f"{name}/{number}.png" for number in range(5)))
    plant(tmp_path, "scratch/monday/0.png", "dent/0.png")
    kept = [f"{name}/{number}.png" for number in (0, 1, 2, 4)]
    assert images(read_folder(tmp_path, split="train"), tmp_path) == kept
    test = listed(read_folder(tmp_path, split="test"), tmp_path)
    assert sorted(test) == sorted(
        [
            ("dent/0.png", "dent", None),
            (f"{name}/3.png", NORMAL, None),
            ("scratch/monday/0.png", "scratch", None),
        ]
    )


def test_hidden_folders_and_links_in_a_ring_are_not_followed(tmp_path):
    plant(tmp_path, "good/0.png", "good/.trash/1.png", ".cache/2.png")
    (tmp_path / "good" / "again").symlink_to(tmp_path / "good", target_is_directory=True)
    assert images(read_folder(tmp_path, split="train"), tmp_path) == ["good/0.png"]


def test_several_subfolders_may_be_normal(tmp_path):
    plant(tmp_path, "good/0.png", "ok/0.png", "ko/0.png")
    assert images(read_folder(tmp_path, split="train"), tmp_path) == ["good/0.png", "ok/0.png"]


def test_only_normal_subfolders_leave_nothing_to_hold_out(tmp_path):
    plant(tmp_path, *(f"good/{number}.png" for number in range(8)))
    assert len(read_folder(tmp_path, split="train")) == 8


def test_train_and_test_folders_are_the_splits(tmp_path):
    plant(tmp_path, *(f"train/good/{number}.png" for number in range(5)))
    plant(tmp_path, "test/good/0.png", "test/dent/0.png", "ground_truth/dent/0_mask.png")
    assert len(read_folder(tmp_path, split="train")) == 5
    assert listed(read_folder(tmp_path, split="test"), tmp_path) == [
        ("test/dent/0.png", "dent", None),
        ("test/good/0.png", NORMAL, None),
    ]


def test_the_training_folder_may_hold_its_images_directly(tmp_path):
    plant(tmp_path, "train/0.png", "test/dent/0.png")
    assert images(read_folder(tmp_path, split="train"), tmp_path) == ["train/0.png"]
    assert images(read_folder(tmp_path, split="test"), tmp_path) == ["test/dent/0.png"]


def test_nothing_to_test_in_a_plain_folder(tmp_path):
    plant(tmp_path, "0.png")
    assert error_of(tmp_path, "test") == (
        f"A test split needs images of defects, but all images in {tmp_path} are normal. Put "
        "defects into a subfolder named after them, and the normal images into one named good."
    )


def test_no_images(tmp_path):
    plant(tmp_path, "notes.txt")
    assert error_of(tmp_path) == (
        f"{tmp_path} must hold images, or subfolders of images, but it holds notes.txt. "
        "Give the folder that holds the images."
    )


def test_images_beside_subfolders(tmp_path):
    plant(tmp_path, "0.png", "dent/0.png")
    assert error_of(tmp_path) == (
        f"{tmp_path} must hold images or subfolders of images, but holds both: "
        "1 images beside dent. Move the normal images into a subfolder named good."
    )


def test_no_subfolder_is_normal(tmp_path):
    plant(tmp_path, "monday/0.png", "tuesday/0.png")
    assert error_of(tmp_path) == (
        f"A subfolder of {tmp_path} must be named good, ok or normal, but they are named: "
        "monday, tuesday. Rename the one that holds the normal images."
    )


def test_a_folder_of_masks_is_not_a_defect(tmp_path):
    plant(tmp_path, "good/0.png", "dent/0.png", "masks/0.png")
    assert error_of(tmp_path) == (
        f"Each subfolder of {tmp_path} must hold images of one label, but masks is a name for "
        "masks. Move it elsewhere, or arrange the dataset as MVTec AD does to use the masks."
    )


def test_defects_among_the_training_images(tmp_path):
    plant(tmp_path, "train/good/0.png", "train/dent/0.png", "test/good/0.png")
    assert error_of(tmp_path) == (
        f"{tmp_path}/train must hold normal images only, but also holds dent. "
        f"Move them to {tmp_path}/test."
    )


def test_test_images_without_a_label(tmp_path):
    plant(tmp_path, "train/0.png", "test/0.png")
    assert error_of(tmp_path, "test") == (
        f"Test images must be in subfolders of {tmp_path}/test that name their label, but 1 are "
        f"in {tmp_path}/test itself: 0.png. "
        "Move normal images into a subfolder named good, others into one per defect."
    )


def test_an_empty_train_folder(tmp_path):
    plant(tmp_path, "test/dent/0.png", "train/notes.txt")
    assert error_of(tmp_path) == (
        f"{tmp_path}/train must hold images, or subfolders of images, but it holds notes.txt. "
        "Give the folder that holds the images."
    )


def test_two_explicit_folders(tmp_path):
    plant(tmp_path, *(f"parts/{number}.png" for number in range(4)), "parts/old/0.png")
    plant(tmp_path, "returns/9.png", "returns/burr/7.png")
    normal, anomalous = tmp_path / "parts", tmp_path / "returns"
    kept = images(read_folders(normal, anomalous, split="train"), tmp_path)
    assert kept == ["parts/0.png", "parts/1.png", "parts/2.png", "parts/old/0.png"]
    assert listed(read_folders(normal, anomalous, split="test"), tmp_path) == [
        ("parts/3.png", NORMAL, None),
        ("returns/9.png", "anomaly", None),
        ("returns/burr/7.png", "burr", None),
    ]
    assert len(read_folders(normal, split="train")) == 5


def test_two_explicit_folders_of_which_one_is_empty(tmp_path):
    plant(tmp_path, "parts/0.png")
    with pytest.raises(DatasetError) as caught:
        read_folders(tmp_path / "parts", tmp_path / "returns", split="train")
    assert str(caught.value) == (
        f"{tmp_path}/returns must hold images, but it does not exist. "
        "Give the folder that holds the images."
    )
    with pytest.raises(DatasetError, match="A test split needs images of defects"):
        read_folders(tmp_path / "parts", split="test")


paths = st.lists(st.from_regex(r"[a-z]{1,6}\.png", fullmatch=True), unique=True)


@given(normal=paths, data=st.data())
def test_held_out_and_kept_images_are_all_normal_images_in_whatever_order(normal, data):
    samples = [Sample(Path(name), NORMAL) for name in normal] + [Sample(Path("!"), "dent")]
    shuffled = data.draw(st.permutations(samples))
    train, test = hold_out(shuffled, "train"), hold_out(shuffled, "test")
    assert sorted(train + test, key=str) == sorted(samples, key=str)
    assert not any(sample.is_anomalous for sample in train)
    assert len(test) == 1 + len(normal) // 4
    assert (train, test) == (hold_out(samples, "train"), hold_out(samples, "test"))
