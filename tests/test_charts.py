import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.charts import Line, curve_svg, histogram_svg
from blemish.errors import InputError

SVG = "{http://www.w3.org/2000/svg}"
LINE = Line("AUROC 0.9", np.array([0.0, 0.0, 0.2, 1.0]), np.array([0.0, 0.5, 0.9, 1.0]))


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def points(svg):
    """End points of the first curve, in SVG units."""
    drawn = re.findall(r'<path d="M([^"]*)" fill="none" style="stroke', svg)[0]
    return np.array([[float(number) for number in pair.split()] for pair in drawn.split("L")])


def bars(svg):
    """Summed heights of the bars of each group, in SVG units."""
    groups = []
    for path in re.findall(r'<path d="([^"]*)" style="fill', svg):
        found = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", path)
        groups.append(sum(float(ground) - float(top) for ground, top in found))
    return groups


def test_a_curve_has_its_title_axes_ticks_and_legend():
    found = texts(curve_svg([LINE], title="ROC <curve>"))
    assert found[0] == "ROC <curve>"
    assert found.count("0.2") == 2 and found.count("1") == 2
    assert "false-positive rate" in found and "true-positive rate" in found
    assert found[-1] == "AUROC 0.9"


def test_a_curve_starts_lower_left_and_ends_upper_right():
    drawn = points(curve_svg([LINE], title="ROC"))
    assert len(drawn) == 4
    assert drawn[0][0] < drawn[-1][0] and drawn[0][1] > drawn[-1][1]


def test_a_curve_is_cut_at_the_end_of_the_axis_by_interpolation():
    whole = points(curve_svg([LINE], title="PRO"))
    height = whole[0][1] - whole[-1][1]
    cut = points(curve_svg([LINE], title="PRO", x_limit=0.1))
    assert len(cut) == 3
    assert (cut[0][1] - cut[-1][1]) / height == pytest.approx(0.7, abs=1e-3)  # halfway 0.5 to 0.9


@given(st.integers(401, 3000), st.floats(0.05, 3))
def test_law_a_thinned_curve_stays_on_the_curve_and_keeps_its_ends(count, power):
    x = np.linspace(0, 1, count)
    svg = curve_svg([Line("a", x, x**power)], title="ROC")
    drawn = points(svg)
    assert len(drawn) <= 401
    share = (drawn - drawn[0]) / (drawn[-1] - drawn[0])
    np.testing.assert_allclose(share[:, 1], share[:, 0] ** power, atol=0.2)
    assert np.hypot(*np.diff(share, axis=0).T).max() < 0.75


def test_all_scores_are_in_the_histogram_also_those_far_away():
    normal, defective = np.linspace(1, 2, 40), np.array([3.0, 4.0, 1e6])
    svg = histogram_svg({"good": normal, "defective": defective}, threshold=2.2)
    heights = bars(svg)
    assert heights[0] / heights[1] == pytest.approx(40 / 3, rel=0.01)
    found = texts(svg)
    assert "good (40)" in found and "defective (3)" in found and "threshold 2.2" in found
    assert "image score (1 beyond 12 in the last bar)" in found


@given(
    st.lists(st.floats(-1e9, 1e9), max_size=20),
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20),
    st.floats(-1e9, 1e9),
)
def test_law_any_scores_give_a_whole_picture(first, second, threshold):
    svg = histogram_svg({"a": np.array(first), "b": np.array(second)}, threshold=threshold)
    assert "nan" not in svg and "inf" not in svg
    heights = bars(svg)
    assert heights[0] * len(second) == pytest.approx(heights[1] * len(first), rel=0.2, abs=1)


def test_equal_scores_at_the_threshold_are_drawn():
    assert bars(histogram_svg({"a": np.zeros(3)}, threshold=0.0))[0] > 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: curve_svg([], title=""),
            "A chart must have 1 to 4 lines, but has 0. Draw several.",
        ),
        (
            lambda: curve_svg([Line("a", np.zeros(2), np.zeros(3))], title=""),
            "The line 'a' must have as many x as y and at least one, but has 2 and 3. "
            "Pass the whole curve.",
        ),
        (
            lambda: histogram_svg({"a": np.zeros(0)}, threshold=1.0),
            "A histogram must have 1 to 4 groups and at least one score, but has "
            "1 groups and 0 scores. Pass some scores.",
        ),
    ],
)
def test_what_cannot_be_drawn_is_an_error(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message
