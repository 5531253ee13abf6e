"""Frames of video clips: their metrics, smoothed and scaled, and their charts."""

import json
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import roc_auc_score

from blemish.charts import timeline_svg
from blemish.clips import Clip, ClipScores, frame_metrics, smoothed, to_unit_range
from blemish.descriptions import evaluation_lines
from blemish.errors import InputError
from blemish.evaluation import evaluate
from made_up_videos import write_video
from small_models import good_image, small_model, spoiled_image
from test_cli import run

scores = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 100))


def clip_of(name, values, truth):
    return Clip(name, np.arange(len(values)), np.array(values, float), np.array(truth, bool))


@given(values=scores, deviation=st.just(0.0) | st.floats(0.1, 12))
def test_smoothing_is_that_of_scipy(values, deviation):
    expected = gaussian_filter1d(values, deviation) if deviation > 0 else values
    np.testing.assert_allclose(smoothed(values, deviation), expected, rtol=1e-9, atol=1e-9)


@given(values=scores)
def test_scaled_scores_reach_from_0_to_1_in_the_same_order(values):
    scaled = to_unit_range(values)
    assert scaled.min() == 0 and scaled.max() in (0, 1)
    assert (np.argsort(scaled, kind="stable") == np.argsort(values, kind="stable")).all() or (
        np.diff(np.sort(values)).min(initial=1) < 1e-9
    )


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_aurocs_over_all_frames_and_per_clip(smoothing, scaled):
    generator = np.random.default_rng(3)
    clips = []
    for name, share in (("a", 0.3), ("b", 0.6), ("c", 0.0), ("d", 1.0)):
        truth = generator.random(30) < share
        clips.append(clip_of(name, generator.normal(truth * 1.0, 1.0 + len(clips)), truth))
    done = [gaussian_filter1d(c.scores, smoothing) if smoothing else c.scores for c in clips]
    if scaled:
        done = [(values - values.min()) / np.ptp(values) for values in done]
    truth = np.concatenate([clip.is_anomalous for clip in clips])
    measured = frame_metrics(clips, smoothing=smoothing, scaled=scaled)
    assert measured.auroc == pytest.approx(roc_auc_score(truth, np.concatenate(done)))
    per_clip = [roc_auc_score(clips[k].is_anomalous, done[k]) for k in (0, 1)]
    assert measured.clip_auroc == pytest.approx(np.mean(per_clip))
    assert measured.mixed_clips == 2
    assert measured.to_json() == {
        "clips": 4,
        "auroc": measured.auroc,
        "clip_auroc": measured.clip_auroc,
        "mixed_clips": 2,
        "smoothing": smoothing,
        "scaled": scaled,
    }


def test_clips_without_anomalies_have_no_auroc():
    measured = frame_metrics([clip_of("a", [1, 2], [0, 0])])
    assert (measured.auroc, measured.clip_auroc, measured.mixed_clips) == (None, None, 0)


@pytest.mark.parametrize("smoothing", [-1.0, np.nan, np.inf])
def test_a_smoothing_that_is_none(smoothing):
    with pytest.raises(InputError) as caught:
        frame_metrics([], smoothing=smoothing)
    assert str(caught.value) == (
        f"The smoothing must be 0 frames or more, but is {smoothing:g}. Give the standard "
        "deviation of the window, 5 for example, or 0 for none."
    )


@given(truth=st.lists(st.booleans(), max_size=30))
def test_intervals_hold_exactly_the_anomalous_frames(truth):
    intervals = clip_of("a", np.zeros(len(truth)), truth).intervals
    inside = {k for first, last in intervals for k in range(first, last + 1)}
    assert inside == {k for k, bad in enumerate(truth) if bad}
    assert all(after[0] > before[1] + 1 for before, after in pairwise(intervals))


def test_unreadable_frames_leave_a_gap_in_the_numbers():
    gathered = ClipScores()
    for number, score in enumerate((1.0, None, 3.0, 4.0)):
        gathered.add("a", score, is_anomalous=number == 2)
        gathered.add("b", None, is_anomalous=False)
    [clip] = gathered.clips()
    assert (clip.name, clip.frames.tolist(), clip.scores.tolist()) == ("a", [0, 2, 3], [1, 3, 4])
    assert clip.intervals == [(2, 2)]


def rectangles(svg):
    return [e for e in ET.fromstring(svg).iter() if e.tag.endswith("rect") and e.get("y") == "54"]


def test_a_timeline_shades_the_anomalous_frames():
    svg = timeline_svg(
        np.arange(100), np.arange(100.0), intervals=[(10, 29), (50, 50)], threshold=7.5, title="<A>"
    )
    wide, narrow = rectangles(svg)
    assert float(wide.get("width")) == pytest.approx(20 * float(narrow.get("width")), rel=0.05)
    assert float(wide.get("x")) < float(narrow.get("x"))
    assert "&lt;A&gt;" in svg and "threshold 7.5" in svg and "anomalous" in svg
    assert "anomalous" not in timeline_svg(
        np.arange(3), np.zeros(3), intervals=[], threshold=0.0, title="A"
    )


def test_a_long_timeline_keeps_its_peaks():
    values = np.zeros(20_000)
    values[12_345] = 5.0
    svg = timeline_svg(np.arange(20_000), values, intervals=[], threshold=1.0, title="A")
    points = [p.split() for p in re.search(r'd="M([^"]*L[^"]*)"', svg)[1].split("L")]
    assert len(points) <= 800
    assert min(float(y) for _, y in points) < 80  # near the top of the chart


def test_a_timeline_without_frames():
    with pytest.raises(InputError) as caught:
        timeline_svg(np.arange(2), np.zeros(3), intervals=[], threshold=1.0, title="A")
    assert str(caught.value) == (
        "A timeline must have a score for every frame and at least one, but has 2 frames and 3 "
        "scores. Pass the whole clip."
    )


FRAME = (48, 64)
ANOMALOUS = {"01_0014": {4, 5, 6}, "01_0015": set()}


@pytest.fixture(scope="module")
def campus(tmp_path_factory):
    """A scene in the layout of ShanghaiTech, its training clips as videos."""
    root = tmp_path_factory.mktemp("campus")
    for clip in (1, 2):
        images = [good_image(100 * clip + k, FRAME) for k in range(15)]
        write_video(root / f"training/videos/01_00{clip}.avi", images=images)
    for clip, bad in ANOMALOUS.items():
        folder = root / "testing/frames" / clip
        folder.mkdir(parents=True)
        masks = np.zeros((10, *FRAME), np.uint8)
        for k in range(10):
            image = good_image(300 + k, FRAME)
            if k in bad:
                image, masks[k] = spoiled_image(300 + k, FRAME)
            cv2.imwrite(str(folder / f"{k:03}.png"), image[..., ::-1])
        for kind, content in (("frame", masks.any((1, 2))), ("pixel", masks)):
            file = root / f"testing/test_{kind}_mask/{clip}.npy"
            file.parent.mkdir(exist_ok=True)
            np.save(file, content)
    return root


def test_a_scene_is_learned_from_its_videos_and_measured_per_frame(campus):
    model = small_model(images=campus)
    assert model.count == 30
    measured = evaluate(model, campus, clip_smoothing=0.5)
    frames = measured.frames
    assert [clip.name for clip in frames.clips] == list(ANOMALOUS)
    assert [clip.intervals for clip in frames.clips] == [[(4, 6)], []]
    assert frames.mixed_clips == 1
    assert measured.image_auroc == frame_metrics(frames.clips).auroc == 1
    assert measured.pixel_auroc > 0.9
    lines = evaluation_lines(measured)
    assert f"frame AUROC        {frames.auroc:.4f} (smoothed over 0.5 frames)" in lines
    assert (
        f"clip AUROC         {frames.clip_auroc:.4f} (mean of 1 clips, smoothed over 0.5 frames)"
        in lines
    )


def test_the_report_shows_each_clip(campus, tmp_path):
    small_model(images=campus).save(tmp_path / "m.blemish")
    arguments = ("--clip-scaling", "--out", tmp_path / "out", "--pictures", "none")
    result = run("evaluate", tmp_path / "m.blemish", campus, *arguments, "--json")
    assert json.loads(result.stdout)["frames"]["scaled"] is True
    page = (tmp_path / "out" / "report.html").read_text()
    charts = re.findall(r'<svg[^>]*aria-label="Clip (\S+)".*?</svg>', page)
    assert charts == list(ANOMALOUS)


def test_images_that_are_no_frames_have_no_frame_metrics(tmp_path):
    from blemish.generated import write_product

    write_product(tmp_path, train=20, good=2, defective=1, size=(64, 64))
    measured = evaluate(small_model(images=tmp_path, size=(64, 64)), tmp_path)
    assert measured.frames is None
    assert measured.to_json()["frames"] is None
