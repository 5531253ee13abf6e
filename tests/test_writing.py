from contextlib import contextmanager

import pytest

from blemish.errors import OutputError
from blemish.writing import write_bytes


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.png"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@contextmanager
def full_disk():
    """No file may grow beyond 1000 bytes: a write stops midway, as on a full disk.

    Only around the write itself: the log of the test run is a file, too.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    write_bytes(path, b"old")
    with full_disk(), pytest.raises(OutputError) as caught:
        write_bytes(path, b"new" * 1000)
    assert str(caught.value) == (
        f"{path} must be a file that can be written, but writing it failed: "
        "File too large. Name another place, or make room."
    )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_bytes(path, b"old")

    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
