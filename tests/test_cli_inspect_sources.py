"""`blemish inspect` and `blemish fit` with videos, cameras and a folder that is being filled."""

import csv
import json
import os
import signal
import threading
import time
from functools import partial

import cv2
import numpy as np
import pytest

from blemish import load
from blemish.datasets import read_dataset
from blemish.errors import DatasetError
from blemish.sources import FolderSource
from blemish.videos import frame_path
from made_up_videos import MjpegServer, cut_off, write_video
from small_models import good_image, small_model, spoiled_image
from test_cli import one_line, run

pytestmark = pytest.mark.usefixtures("in_f32")

FRAME = (48, 64)


def moving(count, spoiled=()):
    """Frames of a product on a belt, some of them spoiled."""
    return [
        (spoiled_image(k, FRAME)[0] if k in spoiled else good_image(k, FRAME)) for k in range(count)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.blemish"
    small_model(images=moving(40)).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(
        tmp_path_factory.mktemp("clip") / "clip.avi", images=moving(12, spoiled=(6,)), rate=10.0
    )


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(path, pixels):
    assert cv2.imwrite(str(path.with_suffix(".part.png")), pixels[..., ::-1])
    path.with_suffix(".part.png").replace(path)


def test_a_video_gives_a_line_per_frame_with_its_time(model, clip):
    result = run("inspect", model, clip, "--json", "--exit-code", status=3)
    found = records(result)
    assert [one["image"] for one in found] == [f"clip_{number:06d}" for number in range(12)]
    assert [round(one["time"], 3) for one in found] == [number / 10 for number in range(12)]
    assert found[6]["decision"] == "anomalous"
    whole = load(model)
    assert found[3]["score"] == whole.score(frame_path(clip, 3)).image_score
    assert result.stderr == (
        f"Inspected 12 of 12 images: {sum(one['decision'] == 'anomalous' for one in found)} "
        "anomalous, 0 unreadable; 0 other files are no images.\n"
    )


def test_frames_have_pictures_and_rows_under_their_names(model, clip, tmp_path):
    run("inspect", model, clip, "--every", "5", "--out", tmp_path / "out")
    names = ["clip_000000", "clip_000005", "clip_000010"]
    pictures = sorted((tmp_path / "out" / "five-panel").iterdir())
    assert [picture.name for picture in pictures] == [f"{name}.png" for name in names]
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert [(row["image"], row["time"]) for row in rows] == list(
        zip(names, ["0.0", "0.5", "1.0"], strict=True)
    )


def test_images_and_videos_together(model, clip, tmp_path):
    write(tmp_path / "a.png", good_image(3, FRAME))
    other = write_video(tmp_path / "clip.mp4", images=moving(2), codec="mp4v")
    found = records(run("inspect", model, clip, tmp_path / "a.png", other, "--every", 6, "--json"))
    assert [one["image"] for one in found] == [
        *("a.png", "clip.avi_000000", "clip.avi_000006", "clip.mp4_000000")
    ]
    assert [one["time"] is None for one in found] == [True, False, False, False]


def test_a_damaged_video_is_judged_as_far_as_it_goes(model, tmp_path):
    clip = cut_off(write_video(tmp_path / "cut.avi", images=moving(20)))
    result = run("inspect", model, clip, "--json", status=1)
    *found, last = records(result)
    text = (
        f"{clip} must hold 20 frames, as it declares, but {len(found)} can be read. The file is "
        "damaged or was not written to its end: record or copy it again."
    )
    assert len(found) > 3 and last["error"] == text
    assert result.stderr.splitlines()[-1] == f"Error: {text}"


def test_a_folder_is_followed_until_nothing_comes(model, tmp_path, monkeypatch):
    hasty = partial(FolderSource, patience=1.5, settle=0.1)
    monkeypatch.setattr("blemish.cli.sources.FolderSource", hasty)
    write(tmp_path / "0.png", good_image(0, FRAME))
    (tmp_path / "broken.png").write_bytes(b"no image")

    def later():
        time.sleep(0.5)
        write(tmp_path / "1.png", spoiled_image(1, FRAME)[0])

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    os.utime(tmp_path / "0.png", ns=(0, 0))
    out = tmp_path / "out"
    arguments = ("--follow", "--idle-timeout", "0.8", "--json", "--out", out)
    result = run("inspect", model, tmp_path, *arguments, status=1)
    thread.join()
    found = {one["image"]: one["decision"] for one in records(result)}
    assert list(found) == ["0.png", "1.png", "broken.png"]  # that one is waited for the longest
    assert found["1.png"] == "anomalous" and found["broken.png"] is None
    assert "Inspected 2 of 3 images: " in result.stderr
    assert result.stderr.endswith(" anomalous, 1 unreadable; 0 dropped, 0 reconnects.\n")
    assert result.stderr.count("Error: ") == 1
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_live_source_orderly(model, tmp_path, number):
    write(tmp_path / "0.png", good_image(0, FRAME))
    before = signal.getsignal(number)

    def send():
        give_up = time.monotonic() + 60
        while not (out / "five-panel").is_dir() and time.monotonic() < give_up:
            time.sleep(0.02)
        time.sleep(0.2)
        if signal.getsignal(number) is not before:  # or it would end the tests
            os.kill(os.getpid(), number)

    out = tmp_path / "out"
    threading.Thread(target=send, daemon=True).start()
    result = run("inspect", model, tmp_path, "--follow", "--out", out)
    assert len(result.stdout.splitlines()) == 2  # the image, and where the report is
    assert "Inspected 1 of 1 images: " in result.stderr
    assert (out / "report.html").is_file()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("as_option", [True, False])
def test_a_camera_is_judged_until_it_is_lost(model, as_option):
    with MjpegServer(frames=4, pause=0.02, size=FRAME) as server:

        def cut_off():
            while server.sent < 12:  # cut off in the third connection, or soon after it
                time.sleep(0.02)
            server.cut_off()

        threading.Thread(target=cut_off, daemon=True).start()
        place = ("--camera", server.address) if as_option else (server.address,)
        result = run("inspect", model, *place, "--json", "--reconnects", "1", status=1)
    found = records(result)
    assert found
    assert all(one["image"].startswith(f"127.0.0.1-{server.port}_00") for one in found)
    assert all(abs(one["time"] - time.time()) < 60 for one in found)
    summary, error = result.stderr.splitlines()
    assert summary.startswith(f"Inspected {len(found)} of {len(found)} images: ")
    assert summary.endswith(" reconnects.")
    assert error.startswith(
        f"Error: http://127.0.0.1:{server.port} must deliver frames, but the connection was lost "
        "and 1 attempts in "
    )
    assert "s3cret" not in result.output


def test_a_camera_that_is_not_there_is_one_line(model, tmp_path):
    result = run("inspect", model, "rtsp://me:s3cret@127.0.0.1:9/x", status=1)
    assert one_line(result) == (
        "Error: rtsp://127.0.0.1:9 must be a camera that delivers frames, but cannot be opened. "
        "Check its number or address, user and password, and that no other program uses it."
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Missing argument 'IMAGES...'."),
        (["a", "rtsp://10.0.0.5"], "A camera must be the only source. Run one command per camera."),
        (["a", "--camera", "0"], "A camera must be the only source. Run one command per camera."),
        (["a", "b", "--follow"], "--follow takes exactly one folder."),
        (["--camera", "0", "--follow"], "--follow takes exactly one folder."),
        (["a", "--idle-timeout", "3"], "--idle-timeout needs --follow."),
        (["a", "--reconnects", "3"], "--reconnects needs a camera."),
        (["a", "--every", "3"], "--every needs a video or a camera."),
        (
            ["--camera", "me:s3cret@10.0.0.5"],
            "Invalid value for '--camera': it is neither a number nor begins like rtsp:// or "
            "http://",
        ),
    ],
)
def test_wrong_usage(model, words, text):
    result = run("inspect", model, *words, status=2)
    assert result.stderr.splitlines()[-1] == f"Error: {text}"
    assert "s3cret" not in result.output


def test_a_video_of_good_parts_is_learned_from(tmp_path, clip):
    good = write_video(tmp_path / "good.mkv", images=moving(20))
    small = ("--size", "32x48", "--dims", "10", "--quiet")
    run("fit", good, "--every", "2", "--out", tmp_path / "m.blemish", *small)
    fitted = load(tmp_path / "m.blemish")
    assert fitted.count == 10
    found = records(run("inspect", tmp_path / "m.blemish", clip, "--json", "--quiet"))
    assert np.argmax([one["score"] for one in found]) == 6


def test_a_video_has_no_labelled_frames(clip):
    with pytest.raises(DatasetError) as caught:
        read_dataset(clip, split="test")
    assert str(caught.value) == (
        f"Test images must have labels, but the frames of {clip} have none. Give a folder of "
        "labelled frames, or a CSV file that lists them."
    )


def test_a_csv_file_may_label_frames(clip, model, tmp_path):
    rows = [f"{frame_path(clip, k)},{'spot' if k == 6 else 'good'},test" for k in range(12)]
    (tmp_path / "list.csv").write_text("\n".join(["image,label,split", *rows]))
    samples = read_dataset(tmp_path / "list.csv", split="test")
    assert {sample.clip for sample in samples} == {"clip"}
    result = json.loads(run("evaluate", model, tmp_path / "list.csv", "--json").stdout)
    assert result["image_auroc"] == 1
    assert result["frames"] == {
        "clips": 1,
        "auroc": 1,
        "clip_auroc": 1,
        "mixed_clips": 1,
        "smoothing": 0,
        "scaled": False,
    }
