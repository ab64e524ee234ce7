"""Recompute the golden values that take minutes: `python -m tests.golden.make`.

Writes soft_continuous.json beside this file: soft best-of-n of continuous rewards, 22 digits each,
from tests/oracles/soft_continuous.py alone.
"""

import json
from pathlib import Path
from typing import Any

from tests.oracles.multiprecision import mp
from tests.oracles.soft_continuous import DIGITS, SoftBestOfN

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


def main() -> None:
    """Write the table, reporting each case as it is done."""
    rows = []
    with mp.workdps(DIGITS):
        for arguments in CASES:
            rows.append(case(*arguments))
            print(*arguments, rows[-1]["kl"], "mass error", rows[-1]["mass_error"], flush=True)
    (HERE / "soft_continuous.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
