"""Is the extrapolated tail of `blemish explain` honest? On known distributions, where truth is.

    python -m benchmarks.rarity --repeats 200

For n scores of a known distribution and a value of known tail probability beyond all of them: how
often the stated 95 % interval holds the truth, and how often the truth is more than ten times the
interval's upper end (too sure) or less than a tenth of its lower end (too careful). Beside the
p-value, which is at most as small as 1 / (n + 1).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from blemish.arrays import Float64Array
from blemish.explanation.tail_probability import tail_probability

Draw = Callable[[np.random.Generator, int], Float64Array]
_LARGE = 4_000_000

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda g, n: g.normal(10, 2, n),
    "gamma 4": lambda g, n: g.gamma(4.0, 1.0, n),
    "lognormal 0.3": lambda g, n: g.lognormal(0.0, 0.3, n),
    "student t 5": lambda g, n: g.standard_t(5, n),
    "highest of 200 normal": lambda g, n: np.sqrt(
        2 * np.log(200) - 2 * np.log(-np.log(g.random(n)))
    ),
}


def measure(draw: Draw, count: int, truth: float, repeats: int) -> tuple[float, float, float]:
    """Shares of samples whose interval holds the truth, is too sure, is too careful."""
    value = float(np.quantile(draw(np.random.default_rng(1), _LARGE), 1 - truth))
    holds, sure, careful = [], [], []
    for seed in range(repeats):
        scores = draw(np.random.default_rng([2, seed]), count)
        found = tail_probability(scores, value, seed=seed)
        if found.interval is None:
            continue
        low, high = found.interval
        holds.append(low <= truth <= high)
        sure.append(truth > 10 * high)
        careful.append(truth < low / 10)
    return float(np.mean(holds)), float(np.mean(sure)), float(np.mean(careful))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{'distribution':<24}{'n':>5}{'truth':>9}{'holds':>8}{'too sure':>10}{'careful':>9}")
    for name, draw in DISTRIBUTIONS.items():
        for count in (30, 200):
            for truth in (1e-3, 1e-4, 1e-5):
                holds, sure, careful = measure(draw, count, truth, arguments.repeats)
                print(f"{name:<24}{count:>5}{truth:>9.0e}{holds:>8.0%}{sure:>10.0%}{careful:>9.0%}")


if __name__ == "__main__":
    main()
