"""Pools: every n with intervals, soft best-of-n, one temperature for all prompts, a cold start.

Sizes are those of people who hold many answers: 10,000 prompts with 512 scores each, a million
scores of one prompt, a table of 57,000 rows, two gigabytes of JSON lines. Processor seconds count
every thread; two quiet cores take about half as long where the work is shared, and as long where it
is not. The binomial estimator is the one in circulation: for every prompt and n, the sum over
sorted answers with ``math.comb``. scorio (0.2.3, where it is installed) is called once for every n,
as its interface asks; it takes grades, not real scores, so that answers right or wrong, of ten
grades and of a hundred are measured.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
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
    "cold start; two gigabytes of JSON lines 500 MB; and the binomial estimator "
    "and scorio's are 50 times slower"
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


def beside_scorio(num_prompts: int, num_answers: int) -> dict[str, dict[str, float]]:
    """Seconds for every n of scorio's estimators and of the library's, on the same grades.

    scorio's are extrapolated from eight n; the two agree to 1e-12.
    """
    import numpy as np

    from bon_theory import pools

    theirs = importlib.import_module("scorio").eval
    draws = np.random.default_rng(3)
    numbers = np.unique(np.linspace(1, num_answers, 8).astype(int)).tolist()
    found = {}
    for name, grades in (("right or wrong", 2), ("ten grades", 10), ("hundred grades", 101)):
        level = draws.uniform(size=(num_prompts, num_answers)) ** draws.gamma(
            1.0, 1.0, (num_prompts, 1)
        )
        given = np.minimum((level * grades).astype(int), grades - 1)
        worth = np.linspace(0, 1, grades)
        pool = pools.Pool.from_lists(worth[given])
        if grades == 2:
            pools.pass_at_k(pool)  # brings in memory and what it imports: twice the call's own time
            ours, seconds = timed(lambda p=pool: pools.pass_at_k(p))
            values, theirs_took = timed(lambda g=given: [theirs.pass_at_k(g, k) for k in numbers])
        else:
            ours, seconds = timed(lambda p=pool: pools.best_of_n_curve(p))
            values, theirs_took = timed(
                lambda g=given, w=worth: [theirs.max_at_k(g, k, w) for k in numbers]
            )
        at = [k - 1 for k in numbers]
        np.testing.assert_allclose(values, ours.mean[at], rtol=1e-12)
        found[f"{name}, every n"] = seconds
        scale = num_answers / len(numbers)
        found[f"{name}, scorio, extrapolated"] = {k: v * scale for k, v in theirs_took.items()}
    return found


def large_file(num_bytes: int) -> dict[str, float]:
    """``bon-theory curve`` on JSON lines of real answers' length: its peak memory and seconds."""
    import numpy as np

    draws = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.jsonl"
        text = "An answer of some length, as models give them. " * 40
        with file.open("w") as target:
            row = 0
            while target.tell() < num_bytes:
                for score in draws.normal(size=2000).tolist():
                    line = {"prompt_id": row // 64, "answer": text, "score": score}
                    target.write(json.dumps(line) + "\n")
                    row += 1
        # The process reads its own peak: a child's counts what its parent had when it forked.
        code = (
            "import sys; from bon_theory.cli.main import app; "
            "app(['curve', sys.argv[1], '--at-least', '32'], standalone_mode=False); "
            "status = open('/proc/self/status').read(); "
            "print('peak', status.split('VmHWM:')[1].split()[0])"
        )
        wall = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True
        )
        seconds, size = time.perf_counter() - wall, file.stat().st_size
    peak = float(run.stdout.rsplit("peak", 1)[1]) / 1024
    return {"file_mb": size / 1e6, "million_rows": row / 1e6, "peak_mb": peak, "wall_s": seconds}


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
    results: dict[str, Any] = library(*sizes)
    results["cold start"] = cold_start(2_000 if chosen.quick else 57_000)
    results["large file"] = large_file(10**7 if chosen.quick else 2 * 10**9)
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
    holds["large file: 500 MB"] = results["large file"]["peak_mb"] <= 500
    if importlib.util.find_spec("scorio"):
        beside = results["scorio"] = beside_scorio(*sizes[:2])
        for name in ("right or wrong", "ten grades", "hundred grades"):
            slower = (
                beside[f"{name}, scorio, extrapolated"]["cpu_s"]
                / beside[f"{name}, every n"]["cpu_s"]
            )
            results["ratio"][f"scorio to every n, {name}"] = slower
            holds[f"ratio to scorio, {name}: 50"] = slower > 50
    return measure.publish("pools", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
