"""Exports to be damaged by tests."""

import json

PARTS = {"model.json", "example.py", "parity.json", "parity.md"}
FILES = {"onnx": {"model.onnx"}, "openvino": {"model.xml", "model.bin"}}


def copy_of(exported, tmp_path):
    place = tmp_path / "copy"
    place.mkdir()
    for path in exported.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def change_description(place, **changes):
    about = json.loads((place / "model.json").read_text())
    (place / "model.json").write_text(json.dumps({**about, **changes}))
