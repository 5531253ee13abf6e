"""Videos, folders being filled and cameras as sources of images."""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish import videos
from blemish.errors import CameraError, DatasetError, ImageError, InputError
from blemish.frames import DecodedImage, UnreadableImage
from blemish.images import image_size, read_image
from blemish.inspection import inspect_source
from blemish.loading import name_of
from blemish.sources import (
    CameraSource,
    FolderSource,
    Frame,
    ImageList,
    ImageSource,
    SourceChain,
    VideoSource,
    without_credentials,
)
from blemish.videos import VideoReader, decoded_once, frame_path, video_frames
from made_up_videos import STEP, MjpegServer, cut_off, number_of, write_video
from small_models import SIZE, good_image, small_model, spoiled_image


def pixels_of(frame, value_range=None):
    if isinstance(frame.image, Path):
        return read_image(frame.image, value_range=value_range)
    return frame.image.read(value_range=value_range)


def error_of(frame):
    with pytest.raises(ImageError) as caught:
        pixels_of(frame)
    return str(caught.value)


# Videos ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [("c.avi", "MJPG"), ("c.mp4", "mp4v"), ("c.avi", "FFV1"), ("c.mkv", "FFV1"), ("c.avi", "XVID")],
)
def test_frames_of_a_video_come_in_order_with_names_and_times(tmp_path, name, codec):
    path = write_video(tmp_path / name, frames=12, codec=codec, rate=20.0)
    source = VideoSource(path)
    frames = list(source)
    assert [frame.name for frame in frames] == [f"c_{number:06d}" for number in range(12)]
    assert [frame.path for frame in frames] == [frame_path(path, number) for number in range(12)]
    assert [number_of(pixels_of(frame)) for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 20, atol=1e-3)
    assert source.length == source.counts.given == 12


def test_every_third_frame(tmp_path):
    path = write_video(tmp_path / "c.avi", frames=10)
    source = VideoSource(path, every=3)
    assert [(f.name, number_of(pixels_of(f))) for f in source] == [
        (f"c_{number:06d}", number) for number in (0, 3, 6, 9)
    ]
    assert source.length == 4


def test_colours_are_rgb(tmp_path):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    path = write_video(tmp_path / "c.avi", images=[red])
    np.testing.assert_allclose(read_image(frame_path(path, 0)), red, atol=3)


@pytest.mark.parametrize("name", ["c.avi", "c.mkv"])
def test_a_video_that_ends_too_early_says_how_many_frames_are_lost(tmp_path, name):
    path = cut_off(write_video(tmp_path / name, frames=50))
    *frames, last = list(VideoSource(path))
    assert 5 < len(frames) < 45
    assert [number_of(pixels_of(f)) for f in frames[:20]] == list(range(min(20, len(frames))))
    text = (
        f"{path} must hold 50 frames, as it declares, but {len(frames)} can be read. The file is "
        "damaged or was not written to its end: record or copy it again."
    )
    assert (last.name, error_of(last)) == (name, text)
    with pytest.raises(ImageError) as caught:
        video_frames(path)
    assert str(caught.value) == text


def test_a_video_without_its_end_cannot_be_opened(tmp_path):
    path = cut_off(write_video(tmp_path / "c.mp4", frames=50, codec="mp4v"))
    source = VideoSource(path)
    assert source.length == 1
    [frame] = source
    assert error_of(frame) == (
        f"{path} cannot be read: it must be a video that FFmpeg decodes, but 0 frames can be read "
        "of it. Its end may be missing: record or copy it again, or convert it."
    )


@pytest.mark.parametrize(("kind", "found"), [(Path.mkdir, "something else"), (None, "missing")])
def test_a_video_that_is_none(tmp_path, kind, found):
    path = tmp_path / "c.avi"
    if kind is not None:
        kind(path)
    [frame] = VideoSource(path)
    assert error_of(frame) == (
        f"{path} cannot be read: it must be a video file, but is {found}. Check the path."
    )


def test_a_path_that_opencv_would_crash_on_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"clip\xff.avi")
    path.touch()
    with pytest.raises(ImageError, match=r"must be text in UTF-8, but is not\. Rename it\.$"):
        VideoReader(path)


def test_a_file_named_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "http:" / "c.avi", frames=3)
    assert len(list(VideoSource(Path("http:/c.avi")))) == 3


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "c.avi", frames=20)


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(0, 22), max_size=8))
def test_frames_read_in_one_pass_are_those_read_one_by_one(clip, numbers):
    """In any order and with repetitions; frames beyond the end stay paths."""
    paths = [frame_path(clip, number) for number in numbers]
    found = list(decoded_once(paths))
    for number, path, image in zip(numbers, paths, found, strict=True):
        if number < 20:
            np.testing.assert_array_equal(image.pixels, read_image(path))
            assert (image.path, image.read_size()) == (path, image_size(path))
        else:
            assert image == path


def test_frames_in_order_open_their_video_once(clip, monkeypatch):
    opened = []
    open_one = videos.open_capture
    monkeypatch.setattr(videos, "open_capture", lambda *a: opened.append(a) or open_one(*a))
    assert len(list(ImageList([frame_path(clip, number) for number in range(0, 20, 2)]))) == 10
    assert len(opened) == 1


def test_a_frame_that_the_video_has_not(clip):
    with pytest.raises(ImageError) as caught:
        read_image(clip / "20")
    assert str(caught.value) == (
        f"{clip}/000020 cannot be read: the video must hold more than 20 frames, but 20 can be "
        "read. Take another frame, or copy the video again."
    )


def test_the_name_and_the_file_of_a_frame(clip):
    assert name_of(clip / "3") == "c.avi/3"
    assert name_of(str(clip.parent / "a.png")) == "a.png"
    assert videos.file_of(clip / "3") == clip


def test_a_folder_that_is_named_like_a_video_is_a_folder(tmp_path):
    assert videos.frame_of(tmp_path / "c.avi" / "000000") is None
    (tmp_path / "c.avi").mkdir()
    cv2.imwrite(str(tmp_path / "c.avi" / "0.png"), good_image(0))
    (tmp_path / "c.avi" / "0.png").rename(tmp_path / "c.avi" / "000000")
    assert read_image(tmp_path / "c.avi" / "000000").shape == (*SIZE, 3)


def test_a_range_of_values_is_refused_for_frames_of_8_bits(clip):
    with pytest.raises(ImageError) as caught:
        read_image(clip / "3", value_range=(0, 4095))
    assert str(caught.value) == (
        f"{clip}/000003 must have more than 8 bits per sample, since the model or the call states "
        "a range of values, but has 8. Give deep images, or leave the range out."
    )


def test_deep_pixels_decoded_with_another_range_are_refused():
    frame = DecodedImage(Path("0.tif"), np.zeros((2, 2, 3), np.float32), (0, 4095))
    assert frame.read(value_range=(0, 4095)).dtype == np.float32
    with pytest.raises(ImageError) as caught:
        frame.read(value_range=None)
    assert str(caught.value) == (
        "0.tif must be decoded with the range of values None, as the model or the call states it, "
        "but was with (0, 4095). Give the source the same value_range."
    )


def test_a_stopped_video_ends(clip):
    source = VideoSource(clip)
    names = []
    for frame in source:
        names.append(frame.name)
        if len(names) == 4:
            source.stop()
    assert len(names) == 4


def test_a_chain_gives_all_and_stops_where_it_is(clip, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), good_image(0))
    chain = SourceChain([ImageList([tmp_path / "a.png"]), VideoSource(clip, name="first")])
    frames = list(chain)
    assert [frame.name for frame in frames[:2]] == ["a.png", "first_000000"]
    assert chain.length == chain.counts.given == len(frames) == 21
    chain = SourceChain([VideoSource(clip), VideoSource(clip)])
    for number, _ in enumerate(chain):
        if number == 2:
            chain.stop()
    assert chain.counts.given == 3


# A folder being filled -------------------------------------------------------------------------

FAST = {"poll": 0.01, "settle": 0.05, "patience": 0.25}


def encoded(number):
    return cv2.imencode(".png", np.full((8, 8, 3), STEP * number, np.uint8))[1].tobytes()


def put(path, number):
    """Write an image elsewhere and rename it into place."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(encoded(number))
    partial.replace(path)


def test_a_folder_gives_what_lies_there_and_what_comes_each_once(tmp_path):
    for number in (2, 0, 1):
        put(tmp_path / f"{number}.png", number)
        os.utime(tmp_path / f"{number}.png", ns=(0, 10**9 * (10 - number)))
    source = FolderSource(tmp_path, idle_timeout=0.4, **FAST)
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 3:
            put(tmp_path / "late.png", 7)
            (tmp_path / "deep").mkdir()
        if len(frames) == 4:
            put(tmp_path / "deep" / "later.png", 8)
    # those found at once: oldest first
    assert [f.name for f in frames] == ["2.png", "1.png", "0.png", "late.png", "deep/later.png"]
    assert [number_of(pixels_of(f)) for f in frames] == [2, 1, 0, 7, 8]
    assert [f.path for f in frames] == [tmp_path / f.name for f in frames]
    assert abs(frames[-1].time - time.time()) < 60
    assert source.counts.given == 5
    assert source.is_live and source.length is None


def test_a_file_that_grows_is_taken_once_and_whole(tmp_path):
    """It stalls for longer than the folder waits for it to settle, and does not hold up others."""
    content = encoded(5)

    def write():
        with (tmp_path / "slow.png").open("wb") as file:
            for part in (content[:20], content[20:60], content[60:]):
                file.write(part)
                file.flush()
                time.sleep(0.15)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.05)
    put(tmp_path / "quick.png", 6)
    frames = list(FolderSource(tmp_path, idle_timeout=0.5, **FAST))
    writer.join()
    assert [(f.name, number_of(pixels_of(f))) for f in frames] == [
        ("quick.png", 6),
        ("slow.png", 5),
    ]


def test_files_that_vanish_and_other_files_do_not_matter(tmp_path):
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (tmp_path / name).write_bytes(encoded(0))
    (tmp_path / ".partial").mkdir()
    put(tmp_path / ".partial" / "0.png", 0)
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    put(tmp_path / "gone.png", 1)
    put(tmp_path / "stays.png", 2)
    source = FolderSource(tmp_path, idle_timeout=0.3, **FAST | {"settle": 0.2})
    threading.Timer(0.05, (tmp_path / "gone.png").unlink).start()
    assert [frame.name for frame in source] == ["stays.png"]


def test_a_file_that_is_replaced_is_a_new_image(tmp_path):
    put(tmp_path / "latest.png", 1)
    found = []
    for frame in FolderSource(tmp_path, idle_timeout=0.4, **FAST):
        found.append((frame.name, number_of(pixels_of(frame))))
        if len(found) < 4:
            put(tmp_path / "latest.png", len(found) + 1)
    assert found == [("latest.png", number) for number in (1, 2, 3, 4)]


def test_files_of_a_folder_that_was_away_are_not_taken_again(tmp_path):
    folder = tmp_path / "share"
    folder.mkdir()
    put(folder / "0.png", 0)

    def come_back():
        time.sleep(0.1)
        (tmp_path / "away").rename(folder)
        time.sleep(0.1)
        put(folder / "1.png", 1)

    names = []
    for frame in FolderSource(folder, idle_timeout=0.5, **FAST):
        names.append(frame.name)
        if len(names) == 1:
            folder.rename(tmp_path / "away")
            threading.Thread(target=come_back).start()
    assert names == ["0.png", "1.png"]


@pytest.mark.parametrize("content", [b"", encoded(3)[:40], b"no image"])
def test_a_file_that_never_becomes_an_image_is_given_once_with_its_error(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    [frame] = FolderSource(tmp_path, idle_timeout=0.3, **FAST)
    assert frame.name == "bad.png"
    assert error_of(frame).startswith(f"{tmp_path / 'bad.png'} cannot be read: ")


def test_the_folder_of_results_is_left_out(tmp_path):
    (tmp_path / "out" / "five-panel").mkdir(parents=True)
    put(tmp_path / "out" / "five-panel" / "0.png", 0)
    put(tmp_path / "1.png", 1)
    source = FolderSource(tmp_path, idle_timeout=0.3, leave_out=tmp_path / "out", **FAST)
    assert [frame.name for frame in source] == ["1.png"]


def test_a_folder_stops_when_told_and_not_before(tmp_path):
    stop = threading.Event()
    source = FolderSource(tmp_path, stop=stop, **FAST)
    told: list[bool] = []
    threading.Timer(0.2, lambda: (told.append(True), stop.set())).start()
    assert list(source) == []
    assert told


def test_deep_files_of_a_folder_take_the_range_of_values(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), 4095, np.uint16))
    [frame] = FolderSource(tmp_path, idle_timeout=0.2, value_range=(0, 4095), **FAST)
    np.testing.assert_array_equal(pixels_of(frame, (0, 4095)), np.ones((8, 8, 3), np.float32))


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(DatasetError) as caught:
        FolderSource(tmp_path / "no")
    assert str(caught.value) == (
        f"{tmp_path}/no must be a folder to follow, but is missing. Name the folder that the "
        "images are written to."
    )
    with pytest.raises(InputError) as caught:
        FolderSource(tmp_path, poll=0)
    assert str(caught.value) == (
        "poll must be above 0 and other times at least 0 seconds, but poll is 0, settle 0.5, "
        "patience 10 and idle_timeout None. Leave them out for the defaults."
    )


@settings(max_examples=3, deadline=None)
@given(order=st.permutations(range(12)), gaps=st.lists(st.booleans(), min_size=12, max_size=12))
def test_every_file_is_taken_exactly_once(tmp_path_factory, order, gaps):
    folder = tmp_path_factory.mktemp("filled")

    def fill():
        for number, gap in zip(order, gaps, strict=True):
            put(folder / f"{number}.png", number)
            time.sleep(0.03 if gap else 0.01)  # file systems count time in steps of 4 ms

    writer = threading.Thread(target=fill)
    writer.start()
    found = [
        (f.name, number_of(pixels_of(f))) for f in FolderSource(folder, idle_timeout=0.3, **FAST)
    ]
    writer.join()
    assert found == [(f"{number}.png", number) for number in order]


# Cameras ---------------------------------------------------------------------------------------

PATIENT = {"back_off": 0.02, "reconnects": 8, "timeout": 5.0}


def test_a_camera_reconnects_and_counts_it():
    with MjpegServer(frames=6) as server:
        source = CameraSource(server.address, **PATIENT)
        found = []
        for frame in source:
            found.append((frame.name, number_of(pixels_of(frame)), frame.time))
            if source.counts.reconnects == 2:
                source.stop()
    names, numbers, times = zip(*found, strict=True)
    assert server.connections >= 3
    assert source.counts.given == len(found)
    assert names == tuple(sorted(set(names)))
    assert names[0].startswith(f"127.0.0.1-{server.port}_")
    assert Counter(numbers).most_common(1)[0][1] <= 3  # of each number one per connection
    assert numbers[0] < 6 and times == tuple(sorted(times))
    assert abs(times[-1] - time.time()) < 60


def test_a_camera_that_was_away_is_found_again():
    with MjpegServer(frames=4) as server:
        source = CameraSource(server.address, **PATIENT | {"reconnects": 30})
        away = False
        for _ in source:
            if not away:
                server.cut_off()
                threading.Timer(0.3, server.come_back).start()
                away = True
            elif source.counts.reconnects:
                source.stop()
    assert source.counts.reconnects >= 1


def test_a_camera_gives_the_newest_frame_and_counts_those_dropped():
    with MjpegServer(frames=20, pause=0.01) as server:
        source = CameraSource(server.address, **PATIENT)
        found = []
        for frame in source:
            found.append(int(frame.name.rpartition("_")[2]))
            give_up = time.monotonic() + 20
            while source.counts.dropped < 3 and time.monotonic() < give_up:
                time.sleep(0.01)
            if len(found) == 2:
                source.stop()
    assert found[1] - found[0] - 1 >= 3
    assert found[1] - found[0] - 1 <= source.counts.dropped


def test_every_third_frame_of_a_camera_is_no_drop():
    with MjpegServer(frames=12, pause=0.06) as server:
        source = CameraSource(server.address, every=3, **PATIENT)
        found = []
        for frame in source:
            found.append(int(frame.name.rpartition("_")[2]))
            if len(found) == 3:
                source.stop()
    assert found == [0, 3, 6]
    assert source.counts.dropped == 0


def test_a_camera_that_is_lost_for_good():
    with MjpegServer(frames=3) as server:
        source = CameraSource(server.address, **PATIENT | {"reconnects": 2})
        frames = iter(source)
        next(frames)
        server.cut_off()
        with pytest.raises(CameraError) as caught:
            list(frames)
    assert source.counts.given >= 1
    assert source.counts.reconnects == 0
    assert str(caught.value) == (
        f"http://127.0.0.1:{server.port} must deliver frames, but the connection was lost and 2 "
        "attempts in 0 s did not bring it back. Check its power and network, or allow more "
        "attempts."
    )


def test_ffmpeg_and_opencv_say_nothing_of_a_camera():
    """In a process of its own: FFmpeg's level is set when the first video is opened."""
    environment = {k: v for k, v in os.environ.items() if k != "OPENCV_FFMPEG_LOGLEVEL"}
    program = (
        "import sys; from blemish.errors import CameraError; from blemish.sources import *\n"
        "for address in (sys.argv[1], 'rtsp://me:s3cret@127.0.0.1:9/x', 77):\n"
        "    try: list(CameraSource(address, reconnects=0))\n"
        "    except CameraError as error: print(error)"
    )
    with MjpegServer(frames=3) as server:
        command = [sys.executable, "-c", program, server.address]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3
    assert "s3cret" not in done.stdout


@pytest.mark.parametrize(
    ("address", "shown"),
    [("http://me:s3cret@127.0.0.1:9/x", "http://127.0.0.1:9"), (77, "camera 77")],
)
def test_a_camera_that_cannot_be_opened(address, shown):
    source = CameraSource(address)
    with pytest.raises(CameraError) as caught:
        next(iter(source))
    assert str(caught.value) == (
        f"{shown} must be a camera that delivers frames, but cannot be opened. Check its number or "
        "address, user and password, and that no other program uses it."
    )


def test_an_address_of_no_camera():
    with pytest.raises(InputError) as caught:
        CameraSource("ftp://me:s3cret@10.0.0.5/x")
    assert str(caught.value) == (
        "The address of a camera must begin with rtsp, rtsps, rtmp, http, https, udp, srt and ://, "
        "but begins with 'ftp'. Give it whole, or the number of a USB camera."
    )


def test_nothing_of_a_camera_is_left_running():
    with MjpegServer(frames=50) as server:
        frames = iter(CameraSource(server.address, **PATIENT))
        next(frames)
        assert any(thread.name == "camera" for thread in threading.enumerate())
        frames.close()
        assert not any(thread.name == "camera" for thread in threading.enumerate())


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=12)


@given(user=words, password=words, query=words)
def test_no_part_of_a_password_is_ever_shown(user, password, query):
    """Whatever signs are in it."""
    shown = without_credentials(f"rtsp://{user}:{password}@10.0.0.5:554/stream?{query}")
    assert shown in ("rtsp://10.0.0.5:554", "rtsp://...")


# Judging ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return small_model()


def test_frames_are_judged_as_images_are(model, tmp_path):
    images = [good_image(50), spoiled_image(51)[0], good_image(52)]
    path = write_video(tmp_path / "c.avi", images=images, rate=10.0)
    found = list(inspect_source(model, VideoSource(path)))
    assert [one.name for one in found] == ["c_000000", "c_000001", "c_000002"]
    assert [round(one.time, 3) for one in found] == [0, 0.1, 0.2]
    assert [one.path for one in found] == [frame_path(path, number) for number in range(3)]
    scores = [model.score(one.path).image_score for one in found]
    assert [one.decision.score.image_score for one in found] == scores
    assert [one.decision.is_anomalous for one in found] == [False, True, False]


def test_a_damaged_video_is_judged_as_far_as_it_goes(model, tmp_path):
    path = cut_off(write_video(tmp_path / "c.avi", frames=50))
    *found, last = list(inspect_source(model, VideoSource(path)))
    assert len(found) > 5 and all(one.decision is not None for one in found)
    assert last.decision is None and "must hold 50 frames" in str(last.error)


def test_few_frames_of_a_video_are_held_at_a_time(model, tmp_path):
    path = write_video(tmp_path / "c.avi", frames=60, size=SIZE)
    source = VideoSource(path)
    found = inspect_source(model, source)
    next(found)
    assert source.counts.given <= 12
    found.close()


class Waiting(ImageSource):
    """Live: gives the next image only when the result of the last one was taken."""

    is_live = True

    def __init__(self):
        super().__init__()
        self.results = 0

    def __iter__(self):
        for number in range(5):
            assert self.results == number, "asked for the next image before giving a result"
            yield Frame(f"{number}", DecodedImage(Path(f"{number}"), good_image(number)))


def test_results_of_a_live_source_do_not_wait_for_the_next_image(model):
    source = Waiting()
    for _ in inspect_source(model, source):
        source.results += 1
    assert source.results == 5


def test_unreadable_images_can_leave_a_process():
    image = UnreadableImage(Path("a.png"), ImageError("a.png cannot be read: why. Do."))
    again = pickle.loads(pickle.dumps(image))
    with pytest.raises(ImageError, match="cannot be read"):
        again.read_size()
