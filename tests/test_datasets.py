"""Reading a dataset of any layout, and the masks of its samples."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from blemish.datasets import (
    LAYOUTS,
    NORMAL,
    Sample,
    categories,
    detect_layout,
    load_mask,
    read_dataset,
)
from blemish.errors import DatasetError
from made_up_trees import DATA, plant, plant_mask, plant_mvtec, plant_table

real = pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")


def plant_visa(root):
    plant(root, "candle/Data/Images/Normal/0.JPG", "candle/Data/Images/Anomaly/1.JPG")
    plant(root, "candle/Data/Masks/Anomaly/1.png")
    return plant_table(
        root / "split_csv/1cls.csv",
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/1.JPG,candle/Data/Masks/Anomaly/1.png",
    ).parents[1]


def plant_btad(root):
    plant(root, "01/train/ok/0.bmp", "01/test/ko/0.bmp")
    return plant(root, "01/ground_truth/ko/0.png")


def plant_shanghaitech(root):
    plant(root, "training/frames/01_001/000.jpg", "testing/frames/01_0014/000.jpg")
    for kind, mask in (("frame", np.ones(1)), ("pixel", np.ones((1, 2, 2)))):
        plant(root, f"testing/test_{kind}_mask/01_0014.npy")
        np.save(root / f"testing/test_{kind}_mask/01_0014.npy", mask)
    return root


def plant_hyper_kvasir(root):
    lower = "labeled-images/lower-gi-tract"
    for name in ("anatomical-landmarks/cecum", "anatomical-landmarks/ileum"):
        plant(root, f"{lower}/{name}/0.jpg")
    plant(root, f"{lower}/quality-of-mucosal-views/bbps-2-3/0.jpg")
    return plant(root, f"{lower}/pathological-findings/polyps/0.jpg")


def plant_lag(root):
    return plant(root, "non_glaucoma/image/0.jpg", "suspicious_glaucoma/image/1.jpg")


def plant_kolektorsdd(root):
    for part in range(2):
        plant(root, f"kos01/Part{part}.jpg")
        plant_mask(root / f"kos01/Part{part}_label.bmp", defective=part == 1)
    return root


def plant_kolektorsdd2(root):
    for split in ("train", "test"):
        plant(root, f"{split}/0.png")
        plant_mask(root / f"{split}/0_GT.png", defective=split == "test")
    return root


def plant_csv(root):
    plant(root, "0.png", "1.png")
    return plant_table(root / "parts.csv", "image,label", "0.png,good", "1.png,dent")


def plant_folder(root):
    return plant(root, "good/0.png", "dent/1.png")


TREES = {
    "csv": plant_csv,
    "visa": plant_visa,
    "mvtec": plant_mvtec,
    "btad": plant_btad,
    "shanghaitech": plant_shanghaitech,
    "hyper-kvasir": plant_hyper_kvasir,
    "lag": plant_lag,
    "kolektorsdd2": plant_kolektorsdd2,
    "kolektorsdd": plant_kolektorsdd,
    "folder": plant_folder,
}


def error_of(function, *arguments, **settings):
    with pytest.raises(DatasetError) as caught:
        function(*arguments, **settings)
    return str(caught.value)


def test_every_layout_has_a_tree_here():
    assert tuple(TREES) == LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_detected_and_read(tmp_path, layout):
    root = TREES[layout](tmp_path / "data")
    assert detect_layout(root) == layout
    train, test = read_dataset(root, split="train"), read_dataset(root, split="test")
    assert train and not any(sample.is_anomalous for sample in train)
    assert any(sample.is_anomalous for sample in test)
    assert not {sample.image for sample in train} & {sample.image for sample in test}
    assert all(sample.mask is None for sample in train + test if not sample.is_anomalous)
    assert read_dataset(root, split="test", layout=layout) == test


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_refuses_an_unknown_split(tmp_path, layout):
    root = TREES[layout](tmp_path / "data")
    assert error_of(read_dataset, root, split="val", layout=layout) == (
        "split must be 'train' or 'test', but is 'val'. Use one of the two."
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_forced_layout_where_it_is_not(tmp_path, layout, split):
    plant(tmp_path, "notes.txt")
    text = error_of(read_dataset, tmp_path, split=split, layout=layout)
    assert " must " in text and ", but it " in text and str(tmp_path) in text


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("visa", ["candle"]),
        ("mvtec", ["bottle"]),
        ("btad", ["01"]),
        ("shanghaitech", ["01"]),
        ("lag", []),
        ("csv", []),
    ],
)
def test_categories_are_listed(tmp_path, layout, expected):
    root = TREES[layout](tmp_path / "data")
    assert categories(root) == categories(root, layout) == expected
    for category in expected:
        assert read_dataset(root, split="train", category=category)


@pytest.mark.parametrize("layout", ["visa", "mvtec", "btad"])
def test_the_folder_of_a_category_is_detected(tmp_path, layout):
    root = TREES[layout](tmp_path / "data")
    [category] = categories(root)
    assert detect_layout(root / category) == layout
    assert categories(root / category) == [category]
    train = read_dataset(root / category, split="train")
    assert train == read_dataset(root, split="train", category=category)


def test_a_plain_folder_of_images_is_all_good(tmp_path):
    plant(tmp_path, "0.png", "1.JPG")
    assert detect_layout(tmp_path) == "folder"
    assert [sample.defect for sample in read_dataset(tmp_path, split="train")] == [NORMAL, NORMAL]


def test_mvtec_without_masks_reads_as_a_folder(tmp_path):
    root = plant_mvtec(tmp_path) / "bottle"
    for mask in (root / "ground_truth/crack").iterdir():
        mask.unlink()
    assert "choose the layout 'folder'" in error_of(read_dataset, root, split="test")
    samples = read_dataset(root, split="test", layout="folder")
    assert [(sample.defect, sample.mask) for sample in samples] == [
        ("crack", None),
        ("crack", None),
        (NORMAL, None),
    ]


def test_train_and_test_folders_without_good_are_a_folder(tmp_path):
    plant(tmp_path, "train/0.png", "test/dent/0.png")
    assert detect_layout(tmp_path) == "folder"


def test_nothing_that_is_known(tmp_path):
    plant(tmp_path, "b/c/0.png", "b/d/0.png")
    assert error_of(detect_layout, tmp_path / "b") == (
        f"{tmp_path}/b must hold images, a subfolder of images named good, or one of the datasets "
        "visa, mvtec, btad, shanghaitech, hyper-kvasir, lag, kolektorsdd2, kolektorsdd, but it "
        "holds c, d. Give another folder, or force a layout to see what it lacks."
    )


FORMATS = "only of .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp"


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("none", "does not exist. Check the path."),
        ("none.png", "does not exist. Check the path."),
        ("none.csv", "does not exist. Check the path."),
        ("photo.png", "is a file. Give the folder that holds the images."),
        ("a.txt", "is a file. Give the folder that holds the images."),
        (
            "x.GIF",
            f"is a file; and images of the format .gif are not supported, {FORMATS}. "
            "Convert the images, and give their folder.",
        ),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_neither_a_folder_nor_a_csv_file(tmp_path, name, rest, split):
    plant(tmp_path, "photo.png", "a.txt", "x.GIF")
    path = tmp_path / name
    for root in (path, str(path)):
        assert error_of(read_dataset, root, split=split) == (
            f"{path} must be a folder of images or a CSV file, but {rest}"
        )


def test_a_folder_of_images_that_cannot_be_read(tmp_path):
    plant(tmp_path, "0.heic", "1.HEIC", "2.jp2", "notes.txt")
    assert (
        "but it holds 0.heic, 1.HEIC, 2.jp2, notes.txt (images of the formats .heic, .jp2 are not "
        f"supported, {FORMATS}). Give another folder"
    ) in error_of(detect_layout, tmp_path)


@pytest.mark.parametrize("name", ["mvtec", "btad", "plain"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_of_a_dataset_is_refused_unless_forced(tmp_path, name, part, monkeypatch):
    normal = {"mvtec": "good", "btad": "ok", "plain": "Normal"}[name]
    whole = plant(
        tmp_path / "cup",
        f"train/{normal}/0.png",
        *(f"test/{normal}/{number}.png" for number in range(4)),
        "test/dent/0.png",
    )
    expected = (
        f"{{}} must be a whole data set, but is a part of the one in {whole}. "
        f"Give {whole}, or force the layout 'folder' to take the part alone."
    )
    assert error_of(read_dataset, whole / part, split="train") == expected.format(whole / part)
    monkeypatch.chdir(whole / part)
    assert error_of(detect_layout, Path()) == expected.format(".")
    assert read_dataset(whole / part, split="train", layout="folder")
    assert read_dataset(whole, split="train")


def test_a_folder_called_test_is_a_whole_one_where_nothing_lies_beside_it(tmp_path):
    plant(tmp_path, "test/good/0.png", "train.txt", "other/good/0.png")
    assert len(read_dataset(tmp_path / "test", split="train")) == 1
    plant(tmp_path / "b", "train/good/0.png", "train/dent/0.png")
    assert len(read_dataset(tmp_path / "b" / "train", split="train")) == 1


def test_an_unknown_layout(tmp_path):
    for function in (
        categories,
        lambda root, layout: read_dataset(root, split="train", layout=layout),
    ):
        assert error_of(function, tmp_path, "coco") == (
            "layout must be one of csv, visa, mvtec, btad, shanghaitech, hyper-kvasir, lag, "
            "kolektorsdd2, kolektorsdd, folder, but is 'coco'. "
            "Choose one, or leave it out to have it detected."
        )


def test_a_category_of_a_layout_without_categories(tmp_path):
    plant(tmp_path, "0.png")
    assert error_of(read_dataset, tmp_path, split="train", category="bottle") == (
        "Only a dataset with categories can be asked for the category 'bottle', "
        f"but {tmp_path} has the layout 'folder', which has none. Leave the category out."
    )


def test_samples_cross_processes(tmp_path):
    sample = Sample(tmp_path / "0.png", "dent", tmp_path / "0.npy", mask_frame=3, category="x")
    assert pickle.loads(pickle.dumps(sample)) == sample
    assert sample.is_anomalous and not Sample(tmp_path, NORMAL).is_anomalous


# masks -----------------------------------------------------------------------------------------


def test_a_sample_without_a_mask_has_none(tmp_path):
    assert load_mask(Sample(tmp_path / "0.png", NORMAL)) is None
    assert load_mask(Sample(tmp_path / "0.png", "dent")) is None


def test_a_mask_is_true_where_the_defect_is(tmp_path):
    expected = plant_mask(tmp_path / "0_mask.png", defective=True)
    mask = load_mask(Sample(tmp_path / "0.png", "dent", tmp_path / "0_mask.png"))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32])
def test_a_mask_of_a_clip_is_that_of_its_frame(tmp_path, dtype):
    masks = np.random.default_rng(0).integers(0, 2, (4, 3, 5)).astype(dtype)
    np.save(tmp_path / "clip.npy", masks)
    for frame in range(4):
        sample = Sample(tmp_path / "0.jpg", "anomaly", tmp_path / "clip.npy", mask_frame=frame)
        mask = load_mask(sample)
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, masks[frame] > 0)


@pytest.mark.parametrize("frame", [-1, 4])
def test_a_frame_that_has_no_mask(tmp_path, frame):
    np.save(tmp_path / "clip.npy", np.zeros((4, 3, 5)))
    sample = Sample(tmp_path / "0.jpg", "anomaly", tmp_path / "clip.npy", mask_frame=frame)
    assert error_of(load_mask, sample) == (
        f"{tmp_path}/clip.npy must have a mask for frame {frame}, but has 4 masks, "
        "counted from 0. Download the dataset again."
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (np.zeros((3, 5)), "float64 of shape (3, 5)"),
        (np.full((1, 3, 5), "x"), "<U1 of shape (1, 3, 5)"),
    ],
)
def test_a_clip_of_other_masks(tmp_path, content, found):
    np.save(tmp_path / "clip.npy", content)
    sample = Sample(tmp_path / "0.jpg", "anomaly", tmp_path / "clip.npy", mask_frame=0)
    assert error_of(load_mask, sample) == (
        f"{tmp_path}/clip.npy must be a NumPy file of numbers of shape (frames, H, W), "
        f"but holds {found}. Download the dataset again."
    )


def save_objects(path):
    np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)


def save_archive(path):
    with path.open("wb") as file:
        np.savez(file, masks=np.zeros((1, 2, 2)))


def save_half(path):
    np.save(path, np.zeros((4, 3, 5)))
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    "save", [save_objects, save_archive, save_half, lambda path: path.touch(), lambda path: None]
)
def test_a_damaged_clip_of_masks(tmp_path, save):
    save(tmp_path / "clip.npy")
    sample = Sample(tmp_path / "0.jpg", "anomaly", tmp_path / "clip.npy", mask_frame=0)
    text = error_of(load_mask, sample)
    assert text.startswith(
        f"{tmp_path}/clip.npy must be a NumPy file of shape (frames, H, W), but cannot be read: "
    )
    assert text.endswith(". Download the dataset again.")


# real data -------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("root", "category", "train", "test"),
    [
        (
            "mvtec",
            "bottle",
            209,
            {NORMAL: 20, "broken_large": 20, "broken_small": 22, "contamination": 21},
        ),
        (
            "mvtec/hazelnut_reduced",
            None,
            50,
            {NORMAL: 2, "crack": 2, "cut": 2, "hole": 2, "print": 2},
        ),
        ("kolektorsdd_small", None, 60, {NORMAL: 20, "crack": 20}),
    ],
)
def test_real_datasets_have_their_published_counts(root, category, train, test):
    assert detect_layout(DATA / root) == "mvtec"
    assert len(read_dataset(DATA / root, split="train", category=category)) == train
    samples = read_dataset(DATA / root, split="test", category=category)
    assert Counter(sample.defect for sample in samples) == test
    for sample in samples:
        assert (sample.mask is not None) == sample.is_anomalous
        assert sample.mask is None or sample.image.stem in sample.mask.stem


@real
def test_real_screws_are_found_from_either_folder():
    assert categories(DATA / "mvtec") == ["bottle", "hazelnut_reduced", "screw"]
    samples = read_dataset(DATA / "mvtec" / "screw", split="test")
    assert samples == read_dataset(DATA / "mvtec", split="test", category="screw")
    assert Counter(sample.is_anomalous for sample in samples) == {False: 41, True: 119}


@real
def test_a_real_folder_of_full_images_is_all_good():
    samples = read_dataset(DATA / "full_resolution" / "bottle", split="train")
    assert [sample.defect for sample in samples] == [NORMAL] * 16


@real
def test_a_real_mask_marks_a_part_of_the_image():
    sample = read_dataset(DATA / "mvtec" / "bottle", split="test")[0]
    mask = load_mask(sample)
    assert mask.shape == (256, 256)
    assert 0 < mask.mean() < 0.5
