"""VisA, KolektorSDD, KolektorSDD2 and ShanghaiTech Campus."""

import numpy as np
import pytest

from blemish.datasets import (
    NORMAL,
    Sample,
    detect_layout,
    read_dataset,
    read_kolektorsdd,
    read_kolektorsdd2,
    read_shanghaitech,
    read_visa,
)
from blemish.errors import DatasetError
from blemish.images import read_image
from made_up_trees import images, listed, plant, plant_mask, plant_table
from made_up_videos import write_video


def error_of(read, root, split="test", **settings):
    with pytest.raises(DatasetError) as caught:
        read(root, split=split, **settings)
    return str(caught.value)


# VisA ----------------------------------------------------------------------------------------

VISA_HEADER = "object,split,label,image,mask"
VISA_LINES = (
    "candle,train,normal,candle/Data/Images/Normal/0836.JPG,",
    "candle,train,normal,candle/Data/Images/Normal/0451.JPG,",
    "candle,test,normal,candle/Data/Images/Normal/0002.JPG,",
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    "candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png",
    "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,",
)


@pytest.fixture
def visa(tmp_path):
    root = tmp_path / "VisA"
    plant_table(root / "split_csv/1cls.csv", VISA_HEADER, *VISA_LINES)
    for line in VISA_LINES:
        plant(root, *(path for path in line.split(",")[3:] if path))
    return root


def test_visa_follows_its_split_file(visa):
    train = read_visa(visa, split="train", category="candle")
    folder = visa / "candle/Data/Images/Normal"
    assert train == [
        Sample(folder / "0451.JPG", NORMAL, category="candle"),
        Sample(folder / "0836.JPG", NORMAL, category="candle"),
    ]
    assert listed(read_visa(visa, split="test", category="candle"), visa / "candle/Data") == [
        ("Images/Anomaly/000.JPG", "anomaly", "Masks/Anomaly/000.png"),
        ("Images/Anomaly/001.JPG", "anomaly", "Masks/Anomaly/001.png"),
        ("Images/Normal/0002.JPG", NORMAL, None),
    ]


def test_visa_takes_the_names_of_defects_from_the_list_of_the_category(visa):
    path = visa / "candle/image_anno.csv"
    path.write_text(
        "image,label,mask\n"
        "candle/Data/Images/Normal/0002.JPG,normal,\n"
        'candle/Data/Images/Anomaly/000.JPG,"melt,wax missing",candle/Data/Masks/Anomaly/000.png\n'
    )
    samples = read_visa(visa, split="test", category="candle")
    assert [sample.defect for sample in samples] == ["melt,wax missing", "anomaly", NORMAL]


def test_visa_reads_the_folder_of_a_category(visa):
    from_dataset = read_visa(visa, split="test", category="candle")
    from_category = read_visa(visa / "candle", split="test")
    assert [sample.image for sample in from_category] == [sample.image for sample in from_dataset]


def test_visa_without_a_choice_of_category(visa):
    assert error_of(read_visa, visa) == (
        f"One category must be chosen, but {visa} holds 2: candle, pcb1. "
        "Name one of them, or give its folder."
    )


def test_visa_without_its_split_file(visa):
    (visa / "split_csv/1cls.csv").unlink()
    assert error_of(read_visa, visa) == (
        f"{visa} must hold split_csv/1cls.csv, but it holds candle, pcb1, split_csv. "
        "Download the dataset again, or copy the file from the authors' repository."
    )


@pytest.mark.parametrize(("column", "place"), [("image", "Images"), ("mask", "Masks")])
def test_visa_without_a_file_that_the_split_names(visa, column, place):
    file = next((visa / "candle/Data" / place / "Anomaly").glob("001.*"))
    file.unlink()
    assert error_of(read_visa, visa, category="candle") == (
        f"Line 6 of {visa}/split_csv/1cls.csv must name an existing {column}, "
        f"but {file} is missing. Download the dataset again."
    )


def test_visa_with_a_broken_split_file(visa):
    path = visa / "split_csv/1cls.csv"
    plant_table(path, VISA_HEADER, "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,")
    assert error_of(read_visa, visa) == (
        f"Line 2 of {path} must name an existing mask, but the cell is empty. "
        "Download the dataset again."
    )
    assert error_of(read_visa, visa, "train") == (
        f"{path} must list images of 'candle' for the split 'train', but lists none. "
        "Restore the file."
    )
    plant_table(path, VISA_HEADER, "candle,test,good,candle/Data/Images/Normal/0002.JPG,")
    assert error_of(read_visa, visa) == (
        f"Line 2 of {path} must have the split train or test and the label normal or anomaly, "
        "but has 'test' and 'good'. Restore the file."
    )
    plant_table(path, "object,split,image,mask", "candle,test,0002.JPG,")
    assert error_of(read_visa, visa) == (
        f"{path} must have the columns object, split, label, image, mask, but has no label: "
        "its columns are object, split, image, mask. Add or rename it in the first line."
    )


# KolektorSDD and KolektorSDD2 ------------------------------------------------------------------


@pytest.fixture
def kolektorsdd(tmp_path):
    """Five items of two parts; Part1 of kos01 and kos04 are defective."""
    root = tmp_path / "KolektorSDD"
    for item in range(1, 6):
        for part in range(2):
            plant(root, f"kos0{item}/Part{part}.jpg")
            mask = root / f"kos0{item}/Part{part}_label.bmp"
            plant_mask(mask, defective=part == 1 and item in (1, 4))
    return root


def test_kolektorsdd_keeps_every_fourth_item_for_testing(kolektorsdd):
    train = read_kolektorsdd(kolektorsdd, split="train")
    assert {sample.defect for sample in train} == {NORMAL}
    assert images(train, kolektorsdd) == [
        "kos01/Part0.jpg",
        "kos02/Part0.jpg",
        "kos02/Part1.jpg",
        "kos03/Part0.jpg",
        "kos03/Part1.jpg",
        "kos05/Part0.jpg",
        "kos05/Part1.jpg",
    ]
    assert listed(read_kolektorsdd(kolektorsdd, split="test"), kolektorsdd) == [
        ("kos01/Part1.jpg", "defect", "kos01/Part1_label.bmp"),
        ("kos04/Part0.jpg", NORMAL, None),
        ("kos04/Part1.jpg", "defect", "kos04/Part1_label.bmp"),
    ]


def test_kolektorsdd_with_a_lost_mask(kolektorsdd):
    (kolektorsdd / "kos02/Part1_label.bmp").unlink()
    assert error_of(read_kolektorsdd, kolektorsdd) == (
        f"{kolektorsdd}/kos02/Part1.jpg must have one mask, named Part1_label, "
        "but there is none. Restore it, or take the image out of the dataset."
    )


def test_kolektorsdd_with_two_masks_of_one_image(kolektorsdd):
    plant_mask(kolektorsdd / "kos02/Part1_label.png", defective=False)
    assert error_of(read_kolektorsdd, kolektorsdd) == (
        f"{kolektorsdd}/kos02/Part1.jpg must have one mask, named Part1_label, "
        "but Part1_label.bmp, Part1_label.png. "
        "Restore it, or take the image out of the dataset."
    )


def test_kolektorsdd_where_something_else_lies(tmp_path):
    plant(tmp_path, "kos01/Part0.jpg")
    assert error_of(read_kolektorsdd, tmp_path) == (
        f"{tmp_path} must hold folders (kos01) with images (Part0.jpg) and masks "
        "(Part0_label.bmp) for the split 'test', but it holds kos01. "
        "Give the folder of the dataset."
    )


@pytest.fixture
def kolektorsdd2(tmp_path):
    """Of two images in each split the second is defective; and the archive's duplicate."""
    root = tmp_path / "KolektorSDD2"
    for split, first in (("train", 10300), ("test", 20000)):
        for number in (first, first + 1):
            plant(root, f"{split}/{number}.png")
            plant_mask(root / f"{split}/{number}_GT.png", defective=number > first)
    return plant(root, "train/10301 (copy).png", "train/10301_GT (copy).png")


def test_kolektorsdd2_trains_on_the_normal_training_images(kolektorsdd2):
    assert listed(read_kolektorsdd2(kolektorsdd2, split="train"), kolektorsdd2) == [
        ("train/10300.png", NORMAL, None)
    ]
    assert listed(read_kolektorsdd2(kolektorsdd2, split="test"), kolektorsdd2) == [
        ("test/20000.png", NORMAL, None),
        ("test/20001.png", "defect", "test/20001_GT.png"),
    ]


def test_kolektorsdd2_where_something_else_lies(kolektorsdd):
    assert error_of(read_kolektorsdd2, kolektorsdd) == (
        f"{kolektorsdd}/test must hold images (10301.png) and masks (10301_GT.png), "
        "but it does not exist. Give the folder that holds train and test."
    )


# ShanghaiTech Campus ---------------------------------------------------------------------------


@pytest.fixture
def shanghaitech(tmp_path):
    """Scene 01 with a training and a test clip of three frames, and scene 13 without test."""
    root = tmp_path / "shanghaitech"
    clips = ("training/frames/01_001", "training/frames/13_001", "testing/frames/01_0014")
    for clip in clips:
        plant(root, *(f"{clip}/{number:03}.jpg" for number in range(3)))
    plant_clip_masks(root, [0, 1, 0])
    return root


def plant_clip_masks(root, is_anomalous, pixel_shape=(2, 4)):
    frame_file = root / "testing/test_frame_mask/01_0014.npy"
    pixel_file = root / "testing/test_pixel_mask/01_0014.npy"
    plant(root, frame_file, pixel_file)
    masks = np.zeros((len(is_anomalous), *pixel_shape), np.uint8)
    masks[:, 0, 1] = is_anomalous
    np.save(frame_file, np.array(is_anomalous))
    np.save(pixel_file, masks)


def test_shanghaitech_gives_each_frame_the_mask_of_its_number(shanghaitech):
    clip = shanghaitech / "testing/frames/01_0014"
    masks = shanghaitech / "testing/test_pixel_mask/01_0014.npy"
    assert read_shanghaitech(shanghaitech, split="test", category="01") == [
        Sample(clip / "000.jpg", NORMAL, category="01", clip="01_0014"),
        Sample(clip / "001.jpg", "anomaly", masks, mask_frame=1, category="01", clip="01_0014"),
        Sample(clip / "002.jpg", NORMAL, category="01", clip="01_0014"),
    ]


def test_shanghaitech_trains_on_one_scene(shanghaitech):
    samples = read_shanghaitech(shanghaitech, split="train", category="13")
    assert listed(samples, shanghaitech / "training/frames") == [
        (f"13_001/00{number}.jpg", NORMAL, None) for number in range(3)
    ]
    assert error_of(read_shanghaitech, shanghaitech, "train") == (
        f"One category must be chosen, but {shanghaitech} holds 2: 01, 13. "
        "Name one of them, or give its folder."
    )


def test_shanghaitech_orders_frames_by_number(shanghaitech):
    for number in (0, 1, 2):
        (shanghaitech / f"testing/frames/01_0014/00{number}.jpg").unlink()
    plant(shanghaitech, *(f"testing/frames/01_0014/{number}.jpg" for number in range(12)))
    plant_clip_masks(shanghaitech, [0] * 10 + [1, 1])
    samples = read_shanghaitech(shanghaitech, split="test", category="01")
    assert [sample.image.stem for sample in samples] == [str(number) for number in range(12)]
    assert [sample.mask_frame for sample in samples if sample.is_anomalous] == [10, 11]


def test_shanghaitech_with_a_scene_that_has_no_test_clips(shanghaitech):
    frames = shanghaitech / "testing/frames"
    assert error_of(read_shanghaitech, shanghaitech, category="13") == (
        f"{frames} must hold clips of frames as 13_001/000.jpg, but it holds 01_0014. "
        "Restore them, or choose another scene or folder."
    )


def test_shanghaitech_takes_training_videos_as_they_are_published(shanghaitech):
    """Beside an extracted clip of the scene, and a clip that is there in both forms."""
    for clip in ("13_002", "13_001"):
        write_video(shanghaitech / f"training/videos/{clip}.avi", frames=4)
    samples = read_shanghaitech(shanghaitech, split="train", category="13")
    assert images(samples, shanghaitech / "training") == [
        *(f"frames/13_001/00{number}.jpg" for number in range(3)),
        *(f"videos/13_002.avi/00000{number}" for number in range(4)),
    ]
    assert [sample.clip for sample in samples] == ["13_001"] * 3 + ["13_002"] * 4
    assert read_image(samples[-1].image).shape == (48, 64, 3)


def test_shanghaitech_with_videos_only_is_recognised(tmp_path):
    write_video(tmp_path / "training/videos/01_001.avi", frames=3)
    (tmp_path / "testing").mkdir()
    assert detect_layout(tmp_path) == "shanghaitech"
    assert len(read_dataset(tmp_path, split="train")) == 3


@pytest.mark.parametrize("kind", ["test_frame_mask", "test_pixel_mask"])
def test_shanghaitech_with_a_lost_mask(shanghaitech, kind):
    file = shanghaitech / "testing" / kind / "01_0014.npy"
    file.unlink()
    assert error_of(read_shanghaitech, shanghaitech, category="01") == (
        f"The test clip {shanghaitech}/testing/frames/01_0014 must have masks, "
        f"but {file} is missing. Restore it, or take the clip out of the dataset."
    )


@pytest.mark.parametrize(
    ("frames", "masks", "found"),
    [
        ((0, 1), 3, "there are 2 frames from 0 to 1"),
        ((1, 2, 3), 3, "there are 3 frames from 1 to 3"),
        ((0, 1, 2), 4, "there are 3 frames from 0 to 2"),
        ((), 3, "there are no frames"),
    ],
)
def test_shanghaitech_with_frames_that_do_not_fit_their_masks(shanghaitech, frames, masks, found):
    clip = shanghaitech / "testing/frames/01_0014"
    for number in range(3):
        (clip / f"00{number}.jpg").unlink()
    plant(clip, *(f"{number}.jpg" for number in frames))
    plant_clip_masks(shanghaitech, [1] * masks)
    folder = shanghaitech / "testing"
    assert error_of(read_shanghaitech, shanghaitech, category="01") == (
        f"The frames of {clip} must be numbered from 0 and each have its masks, but {found}, "
        f"{folder}/test_frame_mask/01_0014.npy has {masks} and "
        f"{folder}/test_pixel_mask/01_0014.npy has {masks}. "
        "Download the clip and its masks again."
    )


def test_shanghaitech_with_a_frame_without_a_number(shanghaitech):
    plant(shanghaitech, "testing/frames/01_0014/preview.jpg")
    assert error_of(read_shanghaitech, shanghaitech, category="01") == (
        f"The frames of {shanghaitech}/testing/frames/01_0014 must be named by their number as "
        "000.jpg, but there are: preview.jpg. Rename or remove them."
    )


def test_shanghaitech_where_something_else_lies(tmp_path):
    assert error_of(read_shanghaitech, tmp_path) == (
        f"{tmp_path}/testing/frames must hold clips of frames as <scene>_001/000.jpg, "
        "but it does not exist. Restore them, or choose another scene or folder."
    )
