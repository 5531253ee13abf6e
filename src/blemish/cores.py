"""Independent pieces of linear algebra, on all cores.

BLAS divides every single product among its threads. Products of small matrices are over in
microseconds, so that its threads mostly wait for each other, and on a busy machine they wait for
the others' turn: a fit then takes ten times as long. Here each core has pieces of its own, and
BLAS one thread per piece.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import OpenBLASController, ThreadpoolController

T = TypeVar("T")


def for_each(function: Callable[[T], object], pieces: Iterable[T]) -> None:
    """Call a function with every piece, in any order, some at the same time.

    Parameters
    ----------
    function : function
        Must write to places of its own. The first exception is raised; what has not begun by
        then is left out.
    pieces : iterable

    Examples
    --------
    >>> squares = [0, 0, 0]
    >>> for_each(lambda k: squares.__setitem__(k, k * k), range(3))
    >>> squares
    [0, 1, 4]
    """
    pieces = list(pieces)
    with one_blas_thread():
        if len(pieces) == 1:
            function(pieces[0])
            return
        with ThreadPoolExecutor(min(cores(), max(len(pieces), 1))) as pool:
            for _ in pool.map(function, pieces):
                pass


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to the calling threads.

    The limit is one of the whole process: the first to come sets it, and the last to go lifts it.
    """
    global _users, _limit  # noqa: PLW0603 - as many as there are now
    with _lock:
        _users += 1
        if _users == 1:
            _limit = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _limit is not None:
                _lift(_limit)


def _lift(limit: Any) -> None:
    """Lift the limit, whichever thread has set it: newer threadpoolctl lets only that one do it."""
    let_go = getattr(OpenBLASController, "clear_controlling_thread", None)
    if let_go is not None:
        let_go(force=True)
    limit.restore_original_limits()
    if let_go is not None:
        let_go(force=True)


_lock = threading.Lock()
_users = 0
_limit: Any = None


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Made once: looking for the libraries takes milliseconds."""
    return ThreadpoolController()
