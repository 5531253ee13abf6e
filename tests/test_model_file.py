import copy
import json
import os
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import blemish
from blemish import model_file
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import ModelFileError, OutputError
from blemish.gaussian import SHRINKAGES
from blemish.model import load_model
from blemish.model_file import read_model
from blemish.scoring import SCORES
from small_models import SIZE, good_images, small_model, spoiled_image


def header_of(path):
    return read_model(path)[1]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "part.blemish"
    model.save(path)
    return path


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shared": True},
        {"reduction": "pca", "dims": 5},
        {"layers": (1, 2), "roi": (2, 4, 12, 16), "size": (16, 16)},
    ],
    ids=str,
)
def test_law_a_loaded_model_scores_exactly_the_same(score, settings, tmp_path):
    model = small_model(score=score, **settings)
    model.save(tmp_path / "a.blemish")
    loaded = blemish.load(tmp_path / "a.blemish")
    image, _ = spoiled_image(50)
    mine, other = model.classify(image), loaded.classify(image)
    assert mine.score.image_score == other.score.image_score
    np.testing.assert_array_equal(mine.score.anomaly_map, other.score.anomaly_map)
    assert mine.threshold == other.threshold
    assert mine.pixel_threshold == other.pixel_threshold
    assert loaded.settings == model.settings
    assert loaded.backbone == model.backbone
    assert loaded.preprocessing == model.preprocessing


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("shared", [False, True])
def test_a_loaded_model_can_be_updated_like_the_one_in_memory(shrinkage, shared, tmp_path):
    ignored = np.zeros(SIZE, bool)
    ignored[:6] = True
    model = small_model(shrinkage=shrinkage, shared=shared, ignore_mask=ignored)
    model.save(tmp_path / "a.blemish")
    loaded = load_model(tmp_path / "a.blemish")
    levels = model.embedding(
        FeatureExtractor(model.backbone, model.size)(
            np.stack([model.preprocessing.apply(i) for i in good_images(4, start=90)])
        )
    )
    first, second = model.parts[0].moments.copy(), loaded.parts[0].moments
    first.update(levels)
    second.update(levels)
    for mine, other in zip(first.scatters, second.scatters, strict=True):
        np.testing.assert_allclose(np.tril(mine[:, :, -1:]), np.tril(other[:, :, -1:]))
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9 * np.abs(mine).max())
    if first.norms is not None:
        np.testing.assert_allclose(first.norms.quartics, second.norms.quartics)


def test_same_images_seed_and_time_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("a", "b"):
        small_model().save(tmp_path / f"{name}.blemish")
    assert (tmp_path / "a.blemish").read_bytes() == (tmp_path / "b.blemish").read_bytes()


def test_another_seed_gives_other_bytes(tmp_path):
    for seed in (0, 1):
        small_model(seed=seed).save(tmp_path / f"{seed}.blemish")
    assert (tmp_path / "0.blemish").read_bytes() != (tmp_path / "1.blemish").read_bytes()


def test_saving_again_what_was_loaded_gives_the_same_bytes(saved, tmp_path):
    load_model(saved).save(tmp_path / "again.blemish")
    assert saved.read_bytes() == (tmp_path / "again.blemish").read_bytes()


def test_header_can_be_read_alone(saved, model):
    header = header_of(saved)
    assert header["version"] == 3
    assert header["settings"]["dims"] is None
    assert header["parts"][0]["moments"] == {"count": 40, "shared": False}
    assert header["backbone"]["sha256"] == model.backbone.sha256


def test_the_file_holds_no_pickle_and_no_path(saved):
    content = saved.read_bytes()
    assert b"pickle" not in content
    assert str(saved.parent).encode() not in content


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ModelFileError) as caught:
        load_model(tmp_path / "none.blemish")
    assert str(caught.value) == (
        f"{tmp_path / 'none.blemish'} must be a model file, but does not exist. "
        "Make one: blemish fit."
    )


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelFileError, match="but is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "x.blemish"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged or something else"):
        load_model(path)


def test_another_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"{path} must be a model made by blemish fit, but is another safetensors file. "
        "Weights go to blemish fit --weights."
    )


def rewrite(path, change, *, sign=False):
    """Change a model file; with `sign`, as a writer would that knows the checksum."""
    tensors = load_file(path)
    header = header_of(path)
    change(header, tensors)
    if sign:
        header["checksum"] = model_file._checksum(header, tensors)
    save_file(tensors, path, metadata={"blemish": json.dumps(header)})


def test_a_newer_format_says_which_version_to_install(saved):
    rewrite(saved, lambda header, _: header.update(version=4, written_by="3.1.0"))
    with pytest.raises(ModelFileError) as caught:
        load_model(saved)
    assert str(caught.value) == (
        f"{saved} must have format version 3 or older, but has 4: it was written by blemish "
        "'3.1.0'. Install that version or a newer one."
    )


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError, match="is damaged or something else"):
        load_model(saved)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8, 0.999])
def test_a_flipped_bit_is_found(saved, place):
    content = bytearray(saved.read_bytes())
    content[int(len(content) * place)] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_model(saved)


def test_a_missing_part_is_found(saved):
    rewrite(saved, lambda _, tensors: tensors.pop("calibration.scores"))
    with pytest.raises(ModelFileError, match="its checksum differs"):
        load_model(saved)


def test_an_unknown_setting_is_not_ignored(saved):
    rewrite(saved, lambda header, _: header["settings"].update(magic=1), sign=True)
    with pytest.raises(ModelFileError, match="magic are not"):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header["parts"][0]["regularisation"].update(ridge=4.01),
        lambda header, _: header["parts"][0]["moments"].update(count=41),
        lambda header, _: header["settings"].update(sigma=9.0),
        lambda header, _: header.update(version=0),
    ],
)
def test_a_changed_description_is_found(saved, change):
    rewrite(saved, change)
    with pytest.raises(ModelFileError, match="its checksum differs"):
        load_model(saved)
    with pytest.raises(ModelFileError, match="its checksum differs"):
        header_of(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header.update(settings=[]),
        lambda header, _: header["parts"][0].update(
            pyramid={"grids": [[7, 7], [15, 14]], "dims": [1, 1]}
        ),
        lambda header, _: header.pop("preprocessing"),
        lambda _, tensors: tensors.update({"0.moments.0.mean": np.zeros((2, 6), np.uint8)}),
    ],
)
def test_whatever_is_wrong_inside_names_the_file(saved, change):
    rewrite(saved, change, sign=True)
    with pytest.raises(ModelFileError) as caught:
        load_model(saved)
    assert str(caught.value).startswith(f"{saved} must hold a whole model, but does not (")


def test_every_flipped_bit_of_the_description_is_found(saved):
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    for place in np.random.default_rng(0).integers(8, 8 + length, 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(place) % 7
        saved.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            load_model(saved)


def test_a_model_can_be_pickled_and_copied(model):
    image, _ = spoiled_image(8)
    expected = model.score(image).image_score
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.score(image).image_score == expected


def test_a_full_disk_leaves_the_old_model(saved, model, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        model.save(saved)
    assert str(caught.value) == (
        f"{saved} must be a file that can be written, but writing it failed: No space left on "
        "device. Name another place, or make room."
    )
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_interruption_leaves_the_old_model(saved, model, monkeypatch):
    before = saved.read_bytes()

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_folder_is_not_overwritten(model, tmp_path):
    with pytest.raises(OutputError, match="but is a folder"):
        model.save(tmp_path)
