import warnings

import numpy as np
import pytest

import blemish
from blemish.engines.openvino import FeatureExtractor
from blemish.errors import ImageError, InputError, NotFittedError, ResourceError
from blemish.fitting import fit
from blemish.maps import MapOperator, image_scores
from blemish.plan import gigabytes, plan_fit
from blemish.scoring import SCORES
from blemish.settings import FitSettings
from blemish.spool import EmbeddingSpool
from embeddings import dull_distance
from small_models import SIZE, good_image, good_images, small_model, spoiled_image, tiny_backbone


@pytest.fixture(scope="module")
def model():
    return small_model()


def test_public_names_are_there():
    for name in blemish.__all__:
        assert getattr(blemish, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        blemish.nothing  # noqa: B018


def features(images, model):
    """Whole embeddings (N, P, D) as PaDiM makes them, straight from the feature maps."""
    inputs = np.stack([model.preprocessing.apply(image) for image in images])
    fine, coarse = FeatureExtractor(model.backbone, SIZE)(inputs)
    picked_fine, picked_coarse = model.embedding.selections
    repeated = coarse.repeat(2, axis=2).repeat(2, axis=3)
    both = np.concatenate([repeated[:, picked_coarse], fine[:, picked_fine]], axis=1)
    return both.reshape(len(images), both.shape[1], -1).transpose(0, 2, 1).astype(np.float64)


def test_score_is_that_of_the_paper_written_out(model):
    fitted, (odd, _) = good_images(40), spoiled_image(99)
    distance = dull_distance(features(fitted, model), features([odd], model))
    operator = MapOperator((16, 12), SIZE, model.settings.map_settings)
    expected = operator(distance)
    found = model.score(odd)
    np.testing.assert_allclose(found.anomaly_map, expected[0], rtol=1e-4)
    assert found.image_score == pytest.approx(image_scores(expected)[0], rel=1e-4)


def test_calibration_scores_are_those_of_really_leaving_each_image_out(model):
    images = good_images(40)
    for left_out in (0, 17, 39):
        rest = [image for k, image in enumerate(images) if k != left_out]
        refitted = small_model(images=rest)
        expected = refitted.score(images[left_out]).image_score
        assert model.calibration.scores[left_out] == pytest.approx(expected, rel=1e-4)


def test_spoiled_parts_are_found_where_they_are(model):
    for number in range(60, 66):
        image, mask = spoiled_image(number)
        decision = model.classify(image)
        assert decision.is_anomalous
        peak = np.unravel_index(decision.score.anomaly_map.argmax(), SIZE)
        assert mask[max(peak[0] - 2, 0) : peak[0] + 3, max(peak[1] - 2, 0) : peak[1] + 3].any()
        assert decision.predicted_mask[mask].mean() > 0.5


def test_most_good_parts_are_not(model):
    alarms = sum(model.classify(good_image(number)).is_anomalous for number in range(100, 160))
    assert alarms <= 10  # 5 % asked


def test_another_rate_moves_only_the_threshold(model):
    image, _ = spoiled_image(61)
    strict = model.classify(image, false_alarm_rate=0.2)
    assert strict.threshold.value < model.threshold().value
    assert strict.score.image_score == model.classify(image).score.image_score


@pytest.mark.parametrize("score", SCORES)
def test_every_score_fits_and_scores_finite(score):
    model = small_model(score=score)
    image, _ = spoiled_image(70)
    found = model.score(image)
    assert np.isfinite(found.anomaly_map).all()
    assert (found.anomaly_map >= 0).all()
    assert np.isfinite(model.calibration.scores).all()
    assert found.anomaly_map.dtype == np.float32
    assert list(found.level_grids) == ["coarse", "fine"]
    assert [grid.shape for grid in found.level_grids.values()] == [(8, 6), (16, 12)]


@pytest.mark.parametrize(
    "settings",
    [
        {"reduction": "none"},
        {"reduction": "stratified", "dims": 4},
        {"reduction": "semi-orthogonal", "dims": 4},
        {"reduction": "pca", "dims": (2, 2)},
        {"dims": (0, 5)},
        {"shared": True},
        {"shrinkage": "oas"},
        {"shrinkage": "ledoit-wolf"},
        {"top_k": 5, "blur": "box", "upsampling": "bicubic"},
        {"preset": "full", "roi": (2, 4, 12, 16), "size": (16, 16)},
    ],
    ids=str,
)
def test_every_setting_fits_and_finds_the_spot(settings):
    model = small_model(**settings)
    spoiled = np.mean([model.score(spoiled_image(k)[0]).image_score for k in range(80, 84)])
    assert spoiled > model.threshold().value


def test_level_maps_have_the_size_of_the_image(model):
    maps = model.level_maps(model.score(spoiled_image(5)[0]))
    assert {name: found.shape for name, found in maps.items()} == {"coarse": SIZE, "fine": SIZE}


def test_squared_levels_sum_to_the_squared_distance():
    model = small_model(blur="none", upsampling="nearest")
    found = model.score(spoiled_image(5)[0])
    coarse, fine = found.level_grids["coarse"], found.level_grids["fine"]
    total = coarse.repeat(2, axis=0).repeat(2, axis=1) ** 2 + fine**2
    np.testing.assert_allclose(found.anomaly_map[::2, ::2] ** 2, total, rtol=1e-4)


def test_what_lies_under_the_ignore_mask_does_not_count():
    ignored = np.zeros(SIZE, bool)
    ignored[:16] = True
    model = small_model(ignore_mask=ignored)
    image, _ = spoiled_image(60)  # the spot is in the upper half
    assert not model.classify(image).is_anomalous
    assert (model.score(image).anomaly_map[:16] == 0).all()
    assert small_model().classify(image).is_anomalous


def test_ignore_mask_of_another_size_is_refused():
    with pytest.raises(InputError) as caught:
        small_model(ignore_mask=np.zeros((8, 8), bool))
    assert str(caught.value) == (
        "The ignore mask must have the size of the images, 32x24, but has 8x8. "
        "Draw it on one of the images."
    )


def test_ignoring_everything_is_refused():
    with pytest.raises(InputError, match="must leave something to look at"):
        small_model(ignore_mask=np.ones(SIZE, bool))


@pytest.mark.parametrize(("count", "verb"), [(0, "are 0"), (1, "is 1"), (2, "are 2")])
def test_too_few_images_are_refused(count, verb):
    with pytest.raises(NotFittedError) as caught:
        small_model(images=good_images(count))
    assert str(caught.value) == (
        f"A model needs at least 3 images of good parts, but there {verb}. "
        "Give more; 20 to 300 are usual."
    )


def test_images_of_one_colour_are_refused():
    with pytest.raises(InputError) as caught:
        small_model(images=[np.full((*SIZE, 3), 90, np.uint8)] * 5)
    assert str(caught.value) == (
        "The good images must differ a little, but all 5 look the same to the network: one "
        "colour, or copies of one image. Give real images of good parts."
    )


def test_a_size_the_strides_do_not_allow_names_good_ones():
    with pytest.raises(InputError, match=r"multiple"):
        small_model(size=(30, 23))


def test_an_unreadable_training_image_stops_the_fit_and_is_named(tmp_path):
    import cv2

    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), good_image(number))
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    with pytest.raises(ImageError, match=r"2\.png cannot be read"):
        fit(paths, FitSettings(size=SIZE), backbone=tiny_backbone())


def test_a_folder_is_enough(tmp_path):
    import cv2

    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), good_image(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fit(tmp_path, FitSettings(size=SIZE), backbone=tiny_backbone()).count == 5


def test_a_fit_that_does_not_fit_into_memory_is_refused(model):
    plan = plan_fit([model.pyramid], 40, backbone=model.backbone)
    plan.check(available=2 * plan.memory_bytes)
    with pytest.raises(ResourceError) as caught:
        plan.check(available=10**8)
    assert str(caught.value) == (
        f"This fit needs about {gigabytes(plan.memory_bytes)} of memory, but 100 MB are free. "
        "Use fewer dimensions (now 6), a smaller size, or one shared Gaussian."
    )


def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_the_work(
    model, tmp_path, monkeypatch
):
    plan = plan_fit([model.pyramid], 40, backbone=model.backbone)
    plan.check_disk(tmp_path / "a.blemish")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("blemish.plan.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ResourceError) as caught:
        plan.check_disk(tmp_path / "a.blemish")
    assert str(caught.value) == (
        f"The model will take about {gigabytes(plan.file_bytes)}, but {tmp_path} has 0 MB free. "
        "Make room, or name another place."
    )


def test_the_planned_file_size_is_about_the_real_one(model, tmp_path):
    model.save(tmp_path / "a.blemish")
    plan = plan_fit([model.pyramid], 40, backbone=model.backbone)
    header = 20_000  # JSON and calibration, which do not grow with the model
    size = (tmp_path / "a.blemish").stat().st_size
    assert plan.file_bytes <= size <= 1.1 * plan.file_bytes + header


def test_progress_and_plan_are_reported():
    stages = []
    plans = []
    fit(
        good_images(20),
        FitSettings(size=SIZE, score="hybrid-calibrated"),
        backbone=tiny_backbone(),
        progress=lambda stage, done, total: stages.append((stage, done, total)),
        on_plan=plans.append,
    )
    assert [s for s, done, _ in stages if done == 20] == ["moments", "statistics", "calibration"]
    assert all(total == 20 for _, _, total in stages)
    assert plans[0].images == 20


@pytest.mark.parametrize("give_up", ["too large", "disk full"])
def test_without_room_for_the_spool_the_numbers_are_the_same(monkeypatch, give_up, model):
    if give_up == "too large":
        monkeypatch.setattr("blemish.spool._MOST_BYTES", 10)
    else:

        class Full:
            def write(self, data):
                raise OSError(28, "No space left on device")

            def close(self):
                pass

        monkeypatch.setattr("blemish.spool.tempfile.TemporaryFile", lambda **_: Full())
    again = small_model()
    np.testing.assert_array_equal(again.calibration.scores, model.calibration.scores)


def test_a_disk_that_is_full_at_the_end_of_a_pass_is_noticed_then():
    resource = pytest.importorskip("resource")
    spool = EmbeddingSpool(images=1)
    spool.append([np.zeros((1, 400, 2), np.float32)])  # 3,200 bytes, still in the buffer
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        spool.close_pass()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not spool.complete
    assert list(spool) == []


def test_what_lies_under_the_ignore_mask_sets_neither_shrinkage_nor_directions():
    ignored = np.zeros(SIZE, bool)
    ignored[:16] = True
    noise = np.random.default_rng(0)
    calm = good_images(30)
    wild = [image.copy() for image in calm]
    for image in wild:
        image[:12] = noise.integers(0, 255, (12, SIZE[1], 3))
    for settings in ({"shrinkage": "oas"}, {"shrinkage": "ledoit-wolf"}):
        first, second = (
            small_model(images=images, ignore_mask=ignored, dims=(4, 0), **settings)
            for images in (calm, wild)
        )
        assert first.parts[0].regularisation.ridge == pytest.approx(
            second.parts[0].regularisation.ridge, rel=1e-6
        )
    first, second = (
        small_model(images=images, ignore_mask=ignored, reduction="pca", dims=(2, 0))
        for images in (calm, wild)
    )
    np.testing.assert_allclose(
        first.embedding.projections[0], second.embedding.projections[0], rtol=1e-4
    )


def test_a_folder_that_is_a_data_set_gives_its_good_training_images(tmp_path):
    from blemish.generated import write_product

    write_product(tmp_path / "part", train=4, good=2, defective=1, size=(64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fit(tmp_path / "part", FitSettings(size=(64, 64))).count == 4


def test_spool_returns_what_it_was_given():
    batches = [
        [np.random.default_rng(k).normal(size=(n, 4, 2)).astype(np.float32) for k in range(2)]
        for n in (3, 1)
    ]
    spool = EmbeddingSpool(images=4)
    for batch in batches:
        spool.append(batch)
    assert not spool.complete
    spool.close_pass()
    for _ in range(2):  # any number of passes
        for kept, batch in zip(spool, batches, strict=True):
            for mine, other in zip(kept, batch, strict=True):
                np.testing.assert_array_equal(mine, other)
    spool.close()
    assert list(spool) == []


def test_stated_range_of_deep_images_holds_for_arrays_too(tmp_path):
    import cv2

    deep = [good_image(k).astype(np.uint16) * 16 for k in range(12)]
    for number, image in enumerate(deep):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), image[..., ::-1])
    settings = FitSettings(size=SIZE, value_range=(0, 4095), dims=3)
    model = fit(tmp_path, settings, backbone=tiny_backbone())
    assert model.score(deep[3]).image_score == model.score(tmp_path / "03.png").image_score


def test_a_rate_of_0_is_refused_and_not_taken_for_the_default(model):
    with pytest.raises(InputError, match="false_alarm_rate must be between 0 and 1, but is 0"):
        model.threshold(0.0)
    with pytest.raises(InputError, match="pixel false-alarm rate must be between 0 and 1"):
        model.pixel_threshold(0.0)


def test_gray_images_do_not_waste_dimensions_on_colour():
    from blemish.backbones import load_backbone
    from blemish.embedding import constant_channels
    from blemish.loading import load_batches

    gray = [np.repeat(good_image(k, (64, 64))[..., :1], 3, axis=2) for k in range(12)]
    backbone = load_backbone("builtin")
    model = fit(gray, FitSettings(size=(64, 64), dims=8), backbone=backbone)
    inputs = next(load_batches(gray, model.preprocessing, batch=4))
    constant = constant_channels(FeatureExtractor(backbone, (64, 64))(inputs))
    assert any(mask.any() for mask in constant)
    for selection, mask in zip(model.embedding.selections, constant, strict=True):
        assert not mask[selection].any()


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((8, 8, 3), np.uint8), "images must have shape a list of arrays"),
        ([None] * 5, "An image must be a path or an array"),
    ],
    ids=["one array", "nothing"],
)
def test_what_are_no_images_is_refused(images, text):
    with pytest.raises(InputError, match=text):
        fit(images, FitSettings(size=SIZE), backbone=tiny_backbone())


def test_images_may_come_from_a_generator(model):
    again = small_model(images=(image for image in good_images(40)))
    np.testing.assert_array_equal(again.calibration.scores, model.calibration.scores)


def test_settings_must_be_settings():
    with pytest.raises(InputError, match="settings must be FitSettings, but is a dict"):
        fit(good_images(4), {"dims": 3}, backbone=tiny_backbone())


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 1.5},
        {"dims": True},
        {"seed": -1},
        {"seed": 1.5},
        {"epsilon": "a"},
        {"epsilon": float("nan")},
        {"top_k": 0},
        {"roi": (0, 0, 10)},
        {"roi": "a"},
        {"roi": (0, 0, -5, 5)},
        {"size": 224},
        {"size": (0, 5)},
        {"shared": "yes"},
        {"backbone": None},
        {"false_alarm_rate": "a"},
        {"pixel_false_alarm_rate": 1.0},
        {"value_range": (5, 5)},
        {"layers": ()},
        {"preset": "large"},
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        FitSettings(**wrong)


def test_lists_are_as_good_as_tuples():
    assert FitSettings(size=[64, 64], dims=[1, 2]) == FitSettings(size=(64, 64), dims=(1, 2))


def test_paths_and_arrays_score_alike(tmp_path, model):
    import cv2

    image, _ = spoiled_image(3)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    assert model.score(tmp_path / "a.png").image_score == model.score(image).image_score
    assert model.score(str(tmp_path / "a.png")).image_score == model.score(image).image_score
