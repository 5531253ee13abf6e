"""Known motions are found again, at any angle, and maps come back to where the part lay."""

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish import FitSettings
from blemish.alignment import Aligner, Alignment, restore
from blemish.cli import main
from blemish.datasets import Sample
from blemish.errors import AlignmentError, InputError, ModelFileError
from blemish.evaluation import evaluate
from blemish.export.exporting import export_model as export
from blemish.fitting import fit
from blemish.groupwise import learn_alignment
from blemish.inspection import inspect_images
from blemish.lifecycle.steps import forget, merge, update
from blemish.model import load_model
from blemish.registration import Placement, Registration
from small_models import tiny_backbone
from test_model_file import rewrite

pytestmark = pytest.mark.usefixtures("in_f32")

SIZE = (96, 96)
WIDE = (64, 112)
NOWHERE = np.random.default_rng(0).random((*SIZE, 3), dtype=np.float32)


HERE = Placement(0.0, 0.0, 0.0)


def scene(size=SIZE, placement=HERE, number=0, spot=False):
    """A dark key on a gray table: no turn but the whole one brings it onto itself."""
    generator = np.random.default_rng([3, number])
    rows, columns = np.mgrid[: 2 * size[0], : 2 * size[1]].astype(np.float32)
    where = np.stack([columns / 2 - 0.25, rows / 2 - 0.25, np.ones_like(rows)])
    back = placement.inverse().matrix(size)
    x, y = np.tensordot(back, where, axes=1) - (np.array(size[::-1]).reshape(2, 1, 1) - 1) / 2
    key = (np.hypot(x + 16, y) < 9) & (np.hypot(x + 16, y) > 3)
    key |= (np.abs(y) < 2.5) & (x > -8) & (x < 24)
    key |= (x > 12) & (x < 16) & (y > 0) & (y < 10)
    key |= (x > 19) & (x < 24) & (y > 0) & (y < 7)
    image = np.where(key, 0.25, 0.7 + 0.05 * y / size[0]).astype(np.float32)
    if spot:
        image[np.hypot(x - 4, y) < 3] = 0.95
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    noise = generator.normal(0, 0.01, (*size, 3))
    return np.clip(small[..., None] + noise, 0, 1).astype(np.float32)


def planes(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def gray(*arguments, **named):
    return scene(*arguments, **named).mean(axis=2)


def farthest(found, expected, size=SIZE):
    """Pixels by which two placements differ, anywhere on the part."""
    points = np.array([[x, y, 1.0] for x in (24, size[1] - 24) for y in (24, size[0] - 24)]).T
    return np.abs(found.matrix(size) @ points - expected.matrix(size) @ points).max()


shifts = st.floats(-8, 8)
placements = st.builds(Placement, shifts, shifts, st.floats(-180, 180))
REGISTRATION = Registration(gray())


@settings(max_examples=25)
@given(placements, st.integers(1, 50))
def test_a_part_is_found_turned_by_any_angle(placement, number):
    found = REGISTRATION(gray(placement=placement, number=number))
    assert farthest(found, placement) < 0.5
    assert found.correlation > 0.9


@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, -90.0, 37.0, -179.5])
def test_a_frame_need_not_be_square(angle):
    placement = Placement(5.5, -3.25, angle)
    found = Registration(gray(WIDE))(gray(WIDE, placement=placement, number=1))
    assert farthest(found, placement, WIDE) < 0.6


@settings(max_examples=25)
@given(shifts, shifts)
def test_a_shift_turns_nothing(dx, dy):
    found = Registration(gray(), turned=False)(gray(placement=Placement(dx, dy, 0.0), number=1))
    assert (found.dx, found.dy) == (pytest.approx(dx, abs=0.25), pytest.approx(dy, abs=0.25))
    assert found.angle == 0


def test_light_and_contrast_do_not_matter():
    placement = Placement(4.0, 2.0, 50.0)
    image = gray(placement=placement, number=1)
    bright, dim = REGISTRATION(image), REGISTRATION(0.4 * image + 0.05)
    assert farthest(dim, placement) < 0.4
    assert dim.correlation == pytest.approx(bright.correlation, abs=1e-3)


def test_the_reference_itself_lies_where_it_lies():
    found = REGISTRATION(gray())
    assert farthest(found, Placement(0.0, 0.0, 0.0)) < 1e-3
    assert found.correlation == pytest.approx(1, abs=1e-5)


def test_a_round_part_is_not_turned():
    rows, columns = np.mgrid[:96, :96].astype(np.float32)

    def disc(number):
        radius = np.hypot(columns - 47.5, rows - 47.5)
        noise = np.random.default_rng(number).normal(0, 0.01, SIZE)
        return np.asarray(0.8 - 0.5 / (1 + np.exp(radius - 25)) + noise, np.float32)

    assert abs(Registration(disc(0))(disc(1)).angle) < 10


def test_nothing_to_see_is_no_fit():
    assert abs(REGISTRATION(np.full(SIZE, 0.5, np.float32)).correlation) < 0.05
    assert REGISTRATION(NOWHERE.mean(axis=2)).correlation < 0.3
    flat = Registration(np.full(SIZE, 0.5, np.float32))
    assert abs(flat(gray()).correlation) < 0.05


def test_another_size_is_refused():
    with pytest.raises(InputError) as error:
        REGISTRATION(gray(WIDE))
    assert str(error.value) == (
        "image must have shape (96, 96), that of the reference, but has shape (64, 112). "
        "Preprocess both alike."
    )


@settings(max_examples=25)
@given(placements, placements)
def test_placements_compose_as_their_matrices_do(first, second):
    whole = np.vstack([first.matrix(WIDE), [0, 0, 1]]) @ np.vstack([second.matrix(WIDE), [0, 0, 1]])
    assert np.allclose(first.after(second).matrix(WIDE), whole[:2], atol=1e-9)
    nothing = first.after(first.inverse())
    assert np.allclose((nothing.dx, nothing.dy, nothing.angle % 360 % 360), 0, atol=1e-9)


def aligner_of(reference, kind="rigid", least=0.5):
    alignment = Alignment(kind=kind, reference=planes(reference), least_correlation=least)
    return Aligner(alignment)


@settings(max_examples=25)
@given(placements)
def test_a_part_is_brought_to_where_the_reference_has_it(placement):
    image = scene(placement=placement, number=1)
    aligned, (found,) = aligner_of(scene())(planes(image)[None])
    middle = np.s_[:, 16:80, 16:80]
    assert np.abs(aligned[0][middle] - planes(scene())[middle]).mean() < 0.03
    assert aligned.dtype == np.float32
    assert 0 <= aligned.min() <= aligned.max() <= 1
    assert isinstance(found, Placement)


def test_outside_the_image_the_reference_is_seen_at_the_light_of_the_image():
    reference = scene()
    image = 0.5 * scene(placement=Placement(20.0, 0.0, 0.0), number=1)
    aligner = aligner_of(reference)
    brought = aligner.bring(planes(image), Placement(20.0, 0.0, 0.0))
    outside = np.s_[:, :, 80:]
    assert np.allclose(brought[outside], 0.5 * planes(reference)[outside], atol=0.02)


def test_no_motion_changes_no_pixel():
    image = planes(scene(number=1))
    same = aligner_of(scene()).bring(image, Placement(0.0, 0.0, 0.0))
    assert np.allclose(same[:, 4:-4, 4:-4], image[:, 4:-4, 4:-4], atol=1e-6)


@settings(max_examples=25)
@given(placements)
def test_a_map_is_brought_back_to_where_the_part_lay(placement):
    aligned = np.zeros(SIZE, np.float32)
    aligned[40:44, 50:54] = 1
    came = restore(aligned, placement, SIZE)
    x, y = placement.matrix(SIZE) @ (51.5, 41.5, 1)
    mass = came.sum()
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    assert mass == pytest.approx(16, rel=0.05)
    assert (columns * came).sum() / mass == pytest.approx(x, abs=0.1)
    assert (rows * came).sum() / mass == pytest.approx(y, abs=0.1)


def test_what_left_the_aligned_frame_is_zero():
    came = restore(np.ones(SIZE, np.float32), Placement(30.0, 0.0, 0.0), SIZE)
    assert (came[:, :30] == 0).all()
    assert (came[:, 30:] == 1).all()


def test_grids_are_brought_back_as_maps_are():
    generator = np.random.default_rng(1)
    smooth = cv2.GaussianBlur(generator.random(SIZE, dtype=np.float32), (0, 0), 12)
    grid = cv2.resize(smooth, (24, 24), interpolation=cv2.INTER_AREA)
    placement = Placement(6.0, -3.0, 25.0)
    from_map = cv2.resize(restore(smooth, placement, SIZE), (24, 24), interpolation=cv2.INTER_AREA)
    middle = np.s_[6:18, 6:18]
    assert np.allclose(restore(grid, placement, SIZE)[middle], from_map[middle], atol=2e-3)


def test_a_reference_is_the_mean_of_parts_and_shows_them_whole():
    generator = np.random.default_rng(5)
    images = [
        planes(scene(placement=Placement(*generator.uniform(-6, 6, 2), angle), number=number))
        for number, angle in enumerate(generator.uniform(-180, 180, 12))
    ]
    learned = learn_alignment(images, "rigid")
    aligner = Aligner(learned)
    correlations = [aligner.place(image).correlation for image in images]
    assert min(correlations) > 0.9
    assert learned.least_correlation == pytest.approx(np.median(correlations) / 2**0.5, abs=1e-3)
    dark = learned.reference.mean(axis=0) < 0.45
    assert not dark[:8].any() and not dark[-8:].any()
    assert not dark[:, :8].any() and not dark[:, -8:].any()


def test_parts_that_lie_alike_stay_where_they_are():
    images = [planes(scene(placement=Placement(5.0, 0.0, 10.0), number=k)) for k in range(6)]
    learned = learn_alignment(images, "rigid")
    found = Registration(gray())(learned.reference.mean(axis=0))
    assert farthest(found, Placement(5.0, 0.0, 10.0)) < 0.5


def test_images_of_no_shape_cannot_be_aligned():
    generator = np.random.default_rng(1)
    textures = list(generator.random((8, 3, *SIZE), dtype=np.float32))
    with pytest.raises(AlignmentError) as error:
        learn_alignment(textures, "shift", textures[0])
    assert str(error.value) == (
        "To be aligned, good images must correlate with the reference by 0.5 or more, but usually "
        f"do by {_usual(textures):.3f}: they show no part of one shape. Use align none, or another "
        "reference."
    )


def _usual(images):
    registration = Registration(images[0].mean(axis=0), turned=False)
    return np.median([registration(image.mean(axis=0)).correlation for image in images])


# Whole models


def turned_scenes(count, start=0, **named):
    generator = np.random.default_rng([9, start])
    return [
        scene(
            placement=Placement(*generator.uniform(-4, 4, 2), generator.uniform(-180, 180)),
            number=100 + start + number,
            **named,
        )
        for number in range(count)
    ]


def fitted(images, align="rigid", **named):
    settings = FitSettings(size=SIZE, sigma=2.0, align=align, keep_features=True)
    return fit(images, settings, backbone=tiny_backbone(), **named)


@pytest.fixture(scope="module")
def model():
    return fitted(turned_scenes(20))


@pytest.fixture(scope="module")
def plain():
    return fitted(turned_scenes(20), "none")


def test_a_turned_part_scores_as_any_good_one_and_its_defect_is_found_where_it_lies(model):
    placement = Placement(3.0, -2.0, 120.0)
    good = model.score(scene(placement=placement, number=7))
    bad = model.score(scene(placement=placement, number=7, spot=True))
    assert good.image_score < model.threshold(0.01).value < bad.image_score
    row, column = np.unravel_index(bad.anomaly_map.argmax(), SIZE)
    x, y = placement.matrix(SIZE) @ (47.5 + 4, 47.5, 1)
    assert (column, row) == (pytest.approx(x, abs=3), pytest.approx(y, abs=3))
    for grid in bad.level_grids.values():
        cell = SIZE[0] / grid.shape[0]
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        assert ((column + 0.5) * cell, (row + 0.5) * cell) == (
            pytest.approx(x, abs=5),
            pytest.approx(y, abs=5),
        )


def test_without_alignment_a_turned_part_scores_far_less_surely(model, plain):
    images = [turned_scenes(8, 50), turned_scenes(8, 50, spot=True)]

    def gap(of):
        good, bad = ([of.score(image).image_score for image in some] for some in images)
        return np.mean(bad) - np.mean(good), np.std(good)

    (apart, spread), (plainly, widely) = gap(model), gap(plain)
    assert apart / spread > 2 * plainly / widely


def test_a_model_keeps_how_its_images_lay(model, tmp_path):
    placements = model.fitted.records.placements
    generator = np.random.default_rng([9, 0])
    angles = [generator.uniform(-4, 4, 2).size and generator.uniform(-180, 180) for _ in range(20)]
    turn = (placements[:, 2] - angles + 180) % 360 - 180
    assert np.abs((turn - turn[0] + 180) % 360 - 180).max() < 2
    assert placements.dtype == np.float64
    assert (placements[:, 3] > model.fitted.alignment.least_correlation).all()
    model.save(tmp_path / "a.blemish")
    again = load_model(tmp_path / "a.blemish")
    assert np.array_equal(again.fitted.records.placements, placements)
    image = scene(placement=Placement(1.0, 2.0, 70.0), number=8)
    first, second = model.score(image), again.score(image)
    assert first.image_score == second.image_score
    assert first.placement == second.placement
    again.save(tmp_path / "b.blemish")
    assert (tmp_path / "a.blemish").read_bytes() == (tmp_path / "b.blemish").read_bytes()


def test_statistics_and_digests_are_of_the_images_as_they_came(model, plain):
    assert np.array_equal(plain.fitted.records.digests, model.fitted.records.digests)
    assert np.array_equal(plain.fitted.records.statistics, model.fitted.records.statistics)
    assert np.array_equal(plain.fitted.mean_image, model.fitted.mean_image)
    assert plain.fitted.records.placements is None


def not_aligned(model, image):
    found = model.aligner.alignment, Registration(model.fitted.alignment.reference.mean(axis=0))
    return (
        f"The part must correlate with the reference by at least {found[0].least_correlation:.3f} "
        f"to be aligned, but does by {found[1](image.mean(axis=2)).correlation:.3f}. Is it another "
        "part, or out of the frame?"
    )


def test_a_part_that_cannot_be_aligned_is_not_scored(model, tmp_path):
    with pytest.raises(AlignmentError) as error:
        model.score(NOWHERE)
    assert str(error.value) == not_aligned(model, NOWHERE)
    path = written(tmp_path / "noise.png", NOWHERE)
    with pytest.raises(AlignmentError) as error:
        model.score(path)
    saved = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
    assert str(error.value) == f"{path}: {not_aligned(model, saved)}"
    good = written(tmp_path / "good.png", scene(number=4))
    first, second = inspect_images(model, [path, good])
    assert first.decision is None
    assert str(first.error) == f"{path}: {not_aligned(model, saved)}"
    assert second.decision is not None


def test_in_an_evaluation_what_cannot_be_aligned_is_an_alarm(model, tmp_path):
    mask = np.zeros((*SIZE, 3), np.float32)
    mask[20:30, 20:30] = 1
    truth = written(tmp_path / "mask.png", mask)
    good = Sample(written(tmp_path / "good.png", scene(number=4)), "good")
    noise = written(tmp_path / "noise.png", NOWHERE)
    as_defect = evaluate(model, [good, Sample(noise, "broken", truth)])
    assert (as_defect.unaligned, as_defect.unreadable, as_defect.missed) == (1, 0, 0)
    assert as_defect.image_auroc == 1
    assert as_defect.pixel_auroc < 0.5  # nothing is localised
    as_good = evaluate(model, [Sample(noise, "good"), Sample(good.image, "broken", truth)])
    assert (as_good.unaligned, as_good.false_alarms, as_good.images) == (1, 1, 2)
    assert as_good.image_auroc == 0


def test_training_images_that_cannot_be_aligned_are_named(tmp_path):
    images = [
        written(tmp_path / f"{number:02d}.png", image)
        for number, image in enumerate(turned_scenes(10))
    ]
    images += [
        written(tmp_path / name, NOWHERE[::step]) for name, step in (("x.png", 1), ("y.png", -1))
    ]
    with pytest.raises(AlignmentError) as error:
        fitted(images)
    text = str(error.value)
    assert text.startswith("2 of 12 images cannot be used. x.png: The part must correlate with")
    assert " y.png: The part must correlate" in text


def test_a_chosen_reference_is_what_parts_are_aligned_with(tmp_path):
    chosen = scene(number=60)
    model = fitted(turned_scenes(8), reference=chosen)
    assert np.array_equal(model.fitted.alignment.reference, planes(chosen))


def test_what_does_not_go_together_is_refused(model, tmp_path):
    images = turned_scenes(4)
    with pytest.raises(InputError) as error:
        fitted(images, "none", reference=images[0])
    assert str(error.value) == (
        "A reference is what parts are aligned with, but align is none. Use align shift or rigid, "
        "or leave the reference out."
    )
    with pytest.raises(InputError) as error:
        fitted(images, ignore_mask=np.eye(96, dtype=bool))
    assert str(error.value) == (
        "An ignore mask needs parts that all lie alike, but align moves them under it. Use one of "
        "the two."
    )
    with pytest.raises(InputError) as error:
        export(model, tmp_path / "out", made_up=True)
    assert str(error.value) == (
        "A model must score images as they come to be exported, but this one aligns parts first "
        "(rigid), which no graph does. Run it with blemish, or fit it without align."
    )


def test_placements_follow_the_images_through_a_models_life(model):
    more = turned_scenes(4, 30)
    grown = update(model, more).model
    assert len(grown.fitted.records.placements) == 24
    back = forget(grown, more).model
    assert np.array_equal(back.fitted.records.placements, model.fitted.records.placements)
    image = scene(placement=Placement(1.0, 2.0, 70.0), number=8)
    assert back.score(image).image_score == pytest.approx(model.score(image).image_score, rel=1e-4)
    with pytest.raises(AlignmentError):
        update(model, [NOWHERE])


def test_models_with_other_references_are_not_merged(model):
    other = fitted(turned_scenes(8, 40))
    with pytest.raises(InputError, match="the reference that parts are aligned with"):
        merge([model, other])


def written(path, image):
    assert cv2.imwrite(str(path), np.rint(image * 255).astype(np.uint8)[..., ::-1])
    return path


def test_the_command_line_aligns(tmp_path):
    folder = tmp_path / "key"
    folder.mkdir()
    for number, image in enumerate(turned_scenes(10)):
        written(folder / f"{number}.png", image)
    reference = written(tmp_path / "reference.png", scene(number=70))
    command = ["fit", str(folder), "--align", "rigid", "--reference", str(reference), "-q"]
    result = CliRunner().invoke(main, [*command, "--dims", "5"])
    assert (result.exit_code, result.output) == (0, "")
    model = load_model(tmp_path / "key.blemish")
    assert model.settings.align == "rigid"
    correlations = model.fitted.records.placements[:, 3]
    facts = CliRunner().invoke(main, ["info", str(tmp_path / "key.blemish")]).output
    assert (
        f"alignment            rigid; good images correlate with the reference by "
        f"{correlations.min():.3f} to {correlations.max():.3f}, "
        f"{model.fitted.alignment.least_correlation:.3f} is needed\n"
    ) in facts
    noise = written(tmp_path / "noise.png", NOWHERE)
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "key.blemish"), str(noise)])
    assert result.exit_code == 1
    assert "Inspected 0 of 1 images: 0 anomalous, 1 not aligned, 0 unreadable" in result.output


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "key.blemish"
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda header, _: header.update(alignment=None),
            "align is rigid, but the alignment is none",
        ),
        (
            lambda header, _: header["alignment"].update(kind="shift"),
            "align is rigid, but the alignment is shift",
        ),
        (
            lambda header, _: header["alignment"].update(least_correlation=2),
            "a reference, or a least correlation, that cannot be",
        ),
        (
            lambda _, tensors: tensors["alignment.reference"].fill(np.nan),
            "a reference, or a least correlation, that cannot be",
        ),
        (
            lambda _, tensors: tensors.update(
                {"alignment.reference": tensors["alignment.reference"][:, 1:].copy()}
            ),
            "reference pixels are float32 (3, 95, 96), not float32 (3, 96, 96)",
        ),
        (
            lambda _, tensors: tensors.pop("records.placements"),
            "placements must come with an alignment, and an alignment with them",
        ),
        (
            lambda _, tensors: tensors.update(
                {"records.placements": tensors["records.placements"][1:].copy()}
            ),
            "placements are float64 (19, 4), not float64 (20, 4)",
        ),
    ],
)
def test_a_file_that_no_fit_has_written_is_refused(saved, tmp_path, change, why):
    path = tmp_path / "key.blemish"
    path.write_bytes(saved.read_bytes())
    rewrite(path, change, sign=True)
    with pytest.raises(ModelFileError) as error:
        load_model(path)
    assert str(error.value) == (
        f"{path} must hold a whole model, but does not (ValueError: {why}). "
        "Fit the model again, or restore the file."
    )


# Real images


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "image", "pixel"), [("paper", 0.83, 0.985), ("accurate", 0.933, 0.99)]
)
def test_screws_that_lie_anyhow_are_aligned(real_data, real_weights, preset, image, pixel):
    settings = FitSettings(
        backbone="resnet18",
        preset=preset,
        dims=100 if preset == "paper" else None,
        align="rigid",
    )
    model = fit(real_data / "mvtec" / "screw", settings, weights=real_weights)
    found = evaluate(model, real_data / "mvtec" / "screw")
    assert found.unaligned == 0
    assert found.image_auroc >= image
    assert found.pixel_auroc >= pixel
