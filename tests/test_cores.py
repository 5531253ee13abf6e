"""One BLAS thread while anyone asks for it, and as many as before when the last one is done."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from blemish.cores import for_each, one_blas_thread


def blas_threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=2, user_api="blas"):
        yield


def test_overlapping_users_leave_the_limit_to_the_last(two_threads):
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert inside.wait(30)
        assert blas_threads() == {1}
    assert blas_threads() == {1}  # the other is still at work
    leave.set()
    thread.join()
    assert blas_threads() == before


def test_an_error_is_raised_and_the_limit_lifted(two_threads):
    before = blas_threads()
    with pytest.raises(ZeroDivisionError):
        for_each(lambda k: 1 / k, [1, 0])
    assert blas_threads() == before


def test_nothing_to_do_is_done():
    for_each(print, [])
