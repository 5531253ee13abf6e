import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as oracle

from blemish import pixel_store
from blemish.errors import InputError, ShapeError
from blemish.pixel_metrics import PixelScores

NEIGHBOURS = np.ones((3, 3))


def gathered(images):
    pixels = PixelScores()
    for anomaly_map, mask, valid in images:
        pixels.add(anomaly_map, mask, valid=valid)
    return pixels


def pooled(images):
    """Scores and labels of all valid pixels of all images."""
    scores, labels = [], []
    for anomaly_map, mask, valid in images:
        truth = np.zeros(anomaly_map.shape, bool) if mask is None else mask
        inside = np.ones(truth.shape, bool) if valid is None else valid
        scores.append(anomaly_map[inside])
        labels.append(truth[inside])
    return np.concatenate(scores).astype(float), np.concatenate(labels)


def thresholds_of(images):
    return np.concatenate(([np.inf], np.unique(pooled(images)[0])[::-1]))


def brute_pro_curve(images):
    """Threshold by threshold: rate of all defect-free pixels, mean overlap of all regions."""
    scores, labels = pooled(images)
    regions = []
    for anomaly_map, mask, valid in images:
        inside = np.ones(anomaly_map.shape, bool) if valid is None else valid
        if mask is not None:
            labelled, count = scipy.ndimage.label(mask, NEIGHBOURS)
            parts = [anomaly_map[(labelled == n) & inside] for n in range(1, count + 1)]
            regions += [part for part in parts if part.size]
    found = thresholds_of(images)
    rate = [np.mean(scores[~labels] >= t) for t in found]
    overlap = [np.mean([np.mean(region >= t) for region in regions]) for t in found]
    return np.array(rate), np.array(overlap)


def area_up_to(x, y, limit):
    """Trapezoids up to the limit; the one across it is cut there."""
    area = 0.0
    for x0, x1, y0, y1 in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return area


def brute_pimo_curves(images):
    """Mean over good images of their rates, and the true-positive rate of each defect image."""
    found = thresholds_of(images)
    rates, overlaps = [], []
    for anomaly_map, mask, valid in images:
        inside = np.ones(anomaly_map.shape, bool) if valid is None else valid
        if mask is None:
            rates.append([np.mean(anomaly_map[inside] >= t) for t in found])
        elif (mask & inside).any():
            overlaps.append([np.mean(anomaly_map[mask & inside] >= t) for t in found])
    return np.mean(rates, axis=0), np.array(overlaps)


def brute_aupimo(images, bounds):
    """Quadrature of ``overlap(rate) / rate`` over each straight piece of each curve."""
    x, overlaps = brute_pimo_curves(images)
    low, high = bounds
    means = []
    for y in overlaps:
        area = 0.0
        for x0, x1, y0, y1 in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
            begin, end = max(x0, low), min(x1, high)
            if end > begin:
                line = lambda f, x0=x0, x1=x1, y0=y0, y1=y1: (  # noqa: E731
                    (y0 + (y1 - y0) * (f - x0) / (x1 - x0)) / f
                )
                area += scipy.integrate.quad(line, begin, end)[0]
        means.append(area / np.log(high / low))
    return np.array(means)


@st.composite
def image_sets(draw, ignoring=True):
    """Good and defect images of several small sizes, few distinct scores: very many ties."""
    images = []
    kinds = draw(st.lists(st.booleans(), min_size=0, max_size=3))
    for number, is_good in enumerate([True, False, *kinds]):
        shape = draw(st.tuples(st.integers(1, 4), st.integers(2, 5)))
        anomaly_map = draw(arrays(np.float32, shape, elements=st.integers(-3, 3)))
        mask = None if is_good else draw(arrays(bool, shape))
        valid = draw(st.none() | arrays(bool, shape)) if ignoring else None
        if valid is not None:
            valid[0, :2] = True
        if number == 1:
            mask[0, 0] = True
        images.append((anomaly_map / np.float32(4), mask, valid))
    order = draw(st.permutations(range(len(images))))
    return [images[n] for n in order]


def noise_images(seed, count=6, size=40, ignore=0.1):
    """Normal noise; odd images have two squares that are brighter."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        anomaly_map = rng.standard_normal((size, size), dtype=np.float32)
        mask = None
        if number % 2:
            mask = np.zeros((size, size), bool)
            mask[2:5, 3:5] = mask[10:20, 8:30] = True
            anomaly_map[mask] += 1
        images.append((anomaly_map, mask, rng.random((size, size)) >= ignore))
    return images


@given(image_sets())
@settings(max_examples=40, deadline=None)
def test_pixel_auroc_ap_and_f1_are_those_of_all_pixels(images):
    pixels, (scores, labels) = gathered(images), pooled(images)
    assert pixels.auroc() == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    expected = oracle.average_precision_score(labels, scores)
    assert pixels.average_precision() == pytest.approx(expected, abs=1e-12)
    precision, recall, _ = oracle.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
    best, threshold = pixels.f1_max()
    assert best == pytest.approx(f1.max(), abs=1e-12)
    assert oracle.f1_score(labels, scores >= threshold) == pytest.approx(best, abs=1e-12)


@given(image_sets(), st.floats(0.01, 1))
@settings(max_examples=40, deadline=None)
def test_pro_is_the_brute_force_one(images, limit):
    x, y = brute_pro_curve(images)
    for at in (limit, 0.3):
        assert gathered(images).pro(at) == pytest.approx(area_up_to(x, y, at) / at, abs=1e-9)


@given(image_sets(), st.sampled_from([(0.05, 0.5), (1e-3, 0.1), (0.25, 1.0), (1e-5, 1e-4)]))
@settings(max_examples=40, deadline=None)
def test_aupimo_is_the_brute_force_one(images, bounds):
    result = gathered(images).aupimo(bounds)
    expected = brute_aupimo(images, bounds)
    np.testing.assert_allclose(result.per_image, expected, rtol=0, atol=1e-9)
    assert result.mean == pytest.approx(expected.mean(), abs=1e-9)
    rates = np.unique(brute_pimo_curves(images)[0])
    at_bounds = np.isclose(rates[:, None], bounds, rtol=1e-12).any(axis=1)  # may round either way
    inside = np.sum((rates > bounds[0]) & (rates < bounds[1]) & ~at_bounds)
    assert inside <= result.levels <= inside + at_bounds.sum()


@given(image_sets())
@settings(max_examples=40, deadline=None)
def test_curves_are_complete_if_there_is_room(images):
    pixels, (scores, labels) = gathered(images), pooled(images)
    roc = pixels.roc_curve()
    x, y, thresholds = oracle.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.x, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(roc.y, y, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(roc.thresholds, thresholds)

    x, y = brute_pro_curve(images)
    whole = pixels.pro_curve(fpr_limit=1)
    np.testing.assert_allclose(whole.x, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole.y, y, rtol=0, atol=1e-12)
    pro = pixels.pro_curve()
    assert pro.x[-1] == 0.3
    assert oracle.auc(pro.x, pro.y) / 0.3 == pytest.approx(pixels.pro(), abs=1e-9)


@given(image_sets(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_law_the_order_of_images_does_not_matter(images, random):
    first, second = gathered(images), gathered(random.sample(images, len(images)))
    assert second.auroc() == first.auroc()
    assert second.average_precision() == pytest.approx(first.average_precision(), abs=1e-12)
    assert second.f1_max() == first.f1_max()
    assert second.pro() == pytest.approx(first.pro(), abs=1e-12)
    bounds = (0.05, 0.5)
    assert second.aupimo(bounds).mean == pytest.approx(first.aupimo(bounds).mean, abs=1e-12)


@given(image_sets())
@settings(max_examples=25, deadline=None)
def test_law_a_rising_function_of_the_scores_changes_nothing(images):
    first = gathered(images)
    second = gathered([(np.exp(3 * scores) - 5, *rest) for scores, *rest in images])
    assert second.auroc() == first.auroc()
    assert second.average_precision() == first.average_precision()
    assert second.f1_max()[0] == first.f1_max()[0]
    assert second.pro() == first.pro()
    bounds = (0.05, 0.5)
    np.testing.assert_array_equal(second.aupimo(bounds).per_image, first.aupimo(bounds).per_image)


@given(image_sets())
@settings(max_examples=25, deadline=None)
def test_law_negated_scores_give_one_minus_the_auroc(images):
    negated = gathered([(-scores, *rest) for scores, *rest in images])
    assert negated.auroc() == pytest.approx(1 - gathered(images).auroc(), abs=1e-12)


@given(image_sets())
@settings(max_examples=25, deadline=None)
def test_law_a_perfect_map_scores_one(images):
    truth = [
        (np.zeros(scores.shape) if mask is None else mask.astype(float), mask, valid)
        for scores, mask, valid in images
    ]
    pixels = gathered(truth)
    assert pixels.auroc() == pixels.average_precision() == pixels.pro() == 1
    assert pixels.f1_max() == (1, 1)
    result = pixels.aupimo()
    assert result.mean == 1
    assert (result.per_image == 1).all()


def test_pro_weighs_regions_alike_and_touching_corners_join_them():
    mask = np.zeros((4, 6), bool)
    mask[0, 0] = mask[1, 1] = True  # one region by 8 neighbours
    mask[3, 2:6] = True  # another
    anomaly_map = np.where(mask, 0.0, 0.5)
    anomaly_map[0, 0] = 1.0  # half of the first region, found before any false positive
    pixels = gathered([(anomaly_map, mask, None)])
    assert pixels.regions == 2
    assert pixels.pro() == pytest.approx(0.5 / 2)


def test_a_tie_is_a_diagonal_of_the_pro_curve():
    mask = np.array([[True, False]])
    pixels = gathered([(np.ones((1, 2)), mask, None)])
    assert pixels.pro(fpr_limit=0.5) == pytest.approx(0.25)
    curve = pixels.pro_curve(fpr_limit=0.5)
    assert (list(curve.x), list(curve.y)) == ([0, 0.5], [0, 0.5])


def test_a_region_that_ignored_pixels_cut_apart_is_one():
    mask = np.array([[True, True, True, False, True]])
    valid = np.array([[True, False, True, True, False]])
    pixels = gathered([(np.array([[2.0, np.nan, 0.0, 1.0, np.inf]]), mask, valid)])
    assert pixels.regions == 1
    assert pixels.pro(fpr_limit=1) == 0.5


def test_an_image_with_a_blank_mask_is_defect_free_but_not_good():
    blank = np.zeros((1, 2), bool)
    defect = np.array([[True, False]])
    pixels = gathered(
        [
            (np.array([[9.0, 9.0]]), blank, None),
            (np.array([[5.0, 1.0]]), defect, None),
            (np.array([[1.0, 2.0]]), None, None),
        ]
    )
    assert (pixels.images, pixels.blank_masks, pixels.regions) == (3, 1, 1)
    assert pixels.auroc() == 3 / 5  # the two 9s are false positives
    result = pixels.aupimo()
    assert result.per_image == [1.0]  # but not of the good images
    assert result.images == [1]


def test_all_pixels_ignored_in_a_mask_make_it_blank():
    mask = np.array([[True, False]])
    pixels = gathered([(np.ones((1, 2)), mask, ~mask)])
    assert (pixels.blank_masks, pixels.regions) == (1, 0)


def test_the_shared_rate_of_aupimo_is_a_mean_over_images_not_over_pixels():
    small, large = np.array([[1.0, 0.0]]), np.array([[0.0] * 8])
    defect = (np.array([[0.5, 0.0]]), np.array([[True, False]]), None)
    pixels = gathered([(small, None, None), (large, None, None), defect])
    # above 0.5: one of 2 pixels of one of two images, so a rate of 1/4 (1/10 of the pixels)
    expected = np.log(0.5 / 0.25) / np.log(0.5 / 0.05)
    assert pixels.aupimo((0.05, 0.5)).mean == pytest.approx(expected)


def test_aupimo_agrees_with_the_procedure_of_its_authors():
    """Evenly spaced thresholds over the good scores, trapezoids over the logarithm of the rate."""
    rng = np.random.default_rng(7)
    good = rng.standard_normal((16, 128, 128), dtype=np.float32)
    bad = rng.standard_normal((3, 128, 128), dtype=np.float32)
    mask = np.zeros((128, 128), bool)
    mask[20:60, 30:90] = True
    bad[:, mask] += np.array([1.5, 2.5, 3.5], np.float32)[:, None]
    bounds = (1e-4, 1e-2)

    thresholds = np.linspace(good.max(), good.min(), 300_000)
    rate = 1 - np.searchsorted(np.sort(good, axis=None), thresholds) / good.size
    begin, end = (int(np.argmin(np.abs(rate - bound))) for bound in bounds)
    expected = []
    for image in bad:
        found = 1 - np.searchsorted(np.sort(image[mask]), thresholds) / mask.sum()
        area = scipy.integrate.trapezoid(found[begin : end + 1], np.log(rate[begin : end + 1]))
        expected.append(area / np.log(bounds[1] / bounds[0]))

    pixels = PixelScores()
    for image in good:
        pixels.add(image, None)
    for image in bad:
        pixels.add(image, mask)
    result = pixels.aupimo(bounds)
    np.testing.assert_allclose(result.per_image, expected, rtol=0, atol=5e-3)
    assert list(result.images) == [16, 17, 18]


def test_small_pieces_give_the_same_as_large_ones(monkeypatch):
    images = noise_images(seed=3, size=20)
    whole = gathered(images)
    monkeypatch.setattr(pixel_store, "SLICE", 7)
    monkeypatch.setattr(pixel_store, "FIRST_CHUNK_BYTES", 16)
    monkeypatch.setattr(pixel_store, "LARGEST_CHUNK_BYTES", 128)
    pieces = gathered(images)
    assert pieces.auroc() == whole.auroc()
    assert pieces.f1_max() == whole.f1_max()
    assert pieces.average_precision() == pytest.approx(whole.average_precision(), abs=1e-12)
    assert pieces.pro() == pytest.approx(whole.pro(), abs=1e-12)
    assert pieces.aupimo((0.01, 0.1)).mean == pytest.approx(whole.aupimo((0.01, 0.1)).mean)
    for curve in ("roc_curve", "pro_curve"):
        few, many = getattr(pieces, curve)(20), getattr(whole, curve)(20)
        assert len(few.x) <= 20 and len(many.x) <= 20
        assert oracle.auc(few.x, few.y) == pytest.approx(oracle.auc(many.x, many.y), abs=2e-3)


def test_images_may_be_added_after_a_question():
    images = noise_images(seed=4, size=12)
    late = gathered(images[:4])
    late.auroc()
    for anomaly_map, mask, valid in images[4:]:
        late.add(anomaly_map, mask, valid=valid)
    assert late.auroc() == gathered(images).auroc()
    assert late.pro() == pytest.approx(gathered(images).pro(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_points_of_a_short_curve_are_on_the_exact_one_and_close_together(seed):
    images = noise_images(seed)
    scores, labels = pooled(images)
    pixels = gathered(images)
    roc = pixels.roc_curve(50)
    assert 40 <= len(roc.x) <= 50
    for x, y, threshold in zip(roc.x, roc.y, roc.thresholds, strict=True):
        assert x == pytest.approx(np.mean(scores[~labels] >= threshold), abs=1e-12)
        assert y == pytest.approx(np.mean(scores[labels] >= threshold), abs=1e-12)
    assert (np.diff(roc.x) + np.diff(roc.y)).max() < 3 * 2 / 50
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert oracle.auc(roc.x, roc.y) == pytest.approx(pixels.auroc(), abs=2e-3)
    pro = pixels.pro_curve(50)
    assert len(pro.x) <= 50
    assert oracle.auc(pro.x, pro.y) / 0.3 == pytest.approx(pixels.pro(), abs=5e-3)


def test_the_end_of_a_short_pro_curve_is_exact():
    images = noise_images(seed=5, ignore=0)
    scores, labels = pooled(images)
    falling = np.sort(scores[~labels])[::-1]
    at_limit = falling[int(0.3 * len(falling))]  # the false positive that passes the limit
    regions = [
        scores_
        for image, mask, _ in images
        if mask is not None
        for scores_ in (image[2:5, 3:5], image[10:20, 8:30])
    ]
    curve = gathered(images).pro_curve(5)
    assert len(curve.x) <= 5
    expected = np.mean([np.mean(region > at_limit) for region in regions])
    assert (curve.x[-1], curve.y[-1]) == (0.3, pytest.approx(expected, abs=1e-12))


def test_scores_are_told_apart_down_to_the_last_bit_of_float32():
    low = np.float32(1)
    anomaly_map = np.array([[low, np.nextafter(low, np.float32(2))]])
    mask = np.array([[False, True]])
    assert gathered([(anomaly_map, mask, None)]).auroc() == 1


def test_negative_and_positive_zero_are_a_tie():
    mask = np.array([[False, True]])
    for anomaly_map in (np.array([[-0.0, 0.0]]), np.array([[0.0, -0.0]])):
        pixels = gathered([(anomaly_map, mask, None)])
        assert (pixels.auroc(), pixels.pro(), pixels.average_precision()) == (0.5, 0.15, 0.5)
    both = gathered([(np.array([[-0.0, 0.0, 0.0]]), np.array([[True, True, False]]), None)])
    assert both.average_precision() == pytest.approx(2 / 3)


def test_arrays_need_not_be_contiguous_and_are_not_changed():
    anomaly_map = np.arange(12.0).reshape(3, 4).T
    mask = np.asfortranarray(anomaly_map > 6)
    before = anomaly_map.copy()
    assert gathered([(anomaly_map, mask, None)]).auroc() == 1
    np.testing.assert_array_equal(anomaly_map, before)


MAP = np.zeros((2, 3))
MASK = np.zeros((2, 3), bool)


@pytest.mark.parametrize(
    ("arguments", "valid", "kind", "text"),
    [
        (
            (MAP[0], None),
            None,
            ShapeError,
            "anomaly_map must have shape (H, W), but has shape (3,). Add one image at a time.",
        ),
        (
            (MAP, MASK[:1]),
            None,
            ShapeError,
            "mask must have shape (2, 3), but has shape (1, 3). "
            "It must have the size of the anomaly map.",
        ),
        (
            (MAP, None),
            MASK[:1],
            ShapeError,
            "valid must have shape (2, 3), but has shape (1, 3). "
            "It must have the size of the anomaly map.",
        ),
        (
            (MAP, MASK.astype(np.uint8)),
            None,
            InputError,
            "mask must be bool, but its dtype is uint8. "
            "Pass `mask != 0`, if that is what is meant.",
        ),
        (
            (MAP, None),
            MASK,
            InputError,
            "An anomaly map needs at least one valid pixel, but of shape (2, 3) none is. "
            "Leave the image out, or ignore less of it.",
        ),
        (
            (MAP + np.nan, None),
            None,
            InputError,
            "Scores must be finite in float32, but the anomaly map has a pixel of nan. "
            "Find out why the model gave it; it cannot be ranked.",
        ),
        (
            (MAP + 1e300, None),
            None,
            InputError,
            "Scores must be finite in float32, but the anomaly map has a pixel of 1e+300. "
            "Find out why the model gave it; it cannot be ranked.",
        ),
    ],
)
def test_a_map_that_cannot_be_used_is_refused_and_changes_nothing(arguments, valid, kind, text):
    pixels = gathered(noise_images(seed=0, count=2, size=20))
    before = (pixels.images, pixels.auroc())
    with pytest.raises(kind) as caught:
        pixels.add(*arguments, valid=valid)
    assert str(caught.value) == text
    assert (pixels.images, pixels.auroc()) == before


@pytest.mark.parametrize(
    "question", ["auroc", "average_precision", "f1_max", "pro", "roc_curve", "pro_curve"]
)
def test_metrics_without_defects_or_without_normal_pixels_are_refused(question):
    with pytest.raises(InputError) as caught:
        getattr(gathered([(MAP, None, None), (MAP, MASK, None)]), question)()
    assert str(caught.value) == (
        "Pixel metrics need defect pixels and defect-free ones, but there are 0 and 12 in the "
        "2 images added. Add images with masks that show a defect."
    )
    with pytest.raises(InputError) as caught:
        getattr(gathered([(MAP, ~MASK, None)]), question)()
    assert str(caught.value) == (
        "Pixel metrics need defect pixels and defect-free ones, but there are 6 and 0 in the "
        "1 images added. Add images without a defect."
    )


def test_aupimo_without_a_good_image_or_without_a_defect_is_refused():
    with pytest.raises(InputError) as caught:
        gathered([(MAP, ~MASK, None)]).aupimo()
    assert str(caught.value) == (
        "AUPIMO needs good images, but none of the 1 images added is one. "
        "Add at least one with mask=None."
    )
    with pytest.raises(InputError, match="Add images with masks that show a defect"):
        gathered([(MAP, None, None)]).aupimo()


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, float("nan")])
def test_a_limit_out_of_range_is_refused(limit):
    pixels = gathered(noise_images(seed=0, count=2, size=20))
    for ask in (lambda: pixels.pro(limit), lambda: pixels.pro_curve(fpr_limit=limit)):
        with pytest.raises(InputError) as caught:
            ask()
        assert str(caught.value) == (
            f"fpr_limit must be above 0 and at most 1, but is {limit}. The usual limit is 0.3."
        )


@pytest.mark.parametrize("bounds", [(0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.5)])
def test_bounds_out_of_range_are_refused(bounds):
    with pytest.raises(InputError) as caught:
        gathered(noise_images(seed=0, count=2, size=20)).aupimo(bounds)
    assert str(caught.value) == (
        f"bounds must be rising, above 0 and at most 1, but are {bounds}. "
        "The usual bounds are (1e-5, 1e-4)."
    )


@pytest.mark.parametrize("curve", ["roc_curve", "pro_curve"])
def test_a_curve_of_less_than_two_points_is_refused(curve):
    with pytest.raises(InputError) as caught:
        getattr(gathered(noise_images(seed=0, count=2, size=20)), curve)(1)
    assert str(caught.value) == (
        "max_points must be at least 2, but is 1. A curve has a beginning and an end."
    )
