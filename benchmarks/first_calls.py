"""First calls: what a user waits for is tracing and compilation, measured in fresh processes.

Every case is one call on three outcomes in float64, in a process of its own, with JAX's backend
started, the law at hand (by NumPy, which compiles nothing) and no persistent compilation cache.
Processor time counts every thread of the compiler, so it says what the machine had to do even when
others use it; wall time is what the user waits on a quiet machine.

The last case reads as a user's loop: 1,000 laws of 1 to 512 outcomes, one after another, and how
many programs were compiled for them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import measure

SENTENCE = (
    "in a fresh process, processor seconds: from_probs 0.1, soft_best_of_n with its KL 1.2, its "
    "gradient 3, temperature_for_kl 2, bounds.table 3, choose_n_and_temperature 4, "
    "hedge_temperature 4; and 1,000 laws of 1 to 512 outcomes take at most 3 compilations a "
    "function"
)
LIMITS = {
    "from_probs": 0.1,
    "soft_best_of_n with its KL": 1.2,
    "gradient of that": 3.0,
    "temperature_for_kl": 2.0,
    "bounds.table": 3.0,
    "choose_n_and_temperature": 4.0,
    "hedge_temperature": 4.0,
}
NUM_LAWS, LARGEST = 1000, 512


def cases() -> dict[str, Callable[[], Any]]:
    """Each first call, as a function without arguments."""
    import jax
    import numpy as np

    import bon_theory as bt
    from bon_theory import bounds

    def law() -> bt.Policy:
        return bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])

    def soft_kl(temperature: Any) -> Any:
        reference = law()
        return bt.kl_divergence(bt.soft_best_of_n(reference, 4, temperature), reference)

    true_reward = np.array([0.0, 1.0, 0.2])
    return {
        "from_probs": law,
        "soft_best_of_n with its KL": lambda: soft_kl(0.5),
        "gradient of that": lambda: jax.grad(soft_kl)(0.5),
        "temperature_for_kl": lambda: bt.temperature_for_kl(law(), 0.3, n=16),
        "bounds.table": lambda: bounds.table(law(), n=4, temperature=0.5),
        "choose_n_and_temperature": lambda: bt.choose_n_and_temperature(law(), 0.3, max_n=16),
        "hedge_temperature": lambda: bt.hedge_temperature(law(), true_reward, n=16),
    }


def first_call(name: str) -> dict[str, float]:
    """Seconds of processor and of wall time of one first call, in this process."""
    import jax

    jax.config.update("jax_enable_x64", True)
    call = cases()[name]
    jax.block_until_ready(jax.device_put(0.0))  # the backend is up
    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready(call())
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def ragged(num_laws: int) -> dict[str, Any]:
    """Compilations, and seconds per law, of soft best-of-n with its KL over ragged laws."""
    import jax
    import jax.monitoring
    import numpy as np

    import bon_theory as bt

    jax.config.update("jax_enable_x64", True)
    compiled = 0

    def count(event: str, duration_secs: float, **_: str | int) -> None:
        nonlocal compiled
        compiled += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(count)
    rng = np.random.default_rng(20261126)
    start = time.process_time()
    for size in rng.integers(1, LARGEST + 1, num_laws):
        reference = bt.Policy.from_samples(rng.normal(size=size))
        float(bt.kl_divergence(bt.soft_best_of_n(reference, 16, 0.5), reference))
    seconds = time.process_time() - start
    return {"laws": num_laws, "compilations": compiled, "cpu_s": seconds}


def fresh(*arguments: str) -> dict[str, Any]:
    """What a new process that compiles everything measures."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", "benchmarks.first_calls", "--measure", *arguments]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    names = list(LIMITS)[:1] if chosen.quick else list(LIMITS)
    results: dict[str, Any] = {}
    for name in names:
        runs = [fresh(name) for _ in range(1 if chosen.quick else chosen.repeats)]
        results[name] = {clock: statistics.median(run[clock] for run in runs) for clock in runs[0]}
    results["ragged laws"] = fresh("ragged", str(5 if chosen.quick else NUM_LAWS))
    holds = {
        f"{name}: {LIMITS[name]:g} s": results[name]["cpu_s"] <= LIMITS[name] for name in names
    }
    # Two functions: the selection and the divergence.
    holds["ragged laws: 3 compilations a function"] = results["ragged laws"]["compilations"] <= 6
    return measure.publish("first_calls", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        what, *rest = sys.argv[2:]
        print(json.dumps(ragged(int(rest[0])) if what == "ragged" else first_call(what)))
    else:
        main()
