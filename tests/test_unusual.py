"""Features of the highest-scored images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import InputError
from blemish.kept_features import KeptFeatures, to_16_bits
from blemish.unusual import HighestScores, UnusualImages, unusual_count, unusual_of


def features(count):
    rows = np.arange(count, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    return [rows, rows[:, :1, :2] + 0.5]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=120), st.integers(1, 20))
def test_law_batches_do_not_matter_to_what_is_held(scores, batch):
    scores, levels = np.array(scores, float), features(len(scores))
    gathered = HighestScores(len(scores))
    for start in range(0, len(scores), batch):
        rows = slice(start, start + batch)
        gathered.add([level[rows] for level in levels], scores[rows])
    found = gathered.found()
    whole = unusual_of(scores, KeptFeatures(tuple(to_16_bits(levels))))
    np.testing.assert_array_equal(found.numbers, whole.numbers)
    for mine, its in zip(found.features.levels, whole.features.levels, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert len(found.numbers) == unusual_count(len(scores))


def test_nothing_offered_is_nothing_found():
    assert HighestScores(5).found() is None


def test_some_of_the_images_are_numbered_anew():
    levels = tuple(to_16_bits(features(3)))
    unusual = UnusualImages(np.array([1, 4, 6]), KeptFeatures(levels))
    kept = np.array([True, True, False, False, False, True, True])
    found = unusual.take(kept)
    np.testing.assert_array_equal(found.numbers, [1, 3])
    np.testing.assert_array_equal(found.features.levels[0][:, 0, 0], [0, 2])


def test_features_beyond_16_bits_are_refused():
    with pytest.raises(InputError) as caught:
        to_16_bits([np.full((1, 1, 1), 1e6, np.float32)])
    assert str(caught.value) == (
        "Features must be at most 65504 to be kept in 16 bits, but reach 1e+06. "
        "Fit without keeping them."
    )
