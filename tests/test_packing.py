import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish.packing import pack, round_to_48_bits, unpack

NUMBERS = arrays(np.float64, (3, 2), elements=st.floats(-1e200, 1e200, allow_subnormal=False))


@given(NUMBERS)
def test_law_unpacked_is_packed_to_11_digits(values):
    octets = pack(values)
    assert octets.shape == (3, 2, 6)
    np.testing.assert_allclose(unpack(octets), values, rtol=1e-11)


@given(NUMBERS)
def test_law_rounded_numbers_survive_exactly(values):
    rounded = values.copy()
    round_to_48_bits(rounded)
    np.testing.assert_array_equal(unpack(pack(rounded)), rounded)
    again = rounded.copy()
    round_to_48_bits(again)
    np.testing.assert_array_equal(again, rounded)


def test_rounding_is_to_nearest_and_not_towards_zero():
    step = 2.0**-36  # between neighbours at 1
    assert unpack(pack(np.array([1 + 0.6 * step])))[0] == 1 + step
    assert unpack(pack(np.array([1 + 0.4 * step])))[0] == 1
    assert unpack(pack(np.array([-1 - 0.6 * step])))[0] == -1 - step


def test_strided_arrays_are_packed_by_value():
    values = np.arange(12.0).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(unpack(pack(values)), values)
