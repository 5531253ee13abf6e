"""Explanations: contributions that sum to the score, whatever the model; against dull formulas."""

import json
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blemish
from blemish.backbones import load_backbone
from blemish.backbones.channel_names import channel_names
from blemish.engines.engine import EngineSettings
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import InputError
from blemish.explanation.contributions import corr_max, judges_of, level_terms
from blemish.explanation.dimension_names import dimensions_of
from blemish.explanation.explaining import Explainer, explain
from blemish.explanation.panels import explanation_picture
from blemish.explanation.tail_probability import LEAST_SCORES, SMALLEST, tail_probability
from blemish.explanation.words import lines
from blemish.gaussian import Regularisation, gaussian_of
from blemish.judge import judge_of, neighbourhoods_of
from blemish.model import Model
from blemish.nearest import nearest
from blemish.operating_points import make_point
from blemish.scorer import LeftOutScorer
from blemish.scoring import SCORES, level_distances
from embeddings import PYRAMID, made_up_levels, moments_of
from small_models import SIZE, good_image, good_images, model_of, small_model, spoiled_image

pytestmark = pytest.mark.usefixtures("in_f32")

SEPARATE = {"separate": True, "standardise": True, "averaging": (4, 3), "dims": (4, 5)}
MASK = np.zeros(SIZE, bool)
MASK[:, :9] = True
KINDS = {
    "standardised": {"standardise": True},
    "shared": {"shared": True},
    "top k": {"top_k": 7},
    "separate top k": {**SEPARATE, "top_k": 3},
    "projected": {"reduction": "semi-orthogonal"},
    "summed": {"layer_sums": True},
    "bicubic": {"upsampling": "bicubic", "blur": "box"},
    "unblurred": {"blur": "none", "upsampling": "nearest"},
    "shrunk": {"shrinkage": "oas"},
}
CASES = [
    *((score, "", {}) for score in SCORES),
    *((score, "separate", SEPARATE) for score in SCORES),
    *(("hybrid" if k % 2 else "gaussian", kind, KINDS[kind]) for k, kind in enumerate(KINDS)),
]
F32 = EngineSettings(precision="f32")


@lru_cache(maxsize=1)
def usual_model():
    return small_model()


def total_of_channels(found):
    channels = sum(each.contribution for each in found.channels)
    offsets = sum(layer.standardisation for layer in found.layers)
    return channels + found.other_channels + offsets + found.constant


def assert_adds_up(model, image):
    explainer = Explainer(model)
    found = explainer.explain(image)
    inputs = model.preprocessing.apply(image)[None]
    judged = judge_of(model.fitted)(model.embedding(explainer._extract(inputs)))
    score = judged.scores[0]
    total = sum(layer.image for layer in found.layers) + found.constant
    assert total == pytest.approx(score, rel=1e-4)
    assert total_of_channels(found) == pytest.approx(score, rel=1e-4)
    assert found.image_score == pytest.approx(score, rel=1e-6)
    np.testing.assert_allclose(found.anomaly_map, judged.maps[0], rtol=1e-5)
    first = found.peaks[0]
    assert first.map_value == pytest.approx(found.anomaly_map[first.pixel])
    if found.constant == 0:
        assert sum(layer.map for layer in found.layers) == pytest.approx(first.map_value, rel=1e-4)
    return found


@pytest.mark.parametrize("changes", [{}, SEPARATE], ids=["one part", "separate"])
def test_the_score_explained_is_that_of_the_model(changes):
    model, image = small_model(**changes), spoiled_image(3)[0]
    found, score = explain(model, image), Model(model.fitted, F32).score(image)
    total = sum(layer.image for layer in found.layers)
    assert total == pytest.approx(score.image_score, rel=1e-4)
    np.testing.assert_allclose(found.anomaly_map, score.anomaly_map, rtol=1e-3, atol=1e-4)
    for name, level in Model(model.fitted, F32).level_maps(score).items():
        np.testing.assert_allclose(found.layer_maps[name], level, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("score", "kind", "changes"), CASES, ids=lambda value: str(value)[:20])
def test_contributions_sum_to_the_score(score, kind, changes):
    found = assert_adds_up(model_of(changes, score), spoiled_image(3)[0])
    assert sum(peak.share for peak in found.peaks) == pytest.approx(1.0)
    kinds = {each.kind for each in found.channels}
    assert kinds <= {"distance", "deviation"}
    if score == "gaussian":
        assert kinds == {"distance"}
        assert all(each.contribution > 0 for each in found.channels)
    if score.startswith("chebyshev"):
        assert kinds <= {"deviation"}


@pytest.mark.parametrize("changes", [{}, SEPARATE], ids=["one part", "separate"])
def test_what_is_ignored_explains_nothing(changes):
    found = assert_adds_up(small_model(ignore_mask=MASK, **changes), spoiled_image(3)[0])
    assert all(not MASK[peak.pixel] for peak in found.peaks)


@pytest.mark.parametrize("score", ["gaussian", "hybrid"])
def test_with_a_neighbourhood_the_gaussian_that_judged_explains(score):
    found = small_model(score=score, neighbourhood=1)
    assert_adds_up(found, spoiled_image(3)[0])


def test_the_peak_is_the_highest_pixel_and_lies_on_the_defect():
    image, mask = spoiled_image(3)
    found = explain(usual_model(), image)
    assert found.peaks[0].pixel == np.unravel_index(found.anomaly_map.argmax(), SIZE)
    assert found.peaks[0].map_value == pytest.approx(found.image_score)
    x, y, wide, high = found.peaks[0].box
    rows, columns = np.nonzero(mask)
    assert columns.min() - 2 <= x and x + wide <= columns.max() + 3
    assert rows.min() - 2 <= y and y + high <= rows.max() + 3


def test_places_are_in_pixels_of_the_source_image():
    image = spoiled_image(3)[0]
    small, large = (
        explain(usual_model(), each).peaks[0]
        for each in (image, np.repeat(np.repeat(image, 3, axis=0), 2, axis=1))
    )
    assert large.input_box == small.input_box
    assert large.box == tuple(np.multiply(small.box, (2, 3, 2, 3)))
    assert (large.x, large.y) == (2 * small.x, 3 * small.y)


def test_peaks_do_not_overlap():
    image = good_image(3).copy()
    image[2:6, 2:6] = image[26:30, 18:22] = 255
    boxes = [peak.input_box for peak in explain(usual_model(), image).peaks]
    assert len(boxes) > 1
    for k, (x, y, wide, high) in enumerate(boxes):
        for u, v, across, down in boxes[:k]:
            assert x >= u + across or u >= x + wide or y >= v + down or v >= y + high


# --- the partition of the distance -------------------------------------------------------------


@given(seed=st.integers(0, 10_000), dims=st.integers(1, 6))
@settings(max_examples=30)
def test_law_corr_max_contributions_sum_to_the_squared_distance(seed, dims):
    generator = np.random.default_rng(seed)
    factor = np.tril(generator.normal(size=(2, dims, dims))) + 3 * np.eye(dims)
    away = generator.normal(size=(2, dims))
    whitened = np.linalg.solve(factor, away[..., None])[..., 0]
    found = corr_max(whitened, np.linalg.inv(factor))
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), (whitened**2).sum(axis=1), rtol=1e-9)
    covariance = factor @ factor.transpose(0, 2, 1)
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    values, vectors = np.linalg.eigh(covariance / scale[:, :, None] / scale[:, None])
    root = (vectors / np.sqrt(values)[:, None]) @ vectors.transpose(0, 2, 1)  # R^-1/2, by eigen
    expected = np.einsum("sij,sj->si", root, away / scale) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_levels_split_as_the_score_does_and_expect_what_regression_says():
    moments = moments_of(made_up_levels(40))
    levels = [array[0] for array in made_up_levels(1, seed=5)]
    gaussian = gaussian_of(moments, Regularisation(ridge=1e-9))
    at = np.arange(PYRAMID.positions(PYRAMID.levels - 1))
    found = level_terms(levels, gaussian, at, at)
    last = PYRAMID.levels - 1
    for level, squared in enumerate(level_distances([a[None] for a in levels], gaussian)):
        spread = PYRAMID.spread(squared, level)[0]
        np.testing.assert_allclose(found[level].channels.sum(axis=1), spread, rtol=1e-6)
    # the coarsest level expects its mean; the next, the least-squares line on the coarsest
    np.testing.assert_allclose(
        found[0].expected, moments.means[0][PYRAMID.ancestors(last, 0)], rtol=1e-9
    )
    samples = made_up_levels(40)
    cell = 3
    above = PYRAMID.ancestors(1, 0)[cell]
    design = np.column_stack([np.ones(40), samples[0][:, above]])
    line = np.linalg.lstsq(design, samples[1][:, cell], rcond=None)[0]
    position = int(np.flatnonzero(PYRAMID.ancestors(last, 1) == cell)[0])
    np.testing.assert_allclose(
        found[1].expected[position], np.concatenate([[1.0], levels[0][above]]) @ line, rtol=1e-5
    )


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vertical", "horizontal", "rising 45°", "falling 45°"])
def test_the_filter_that_answers_most_is_named_as_the_lines_it_sees(name):
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    across = {"vertical": x, "horizontal": y, "rising 45°": (x + y) / 2**0.5}
    across["falling 45°"] = (x - y) / 2**0.5  # y runs downwards
    stripes = 0.5 + 0.4 * np.cos(2 * np.pi * across[name] / 8)
    image = np.repeat(stripes[None, None], 3, axis=1).astype(np.float32)
    backbone = load_backbone("builtin")
    maps = FeatureExtractor(backbone, (64, 64), precision="f32")(image)[1][0]
    names = channel_names(backbone, 1)
    first = [k for k, each in enumerate(names) if "lines" in each and "pattern" not in each]
    best = max(first, key=lambda k: maps[k, 2:-2, 2:-2].mean())
    assert names[best] == f"{name} lines of 8 px"


def test_every_channel_has_one_name():
    backbone = load_backbone("builtin", layers=(1, 2, 3, 4))
    for number, layer in enumerate(backbone.layers):
        names = channel_names(backbone, number)
        assert len(names) == len(set(names)) == layer.channels


@pytest.mark.parametrize(
    ("changes", "channel", "name"),
    [
        ({}, 0, "channel 0"),
        ({"reduction": "semi-orthogonal"}, None, "projection 0 of 4 channels"),
        ({"layer_sums": True}, 0, "channel 0"),
    ],
    ids=["channels", "projections", "sums"],
)
def test_dimensions_are_named_for_what_they_are(changes, channel, name):
    model = model_of({"dims": (2, 3), "reduction": "stratified", **changes})
    coarse, fine = dimensions_of(model.backbone, model.embedding)
    assert [len(coarse), len(fine)] == [3, 2]
    if channel is not None:
        assert fine[0].channel == model.embedding.selections[0][0]
        name = f"channel {fine[0].channel}"
    assert (fine[0].name, fine[0].layer) == (name, "fine")
    if changes.get("layer_sums"):
        kept = coarse[0].channel
        assert coarse[0].name == f"channel {kept} + fine channel {kept % 4}"


# --- how rare ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "higher"), [(-1.0, 30), (10.0, 20), (29.0, 1), (29.5, 0)])
def test_the_p_value_counts(value, higher):
    found = tail_probability(np.arange(30.0), value)
    assert (found.higher, found.p_value) == (higher, (1 + higher) / 31)
    assert (found.extrapolated is None) == (higher > 0)


def test_few_scores_are_not_extrapolated():
    assert tail_probability(np.arange(LEAST_SCORES - 1.0), 1e9).extrapolated is None


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
@settings(max_examples=20)
def test_law_rarity_has_no_unit(scale, shift):
    scores = np.random.default_rng(0).gamma(3, size=60)
    plain = tail_probability(scores, 15.0)
    moved = tail_probability(scale * scores + shift, scale * 15.0 + shift)
    assert moved.extrapolated == pytest.approx(plain.extrapolated, rel=1e-3)


def test_law_higher_is_rarer():
    scores = np.random.default_rng(1).normal(size=100)
    found = [tail_probability(scores, value).extrapolated for value in (3.0, 4.0, 6.0, 9.0)]
    assert found == sorted(found, reverse=True)
    assert found[-1] >= SMALLEST


def test_equal_scores_are_no_trouble():
    found = tail_probability(np.full(50, 3.0), 4.0)
    assert found.interval == (SMALLEST, SMALLEST)


def test_an_exponential_tail_is_found():
    scores = np.random.default_rng(2).exponential(size=400)
    found = tail_probability(scores, 10.0)
    assert found.interval[0] <= np.exp(-10) <= found.interval[1]


# --- compared with good images -----------------------------------------------------------------


def test_the_most_similar_good_image_is_the_nearest_by_its_distance():
    model, image = usual_model(), spoiled_image(3)[0]
    found = explain(model, image, good=good_images(40))
    explainer = Explainer(model)
    gaussian = gaussian_of(model.parts[0].moments, model.parts[0].regularisation)
    row, column = found.peaks[0].pixel
    inputs = [model.preprocessing.apply(each) for each in [image, *good_images(40)]]
    levels = model.embedding(explainer._extract(np.stack(inputs)))
    grid = model.pyramid.finest
    position = row * grid[0] // SIZE[0] * grid[1] + column * grid[1] // SIZE[1]
    apart = [
        [
            mean + array[:1] - other
            for mean, array, other in zip(gaussian.means, levels, each, strict=True)
        ]
        for each in ([array[k : k + 1] for array in levels] for k in range(1, 41))
    ]
    squares = [
        sum(
            model.pyramid.spread(square, k)[0, position]
            for k, square in enumerate(level_distances(each, gaussian))
        )
        for each in apart
    ]
    assert found.similar.image == f"image {int(np.argmin(squares))}"
    assert found.similar.distance == pytest.approx(np.sqrt(min(squares)), rel=1e-4)
    assert found.similar.pixels.shape == (*SIZE, 3)


@pytest.mark.parametrize("changes", [{}, SEPARATE], ids=["one part", "separate"])
def test_any_place_holds_a_patch_at_least_as_similar(changes):
    model, image = small_model(**changes), spoiled_image(3)[0]
    found = explain(model, image, good=good_images(40), anywhere=True)
    assert found.similar_anywhere.distance <= found.similar.distance * (1 + 1e-5)


def test_a_patch_that_was_moved_is_found_where_it_is():
    model = usual_model()
    image, moved = good_image(50).copy(), good_image(51).copy()
    moved[16:28, 8:20] = image[4:16, 4:16] = np.random.default_rng(0).integers(
        0, 255, (12, 12, 3), dtype=np.uint8
    )
    found = explain(model, image, good=[*good_images(5), moved], anywhere=True)
    assert found.similar_anywhere.image == "image 5"
    x, y, *_ = found.similar_anywhere.box
    assert (x - found.peaks[0].input_box[0], y - found.peaks[0].input_box[1]) == pytest.approx(
        (4, 12), abs=2
    )


def test_kept_features_do_without_the_images():
    model = small_model(keep_features=True)
    image = spoiled_image(3)[0]
    kept, given_ = explain(model, image), explain(model, image, good=good_images(40))
    assert kept.similar.image == given_.similar.image
    assert kept.similar.distance == pytest.approx(given_.similar.distance, rel=1e-2)
    assert kept.similar.pixels is None
    assert kept.position_p_values == given_.position_p_values


def test_the_p_value_of_a_place_is_by_left_out_distances():
    model, image = usual_model(), spoiled_image(3)[0]
    found = explain(model, image, good=good_images(40))
    assert found.position_p_values == {"all layers": 1 / 41}
    calm = explain(model, good_image(77), good=good_images(40))
    row, column = calm.peaks[0].pixel
    grid = model.pyramid.finest
    position = row * grid[0] // SIZE[0] * grid[1] + column * grid[1] // SIZE[1]
    part = model.parts[0]
    scorer = LeftOutScorer(part.moments, part.regularisation, model.settings.score_settings)
    inputs = np.stack([model.preprocessing.apply(each) for each in good_images(40)])
    explainer = Explainer(model)
    left_out = scorer(model.embedding(explainer._extract(inputs)))[:, position]
    own = explainer._score(good_image(77)).scores[0][position]
    assert calm.position_p_values["all layers"] == pytest.approx((1 + (left_out >= own).sum()) / 41)


def test_other_good_images_give_no_p_value_of_the_place():
    found = explain(usual_model(), spoiled_image(3)[0], good=good_images(39))
    assert found.position_p_values == {}
    assert found.similar is not None


def test_a_training_image_is_known_and_not_compared_with_itself():
    found = explain(usual_model(), good_image(4), good=good_images(40))
    assert found.is_training_image
    assert found.similar.image != "image 4"
    assert found.similar.distance > 0
    assert not explain(usual_model(), good_image(99)).is_training_image


def test_too_few_good_images_are_refused():
    with pytest.raises(InputError) as caught:
        explain(usual_model(), good_image(4), good=[good_image(4)] * 3)
    assert str(caught.value) == (
        "There must be at least 2 good images other than the one explained, but there are 0. "
        "Give more."
    )


# --- as data, in words and as a picture --------------------------------------------------------


def test_all_but_the_pictures_is_json():
    found = explain(usual_model(), spoiled_image(3)[0], good=good_images(40), anywhere=True)
    values = json.loads(json.dumps(found.to_json()))
    assert values["score"] == found.image_score
    assert values["decision"] == "anomalous"
    assert set(values["peaks"][0]) == {
        "x", "y", "box", "pixel", "map_value", "good_share", "share",
    }  # fmt: skip
    assert [layer["layer"] for layer in values["layers"]] == ["coarse", "fine"]
    assert values["similar"]["image"] == found.similar.image
    assert values["good_images"]["count"] == 40


def test_the_picture_shows_another_for_a_good_image():
    model = usual_model()
    pictures = [
        explanation_picture(model, explain(model, image, good=good_images(40)))
        for image in (good_image(60), spoiled_image(3)[0])
    ]
    assert [picture.shape[1] for picture in pictures] == [1400, 1400]
    assert all(picture.dtype == np.uint8 for picture in pictures)
    red = [
        (np.abs(picture.astype(int) - (178, 34, 20)).sum(axis=2) == 0).sum() for picture in pictures
    ]
    assert red[0] == 0 and red[1] > 500  # the colour of the alarm


@pytest.mark.parametrize("changes", [{}, SEPARATE, {"standardise": True}], ids=str)
def test_every_kind_of_model_can_be_put_into_words_and_drawn(changes):
    model = small_model(score="hybrid-calibrated", **changes)
    found = explain(model, spoiled_image(3)[0])
    text = lines(found)
    assert [line.split()[0] for line in text if not line.startswith(" ")] == [
        "anomalous", "rarity", "where", "layers", "channels",
    ]  # fmt: skip
    assert explanation_picture(model, found).ndim == 3


def test_it_is_exported_by_the_package():
    assert blemish.explain is explain
    assert "image_score" in blemish.Explanation.__annotations__


def test_judges_are_those_that_find_a_position_most_usual():
    model = small_model(neighbourhood=1)
    explainer = Explainer(model)
    found = explainer._score(spoiled_image(3)[0])
    scorer = explainer._judge.scorers[0]
    near = neighbourhoods_of([scorer.pyramid], model.settings, None)[0]
    at = np.arange(scorer.pyramid.positions(-1))
    judges = judges_of(found.levels, scorer, near, at)
    batch = [array[None] for array in found.levels]
    total = nearest(batch, near, lambda d, _: np.sqrt(d), gaussian=scorer.gaussian, moments=None)
    squared = sum(
        term.channels.sum(axis=1) for term in level_terms(found.levels, scorer.gaussian, at, judges)
    )
    np.testing.assert_allclose(np.sqrt(squared), total.total[0], rtol=1e-4)


# --- models that align -------------------------------------------------------------------------


def test_of_an_aligned_part_the_peak_is_told_where_it_lies_in_the_source_image():
    size = (64, 64)
    rows, columns = np.mgrid[:96, :96]
    part = (np.abs(rows - 44) < 20) & (np.abs(columns - 50) < 26) & (rows + columns > 64)

    def photo(number, shift=(0, 0), spot=False):
        generator = np.random.default_rng([3, number])
        scene = 60 + 110.0 * part
        if spot:
            scene[48:54, 60:66] = 0
        moved = np.roll(scene, shift, axis=(0, 1))[16:80, 16:80, None]
        return (moved + generator.normal(0, 2, (*size, 3))).clip(0, 255).astype(np.uint8)

    model = blemish.fit(
        [photo(number) for number in range(30)],
        blemish.FitSettings(size=size, align="shift", sigma=2.0, dims=(6, 6, 6)),
    )
    found = explain(model, photo(99, shift=(3, -4), spot=True))
    peak = found.peaks[0]
    assert found.is_aligned
    # the spot's middle is at x 62.5, y 50.5 of the scene, which is cut at 16 and shifted
    assert (peak.x, peak.y) == pytest.approx((62.5 - 16 - 4 + 0.5, 50.5 - 16 + 3 + 0.5), abs=4)
    row, column = peak.pixel
    assert (column + 0.5 - 4, row + 0.5 + 3) == pytest.approx((peak.x, peak.y), abs=0.5)
    score = Model(model.fitted, F32).score(photo(99, shift=(3, -4), spot=True))
    assert found.image_score == pytest.approx(score.image_score, rel=1e-4)
    np.testing.assert_array_equal(
        found.mean_pixels, model.fitted.alignment.reference.transpose(1, 2, 0)
    )


def test_places_are_those_of_the_operating_point_that_is_asked_for():
    model = usual_model()
    point = make_point("all", model.calibration, value=0.0, pixel_value=0.0)
    model = model.with_operating_points(model.operating_points.with_point(point))
    image = good_image(70)
    usual, everything = explain(model, image), explain(model, image, operating_point="all")
    assert everything.threshold == 0.0 and everything.is_anomalous
    assert len(everything.peaks) > len(usual.peaks)
