"""What the method reaches on real images. Skipped where ../shared is absent.

Bars and their sources: bottle and screw of MVTec AD (Bergmann et al., CVPR 2019), ResNet-18 with
100 random dimensions as published (arXiv:2011.08785), three selections.
"""

import json
from functools import lru_cache

import numpy as np
import pytest
from click.testing import CliRunner

from blemish import FitSettings, fit, load
from blemish.cli import main
from blemish.datasets import read_dataset
from blemish.embedding import choose_embedding
from blemish.engines.openvino import FeatureExtractor
from blemish.evaluation import evaluate
from blemish.gaussian import Regularisation, gaussian_of
from blemish.loading import load_batches
from blemish.maps import image_scores
from blemish.moments import Moments
from blemish.scorer import LeftOutScorer, Scorer, ScoreSettings
from blemish.scoring import level_distances, total_distance
from embeddings import dull_distance, whole

pytestmark = pytest.mark.slow
PAPER = {"backbone": "resnet18", "preset": "paper", "dims": 100}
SEEDS = (0, 1, 2)


def images_of(real_data, category, split="train"):
    return read_dataset(real_data / "mvtec" / category, split=split)


def measure(real_data, category, settings, weights=None):
    images = [sample.image for sample in images_of(real_data, category)]
    model = fit(images, settings, weights=weights)
    return evaluate(model, images_of(real_data, category, "test"))


@pytest.mark.parametrize(
    ("category", "image", "pixel"),
    [("bottle", (0.985, 1.0), (0.977, 0.985)), ("screw", (0.74, 0.83), (0.968, 1.0))],
)
def test_padim_r18_reaches_what_is_published(real_data, real_weights, category, image, pixel):
    found = [
        measure(real_data, category, FitSettings(**PAPER, seed=seed), real_weights)
        for seed in SEEDS
    ]
    assert image[0] <= np.mean([f.image_auroc for f in found]) <= image[1]
    assert pixel[0] <= np.mean([f.pixel_auroc for f in found]) <= pixel[1]


@pytest.mark.parametrize(("category", "least"), [("bottle", 0.985), ("screw", 0.67)])
def test_builtin_backbone_is_good_enough_to_start_with(real_data, category, least):
    assert measure(real_data, category, FitSettings()).image_auroc >= least


@pytest.fixture(scope="module")
def bottle_levels(real_data, real_weights):
    """Embeddings of 120 real bottles: list of float32 (N, P, d)."""
    return embeddings_of(real_data, str(real_weights))


@lru_cache(maxsize=1)
def embeddings_of(real_data, weights):
    from pathlib import Path

    from blemish.backbones import load_backbone
    from blemish.preprocessing import Preprocessing

    backbone = load_backbone("resnet18", weights=Path(weights))
    embedding = choose_embedding([la.channels for la in backbone.layers], dims=100, seed=0)
    extractor = FeatureExtractor(backbone, (224, 224))
    images = [sample.image for sample in images_of(real_data, "bottle")[:120]]
    batches = [
        embedding(extractor(inputs))
        for inputs in load_batches(images, Preprocessing.paper(), batch=20)
    ]
    pyramid = embedding.pyramid([(56, 56), (28, 28), (14, 14)])
    return pyramid, [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]


def test_distance_on_real_features_is_that_of_a_full_covariance(bottle_levels):
    pyramid, levels = bottle_levels
    fitted, judged = [a[:110] for a in levels], [a[110:] for a in levels]
    moments = Moments(pyramid)
    moments.update(fitted)
    gaussian = gaussian_of(moments, Regularisation(ridge=0.01))
    exact = total_distance(level_distances([a.astype(float) for a in judged], gaussian), pyramid)
    single = total_distance(level_distances(judged, gaussian.astype(np.float32)), pyramid)
    together = whole(levels, pyramid).astype(np.float64)
    expected = dull_distance(together[:110], together[110:])
    np.testing.assert_allclose(np.sqrt(exact), expected, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(single), expected, rtol=1e-4)


@pytest.mark.parametrize("score", ["gaussian", "hybrid", "chebyshev", "chebyshev-pooled"])
def test_left_out_scores_on_real_features_are_those_of_really_leaving_out(bottle_levels, score):
    pyramid, levels = bottle_levels
    levels = [array.astype(np.float64) for array in levels]
    settings, ridge = ScoreSettings(score), Regularisation(ridge=0.01)
    moments = Moments(pyramid)
    moments.update(levels)
    left_out = LeftOutScorer(moments, ridge, settings)
    for image in (0, 59, 119):
        rest = Moments(pyramid)
        rest.update([np.delete(array, image, axis=0) for array in levels])
        alone = [array[[image]] for array in levels]
        expected = Scorer(rest, ridge, settings, dtype=np.float64)(alone).total
        np.testing.assert_allclose(left_out(alone), expected, rtol=1e-8)


def test_the_words_of_the_command_line_on_real_bottles(real_data, real_weights, tmp_path):
    model = tmp_path / "bottle.blemish"
    bottle = str(real_data / "mvtec" / "bottle")

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    run(
        *("fit", bottle, "--backbone", "resnet18", "--weights", real_weights),
        *("--preset", "paper", "--dims", "100", "--seed", "0", "--out", model),
    )
    assert model.stat().st_size <= 60e6
    run("inspect", model, bottle + "/test", "--out", tmp_path / "results")
    assert (tmp_path / "results" / "report.html").is_file()
    found = json.loads(run("evaluate", model, bottle, "--json"))
    assert found["image_auroc"] >= 0.985
    assert found["pro"] >= 0.92
    assert json.loads(run("info", model, "--json"))["images"] == 209


def test_a_saved_real_model_scores_the_same_after_loading(real_data, real_weights, tmp_path):
    images = [sample.image for sample in images_of(real_data, "bottle")]
    model = fit(images[:30], FitSettings(**{**PAPER, "dims": 20}), weights=real_weights)
    model.save(tmp_path / "a.blemish")
    loaded = load(tmp_path / "a.blemish")
    first, second = model.score(images[40]), loaded.score(images[40])
    np.testing.assert_array_equal(first.anomaly_map, second.anomaly_map)
    assert image_scores(first.anomaly_map[None])[0] == first.image_score


def test_images_that_are_not_square_keep_their_shape(real_data):
    root = real_data / "kolektorsdd_small"
    images = [sample.image for sample in read_dataset(root, split="train")]
    model = fit(images, FitSettings(dims=40))
    assert model.size == (400, 160)
    assert evaluate(model, read_dataset(root, split="test")).image_auroc > 0.8
