"""Models of separate layers: averaging, standardisation, weights, presets."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blemish
from blemish.backbones import Backbone, Layer, load_backbone
from blemish.combination import Combination, PartWeights, part_pyramids, split_levels
from blemish.embedding import average_neighbours
from blemish.errors import InputError
from blemish.evaluation import evaluate
from blemish.gaussian import regularisation_of
from blemish.maps import MapOperator, MapSettings
from blemish.model import load_model
from blemish.moments import Moments
from blemish.pooling import Running
from blemish.presets import PRESETS, preset_values
from blemish.pyramid import Pyramid
from blemish.settings import FitSettings
from blemish.standardisation import PRIOR_IMAGES, Standardisation, standardisation_of
from small_models import SIZE, good_image, good_images, small_model, spoiled_image

SEPARATE = {"separate": True, "standardise": True, "averaging": (4, 3), "dims": (4, 5)}


def network(layers, name="resnet18"):
    described = tuple(Layer(f"layer{k + 1}", 16 << k, 4 << k) for k in range(layers))
    return Backbone(name, b"", described, "made up", "CC0-1.0")


def builtin_of_two_layers():
    return dataclasses.replace(load_backbone("builtin", layers=(1, 2)), name="two")


def averaged_plainly(maps, window):
    """The dull definition: every window by itself."""
    stride = 2 if window == 4 else 1
    height, width = maps.shape[2] // stride, maps.shape[3] // stride
    found = np.empty((*maps.shape[:2], height, width))
    for row in range(height):
        for column in range(width):
            top, left = row * stride - 1, column * stride - 1
            inside = maps[:, :, max(top, 0) : top + window, max(left, 0) : left + window]
            found[:, :, row, column] = inside.mean(axis=(2, 3))
    return found


@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_averaging_is_the_mean_of_what_is_inside_the_window(window, size):
    maps = np.random.default_rng(0).random((2, 3, *size), dtype=np.float32)
    found = average_neighbours(maps, window)
    if window == 1:
        np.testing.assert_array_equal(found, maps)
    else:
        np.testing.assert_allclose(found, averaged_plainly(maps, window), rtol=1e-6)
    assert found.dtype == np.float32


@given(value=st.floats(-1e3, 1e3, width=32), window=st.sampled_from([3, 4]))
def test_averaging_leaves_what_is_constant(value, window):
    maps = np.full((1, 2, 4, 4), value, np.float32)
    np.testing.assert_allclose(average_neighbours(maps, window), value, rtol=1e-5)


def test_a_relative_epsilon_is_times_the_mean_variance():
    values = np.random.default_rng(1).normal(size=(50, 4, 3)) * [1.0, 2.0, 3.0]
    moments = Moments(Pyramid(grids=((2, 2),), dims=(3,)))
    moments.update([values])
    expected = 0.25 + 0.1 * values.var(axis=0, ddof=1).mean()
    found = regularisation_of(moments, epsilon=0.25, relative_epsilon=0.1)
    assert found.ridge == pytest.approx(expected, rel=1e-9)
    assert found.weight == 1.0


def test_a_negative_relative_epsilon_is_refused():
    moments = Moments(Pyramid(grids=((1, 1),), dims=(1,)))
    moments.update([np.arange(4.0).reshape(4, 1, 1)])
    with pytest.raises(InputError) as caught:
        regularisation_of(moments, relative_epsilon=-1.0)
    assert str(caught.value) == "relative_epsilon must be at least 0, but is -1.0. Try 0.1."


def running_of(scores):
    seen = Running(scores.shape[1:])
    seen.add(scores)
    return seen


def test_with_many_images_positions_become_alike():
    generator = np.random.default_rng(2)
    centre, spread = np.array([5.0, 20.0, 9.0]), np.array([1.0, 3.0, 2.0])
    scores = generator.normal(centre, spread, (20000, 3))
    found = standardisation_of(running_of(scores))(scores)
    np.testing.assert_allclose(found.mean(axis=0), centre.mean(), rtol=0.02)
    typical = np.sqrt((spread**2).mean())
    # the quietest position is treated as if it varied as the median one
    np.testing.assert_allclose(
        found.std(axis=0), typical * spread / np.maximum(spread, 2.0), rtol=0.03
    )


def test_few_images_change_little():
    scores = np.array([[5.0, 9.0], [5.5, 9.5], [4.5, 8.5]])
    found = standardisation_of(running_of(scores))
    trust = 3 / (3 + PRIOR_IMAGES)
    assert found.gain == pytest.approx([1.0, 1.0])
    np.testing.assert_allclose(found(scores) - scores, [[2 * trust, -2 * trust]] * 3, rtol=1e-9)


def test_ignored_positions_say_nothing_of_the_average():
    scores = np.array([[5.0, 9.0, 1e6], [5.5, 9.5, 2e6], [4.5, 8.5, 3e6]])
    counted = np.array([True, True, False])
    whole = standardisation_of(running_of(scores), counted)
    part = standardisation_of(running_of(scores[:, :2]))
    np.testing.assert_allclose(whole.gain[:2], part.gain)
    np.testing.assert_allclose(whole.offset[:2], part.offset)


def test_scores_never_fall_below_zero():
    assert Standardisation(np.ones(1), np.array([-5.0]), Running((1,)))(np.array([[2.0]])) == 0.0


def test_levels_are_divided_among_the_parts():
    pyramid = Pyramid(grids=((1, 2), (2, 4)), dims=(3, 5))
    assert part_pyramids(pyramid, separate=False) == [pyramid]
    assert [p.dims for p in part_pyramids(pyramid, separate=True)] == [(3,), (5,)]
    assert split_levels(["a", "b"], 1) == [["a", "b"]]
    assert split_levels(["a", "b"], 2) == [["a"], ["b"]]


def test_combination_weighs_maps_and_highest_scores():
    plain = MapSettings(blur="none", upsampling="nearest")
    combination = Combination(
        [MapOperator((1, 1), (2, 2), plain), MapOperator((1, 2), (2, 2), plain)],
        [None, Standardisation(np.array([1.0, 2.0]), np.array([0.0, 1.0]), Running((2,)))],
        [None, np.array([True, False])],
        PartWeights(map=(0.5, 1.0), image=(2.0, 10.0)),
    )
    totals = [np.array([[4.0]]), np.array([[3.0, 7.0]])]
    maps, scores = combination(combination.standardised(totals))
    np.testing.assert_allclose(maps, [[[5.0, 17.0], [5.0, 17.0]]])
    np.testing.assert_allclose(scores, [2.0 * 4.0 + 10.0 * 3.0])


def test_a_separate_level_is_a_model_of_its_layer():
    settings = {"separate": True, "dims": (4, 5)}
    together = small_model(**settings).score(spoiled_image(3)[0]).level_grids
    for layer, dims in (("fine", (4, 0)), ("coarse", (0, 5))):
        alone = small_model(dims=dims).score(spoiled_image(3)[0]).level_grids
        np.testing.assert_allclose(together[layer], alone[layer], rtol=0.02)


def test_weights_decide_what_counts():
    image = spoiled_image(3)[0]
    fine = small_model(**SEPARATE, map_weights=(1, 0), image_weights=(1, 0)).score(image)
    coarse = small_model(**SEPARATE, map_weights=(0, 1), image_weights=(0, 1)).score(image)
    both = small_model(**SEPARATE, map_weights=(1, 1), image_weights=(1, 1)).score(image)
    np.testing.assert_allclose(both.anomaly_map, fine.anomaly_map + coarse.anomaly_map, rtol=0.02)
    assert both.image_score == pytest.approx(fine.image_score + coarse.image_score, rel=0.02)


def test_thresholds_hold_for_separate_layers():
    model = small_model(80, **SEPARATE)
    scores = [model.score(good_image(500 + k)).image_score for k in range(80)]
    alarms = np.mean(np.array(scores) >= model.threshold(0.1).value)
    assert alarms < 0.25
    assert model.classify(spoiled_image(3)[0]).is_anomalous


@pytest.mark.parametrize("score", blemish.scoring.SCORES)
def test_every_score_can_be_separate(score, tmp_path):
    model = small_model(score=score, **SEPARATE)
    image, _ = spoiled_image(3)
    found = model.score(image)
    assert found.image_score > model.score(good_image(900)).image_score
    model.save(tmp_path / "a.blemish")
    loaded = load_model(tmp_path / "a.blemish").score(image)
    assert loaded.image_score == pytest.approx(found.image_score, rel=1e-3)
    np.testing.assert_allclose(loaded.anomaly_map, found.anomaly_map, rtol=1e-2, atol=1e-2)


def test_ignored_pixels_do_not_count_for_separate_layers():
    ignored = np.zeros(SIZE, bool)
    ignored[:22] = True  # windows reach a few pixels beyond the spot at 8 to 13
    model = small_model(ignore_mask=ignored, **SEPARATE)
    image, _ = spoiled_image(3)
    assert not model.classify(image).is_anomalous
    assert not model.score(image).anomaly_map[ignored].any()


def test_other_settings_go_with_separate_layers():
    for more in ({"shared": True}, {"shrinkage": "ledoit-wolf"}, {"reduction": "pca"}):
        model = small_model(**{**SEPARATE, **more})
        assert model.classify(spoiled_image(3)[0]).is_anomalous


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"averaging": (2, 1)},
            "averaging must be 1, 3 or 4 per layer, but is (2, 1). Give, for example, 4,4,3.",
        ),
        (
            {"separate": True, "image_weights": (0, 0)},
            "image_weights must be numbers of at least 0, one per layer and not only 0, but is "
            "(0, 0). Give, for example, 0.5,1,1.",
        ),
        (
            {"separate": "yes"},
            "separate must be True or False, but is 'yes'. The default is that of the preset.",
        ),
    ],
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(InputError) as caught:
        FitSettings(**settings)
    assert str(caught.value) == text


def test_settings_per_layer_must_fit_the_backbone():
    with pytest.raises(InputError) as caught:
        small_model(averaging=(4, 4, 3))
    assert str(caught.value) == (
        "averaging must give one value for each of the 2 layers, but is 4, 4, 3. "
        "Give them fine to coarse."
    )


def test_weights_must_count_a_layer_that_is_kept():
    with pytest.raises(InputError) as caught:
        small_model(separate=True, dims=(0, 4), map_weights=(1, 0))
    assert str(caught.value) == (
        "map_weights and image_weights must count at least one layer that is kept, but the kept "
        "dimensions are 0, 4. Weigh a layer with dimensions."
    )


def test_what_is_said_wins_over_the_preset():
    settings = FitSettings(preset="accurate", backbone="resnet18", standardise=False, epsilon=0.5)
    resolved = settings.resolved(network(3))
    assert (resolved.standardise, resolved.epsilon, resolved.separate) == (False, 0.5, True)
    assert resolved.dims == (16, 32, 64)
    assert resolved.resolved(network(3)) == resolved


def test_joint_layers_of_a_preset_have_no_weights():
    resolved = FitSettings(preset="accurate", separate=False).resolved(network(3))
    assert (resolved.map_weights, resolved.image_weights) == (None, None)
    assert resolved.averaging == (4, 4, 3)


def test_weights_without_separate_layers_are_refused():
    with pytest.raises(InputError) as caught:
        FitSettings(map_weights=(1, 0, 1)).resolved(network(3))
    assert str(caught.value) == (
        "map_weights must go with separate layers, but there is one Gaussian over all, which has "
        "one score. Leave the weights out, or judge the layers separately."
    )


def test_a_preset_is_decided_when_the_backbone_is_known():
    settings = dataclasses.replace(FitSettings(), preset="accurate", backbone="resnet18")
    assert settings == FitSettings(preset="accurate", backbone="resnet18")
    assert settings.resolved(network(3)).standardise
    assert not settings.resolved(network(3, "builtin")).standardise


def test_a_given_backbone_gets_its_own_preset():
    model = small_model(preset="accurate", size=(32, 48))
    assert (model.settings.backbone, model.settings.standardise) == ("tiny", True)


@pytest.mark.parametrize("preset", ["accurate", "tiny"])
@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (700, 1000), (400, 160)])
def test_presets_take_images_of_any_shape(preset, shape):
    images = [np.random.default_rng(k).integers(0, 255, (*shape, 3), np.uint8) for k in range(4)]
    settings = FitSettings(preset=preset, backbone="resnet18", dims=(2, 2), layers=(1, 2))
    model = blemish.fit(images, settings, backbone=builtin_of_two_layers())
    assert model.score(images[0]).anomaly_map.shape == model.size


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("builtin", [True, False])
def test_every_preset_decides_the_same_things(preset, builtin):
    names = set(preset_values(preset, "builtin" if builtin else "x", [4, 8], [4, 8]))
    assert names >= set(preset_values("full", "builtin", [4, 8], [4, 8]))


@pytest.mark.parametrize("preset", ["accurate", "tiny"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_presets_fit_any_number_of_layers(preset, layers):
    for name in ("builtin", "resnet18"):
        settings = FitSettings(preset=preset).resolved(network(layers, name))
        for values in (settings.averaging, settings.dims, settings.map_weights):
            assert len(values) == layers
        counted = [w and d for w, d in zip(settings.map_weights, settings.dims, strict=True)]
        assert any(counted)
        assert any(w and d for w, d in zip(settings.image_weights, settings.dims, strict=True))


def test_old_presets_are_as_published():
    for preset in ("full", "paper"):
        settings = FitSettings(preset=preset).resolved(network(3))
        assert (settings.epsilon, settings.relative_epsilon) == (0.01, 0.0)
        assert not settings.separate
        assert not settings.standardise
        assert settings.map_weights is None


def test_a_model_keeps_what_its_preset_decided():
    model = blemish.fit(good_images(12), FitSettings(preset="accurate", size=(64, 64)))
    assert model.settings.map_weights == (1.0, 0.0, 1.0)
    assert model.level_names == ["layer3", "layer1"]
    assert len(model.parts) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("category", "image", "pixel"), [("screw", 0.93, 0.976), ("bottle", 0.995, 0.978)]
)
@pytest.mark.parametrize("backbone", ["resnet18", "builtin"])
def test_accurate_is_accurate(real_data, real_weights, category, image, pixel, backbone):
    folder = real_data / "mvtec" / category
    settings = FitSettings(preset="accurate", backbone=backbone)
    weights = real_weights if backbone == "resnet18" else None
    found = evaluate(blemish.fit(folder, settings, weights=weights), folder)
    assert found.image_auroc >= image
    assert found.pixel_auroc >= pixel
