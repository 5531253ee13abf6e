"""The folder of an export: whole or absent, never over files of others, refused if changed."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from blemish.errors import ModelFileError, OutputError
from blemish.export import export_model, folder, load_export, runtimes
from export_files import FILES, PARTS, change_description, copy_of
from small_models import good_images, small_model


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """One export, for tests that only read it."""
    place = tmp_path_factory.mktemp("exported") / "onnx"
    export_model(model, place, images=good_images(5))
    return place


def test_an_older_export_is_replaced_and_a_link_kept(model, exported, tmp_path):
    place, link = copy_of(exported, tmp_path), tmp_path / "link"
    link.symlink_to(place)
    export_model(model, link, target="openvino", images=good_images(3))
    assert link.is_symlink()
    assert {path.name for path in place.iterdir()} == PARTS | FILES["openvino"]


def test_files_of_others_are_never_replaced(model, exported, tmp_path):
    place = copy_of(exported, tmp_path)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        export_model(model, place, images=good_images(3))
    assert str(caught.value) == (
        f"{place} must be missing, empty, or an older export, but holds notes.txt. "
        "Name another folder, or clear this one."
    )
    assert (place / "notes.txt").read_text() == "mine"


def test_a_model_of_another_program_is_not_an_older_export(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(OutputError) as caught:
        folder.check_folder(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} must be missing, empty, or an older export, but holds model.onnx. "
        "Name another folder, or clear this one."
    )


def test_a_file_is_no_folder(model, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError) as caught:
        export_model(model, tmp_path / "out", images=good_images(3))
    assert str(caught.value) == (
        f"{tmp_path / 'out'} must be a folder, but is a file. Name another folder."
    )


def test_a_place_that_cannot_be_written_is_an_error(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        export_model(model, tmp_path / "file" / "out", images=good_images(3))
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'out'} must be a folder that can be written, but writing it "
        "failed: Not a directory. Name another place, or make room."
    )


def test_the_working_directory_is_filled_and_stays(model, tmp_path, monkeypatch):
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    before = place.stat().st_ino
    for target in ("onnx", "openvino"):  # into an empty folder, then over an older export
        export_model(model, ".", target=target, images=good_images(3))
        assert {path.name for path in place.iterdir()} == PARTS | FILES[target]
        assert load_export(".").about["target"] == target
    assert place.stat().st_ino == before
    assert list(tmp_path.iterdir()) == [place]


def test_a_mount_point_is_filled_and_stays(exported, tmp_path, monkeypatch):
    place = copy_of(exported, tmp_path)
    monkeypatch.setattr(folder.os.path, "ismount", lambda path: path == place)
    before = place.stat().st_ino
    with folder.written_whole(place) as new:
        assert new.parent == place
        (new / "model.json").write_text("{}")
    assert {path.name for path in place.iterdir()} == {"model.json"}
    assert place.stat().st_ino == before


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_folder_that_cannot_be_renamed_is_filled(exported, tmp_path, monkeypatch, number):
    place, real = copy_of(exported, tmp_path), Path.rename

    def rename(path, target):
        if path == place:
            raise OSError(number, "cannot")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with folder.written_whole(place) as new:
        (new / "model.json").write_text("{}")
    assert {path.name for path in place.iterdir()} == {"model.json"}
    assert list(tmp_path.iterdir()) == [place]


def test_files_moved_in_are_gone_if_one_cannot_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved, real = [], shutil.move

    def move(source, target):
        if target.name == "model.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        moved.append(target.name)
        return real(source, target)

    monkeypatch.setattr(folder.shutil, "move", move)

    def write():
        with folder.written_whole(Path()) as new:
            for name in ("model.json", "model.onnx", "parity.md"):
                (new / name).write_text("{}")

    with pytest.raises(OutputError) as caught:
        write()
    assert str(caught.value) == (
        ". must be a folder that can be written, but writing it failed: No space left on device. "
        "Name another place, or make room."
    )
    assert moved == ["model.onnx", "parity.md"]
    assert list(tmp_path.iterdir()) == []


def test_errors_of_others_are_not_called_errors_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, folder.written_whole(tmp_path / "out"):
        raise FileNotFoundError("an image")
    assert str(caught.value) == "an image"
    assert list(tmp_path.iterdir()) == []


def refused(place):
    with pytest.raises(ModelFileError) as caught:
        load_export(place)
    return str(caught.value)


def test_a_folder_without_description_is_no_export(tmp_path):
    assert refused(tmp_path) == (
        f"{tmp_path} must be the folder of an export, but has no model.json. "
        "Make one: blemish export."
    )


def test_the_description_of_something_else_is_refused(tmp_path):
    (tmp_path / "model.json").write_text('{"format": "other"}')
    assert refused(tmp_path) == (
        f"{tmp_path / 'model.json'} must describe an export of blemish, but is something else. "
        "Name a folder written by blemish export."
    )


@pytest.mark.parametrize("text", ["{", '{"format": "blemish-export"}'])
def test_a_damaged_description_is_refused(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    assert refused(tmp_path) == (
        f"{tmp_path / 'model.json'} must describe an export, but is damaged. "
        "Copy it again, or export the model again."
    )


def without(about, part, name):
    return {part: {key: value for key, value in about[part].items() if key != name}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda about: {"preprocessing": {}},
        lambda about: without(about, "preprocessing", "value_range"),
        lambda about: {"preprocessing": {**about["preprocessing"], "value_range": [1]}},
        lambda about: without(about, "outputs", "score"),
        lambda about: {"outputs": []},
        lambda about: {"outputs": {**about["outputs"], "level0": {"grid": [8, 6]}}},
        lambda about: {"outputs": {**about["outputs"], "level0": {"layer": "coarse"}}},
        lambda about: {"threshold": None},
        lambda about: {"target": "tflite"},
        lambda about: {"target": []},
        lambda about: {"target": "openvino"},
        lambda about: {"files": {}},
        lambda about: {"files": {**about["files"], "../model.onnx": "0"}},
        lambda about: {"files": {"../copy/model.onnx": about["files"]["model.onnx"]}},
    ],
)
def test_a_description_that_lacks_a_part_is_damaged(exported, tmp_path, damage):
    place = copy_of(exported, tmp_path)
    change_description(place, **damage(json.loads((place / "model.json").read_text())))
    assert refused(place) == (
        f"{place / 'model.json'} must describe an export, but is damaged. "
        "Copy it again, or export the model again."
    )


def test_an_export_of_a_newer_version_is_refused(exported, tmp_path):
    place = copy_of(exported, tmp_path)
    change_description(place, version=2, written_by="9.1")
    assert refused(place) == (
        f"{place / 'model.json'} must have format version 1 or older, but has 2: it was written "
        "by blemish '9.1'. Install that version or a newer one."
    )


def test_a_changed_file_is_refused(exported, tmp_path):
    place = copy_of(exported, tmp_path)
    content = bytearray((place / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "model.onnx").write_bytes(content)
    assert refused(place) == (
        f"{place / 'model.onnx'} must be as it was written, but its checksum differs: it is "
        "damaged or was changed. Copy it again, or export the model again."
    )


def test_a_missing_file_is_named(exported, tmp_path):
    place = copy_of(exported, tmp_path)
    (place / "model.onnx").unlink()
    assert refused(place) == (
        f"{place} must hold model.onnx, but does not. Copy the whole folder, or export the model "
        "again."
    )


@pytest.mark.parametrize("with_onnx_runtime", [True, False])
def test_a_graph_without_the_outputs_is_refused(exported, tmp_path, monkeypatch, with_onnx_runtime):
    if with_onnx_runtime:
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtimes, "has_onnxruntime", lambda: with_onnx_runtime)
    place = copy_of(exported, tmp_path)
    about = json.loads((place / "model.json").read_text())
    heat = {"layer": "heat", "grid": [1, 1]}
    change_description(place, outputs={**about["outputs"], "heat": heat})
    assert refused(place) == (
        f"{place / 'model.onnx'} must put out map, score, level0, level1, heat, but lacks heat; it "
        "puts out level0, level1, map, score. Export the model again: blemish export."
    )


@pytest.mark.parametrize("with_onnx_runtime", [True, False])
def test_a_file_that_cannot_be_run_is_named(exported, tmp_path, monkeypatch, with_onnx_runtime):
    if with_onnx_runtime:
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtimes, "has_onnxruntime", lambda: with_onnx_runtime)
    monkeypatch.setattr("blemish.export.exported._check_files", lambda folder, files: None)
    place = copy_of(exported, tmp_path)
    (place / "model.onnx").write_bytes(b"no model")
    runtime = "ONNX Runtime" if with_onnx_runtime else "OpenVINO"
    text = refused(place)
    assert text.startswith(f"{place / 'model.onnx'} must be a model that {runtime} can run, but")
    assert text.endswith(f"Export the model again, or install a newer {runtime}.")
