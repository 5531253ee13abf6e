"""Exports of models that judge every layer by itself, and the check that maps are not blank."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.export import export_model, load_export, runtimes
from blemish.export.agreement import Correlation, OwnSpread
from blemish.export.description import describe
from blemish.export.parity import LIMITS, Comparison
from blemish.graph import FUSED_SCORES
from small_models import good_image, good_images, small_model, spoiled_image

SEPARATE = {"separate": True, "standardise": True, "averaging": (4, 3), "dims": (4, 5)}


@pytest.fixture(scope="module")
def model():
    return small_model(**SEPARATE)


def same(found, expected, tolerance):
    assert found.image_score == pytest.approx(expected.image_score, rel=tolerance)
    values = {"map": (found.anomaly_map, expected.anomaly_map)}
    assert list(found.level_grids) == list(expected.level_grids)
    for name, grid in expected.level_grids.items():
        values[name] = found.level_grids[name], grid
    for name, (got, wanted) in values.items():
        atol = tolerance * float(wanted.max())
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=atol, err_msg=name)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("with_onnx_runtime", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_batches_of_separate_layers_are_right_in_every_runtime(
    model, target, precision, with_onnx_runtime, images, tmp_path, monkeypatch
):
    if with_onnx_runtime:
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtimes, "has_onnxruntime", lambda: with_onnx_runtime)
    report = export_model(
        model, tmp_path / "out", target=target, precision=precision, images=good_images(6)
    )
    assert report.failures == []
    shown = [good_image(90), spoiled_image(91)[0], good_image(92)][-images:]
    inputs = np.stack([model.preprocessing.apply(image) for image in shown])
    found = load_export(tmp_path / "out").score_inputs(inputs)
    for got, expected in zip(found, model.score_inputs(inputs), strict=True):
        same(got, expected, 1e-4 if precision == "fp32" else 1e-2)


@pytest.mark.parametrize(
    ("settings", "unit", "counts", "level"),
    [
        (
            {},
            "Mahalanobis distance: 0 is the mean of good images, no upper bound",
            "pixels",
            "what this layer contributes, row by row",
        ),
        (
            {"score": "chebyshev", "chebyshev_scale": 0.5},
            "Chebyshev bound: 0 is normal, at most 0.5",
            "pixels",
            "what this layer contributes, row by row",
        ),
        (
            {"standardise": True},
            "Mahalanobis distance, standardised to that of the average position: 0 and up",
            "pixels",
            "what this layer contributes, row by row",
        ),
        (
            {"separate": True, "score": "chebyshev"},
            "weighted sum of the scores of the layers (Chebyshev bound), each divided by what it "
            "spreads over good images; the image score is the same of their highest positions",
            "positions of every layer",
            "score of this layer by itself, row by row",
        ),
        (
            SEPARATE,
            "weighted sum of the standardised scores of the layers (Mahalanobis distance), each "
            "divided by what it spreads over good images; the image score is the same of their "
            "highest positions",
            "positions of every layer",
            "standardised score of this layer by itself, row by row",
        ),
    ],
    ids=["plain", "bounded", "standardised", "separate", "both"],
)
def test_the_description_says_what_the_numbers_are(tmp_path, settings, unit, counts, level):
    about = describe(small_model(**settings), tmp_path, [], target="onnx", precision="fp32")
    assert about["score"] == {
        "name": settings.get("score", "gaussian"),
        "unit": unit,
        "top_k": 1,
        "top_k_counts": counts,
    }
    assert about["outputs"]["level0"]["grid"] == [8, 6]
    assert {about["outputs"][name]["meaning"] for name in ("level0", "level1")} == {level}


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("score", sorted(FUSED_SCORES))
def test_blank_maps_are_refused_whatever_the_score(score, separate, precision):
    model = small_model(score=score, separate=separate)
    expected = [model.score(image) for image in good_images(4, 80)]
    for blank in (0.0, 1.0):
        maps = [np.full_like(one.anomaly_map, blank) for one in expected]
        comparison = Comparison(model, LIMITS[precision])
        found = [replace(one, anomaly_map=m) for one, m in zip(expected, maps, strict=True)]
        comparison.add(expected, found)
        result = comparison.result()
        assert result.map_correlation == 0.0
        limit = LIMITS[precision].correlation
        assert f"maps correlate by 0, less than {limit:g}" in result.failures


def correlation(one, other, flat=1e-9):
    found = Correlation(flat)
    for part in zip(np.array_split(one, 2), np.array_split(other, 2), strict=True):
        found.add(*part)
    return found.result()


def test_the_correlation_is_that_of_numpy():
    one, noise = np.random.default_rng(0).normal(5, 1, (2, 40))
    expected = np.corrcoef(one, one + noise)[0, 1]
    assert correlation(one, one + noise) == pytest.approx(expected, abs=1e-12)


def test_of_flat_maps_the_values_must_be_alike():
    flat = np.full(10, 0.7) + 1e-7 * np.arange(10)
    assert correlation(flat, flat[::-1], flat=1e-4) == pytest.approx(1.0)
    assert correlation(flat, np.zeros(10), flat=1e-4) == 0.0
    assert correlation(np.zeros(10), np.zeros(10)) == 1.0
    assert correlation(np.zeros(10), np.ones(10)) == 0.0
    assert np.isnan(correlation(np.arange(10.0), np.full(10, np.nan)))


def test_levels_are_measured_in_their_own_spread():
    values = np.random.default_rng(0).normal(20, 3, (5, 60))
    drifts = np.random.default_rng(1).normal(0, 1, (5, 60))
    found = OwnSpread(1.0)
    for one, drift in zip(values, drifts, strict=True):
        found.add(one, one + drift, good=True)
    anomalous = np.array([500.0, 20.0])
    found.add(anomalous, anomalous + np.array([30.0, 0.0]), good=False)
    mean, spread = values.mean(), values.std(ddof=1)
    allowed = spread + np.maximum(values - mean - 3 * spread, 0)
    assert found.result() == pytest.approx((np.abs(drifts) / allowed).max())


def test_the_unit_of_a_level_does_not_change_its_drift(model):
    expected = [model.score(image) for image in good_images(6, 80)]

    def drift(name, unit):
        comparison = Comparison(model, LIMITS["fp32"])
        for score in expected:
            level = unit * score.level_grids[name]
            one = replace(score, level_grids={**score.level_grids, name: level})
            other = replace(one, level_grids={**one.level_grids, name: level + 0.5 * unit})
            comparison.add([one], [other])
        return comparison.result().level_drift

    for name in model.level_names:
        assert drift(name, 100.0) == pytest.approx(drift(name, 1.0), rel=1e-3)


def test_a_model_is_not_run_to_learn_its_grids(model, tmp_path, monkeypatch):
    monkeypatch.setattr(type(model), "score_inputs", None)
    about = describe(model, tmp_path, [], target="onnx", precision="fp32")
    grids = {one["layer"]: one["grid"] for one in list(about["outputs"].values())[2:]}
    assert grids == {"coarse": [8, 6], "fine": [8, 6]}  # averaged over 4: the grid is halved
