"""How a model is run: engine settings, precision, streams, and the cache of compiled graphs."""

import dataclasses
import threading

import numpy as np
import pytest

from blemish import inference
from blemish.backbones.weights import cache_folder
from blemish.engines import compiled_cache
from blemish.engines.compiled_cache import KEPT, cache_key, read_compiled, write_compiled
from blemish.engines.engine import EngineSettings
from blemish.engines.openvino import has_bf16
from blemish.errors import InputError
from blemish.inference import FusedInference, PlainInference, precision_of
from blemish.model import Model, load_model
from small_models import good_image, small_model, spoiled_image


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "a.blemish"
    small_model(tries_bf16=True).save(path)
    return path


def with_drift(drift):
    return dataclasses.replace(small_model().fitted, bf16_drift=drift)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"engine": "tpu"},
            "engine must be one of openvino, torch, but is 'tpu'. Choose one.",
        ),
        (
            {"precision": "f8"},
            "precision must be one of auto, f32, bf16, f16, but is 'f8'. Choose one.",
        ),
        ({"threads": 0}, "threads must be at least 1, but is 0. Try 1."),
        ({"streams": 1.5}, "streams must be at least 1, but is 1.5. Try 1."),
        (
            {"device": "cuda"},
            "The engine openvino runs on the CPU, but the device is cuda. "
            "Use the engine torch for it.",
        ),
        (
            {"precision": "f16"},
            "The engine openvino computes in f32 or bf16, but the precision is f16. "
            "Use bf16, or the engine torch.",
        ),
    ],
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(InputError) as caught:
        EngineSettings(**settings)
    assert str(caught.value) == text


@pytest.mark.parametrize("cpu_has_it", [True, False])
@pytest.mark.parametrize(("drift", "harmless"), [(None, False), (0.1, True), (0.11, False)])
def test_bf16_is_chosen_where_it_is_there_and_harmless(drift, harmless, cpu_has_it, monkeypatch):
    monkeypatch.setattr(inference, "has_bf16", lambda: cpu_has_it)
    expected = "bf16" if cpu_has_it and harmless else "f32"
    assert precision_of(with_drift(drift), EngineSettings()) == expected
    assert precision_of(with_drift(drift), EngineSettings(precision="f32")) == "f32"


def test_bf16_on_a_cpu_without_it_is_an_error(monkeypatch):
    monkeypatch.setattr(inference, "has_bf16", lambda: False)
    with pytest.raises(InputError) as caught:
        precision_of(with_drift(0.0), EngineSettings(precision="bf16"))
    assert str(caught.value) == (
        "The precision bf16 needs a CPU that has it (AVX512-BF16 or AMX), but this one has not. "
        "Use auto or f32."
    )


def test_a_fit_finds_out_what_bf16_does():
    drift = small_model(tries_bf16=True).fitted.bf16_drift
    assert (drift is not None) == has_bf16()
    if drift is not None:
        assert 0 < drift < 1


def test_a_fit_on_a_cpu_without_bf16_leaves_it_open(monkeypatch):
    monkeypatch.setattr(inference, "has_bf16", lambda: False)
    assert small_model(tries_bf16=True).fitted.bf16_drift is None


def test_drift_is_kept_in_the_file(saved):
    assert load_model(saved).fitted.bf16_drift == small_model(tries_bf16=True).fitted.bf16_drift


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bf16")
@pytest.mark.parametrize("score", ["gaussian", "chebyshev-two-stage"])
def test_bf16_scores_are_near_those_of_f32(score):
    fitted = small_model(score=score).fitted
    f32, bf16 = (Model(fitted, EngineSettings(precision=p)) for p in ("f32", "bf16"))
    for image in (good_image(77), spoiled_image(78)[0]):
        exact, near = f32.score(image), bf16.score(image)
        assert near.image_score != exact.image_score
        assert near.image_score == pytest.approx(exact.image_score, rel=0.02)


@pytest.mark.parametrize("streams", [1, 2])
def test_many_threads_get_what_one_gets(streams):
    fitted = small_model().fitted
    images = [spoiled_image(number)[0] for number in range(12)]
    expected = [Model(fitted).score(image).image_score for image in images]
    model = Model(fitted, EngineSettings(streams=streams))
    found = [0.0] * len(images)

    def score(k):
        found[k] = model.score(images[k]).image_score

    threads = [threading.Thread(target=score, args=(k,)) for k in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == pytest.approx(expected, rel=1e-6)


def test_batches_give_what_single_images_give():
    fitted = small_model().fitted
    images = [spoiled_image(number)[0] for number in range(7)]
    one, many = Model(fitted), Model(fitted, EngineSettings(batch=3))
    inputs = np.stack([one.preprocessing.apply(image) for image in images])
    expected = [score.image_score for score in one.score_inputs(inputs)]
    for count in (1, 2, 3, 7):  # fewer than a batch, a batch, and more
        found = [score.image_score for score in many.score_inputs(inputs[:count])]
        assert found == pytest.approx(expected[:count], rel=1e-5)


def test_a_compiled_graph_is_made_once(saved, empty_cache, monkeypatch):
    expected = load_model(saved).score(good_image(5)).image_score
    assert len(list(empty_cache.iterdir())) == 1

    def refuse(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(inference, "fuse", refuse)
    assert load_model(saved).score(good_image(5)).image_score == expected
    with pytest.raises(AssertionError, match="compiled again"):  # other streams: another graph
        load_model(saved, EngineSettings(streams=2)).score(good_image(5))


def test_a_damaged_compiled_graph_is_made_anew(saved, empty_cache):
    expected = load_model(saved).score(good_image(5)).image_score
    (path,) = empty_cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert load_model(saved).score(good_image(5)).image_score == expected
    assert read_compiled(path.name) is not None


def test_a_graph_that_openvino_refuses_is_made_anew(saved, empty_cache):
    expected = load_model(saved).score(good_image(5)).image_score
    (path,) = empty_cache.iterdir()
    write_compiled(path.name, b"no graph of this version")
    assert load_model(saved).score(good_image(5)).image_score == expected


def test_a_model_from_memory_leaves_no_compiled_graph(empty_cache):
    small_model().score(good_image(5))
    assert not empty_cache.exists()


def test_only_the_latest_compiled_graphs_are_kept(empty_cache, monkeypatch):
    for number in range(KEPT + 3):
        write_compiled(f"graph{number:02}", bytes([number]))
        path = empty_cache / f"graph{number:02}"
        compiled_cache.os.utime(path, (number, number))
    assert len(list(empty_cache.iterdir())) == KEPT
    assert read_compiled("graph02") is None
    assert read_compiled(f"graph{KEPT + 2:02}") == bytes([KEPT + 2])


def test_a_cache_that_cannot_be_written_is_none(saved, empty_cache):
    empty_cache.parent.write_text("a file in its place")
    assert np.isfinite(load_model(saved).score(good_image(5)).image_score)
    assert read_compiled("anything") is None


def test_keys_differ_with_every_part():
    keys = {cache_key("a", 1), cache_key("a", 2), cache_key("b", 1), cache_key("a1")}
    assert len(keys) == 4


def test_the_tests_have_a_cache_of_their_own():
    assert "pytest" in str(cache_folder())


def test_a_fused_and_a_plain_model_agree(monkeypatch):
    fused = small_model()
    assert isinstance(fused._inference, FusedInference)
    monkeypatch.setattr(inference, "LARGEST_GRAPH", 10)
    plain = Model(fused.fitted, EngineSettings(precision="f32"))
    assert isinstance(plain._inference, PlainInference)
    f32 = Model(fused.fitted, EngineSettings(precision="f32"))
    image = spoiled_image(4)[0]
    assert plain.score(image).image_score == pytest.approx(f32.score(image).image_score, rel=1e-5)
