r"""Memory and time at a million and at ten million outcomes.

Every case runs in a process of its own, whose peak resident memory is read from the operating
system; what importing JAX takes is reported apart. The float32 case is compared with the same law
computed by NumPy in float64 from the counts of distinct rewards.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

SENTENCE = (
    "soft best-of-n of a million outcomes at one (n, λ) stays under 2 GiB in float64; best-of-64 "
    "of ten million in float32 has its KL divergence within 1e-4 and its mass within 1e-5 of exact"
)
SOFT, HARD = "soft_best_of_n_float64", "best_of_n_float32"


def peak_memory_gib() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    # VmHWM starts anew with the program; ru_maxrss would inherit what the parent has used.
    if status.exists() and (line := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(line[1]) / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**30 if sys.platform == "darwin" else 2**20)


def soft_best_of_n(num_outcomes: int, repeats: int) -> dict[str, Any]:
    """One (n, λ) of Gaussian rewards, float64: the law, its KL divergence and certificate."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import bon_theory as bt

    rewards = np.random.default_rng(0).normal(size=num_outcomes)

    @jax.jit
    def law(rewards: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        reference = bt.Policy.from_samples(rewards)
        policy = bt.soft_best_of_n(reference, 64, 0.5)
        return policy.log_probs, bt.kl_divergence(policy, reference), bt.certificate(policy)

    timed = time_calls(lambda: jax.block_until_ready(law(rewards)), repeats)
    _, kl, certificate = law(rewards)
    return timed | {"kl": float(kl), "certificate": float(certificate)}


def best_of_n(num_outcomes: int, repeats: int) -> dict[str, Any]:
    """Best-of-64 of Gaussian rewards in float32, ties included, against float64."""
    import jax

    import bon_theory as bt

    n = 64
    rewards = np.random.default_rng(0).normal(size=num_outcomes).astype(np.float32)

    @jax.jit
    def law(rewards: jax.Array) -> tuple[jax.Array, jax.Array]:
        reference = bt.Policy.from_samples(rewards)
        policy = bt.best_of_n(reference, n)
        return bt.kl_divergence(policy, reference), policy.probs

    timed = time_calls(lambda: jax.block_until_ready(law(rewards)), repeats)
    kl, probs = law(rewards)
    mass = float(np.sum(np.asarray(probs), dtype=np.float64))
    peak = peak_memory_gib()  # before NumPy takes its own
    exact_kl = exact_best_of_n_kl(rewards, n)
    return timed | {
        "kl": float(kl),
        "kl_error": abs(float(kl) - exact_kl),
        "mass_error": abs(mass - 1),
        "peak_memory_gib": peak,
    }


def exact_best_of_n_kl(rewards: np.ndarray, n: int) -> float:
    """KL of best-of-n of the empirical law: Σ_j P_j log(P_j / p_j) over distinct rewards."""
    _, counts = np.unique(rewards, return_counts=True)
    upto = np.cumsum(counts)
    log_ratio = np.log1p(-counts[1:] / upto[1:])  # log F_{j-1}/F_j; differences keep their digits
    powers = (upto / len(rewards)) ** n
    law = np.append(powers[:1], -powers[1:] * np.expm1(n * log_ratio))
    possible = law > 0
    return float(np.sum(law[possible] * np.log(law[possible] * len(rewards) / counts[possible])))


def time_calls(call: Any, repeats: int) -> dict[str, float]:
    """First call, compilation included, and the median of later ones."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    return {"first_call_s": first, "seconds": measure.seconds(call, repeats=repeats)}


def run_case(case: str, num_outcomes: int, repeats: int) -> None:
    """What the process of one case does: print its results."""
    import jax

    jax.block_until_ready(jax.numpy.zeros(1))
    before = peak_memory_gib()
    results = {SOFT: soft_best_of_n, HARD: best_of_n}[case](num_outcomes, repeats)
    results.setdefault("peak_memory_gib", peak_memory_gib())
    print(json.dumps({"num_outcomes": num_outcomes, "memory_before_gib": before} | results))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run every case in its own process and publish."""
    chosen = measure.options(SENTENCE, arguments)
    repeats = 1 if chosen.quick else min(chosen.repeats, 3)
    sizes = {SOFT: 10**4, HARD: 10**5} if chosen.quick else {SOFT: 10**6, HARD: 10**7}
    results = {}
    for case, num_outcomes in sizes.items():
        program = (
            f"from benchmarks import large_support as s; s.run_case{case, num_outcomes, repeats}"
        )
        finished = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
        )
        results[case] = json.loads(finished.stdout)
    holds = {
        "peak memory under 2 GiB": results[SOFT]["peak_memory_gib"] < 2,
        "KL within 1e-4": results[HARD]["kl_error"] <= 1e-4,
        "mass within 1e-5": results[HARD]["mass_error"] <= 1e-5,
    }
    return measure.publish("large_support", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
