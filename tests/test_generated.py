import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import InputError, OutputError
from blemish.generated import PRODUCTS, draw_product, write_product
from blemish.products import draw_fabric, draw_plate

KINDS = [(product, defect) for product, defects in PRODUCTS.items() for defect in defects]
DRAW = {"plate": draw_plate, "fabric": draw_fabric}
SMALL = {"train": 2, "good": 1, "defective": 1, "size": (64, 80)}


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_folder_follows_the_layout_of_mvtec(tmp_path):
    write_product(tmp_path / "plate", **SMALL)
    defects = sorted(PRODUCTS["plate"])
    assert sorted(digests(tmp_path / "plate")) == sorted(
        ["test/good/000.png", "train/good/000.png", "train/good/001.png"]
        + [f"test/{defect}/000.png" for defect in defects]
        + [f"ground_truth/{defect}/000_mask.png" for defect in defects]
    )
    image = cv2.imread(str(tmp_path / "plate/train/good/000.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (64, 80, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., ::-1], draw_product("plate", size=(64, 80)).image)
    mask = cv2.imread(str(tmp_path / "plate/ground_truth/stain/000_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (64, 80) and set(np.unique(mask)) == {0, 255}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_product(tmp_path / name, seed=seed, **SMALL)
    first, second, other = (digests(tmp_path / name) for name in "abc")
    assert first == second
    assert len(set(first.values())) == len(first), "two images are the same"
    assert not set(first.values()) & set(other.values())


def test_more_images_leave_the_first_ones_as_they_are(tmp_path):
    write_product(tmp_path / "few", **SMALL)
    write_product(tmp_path / "many", **{**SMALL, "train": 3, "good": 2, "defective": 2})
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    assert len(many) > len(few)
    assert few.items() <= many.items()


def test_an_image_does_not_depend_on_the_global_generator():
    np.random.seed(0)  # noqa: NPY002
    first = draw_product("plate", size=(64, 64)).image
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(draw_product("plate", size=(64, 64)).image, first)


@pytest.mark.parametrize(("product", "defect"), KINDS)
def test_every_defect_can_be_seen_and_covers_a_small_part(product, defect):
    for index in range(3):
        drawing = draw_product(product, split="test", defect=defect, index=index, size=(128, 128))
        assert 4 <= drawing.mask.sum() <= 0.15 * drawing.mask.size


@pytest.mark.parametrize(("product", "defect"), KINDS)
def test_a_defective_part_equals_its_good_twin_but_for_the_defect(product, defect):
    """The normal variation must not change with the defect, or the mask would hold it too."""
    for chance in range(8):  # enough to meet every missing part and every misprint

        def draw(which, chance=chance):
            return DRAW[product](
                (96, 128), np.random.default_rng(5), which, np.random.default_rng(chance)
            )

        change = np.abs(draw(defect) - draw(None)).max(axis=-1)
        assert change.max() > 5 / 255
        assert (change > 0).mean() < 0.2, "the rest of the part is not the same"


def test_the_mask_is_where_the_part_changed(monkeypatch):
    """Oracle: a defect of our own, a bright square of known place."""

    def draw(size, normal, defect, defective):
        image = np.full((*size, 3), normal.uniform(0.4, 0.6), np.float32)
        if defect:
            image[20:30, 40:60] += 0.2
        return image

    monkeypatch.setattr("blemish.generated._PRODUCTS", {"plate": (draw, ("square",))})
    expected = np.zeros((64, 96), bool)
    expected[20:30, 40:60] = True
    drawing = draw_product("plate", defect="square", size=(64, 96))
    np.testing.assert_array_equal(drawing.mask, expected)


def test_good_parts_have_an_empty_mask_and_vary_from_one_to_the_next():
    drawings = [draw_product("plate", index=index, size=(128, 128)) for index in range(8)]
    assert not any(drawing.mask.any() for drawing in drawings)
    spread = np.stack([drawing.image for drawing in drawings]).std(axis=0).mean()
    assert 2 < spread < 20  # grey levels: more than noise, and still the same part


@settings(max_examples=10, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(64, 120), st.integers(64, 120)),
    seed=st.integers(0, 2**64),
    index=st.integers(0, 10_000),
)
def test_any_size_and_seed_can_be_drawn(kind, size, seed, index):
    drawing = draw_product(kind[0], seed=seed, defect=kind[1], index=index, size=size)
    assert drawing.image.shape == (*size, 3) and drawing.mask.shape == size
    assert drawing.image.std() > 5


def test_progress_counts_every_image(tmp_path):
    seen = []
    write_product(
        tmp_path / "a",
        product="fabric",
        **SMALL,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 8) for number in range(1, 9)]


def test_an_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path):
    write_product(tmp_path, **SMALL)
    before = digests(tmp_path)
    with pytest.raises(OutputError) as caught:
        write_product(tmp_path, seed=1, **SMALL)
    assert str(caught.value) == (
        f"{tmp_path} must be empty or missing, but holds files. "
        "Name another folder, or remove this one."
    )
    assert digests(tmp_path) == before


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(OutputError) as caught:
        write_product(path, **SMALL)
    assert str(caught.value) == f"{path} must be a folder, but is a file. Name another folder."
    assert path.read_text() == "mine"


@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_write_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, existing):
    folder = tmp_path / "plate"
    if existing:
        folder.mkdir()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError) as caught:
        write_product(folder, **SMALL)
    assert str(caught.value) == (
        f"{folder} must be a folder that can be written, but writing the images failed: "
        "No space left on device. Name another folder, or make room."
    )
    assert list(tmp_path.rglob("*")) == ([folder] if existing else [])


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def stop(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_product(tmp_path / "plate", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (
            {"product": "car"},
            "product must be one of plate, fabric, but is car. Choose one of these.",
        ),
        (
            {"size": (32, 256)},
            "size must be at least 64 x 64, but is 32 x 256. Smaller parts would show no defect.",
        ),
        ({"seed": -1}, "seed must be at least 0, but is -1. Give 0 or more."),
        ({"train": -1}, "train must be at least 0, but is -1. Give 0 or more."),
        ({"good": -2}, "good must be at least 0, but is -2. Give 0 or more."),
        ({"defective": -3}, "defective must be at least 0, but is -3. Give 0 or more."),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_written(tmp_path, settings_, message):
    with pytest.raises(InputError) as caught:
        write_product(tmp_path / "new", **settings_)
    assert str(caught.value) == message
    assert not (tmp_path / "new").exists()


def test_an_unknown_defect_is_an_error():
    with pytest.raises(InputError) as caught:
        draw_product("fabric", defect="rust")
    assert str(caught.value) == (
        "A defect of fabric must be good or one of broken_thread, contamination, hole, snag, "
        "stain, but is rust. Choose one of these."
    )
