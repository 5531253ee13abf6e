"""Medians of calls that take turns, time and memory of processes, and what machine this is."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from blemish.arrays import Float64Array
from blemish.cores import cores

INSTRUCTIONS = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
PACKAGES = ("blemish", "numpy", "openvino", "onnx", "opencv-python-headless", "pillow", "torch")


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of calls that took turns.

    Attributes
    ----------
    seconds : dict of str to float64 (turns,)
        Per call, the median of each turn.
    """

    seconds: Mapping[str, Float64Array]

    def median(self, name: str) -> float:
        """Median over the turns, in seconds."""
        return float(np.median(self.seconds[name]))

    def shortest(self, name: str) -> float:
        """Fastest turn, in seconds: what the machine can do at its best."""
        return float(np.min(self.seconds[name]))

    def ratio(self, name: str, other: str) -> float:
        """How many times as long as another call; the median over the turns.

        Both were measured within each turn, so that a machine that is slower for a while slows
        both.

        Examples
        --------
        >>> Timings({"a": np.array([2.0, 20.0]), "b": np.array([1.0, 10.0])}).ratio("a", "b")
        2.0
        """
        return float(np.median(self.seconds[name] / self.seconds[other]))


def alternate(
    calls: Mapping[str, Callable[[], object]],
    *,
    turns: int = 12,
    block: int = 5,
    warm: int = 2,
    pause: float = 0.005,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time calls side by side: each is made a few times in a row, then it is the next one's turn.

    Parameters
    ----------
    calls : dict of str to function
    turns : int >= 1
    block : int >= 1
        Timed calls in a row.
    warm : int >= 0
        Calls before them that are not timed: the caches are full of the other's data.
    pause : float, seconds
        Before each change, so that threads of another library stop spinning.
    clock : function
        Seconds.

    Raises
    ------
    ValueError
        There is nothing to time.
    """
    if not calls or turns < 1 or block < 1:
        raise ValueError(
            f"There must be calls, turns and blocks to time, but there are {len(calls)}, {turns} "
            f"and {block}. Give at least one of each."
        )
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            time.sleep(pause)
            for _ in range(warm):
                call()
            spent = []
            for _ in range(block):
                start = clock()
                call()
                spent.append(clock() - start)
            taken[name].append(statistics.median(spent))
    return Timings({name: np.array(seconds) for name, seconds in taken.items()})


def run_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Run a command; return seconds, and the peak resident memory of its process in MB (10^6).

    Raises
    ------
    RuntimeError
        It failed.
    """
    start = time.perf_counter()
    child = os.posix_spawn(command[0], list(command), {**os.environ, **(environment or {})})
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{_shown(command)} failed: {os.waitstatus_to_exitcode(status)}.")
    kilobyte = 1 if platform.system() == "Darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * kilobyte / 1e6


def output_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it wrote to standard output.

    Raises
    ------
    RuntimeError
        It failed; names what it wrote to standard error last.
    """
    merged = {**os.environ, **(environment or {})}
    ended = subprocess.run(command, capture_output=True, text=True, env=merged, check=False)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["nothing was said"]
        raise RuntimeError(f"{_shown(command)} failed: {said[-1]}")
    return ended.stdout


def _shown(command: Sequence[str]) -> str:
    """A command, or the beginning of a long one."""
    return " ".join(command[:6]) + (" ..." if len(command) > 6 else "")


def cpu_flags() -> list[str]:
    """Instruction sets of this CPU that matter here, where the system names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    found = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return [name for name in INSTRUCTIONS if name in found.split()]


def has_amx() -> bool:
    """Whether this CPU multiplies bf16 matrices in tiles (Intel AMX)."""
    return "amx_bf16" in cpu_flags()


def cpu_name() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def machine() -> str:
    """One line: processor, cores, instruction sets."""
    known = ", ".join(cpu_flags()) or "instruction sets unknown"
    amx = "with AMX" if has_amx() else "without AMX"
    return f"{cpu_name()}, {cores()} cores, {amx} ({known})"


def versions() -> str:
    """One line: Python and the packages that do the work."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def today() -> str:
    """Date, as 2026-01-31."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()
