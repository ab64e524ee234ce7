"""Recompute the golden values that take minutes: ``python -m tests.golden.make``.

Writes beside this file, from tests/oracles alone:
soft_continuous.json — soft best-of-n of continuous rewards, 22 digits each;
soft_extreme.json — natural logarithms of discrete soft best-of-n laws far beyond enumeration.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.oracles.multiprecision import mp
from tests.oracles.soft_continuous import DIGITS, SoftBestOfN
from tests.oracles.soft_real_n import soft_best_of_n

HERE = Path(__file__).parent
CASES = [
    ("uniform", 1.5, 0.5),
    ("uniform", 2.0, 0.1),
    ("uniform", 8.0, 0.5),
    ("uniform", 64.0, 0.1),
    ("uniform", 1000.0, 2.0),
    ("uniform", 1e6, 0.05),
    ("uniform", 7.5, 0.02),
    ("gaussian", 2.0, 1.0),
    ("gaussian", 2.5, 2.0),
    ("gaussian", 8.0, 0.5),
    ("gaussian", 64.0, 0.25),
    ("gaussian", 1000.0, 1.0),
    ("exponential", 2.0, 2.0),
    ("exponential", 3.7, 1.0),
    ("exponential", 16.0, 0.5),
    ("exponential", 100.0, 4.0),
]
# Rewards at which the density ratio is stored: both tails and the middle of each reference.
POINTS = {
    "uniform": [0.0, 0.25, 0.5, 0.9, 1.0],
    "gaussian": [-3.0, -1.0, 0.0, 1.5, 4.0],
    "exponential": [0.0, 0.125, 0.75, 3.0, 12.0],
}


def case(name: str, n: float, temperature: float) -> dict[str, Any]:
    """Return every functional of one case as decimal strings."""
    law = SoftBestOfN(name, n, temperature)
    has_tilt = name != "exponential" or temperature > 1
    values = {
        "win_rate": law.win_rate(),
        "expected_reward": law.expected_reward(),
        "kl": law.kl(),
        "kl_from_tilt": law.kl_from_tilt() if has_tilt else None,
    }
    return {
        "reward": name,
        "n": n,
        "temperature": temperature,
        "mass_error": float(abs(law.mass() - 1)),
        **{key: value and mp.nstr(value, 22) for key, value in values.items()},
        "points": POINTS[name],
        "density_ratio": [mp.nstr(law.density_ratio(x), 22) for x in POINTS[name]],
    }


# Dyadic rewards and temperatures: r/λ is exact in floats, so rounding it is not what is tested.
REWARDS = [0.0, 0.5, 1.0, 0.75]
EXTREME = [
    *(
        ([0.5, 0.25, 0.125, 0.125], n, temperature)
        for n, temperature in [
            (1.5, 0.25),
            (1.0625, 2.0**-4),
            (40.25, 2.0**-10),
            (1e6, 0.25),
            (1e6, 2.0**-13),
            (1e15, 2.0**-4),
            (1e15, 2.0**-13),
            (1e15, 1024.0),
        ]
    ),
    *(
        ([0.5, 0.25, 1e-200, 0.25], n, temperature)
        for n, temperature in [(1e3, 2.0**-10), (1e15, 2.0**-10), (1e15, 0.125)]
    ),
    ([2.0**-11, 1 - 2.0**-10, 2.0**-12, 2.0**-12], 1.125, 2.0**-4),
]


def extreme_case(probs: list[float], n: float, temperature: float) -> dict[str, Any]:
    """Return the logarithms of one discrete law."""
    law = soft_best_of_n(probs, REWARDS, n, temperature)
    return {
        "probs": probs,
        "rewards": REWARDS,
        "n": n,
        "temperature": temperature,
        "log_law": [mp.nstr(mp.log(p), 22) for p in law],
    }


def write(name: str, case: Callable[..., dict[str, Any]], table: list[Any]) -> None:
    """Write one table, reporting each row as it is done."""
    rows = []
    with mp.workdps(DIGITS):
        for arguments in table:
            rows.append(case(*arguments))
            print(rows[-1], flush=True)
    (HERE / name).write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Write both tables."""
    write("soft_extreme.json", extreme_case, EXTREME)
    write("soft_continuous.json", case, CASES)


if __name__ == "__main__":
    main()
