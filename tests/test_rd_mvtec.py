"""The Rd-MVTec protocol: every image and its mask moved alike, by seed and name alone."""

import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import blemish.benchmark
from benchmark_data import made_up_run, write_data, write_tiny_backbone
from blemish.benchmark import Benchmark, run_benchmark
from blemish.benchmark_summary import Summary, runs_csv
from blemish.benchmark_tables import notes
from blemish.datasets import BORDERS, RdMvtec, Sample, read_dataset
from blemish.datasets.motion import Motion, MovedImage
from blemish.errors import ImageError, InputError
from blemish.evaluation import evaluate
from blemish.fitting import fit
from blemish.loading import load_ahead, load_input
from blemish.preprocessing import Preprocessing
from blemish.published import MVTEC_CATEGORIES
from blemish.run_log import RunLog
from blemish.settings import FitSettings

pytestmark = pytest.mark.usefixtures("in_f32")

SMALL = RdMvtec(size=36, crop=32)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width, seed=0):
    return cv2.GaussianBlur(noise(height, width, seed), (0, 0), 3)


def motion_of(name, *, protocol=SMALL, seed=0, split="test", category="cup"):
    return protocol.motion(category, split, name, seed=seed, interpolation="bicubic")


motions = st.builds(
    Motion,
    angle=st.floats(-30, 30),
    down=st.integers(-4, 4),
    right=st.integers(-4, 4),
    size=st.just(40),
    crop=st.just(32),
    border=st.sampled_from(BORDERS),
    order=st.sampled_from(["resize-first", "rotate-first"]),
    rotation=st.just("nearest"),
)


@pytest.mark.parametrize("size", [(256, 256), (300, 300), (160, 401), (333, 257)])
@pytest.mark.parametrize("order", ["resize-first", "rotate-first"])
def test_without_motion_it_is_the_papers_preprocessing(size, order):
    motion = RdMvtec(max_rotation=0, random_crop=False, order=order).motion(
        "", "", "", seed=0, interpolation="bicubic"
    )
    image, mask = noise(*size), noise(*size)[..., 0] < 40
    expected = Preprocessing.paper().apply(image)
    np.testing.assert_array_equal(
        Preprocessing.full((224, 224)).apply(motion.apply(image)), expected
    )
    np.testing.assert_array_equal(
        motion.apply_to_mask(mask), Preprocessing.paper().apply_to_mask(mask)
    )


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("angle", [-10.0, 3.0, 25.0])
def test_an_image_is_turned_as_scipy_turns_it(angle, border):
    image = smooth(60, 80)
    motion = Motion(angle, down=3, right=-2, size=60, crop=50, border=border)
    turn = np.radians(angle)
    towards_source = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    centre = np.array([59, 79]) / 2
    corner = np.array([5 + 3, 15 - 2])
    places = np.stack(np.mgrid[:50, :50], axis=-1) + corner - centre
    source = np.moveaxis(places @ towards_source.T + centre, -1, 0)
    mode = {"replicate": "nearest", "reflect": "reflect", "black": "grid-constant"}[border]
    expected = np.stack(
        [
            ndimage.map_coordinates(image[..., k].astype(float), source, order=1, mode=mode)
            for k in range(3)
        ],
        axis=-1,
    )
    # OpenCV places pixels to 1/32, which is a lot at the edge of what is black.
    assert np.quantile(np.abs(motion.apply(image) - expected), 0.98) < 2
    deep = motion.apply((image / 255).astype(np.float32))
    assert deep.dtype == np.float32
    assert np.quantile(np.abs(255 * deep - expected), 0.98) < 2


def test_angles_are_counter_clockwise():
    image = np.zeros((41, 41, 3), np.uint8)
    image[19:22, 30:33] = 255  # right of the centre
    turned = Motion(90.0, down=0, right=0, size=41, crop=41).apply(image)
    assert turned[8:11, 19:22].min() == 255 and turned.sum() == image.sum()


@given(motion=motions, wide=st.integers(40, 60), seed=st.integers(0, 99))
def test_law_a_mask_moves_as_an_image_of_it(motion, wide, seed):
    mask = smooth(40, wide, seed)[..., 0] > 128
    image = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    shown = motion.apply(image)[..., 0] > 0
    # OpenCV finds the nearest pixel in fixed point: a few lie on the other side.
    assert (shown != motion.apply_to_mask(mask)).mean() < 0.01


@given(motion=motions, seed=st.integers(0, 99))
def test_law_a_mask_of_twice_the_size_moves_alike(motion, seed):
    mask = noise(40, 52, seed)[..., 0] > 128
    larger = mask.repeat(2, axis=0).repeat(2, axis=1)
    motion = replace(motion, order="resize-first")
    np.testing.assert_array_equal(motion.apply_to_mask(larger), motion.apply_to_mask(mask))


def test_bicubic_never_leaves_the_range_of_deep_images():
    image = (noise(40, 40)[..., :1] > 128).repeat(3, axis=2).astype(np.float32)
    moved = Motion(7.0, 0, 0, size=40, crop=32, rotation="bicubic").apply(image)
    assert moved.min() == 0 and moved.max() == 1


def test_motions_are_uniform_and_reach_every_place():
    found = [motion_of(f"good/{k}.png", protocol=RdMvtec()) for k in range(3000)]
    angles = np.array([one.angle for one in found])
    assert -10 <= angles.min() < -9.9 and 9.9 < angles.max() < 10
    assert abs(angles.mean()) < 0.4 and angles.std() == pytest.approx(20 / 12**0.5, rel=0.05)
    for places in ([one.down for one in found], [one.right for one in found]):
        values, counts = np.unique(places, return_counts=True)
        assert values.tolist() == list(range(-16, 17))
        assert counts.min() > 45
    downs = np.array([one.down for one in found])
    assert abs(np.corrcoef(angles, downs)[0, 1]) < 0.06


@given(size=st.integers(2, 60), share=st.floats(0.1, 1), long=st.floats(1, 3), name=st.text())
def test_law_the_square_lies_in_the_image(size, share, long, name):
    protocol = RdMvtec(max_rotation=0, size=size, crop=max(1, int(size * share)), border="black")
    motion = protocol.motion("", "", name, seed=0, interpolation="bicubic")
    mask = np.ones((size, int(size * long)), bool)
    assert motion.apply_to_mask(mask).all()
    assert motion.apply_to_mask(mask.T).all()


def test_seed_category_split_and_name_decide_and_nothing_else(tmp_path):
    data = write_data(tmp_path / "here", "cup")
    samples = read_dataset(data, split="test")
    version = SMALL.version(samples, category="cup", split="test", seed=3)
    backwards = SMALL.version(samples[::-1], category="cup", split="test", seed=3)
    assert version == backwards[::-1]
    elsewhere = [
        replace(one, image=Path("/other") / one.image.relative_to(data)) for one in samples
    ]
    moved = SMALL.version(elsewhere, category="cup", split="test", seed=3)
    assert [one.motion for one in moved] == [one.motion for one in version]
    assert len({one.motion for one in version}) == len(samples)
    first = motion_of("good/000.png")
    for other in ({"seed": 1}, {"split": "train"}, {"category": "lid"}):
        assert motion_of("good/000.png", **other) != first
    assert motion_of("bad/000.png") != first


def test_the_random_numbers_are_those_of_the_digest():
    """Spelt out: changing how they are drawn changes every published version."""
    digest = hashlib.sha256(b"rd-mvtec\x004\x00bottle\x00train\x00good/007.png").digest()
    turn, down, right = (int.from_bytes(digest[k : k + 8], "big") / 2**64 for k in (0, 8, 16))
    found = motion_of("good/007.png", protocol=RdMvtec(), seed=4, split="train", category="bottle")
    assert found.angle == pytest.approx(20 * turn - 10)
    assert (found.down, found.right) == (int(33 * down) - 16, int(33 * right) - 16)


def test_threads_read_the_same_pixels(tmp_path):
    data = write_data(tmp_path, "cup")
    samples = SMALL.version(
        read_dataset(data, split="train"), category="cup", split="train", seed=0
    )
    preprocessing = Preprocessing.full((32, 32))
    streamed = list(load_ahead([one.source for one in samples], preprocessing))
    for one, pixels in zip(samples, streamed, strict=True):
        np.testing.assert_array_equal(pixels, load_input(one.source, preprocessing))
        assert one.source.read_size() == (32, 32)
    assert not all(np.array_equal(streamed[0], other) for other in streamed[1:])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), "cup")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = write_tiny_backbone(tmp_path_factory.mktemp("net") / "tiny.onnx")
    return FitSettings(backbone=str(path), dims=4, sigma=1.0)


def test_a_fit_on_moved_files_is_one_on_their_pixels(data, settings):
    train, test = (
        SMALL.version(read_dataset(data, split=split), category="cup", split=split, seed=1)
        for split in ("train", "test")
    )
    settings = replace(settings, size=(32, 32))
    model = fit([one.source for one in train], settings)
    by_hand = fit([one.source.read(value_range=None) for one in train], settings)
    assert model.preprocessing.size == (32, 32)
    assert model.threshold().value == by_hand.threshold().value
    found, seen = [], []

    def collect(sample, inspected, mask):
        found.append(inspected.decision.score.image_score)
        seen.append(mask)

    evaluate(model, test, on_image=collect)
    expected = [by_hand.score(one.source.read(value_range=None)).image_score for one in test]
    assert found == pytest.approx(expected)
    for sample, mask in zip(test, seen, strict=True):
        if sample.is_anomalous:
            source = cv2.imread(str(sample.mask), cv2.IMREAD_GRAYSCALE) > 0
            np.testing.assert_array_equal(mask, sample.motion.apply_to_mask(source))


def test_a_defect_outside_the_square_is_counted(data, settings):
    train = read_dataset(data, split="train")
    test = read_dataset(data, split="test")
    away = Motion(0.0, down=0, right=0, size=512, crop=32)
    bad = [one for one in test if one.is_anomalous]
    moved = [replace(one, motion=away) for one in [*test, *train]]
    model = fit(
        [one.source for one in moved if not one.is_anomalous], replace(settings, size=(32, 32))
    )
    blank = sum(not away.apply_to_mask(cv2.imread(str(one.mask), 0) > 0).any() for one in bad)
    found = evaluate(model, moved[: len(test)])
    assert blank > 0
    assert (found.blank_masks, found.anomalous_images) == (blank, len(bad))


def test_an_unreadable_file_is_named(data, settings, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    moved = MovedImage(broken, motion_of("good/000.png"))
    with pytest.raises(ImageError) as caught:
        fit([moved] * 4, replace(settings, size=(32, 32)))
    assert str(caught.value).startswith(f"4 of 4 images cannot be used. {broken} cannot be read: ")


def test_a_strip_too_long_to_turn_is_an_error(tmp_path):
    strip = tmp_path / "strip.png"
    cv2.imwrite(str(strip), np.zeros((2, 400), np.uint8))
    with pytest.raises(ImageError) as caught:
        MovedImage(strip, motion_of("strip.png", protocol=RdMvtec())).read(value_range=None)
    assert str(caught.value) == (
        f"{strip} must be at most 32766 pixels long to be turned, but is 51200 long. "
        "Cut it into parts."
    )


def test_without_motion_a_benchmark_is_that_of_the_preset_paper(data, settings):
    paper = replace(settings, preset="paper")
    still = RdMvtec(max_rotation=0, random_crop=False)
    aligned = run_benchmark(data, paper, seeds=(2,)).runs[0]
    moved = run_benchmark(data, paper, seeds=(2,), protocol=still).runs[0]
    assert moved.metrics == aligned.metrics
    assert moved.counts == aligned.counts
    assert (moved.settings.preset, moved.settings.size) == ("full", (224, 224))


def test_five_versions_are_measured_and_known_apart(data, settings, tmp_path, monkeypatch):
    def measure(data, settings, backbone, engine, identity, progress):
        assert {one.motion.crop for one in [*data.train, *data.test]} == {32}
        return replace(made_up_run("any", "gaussian", 0), identity=identity)

    monkeypatch.setattr(blemish.benchmark, "_measure", measure)
    path = tmp_path / "runs.jsonl"
    first = run_benchmark(data, settings, protocol=SMALL, log=RunLog(path))
    assert (first.seeds, [run.seed for run in first.runs]) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert [run.settings.seed for run in first.runs] == [0, 1, 2, 3, 4]
    assert {run.settings.size for run in first.runs} == {(32, 32)}
    again = run_benchmark(data, settings, protocol=SMALL, log=RunLog(path))
    assert (again.reused, again.runs) == (5, first.runs)
    for change in ({"border": "black"}, {"max_rotation": 5.0}, {"channel_seed": 0}):
        other = run_benchmark(data, settings, protocol=replace(SMALL, **change), log=RunLog(path))
        assert other.reused == 0


def test_versions_differ_where_channels_do_not(data, settings):
    fixed = replace(SMALL, channel_seed=7)
    found = run_benchmark(data, settings, protocol=fixed, seeds=(0, 1))
    assert [(run.seed, run.settings.seed) for run in found.runs] == [(0, 7), (1, 7)]
    assert found.runs[0].metrics != found.runs[1].metrics
    assert Summary(found).of("image_auroc")[0].spread.seeds == 2
    cells = list(csv.DictReader(io.StringIO(runs_csv(found.runs))))[1]
    assert (cells["seed"], cells["protocol:channel_seed"]) == ("1", "7")
    assert (cells["protocol:name"], cells["protocol:crop"]) == ("rd-mvtec", "32")
    assert json.loads(json.dumps(Summary(found).to_json()))["protocol"] == fixed.to_json()


def test_a_region_of_interest_cannot_lie_still():
    with pytest.raises(InputError) as caught:
        run_benchmark(
            Path("nowhere"), FitSettings(roi=(0, 0, 32, 32)), protocol=SMALL, layout="mvtec"
        )
    assert str(caught.value) == (
        "A region of interest must lie still, but the protocol rd-mvtec moves every image. "
        "Leave the region out."
    )


def test_the_papers_figures_stand_beside_and_below():
    made_up = [
        made_up_run(name, "gaussian", 0, backbone="wide_resnet50_2", dims=550, pixel_auroc=0.9)
        for name in MVTEC_CATEGORIES
    ]
    runs = [
        replace(
            run,
            identity=run.identity | {"protocol": {**RdMvtec().to_json(), "seed": seed}},
            counts=run.counts | {"blank_masks": seed},
        )
        for run in made_up
        for seed in (0, 1)
    ]
    names = list(MVTEC_CATEGORIES)
    summary = Summary(Benchmark("mvtec", names, ["gaussian"], [0, 1], runs, protocol=RdMvtec()))
    mean = summary.of("pixel_auroc")[-1]
    assert (mean.label, mean.spread.seeds, mean.published) == ("mean of 15", 2, 0.922)
    found = notes(summary)
    assert found[:3] == [
        "Protocol rd-mvtec: a seed is one version of the data, training and test. Every image is "
        "resized to a shorter side of 256, turned by up to 10 degrees (bilinear, resize-first), "
        "and cut to 224x224 up to 16 pixels from its centre; border replicate. All figures are of "
        "what is left in the square.",
        "PaDiM paper WR50-Rd550 reports for this protocol a pixel AUROC of 0.922 (0.975 on the "
        "data as they are), the mean of all 15 categories.",
        "PaDiM paper WR50-Rd550 reports for this protocol a PRO of 0.731 (0.921 on the data as "
        "they are), the mean of all 15 categories.",
    ]
    assert not any(note.startswith(("Claim", "The paper crops")) for note in found)
    assert (
        "zipper: in 1 of 126 anomalous images, over all runs, the defect lies outside the "
        "network's input. They count as anomalous, their pixels as good."
    ) in found


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (
            {"max_rotation": 181},
            "max_rotation must be from 0 to 180 degrees, but is 181. The paper's is 10.",
        ),
        (
            {"crop": 257},
            "crop must be from 1 to the size it is cut out of, but they are 257 and 256. "
            "The paper's are 224 and 256.",
        ),
        (
            {"border": "white"},
            "border must be one of replicate, reflect, black, but is 'white'. Choose one.",
        ),
        (
            {"order": "x"},
            "order must be one of resize-first, rotate-first, but is 'x'. Choose one.",
        ),
        (
            {"rotation": "cubic"},
            "rotation must be one of bilinear, bicubic, nearest, but is 'cubic'. Choose one.",
        ),
    ],
)
def test_wrong_parameters_are_errors(parameters, expected):
    with pytest.raises(InputError) as caught:
        RdMvtec(**parameters)
    assert str(caught.value) == expected


def test_a_sample_without_motion_is_its_file():
    sample = Sample(Path("a.png"), defect="good")
    assert sample.source == Path("a.png")
    motion = motion_of("a.png")
    assert replace(sample, motion=motion).source == MovedImage(Path("a.png"), motion)
