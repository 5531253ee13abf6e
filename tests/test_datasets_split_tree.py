"""MVTec AD, MPDD and BTAD: train/<normal>, test/<defect>, ground_truth/<defect>."""

import pytest

from blemish.datasets import NORMAL, read_btad, read_mvtec
from blemish.errors import DatasetError
from made_up_trees import images, listed, plant, plant_mvtec


@pytest.fixture
def mvtec(tmp_path):
    return plant_mvtec(plant_mvtec(tmp_path / "mvtec"), "screw")


@pytest.fixture
def bottle(mvtec):
    return mvtec / "bottle"


def error_of(root, split="test", category=None, read=read_mvtec):
    with pytest.raises(DatasetError) as caught:
        read(root, split=split, category=category)
    return str(caught.value)


def test_training_sees_only_train_good(mvtec):
    samples = read_mvtec(mvtec, split="train", category="bottle")
    assert listed(samples, mvtec) == [
        ("bottle/train/good/000.png", NORMAL, None),
        ("bottle/train/good/001.png", NORMAL, None),
        ("bottle/train/good/002.png", NORMAL, None),
    ]
    assert {sample.category for sample in samples} == {"bottle"}


def test_test_images_have_their_defect_and_mask(mvtec):
    samples = read_mvtec(mvtec, split="test", category="bottle")
    assert listed(samples, mvtec) == [
        ("bottle/test/crack/000.png", "crack", "bottle/ground_truth/crack/000_mask.png"),
        ("bottle/test/crack/001.png", "crack", "bottle/ground_truth/crack/001_mask.png"),
        ("bottle/test/good/000.png", NORMAL, None),
    ]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_folder_of_the_category_reads_like_the_folder_of_the_dataset(mvtec, split):
    from_dataset = read_mvtec(mvtec, split=split, category="bottle")
    assert read_mvtec(mvtec / "bottle", split=split) == from_dataset
    assert read_mvtec(mvtec / "bottle", split=split, category="bottle") == from_dataset


def test_the_category_of_the_current_folder_has_its_name(bottle, monkeypatch):
    monkeypatch.chdir(bottle)
    [*_, last] = read_mvtec(bottle.__class__("."), split="train")
    assert last.category == "bottle"


def test_a_single_category_need_not_be_named(tmp_path):
    plant_mvtec(tmp_path, "screw")
    assert {sample.category for sample in read_mvtec(tmp_path, split="test")} == {"screw"}


def test_any_image_suffix_is_read_and_other_files_are_not(bottle):
    plant(bottle, "train/good/003.JPG", "train/good/004.tiff", "train/good/notes.txt")
    plant(bottle, "train/good/.DS_Store", "train/good/._000.png")
    found = images(read_mvtec(bottle, split="train"), bottle / "train" / "good")
    assert found == ["000.png", "001.png", "002.png", "003.JPG", "004.tiff"]


def test_masks_are_found_by_name_and_not_by_place(bottle):
    plant(bottle, "test/crack/0005.bmp", "ground_truth/crack/0005.png")
    plant(bottle, "ground_truth/crack/0000_mask.png")  # belongs to no image
    masks = [sample.mask.name for sample in read_mvtec(bottle, split="test") if sample.mask]
    assert masks == ["000_mask.png", "0005.png", "001_mask.png"]


def test_a_lost_mask_is_an_error(bottle):
    (bottle / "ground_truth/crack/000_mask.png").unlink()
    assert error_of(bottle) == (
        f"{bottle}/test/crack/000.png must have a mask, but {bottle}/ground_truth/crack holds "
        "no 000_mask.png. Restore it, or take the image out of the dataset; "
        "to evaluate without masks, choose the layout 'folder'."
    )
    assert len(read_mvtec(bottle, split="train")) == 3  # training needs no masks


def test_two_masks_of_one_image_are_an_error(bottle):
    plant(bottle, "ground_truth/crack/000.png")
    assert error_of(bottle) == (
        f"{bottle}/test/crack/000.png must have one mask, but {bottle}/ground_truth/crack holds "
        "2: 000_mask.png, 000.png. Remove all but one."
    )


def test_several_categories_and_none_chosen(mvtec):
    assert error_of(mvtec) == (
        f"One category must be chosen, but {mvtec} holds 2: bottle, screw. "
        "Name one of them, or give its folder."
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_unknown_category(mvtec, split):
    assert error_of(mvtec, split, "cable") == (
        f"category must be one of those in {mvtec}, but 'cable' is not. "
        "Choose one of: bottle, screw."
    )


def test_another_category_than_the_folder(bottle):
    assert error_of(bottle, category="screw") == (
        f"category must be one of those in {bottle}, but 'screw' is not. Choose one of: bottle."
    )


def test_another_tree(tmp_path):
    plant(tmp_path, "a/1.png", "b/2.png")
    assert error_of(tmp_path) == (
        f"{tmp_path} must hold train/good, or folders (categories) that do, but it holds a, b. "
        "Is this the folder of the dataset or of one category?"
    )


@pytest.mark.parametrize(("make", "found"), [("mkdir", "it is empty"), ("touch", "it is a file")])
def test_nothing_there(tmp_path, make, found):
    root = tmp_path / "nothing"
    assert "but it does not exist." in error_of(root)
    getattr(root, make)()
    assert f"but {found}." in error_of(root)


def test_a_split_without_images(bottle):
    for image in (bottle / "train/good").iterdir():
        image.unlink()
    plant(bottle, "train/good/notes.txt")
    assert error_of(bottle, "train") == (
        f"{bottle}/train must hold images as good/<name>.png, but there are none: it holds good. "
        "Restore the images, or give another folder."
    )


def test_images_beside_the_folders(bottle):
    plant(bottle, "test/007.png")
    assert error_of(bottle) == (
        f"Images must be in {bottle}/test/<defect>, but 1 are in {bottle}/test itself: 007.png. "
        "Move them."
    )


def test_defects_among_the_training_images(bottle):
    plant(bottle, "train/crack/000.png")
    assert error_of(bottle, "train") == (
        f"{bottle}/train must hold only 'good', since training uses normal images alone, "
        f"but also holds crack. Move them to {bottle}/test."
    )


def test_an_unknown_split(bottle):
    assert error_of(bottle, "validation") == (
        "split must be 'train' or 'test', but is 'validation'. Use one of the two."
    )


def test_a_folder_that_may_not_be_read(bottle, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(bottle), "iterdir", refuse)
    assert error_of(bottle) == (
        f"{bottle}/test must be readable, but the system says: Permission denied. "
        "Check its permissions."
    )


@pytest.fixture
def btad(tmp_path):
    return plant(
        tmp_path / "btad",
        "01/train/ok/0000.bmp",
        "01/test/ok/0001.bmp",
        "01/test/ko/0000.bmp",
        "01/ground_truth/ko/0000.png",
        "03/train/ok/0000.bmp",
        "03/test/ko/0400.bmp",
        "03/ground_truth/ko/0400.bmp",
    )


def test_btad_masks_may_have_another_suffix_than_their_images(btad):
    assert listed(read_btad(btad, split="test", category="01"), btad) == [
        ("01/test/ko/0000.bmp", "ko", "01/ground_truth/ko/0000.png"),
        ("01/test/ok/0001.bmp", NORMAL, None),
    ]
    assert listed(read_btad(btad / "03", split="test"), btad) == [
        ("03/test/ko/0400.bmp", "ko", "03/ground_truth/ko/0400.bmp")
    ]


def test_btad_trains_on_ok(btad):
    [sample] = read_btad(btad, split="train", category="01")
    assert (sample.defect, sample.category, sample.mask) == (NORMAL, "01", None)


def test_btad_where_mvtec_lies(mvtec):
    assert error_of(mvtec, read=read_btad) == (
        f"{mvtec} must hold train/ok, or folders (categories) that do, "
        "but it holds bottle, screw. Is this the folder of the dataset or of one category?"
    )
