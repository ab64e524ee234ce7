"""Pools: every n with intervals, soft best-of-n, one temperature for all prompts, a cold start.

Sizes are those of people who hold many answers: 10,000 prompts with 512 scores each, a million
scores of one prompt, a table of 57,000 rows. Processor seconds count every thread; two quiet cores
take about half as long where the work is shared, and as long where it is not. The binomial
estimator is the one in circulation: for every prompt and n, the sum over sorted answers with
``math.comb``.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measure

SENTENCE = (
    "10,000 prompts with 512 scores: every n with bootstrap intervals takes at most 10 processor "
    "seconds, soft best-of-n at n = 16 and five temperatures 60, one temperature for all prompts "
    "120; a million scores of one prompt at twenty n 4; `bon-theory curve` on 57,000 rows 6 from a "
    "cold start; and the binomial estimator is 50 times slower"
)
TEMPERATURES = (0.1, 0.3, 0.5, 1.0, 2.0)


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call returns, and its seconds of processor and of wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
    }


def binomial_curve(row: list[float], n: int) -> float:
    """The estimator in circulation, for one prompt and n."""
    ordered, size = sorted(row), len(row)
    total = sum(math.comb(i, n - 1) * ordered[i] for i in range(n - 1, size))
    return total / math.comb(size, n)


def library(num_prompts: int, num_answers: int, few: int) -> dict[str, dict[str, float]]:
    """Seconds of the library's calls, in this process, after one small call of each."""
    import jax
    import numpy as np

    from bon_theory import pools

    draws = np.random.default_rng(20261126)
    scores = draws.normal(size=(num_prompts, num_answers))
    truth = scores + draws.normal(size=scores.shape) - 0.2 * scores**2
    key = jax.random.key(0)
    small = pools.Pool.from_lists(scores[:16], true_scores=truth[:16])
    pools.soft_best_of_n_curve(small, n=16, temperature=TEMPERATURES, of="true_scores")
    pools.choose(key, pools.best_of_n_curve(small))
    found = {}
    pool, found["reading arrays"] = timed(lambda: pools.Pool.from_lists(scores, true_scores=truth))

    def every_n() -> Any:
        curve = pools.best_of_n_curve(pool)
        return curve, pools.bootstrap_band(jax.random.key(1), curve, simultaneous=True)

    (curve, _), found["every n with bootstrap"] = timed(every_n)
    soft, found["soft best-of-n, five temperatures"] = timed(
        lambda: pools.soft_best_of_n_curve(pool, n=16, temperature=TEMPERATURES, of="true_scores")
    )
    _, choosing = timed(lambda: pools.choose(jax.random.key(2), soft))
    both = found["soft best-of-n, five temperatures"]
    found["one temperature for all"] = {k: both[k] + choosing[k] for k in both}
    one = pools.Pool.from_lists([draws.normal(size=few)])
    grid = [2**k for k in range(few.bit_length() - 1)]
    _, found["one prompt, twenty n"] = timed(lambda: pools.best_of_n_curve(one, n=grid))
    # The estimator in circulation, on one prompt in every hundred n.
    numbers = range(1, num_answers + 1, max(1, num_answers // 8))
    row = scores[0].tolist()
    values, binomial = timed(lambda: [binomial_curve(row, n) for n in numbers])
    np.testing.assert_allclose(values, curve.per_prompt[0, [n - 1 for n in numbers]], rtol=1e-9)
    scale = num_prompts * num_answers / len(numbers)
    found["binomial estimator, extrapolated"] = {k: v * scale for k, v in binomial.items()}
    _, found["every n alone"] = timed(lambda: pools.best_of_n_curve(pool))
    return found


def cold_start(num_rows: int) -> dict[str, float]:
    """The command on a CSV file, in a process that compiles everything."""
    import numpy as np

    draws = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.csv"
        values = draws.normal(size=num_rows).tolist()
        lines = [f"q{row // 64},{value!r}" for row, value in enumerate(values)]
        file.write_text("\n".join(["prompt_id,score", *lines]) + "\n")
        environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        code = "from bon_theory.cli import run; run()"
        command = [sys.executable, "-c", code, "curve", str(file), "--at-least", "64"]
        before, wall = os.times(), time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        after = os.times()
    cpu = after.children_user - before.children_user + after.children_system
    return {"cpu_s": cpu - before.children_system, "wall_s": time.perf_counter() - wall}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    sizes = (200, 64, 10_000) if chosen.quick else (10_000, 512, 1_000_000)
    results = library(*sizes)
    results["cold start"] = cold_start(2_000 if chosen.quick else 57_000)
    limits = {
        "every n with bootstrap": 10.0,
        "soft best-of-n, five temperatures": 60.0,
        "one temperature for all": 120.0,
        "one prompt, twenty n": 4.0,
        "cold start": 6.0,
    }
    holds = {f"{name}: {s:g} s": results[name]["cpu_s"] <= s for name, s in limits.items()}
    ratio = results["binomial estimator, extrapolated"]["cpu_s"] / results["every n alone"]["cpu_s"]
    results["ratio"] = {"binomial estimator to every n": ratio}
    holds["ratio: 50"] = ratio > 50
    return measure.publish("pools", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
