import csv

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from blemish.calibration import PIXEL_PROBABILITIES, Calibration
from blemish.datasets import Sample, read_dataset
from blemish.descriptions import evaluation_lines, model_facts, threshold_text
from blemish.errors import DatasetError, ImageError, InputError, OutputError
from blemish.evaluation import evaluate
from blemish.inspection import inspect_images
from blemish.loading import load_ahead, load_batches
from blemish.preprocessing import Preprocessing
from blemish.results import ResultsFolder, csv_line
from blemish.threshold import threshold_for
from small_models import SIZE, good_image, small_model, spoiled_image


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def root(tmp_path):
    """An MVTec tree of the tiny product: 12 good and 8 spoiled test images."""
    for number in range(12):
        write(tmp_path / "test" / "good" / f"{number}.png", good_image(200 + number))
    write(tmp_path / "train" / "good" / "0.png", good_image(0))
    for number in range(8):
        image, mask = spoiled_image(200 + number)
        write(tmp_path / "test" / "spot" / f"{number}.png", image)
        write(tmp_path / "ground_truth" / "spot" / f"{number}_mask.png", mask * np.uint8(255))
    return tmp_path


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_metrics_are_those_of_sklearn_on_the_models_own_scores(model, root):
    samples = read_dataset(root, split="test")
    found = evaluate(model, samples)
    scored = [model.score(sample.image) for sample in samples]
    labels = [sample.is_anomalous for sample in samples]
    scores = [s.image_score for s in scored]
    assert found.image_auroc == pytest.approx(roc_auc_score(labels, scores))
    assert found.image_ap == pytest.approx(average_precision_score(labels, scores))
    truth = np.stack(
        [
            np.zeros(SIZE, bool) if s.mask is None else cv2.imread(str(s.mask), 0) > 0
            for s in samples
        ]
    )
    maps = np.stack([s.anomaly_map for s in scored])
    assert found.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), maps.ravel()))
    assert (found.images, found.good_images, found.anomalous_images) == (20, 12, 8)


def test_decisions_use_the_models_own_threshold(model, root):
    samples = read_dataset(root, split="test")
    found = evaluate(model, samples)
    assert found.threshold == model.threshold()
    alarms = sum(model.classify(s.image).is_anomalous for s in samples if not s.is_anomalous)
    assert found.false_alarms == alarms
    assert found.missed == 8 - found.recall_per_defect["spot"][0]
    expected = stats.binomtest(alarms, 12).proportion_ci(0.95, "exact")
    assert found.false_alarm_interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_labels_never_move_the_threshold(model, root):
    samples = read_dataset(root, split="test")
    swapped = [Sample(s.image, "good" if s.is_anomalous else "spot") for s in samples]
    assert evaluate(model, swapped).threshold == evaluate(model, samples).threshold


def test_without_masks_there_are_image_metrics_only(model, root):
    samples = [Sample(s.image, s.defect) for s in read_dataset(root, split="test")]
    found = evaluate(model, samples)
    assert found.image_auroc is not None
    assert (found.pixel_auroc, found.pro, found.aupimo) == (None, None, None)


def test_with_good_images_only_there_is_the_false_alarm_rate(model, root):
    samples = [s for s in read_dataset(root, split="test") if not s.is_anomalous]
    found = evaluate(model, samples)
    assert (found.image_auroc, found.pixel_auroc, found.missed) == (None, None, 0)
    assert found.good_images == 12
    assert any(line.startswith("false alarms") for line in evaluation_lines(found))


def test_a_defect_that_was_cropped_away_is_counted(root):
    model = small_model(roi=(0, 16, 24, 16), size=(16, 24))  # the spots are above
    found = evaluate(model, read_dataset(root, split="test"))
    assert found.blank_masks == 8
    assert found.pixel_auroc is None


def test_ignored_pixels_do_not_count(root):
    ignored = np.zeros(SIZE, bool)
    ignored[:, :4] = True
    model = small_model(ignore_mask=ignored)
    samples = read_dataset(root, split="test")
    found = evaluate(model, samples)
    truth = np.stack(
        [
            np.zeros(SIZE, bool) if s.mask is None else cv2.imread(str(s.mask), 0) > 0
            for s in samples
        ]
    )[:, :, 4:]
    maps = np.stack([model.score(s.image).anomaly_map for s in samples])[:, :, 4:]
    assert found.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), maps.ravel()))


def test_nothing_readable_is_an_error(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="none of 1 could be read"):
        evaluate(model, [Sample(tmp_path / "a.png", "good")])


def test_masks_of_another_size_are_refused(model, root):
    write(root / "ground_truth" / "spot" / "3_mask.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=r"3_mask\.png"):
        evaluate(model, read_dataset(root, split="test"))


def test_inspection_keeps_order_and_reports_what_it_cannot_read(model, root):
    paths = [sample.image for sample in read_dataset(root, split="test")]
    paths[3].write_text("no image")
    found = list(inspect_images(model, paths))
    assert [one.path for one in found] == paths
    assert isinstance(found[3].error, ImageError)
    assert found[3].decision is None
    for one in found[:3]:
        assert one.decision.score.image_score == model.score(one.path).image_score
        assert one.pixels.shape == (*SIZE, 3)


def test_loading_holds_few_images_at_a_time(tmp_path, monkeypatch):
    write(tmp_path / "a.png", good_image(0))
    started = []
    monkeypatch.setattr(
        "blemish.loading.load_input", lambda *a, **k: started.append(1) or np.zeros((3, 2, 2))
    )
    stream = load_ahead([tmp_path / "a.png"] * 100, Preprocessing.full(SIZE))
    next(stream)
    assert len(started) <= 10
    stream.close()


def test_batches_keep_the_order(tmp_path):
    images = [np.full((*SIZE, 3), k, np.uint8) for k in range(7)]
    batches = list(load_batches(images, Preprocessing.full(SIZE), batch=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    values = np.concatenate(batches)[:, 0, 0, 0]
    np.testing.assert_allclose(values, np.arange(7) / 255, atol=1e-6)


def test_pixel_threshold_is_a_quantile_of_the_left_out_maps():
    quantiles = np.linspace(0, 18, 19)
    calibration = Calibration(np.arange(30.0), quantiles)
    for rate in (0.5, 0.01, 0.001, 0.00001):
        place = np.argmin(np.abs(1 - PIXEL_PROBABILITIES - rate))
        assert calibration.pixel_threshold(rate) == pytest.approx(quantiles[place])
    assert calibration.pixel_threshold(0.0015) == pytest.approx(
        np.interp(np.log(0.0015), np.log([0.001, 0.002]), [11, 10])
    )
    assert calibration.pixel_threshold(1e-7) == 18
    with pytest.raises(InputError, match="pixel false-alarm rate must be between 0 and 1"):
        calibration.pixel_threshold(0.0)


def test_pixel_threshold_keeps_its_rate_on_new_good_images(model):
    threshold = model.pixel_threshold(0.01)
    share = np.mean(
        [(model.score(good_image(k)).anomaly_map >= threshold).mean() for k in range(300, 360)]
    )
    assert share == pytest.approx(0.01, abs=0.01)


def test_results_folder_refuses_unknown_pictures(model, tmp_path):
    with pytest.raises(InputError) as caught:
        ResultsFolder(tmp_path, model, title="t", pictures=["oil painting"])
    assert str(caught.value) == (
        "Pictures must be of five-panel, levels, heat-map, overlay, mask, contour, but 'oil "
        "painting' is asked for. Choose from these."
    )


def test_a_full_disk_while_writing_pictures_is_said(model, root, tmp_path, monkeypatch):
    results = ResultsFolder(tmp_path / "r", model, title="t")
    one = next(iter(inspect_images(model, [root / "test" / "good" / "0.png"])))

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        results.add("0.png", one)
    assert list((tmp_path / "r").rglob("*.png")) == []


def test_names_with_commas_and_quotes_survive_csv():
    line = csv_line(['a "b", c.png', 1.5, None])
    assert next(csv.reader([line])) == ['a "b", c.png', "1.5", ""]


def test_threshold_in_words():
    assert threshold_text(threshold_for(np.arange(209.0), 0.05)) == (
        "199, for at most 5.00% false alarms; long-run rate 2.32% to 8.02% with 95% confidence, "
        "from 209 leave-one-out scores"
    )
    fallback = threshold_text(threshold_for(np.arange(30.0), 0.01))
    assert "from 30 images: too few for 1.00% false alarms, which need 99;" in fallback


def test_facts_name_what_a_user_may_ask(model):
    facts = model_facts(model)
    assert facts["images learned from"] == "40"
    assert facts["embedding"].startswith("6 dimensions, random, seed 0: coarse")
    assert facts["input"] == "32x24 pixels (height x width), preset full"
