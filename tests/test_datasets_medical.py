"""Hyper-Kvasir and LAG."""

import pytest

from blemish.datasets import NORMAL, read_hyper_kvasir, read_lag
from blemish.errors import DatasetError
from made_up_trees import images, listed, plant


def error_of(read, root, split="test"):
    with pytest.raises(DatasetError) as caught:
        read(root, split=split)
    return str(caught.value)


LOWER = "labeled-images/lower-gi-tract"


@pytest.fixture
def hyper_kvasir(tmp_path):
    root = tmp_path / "hyper-kvasir"
    for number in range(3):
        plant(root, f"{LOWER}/anatomical-landmarks/cecum/{number}.jpg")
        plant(root, f"{LOWER}/quality-of-mucosal-views/bbps-2-3/{number}.jpg")
    plant(root, f"{LOWER}/anatomical-landmarks/ileum/0.jpg")
    plant(root, f"{LOWER}/pathological-findings/polyps/0.jpg")
    plant(root, f"{LOWER}/pathological-findings/hemorrhoids/0.jpg")
    return plant(root, "labeled-images/upper-gi-tract/anatomical-landmarks/pylorus/0.jpg")


def test_hyper_kvasir_takes_the_classes_of_the_paper(hyper_kvasir):
    lower = hyper_kvasir / LOWER
    assert listed(read_hyper_kvasir(hyper_kvasir, split="train"), lower) == [
        ("anatomical-landmarks/cecum/0.jpg", NORMAL, None),
        ("anatomical-landmarks/cecum/1.jpg", NORMAL, None),
        ("anatomical-landmarks/cecum/2.jpg", NORMAL, None),
        ("quality-of-mucosal-views/bbps-2-3/0.jpg", NORMAL, None),
        ("quality-of-mucosal-views/bbps-2-3/1.jpg", NORMAL, None),
        ("quality-of-mucosal-views/bbps-2-3/2.jpg", NORMAL, None),
    ]
    test = read_hyper_kvasir(hyper_kvasir, split="test")
    assert listed(test, lower) == [
        ("anatomical-landmarks/ileum/0.jpg", NORMAL, None),
        ("pathological-findings/polyps/0.jpg", "polyps", None),
    ]
    assert read_hyper_kvasir(hyper_kvasir / "labeled-images", split="test") == test


def test_hyper_kvasir_with_a_class_missing(hyper_kvasir):
    folder = hyper_kvasir / LOWER / "anatomical-landmarks/ileum"
    (folder / "0.jpg").unlink()
    for split in ("train", "test"):
        assert error_of(read_hyper_kvasir, hyper_kvasir, split) == (
            f"{folder} must hold the images of a class of Hyper-Kvasir, but it is empty. "
            "Give the folder that holds labeled-images."
        )


def test_hyper_kvasir_prefers_polyps_with_masks(hyper_kvasir):
    segmented = hyper_kvasir / "segmented-images"
    plant(segmented, "images/5.jpg", "images/6.jpg", "masks/6.jpg", "masks/5.jpg", "boxes.json")
    polyps = [s for s in read_hyper_kvasir(hyper_kvasir, split="test") if s.is_anomalous]
    assert listed(polyps, segmented) == [
        ("images/5.jpg", "polyps", "masks/5.jpg"),
        ("images/6.jpg", "polyps", "masks/6.jpg"),
    ]
    (segmented / "masks/5.jpg").unlink()
    assert error_of(read_hyper_kvasir, hyper_kvasir) == (
        f"{segmented}/images/5.jpg must have one mask of the same name, but {segmented}/masks "
        "holds 0. Restore it, or move the folder segmented-images elsewhere to do without masks."
    )


@pytest.fixture
def lag(tmp_path):
    for number in range(5):
        plant(tmp_path, f"non_glaucoma/image/{number}.jpg")
        plant(tmp_path, f"non_glaucoma/attention_map/{number}.jpg")
    plant(tmp_path, "suspicious_glaucoma/image/9.jpg", "suspicious_glaucoma/attention_map/9.jpg")
    return tmp_path


def test_lag_leaves_the_attention_maps_out(lag):
    assert images(read_lag(lag, split="train"), lag / "non_glaucoma/image") == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "4.jpg",
    ]
    assert listed(read_lag(lag, split="test"), lag) == [
        ("non_glaucoma/image/3.jpg", NORMAL, None),
        ("suspicious_glaucoma/image/9.jpg", "glaucoma", None),
    ]


def test_lag_with_a_class_missing(tmp_path):
    plant(tmp_path, "non_glaucoma/image/0.jpg")
    assert error_of(read_lag, tmp_path) == (
        f"{tmp_path}/suspicious_glaucoma/image must hold the images of a class of LAG, "
        "but it does not exist. "
        "Give the folder that holds non_glaucoma and suspicious_glaucoma."
    )
