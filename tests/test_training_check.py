"""What a check of training images names, and what it leaves in peace."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import NotFittedError, OutputError
from blemish.image_statistics import image_statistics
from blemish.records import digests_of
from blemish.training_check.check import check_lines, check_model, check_summary, check_training
from blemish.training_check.copies import copies_among, thumbnails_of
from blemish.training_check.report import check_csv, write_check
from blemish.training_check.suspicion import REASONS, Suspicion, by_sizes, by_statistics
from image_files import pillow_bytes
from small_models import good_image, good_images, small_model, spoiled_image
from test_robust import spotted_image

pytestmark = pytest.mark.usefixtures("in_f32")


def inputs_of(images):
    return np.stack([image.transpose(2, 0, 1) / np.float32(255) for image in images])


def copies_of(images):
    inputs = inputs_of(images)
    return copies_among(thumbnails_of(inputs), digests_of(inputs))


def saved_again(image, quality=90):
    return np.asarray(Image.open(io.BytesIO(pillow_bytes(image, "JPEG", quality=quality))))


def large_image(number):
    """A good part with a grain of its own, smooth enough to survive being saved again."""
    generator = np.random.default_rng([8, number])
    coarse = generator.uniform(-25, 25, (12, 9)).astype(np.float32)
    grain = cv2.resize(coarse, (72, 96), interpolation=cv2.INTER_CUBIC)
    image = good_image(number, (96, 72)) + grain[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def test_copies_are_found_and_other_photographs_are_none():
    images = [large_image(k) for k in range(20)]
    again = [
        images[3],
        np.clip(images[4] * 1.1 + 4, 0, 255).astype(np.uint8),
        np.asarray(Image.fromarray(images[5]).resize((36, 48)).resize((72, 96))),
        saved_again(images[6]),
        images[3],
    ]
    found = copies_of([*images, *again])
    assert found.original.tolist() == [*range(20), 3, 4, 5, 6, 3]
    assert found.similarity[20] == 1
    assert (found.similarity[21:24] < 1).all()
    assert found.groups() == [[3, 20, 24], [4, 21], [5, 22], [6, 23]]


def test_a_copy_of_a_near_copy_follows_it():
    images = [large_image(k) for k in range(12)]
    near = np.clip(images[2] * 1.1, 0, 255).astype(np.uint8)
    found = copies_of([*images, near, near])
    assert found.original[12:].tolist() == [2, 2]
    assert found.similarity[12] == found.similarity[13] < 1


def test_a_slow_drift_is_no_chain_of_copies():
    rows, columns = np.mgrid[:64, :64]
    images = [
        np.repeat(
            (40 + 150 * np.exp(-((rows - 10 - k) ** 2 + (columns - 30) ** 2) / 60))[..., None],
            3,
            axis=2,
        ).astype(np.uint8)
        for k in range(0, 40)
    ]
    assert max(len(group) for group in copies_of(images).groups() or [[]]) < 10


@given(order=st.permutations(range(8)))
def test_groups_of_copies_do_not_depend_on_the_order(order):
    images = [large_image(k) for k in range(5)]
    images += [images[0], images[1], images[0]]
    groups = copies_of([images[k] for k in order]).groups()
    found = sorted(sorted(order[k] for k in group) for group in groups)
    assert found == [[0, 5, 7], [1, 6]]


def test_images_of_one_colour_are_no_near_copies():
    images = [np.full((32, 32, 3), value, np.uint8) for value in (10, 20, 30)]
    assert copies_of(images).groups() == []


def statistics_of(images):
    return image_statistics(inputs_of(images))


def blurred(image):
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = image.shape[:2]
    shifted = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.mean(shifted, axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: (image * 0.6).astype(np.uint8), "dark"),
        (lambda image: np.clip(image * 1.0 + 60, 0, 255).astype(np.uint8), "bright"),
        (lambda image: (100 + 0.3 * (image - 100.0)).astype(np.uint8), "flat"),
        (blurred, "blurred"),
        (lambda image: np.where(image > 170, 255, image).astype(np.uint8), "clipped"),
    ],
)
def test_images_taken_in_another_way_are_named(change, reason):
    images = [large_image(k) for k in range(40)]
    found = by_statistics(statistics_of([*images, change(images[0])]))
    assert reason in {each.reason for each in found}
    assert {each.image for each in found} == {40}
    for each in found:
        assert each.value is not None and each.limit is not None


def test_of_good_images_none_is_named():
    assert by_statistics(statistics_of([large_image(k) for k in range(100)])) == []


def test_the_wording_of_a_statistic():
    statistics = np.tile([0.5, 0.2, -3.0, 0.0], (12, 1))
    statistics[7, 0] = 0.3
    assert by_statistics(statistics) == [
        Suspicion(7, "dark", "brightness 0.3 is below 0.468", 0.3, pytest.approx(0.468))
    ]


def test_other_shapes_and_sizes_are_told_apart():
    found = by_sizes([(100, 50), (200, 100), (100, 50), None, (100, 100), (100, 50)])
    assert [(each.image, each.reason, each.detail) for each in found] == [
        (1, "size", "200x100 pixels, most have 100x50"),
        (4, "shape", "100x100 pixels, most have 100x50"),
    ]
    assert by_sizes([None]) == []


def test_a_check_by_a_model_scores_what_it_knows_left_out_and_all_else_plainly():
    known, spoiled = good_images(40), spoiled_image(99)[0]
    model = small_model(images=[*known, spotted_image(0)])
    found = check_training([*known, spotted_image(0), spoiled], model=model)
    scores = {each.image: each.value for each in found.suspicions if each.reason == "score"}
    assert scores == {
        40: pytest.approx(model.calibration.scores[40]),
        41: pytest.approx(model.score(spoiled).image_score),
    }


def test_a_check_by_a_robust_model_names_what_it_left_out():
    images = [*good_images(40), spotted_image(0), spotted_image(1)]
    model = small_model(images=images, reject_outliers=0.2)
    found = check_training(images, model=model)
    left_out = [each for each in found.suspicions if each.reason == "rejected"]
    assert {each.image for each in left_out} == {40, 41}
    assert sorted(each.value for each in left_out) == sorted(model.fitted.rejected.scores)


def test_a_check_of_a_model_needs_no_images():
    images = [*good_images(40), spotted_image(0), good_image(3)]
    found = check_model(small_model(images=images))
    assert [(each.image, each.reason) for each in found.suspicions] == [(40, "score"), (41, "copy")]
    assert check_summary(found) == (
        "2 suspicious images: image 40 (unlike the other parts), image 41 (copy of another image)."
    )
    assert check_summary(check_model(small_model())) == ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good images, and one of every kind that is to be found before a fit."""
    root = tmp_path_factory.mktemp("parts")
    for k in range(24):
        Image.fromarray(large_image(k)).save(root / f"{k:03}.png")
    spoiled = large_image(50).copy()
    spoiled[30:60, 20:50] = (250, 0, 0)
    Image.fromarray(spoiled).save(root / "spoiled.png")
    Image.fromarray(large_image(4)).save(root / "again.png")
    Image.fromarray(np.ascontiguousarray(large_image(60)[:72])).save(root / "square.png")
    (root / "cut.png").write_bytes((root / "007.png").read_bytes()[:3000])
    return root


def test_a_check_before_a_fit_finds_every_kind(folder, tmp_path):
    paths = sorted(folder.iterdir())
    found = check_training(paths)
    reasons = {}
    for each in found.suspicions:
        reasons.setdefault(found.names[each.image], set()).add(each.reason)
    assert reasons["cut.png"] == {"unreadable"}
    assert "shape" in reasons["square.png"]
    assert "score" in reasons["spoiled.png"]
    assert reasons["again.png"] == {"copy"} or reasons["004.png"] == {"copy"}
    assert [each.reason for each in found.suspicions] == sorted(
        (each.reason for each in found.suspicions), key=list(REASONS).index
    )
    page = write_check(tmp_path / "out", found, paths, title="parts <1>")
    text = page.read_text()
    assert "parts &lt;1&gt;" in text
    assert f"{len(found.images)} of 28 images are suspicious." in text
    assert text.count("<figcaption>heat map</figcaption>") == len(found.images) - 1
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "check.csv").read_text())))
    assert [row["image"] for row in rows] == [found.names[s.image] for s in found.suspicions]


def test_without_scores_no_model_is_learned(folder):
    found = check_training(sorted(folder.iterdir()), scores=False)
    assert found.model is None
    assert {"score", "rejected"}.isdisjoint(each.reason for each in found.suspicions)


def test_few_images_are_checked_as_far_as_they_can_be():
    found = check_training([*good_images(5), good_image(2)])
    assert check_lines(found) == [
        "1 of 6 images is suspicious.",
        "image 5: copy of another image: the same pixels as image 2",
        "Scores need at least 10 images, but there are 6: not scored.",
    ]


def test_a_clean_set_in_words_and_as_data():
    found = check_training(good_images(12), scores=False)
    assert check_lines(found) == ["None of 12 images is suspicious."]
    assert json.loads(json.dumps(found.to_json())) == {
        "images": 12,
        "suspicious": 0,
        "suspicions": [],
        "copies": [],
        "notes": [],
    }
    assert check_csv(found) == b"image,reason,value,limit,detail\n"


def test_errors_of_a_check(tmp_path):
    with pytest.raises(NotFittedError) as caught:
        check_training([])
    assert str(caught.value) == "A check needs images, but there are none. Give some."
    (tmp_path / "file").write_text("")
    found = check_training(good_images(3), scores=False)
    with pytest.raises(OutputError) as caught:
        write_check(tmp_path / "file", found, good_images(3), title="")
    assert str(caught.value) == (
        f"{tmp_path / 'file'} must be a folder to write to, but cannot be made: File exists. "
        "Name another one."
    )
