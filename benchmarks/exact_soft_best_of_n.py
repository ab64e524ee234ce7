r"""Exact soft best-of-n at thousands of (n, λ), against a simulation of the same accuracy.

The exact law of K = 256 outcomes with Gaussian rewards is computed at pairs with n log-uniform in
[1, 1000] and λ log-uniform in [0.1, 10], in float64, in three arrangements: one pair after another
in one compiled loop (on one core), the same with the pairs dealt out to all cores, and ``vmap`` in
batches (which waits for the slowest of each batch). Real n, whose lattice is finer below 4, is
timed in the second only.

The simulation is the real process in NumPy: draw n candidates, let each wait an exponential time of
rate :math:`e^{r/\lambda}`, keep the first. After S trials its law is off by

.. math:: E\,\mathrm{TV} \approx \sum_k \sqrt{\frac{P_k (1 - P_k)}{2 \pi S}}

(the mean absolute deviation of a normal), so S follows from the exact P and the accuracy. Its time
is S times the measured time of a trial; a few pairs are run in full to check both numbers.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import bon_theory as bt
from benchmarks import measure

SENTENCE = (
    "10,000 (n, λ) pairs of exact soft best-of-n at K = 256 in float64 take at most 2 s on 2 cores "
    "after compilation, the first call at most 3 s; a NumPy simulation accurate to 1e-3 in total "
    "variation takes more than 10,000 times as long"
)
NUM_OUTCOMES = 256
ACCURACY = 1e-3
EVERY_CORE = "one_by_one_on_every_core"
CHUNK = 2**20  # draws that the simulation holds at once


def problem(num_pairs: int) -> tuple[bt.Policy, np.ndarray, np.ndarray]:
    """The reference and real n and λ, ``[num_pairs]``."""
    rng = np.random.default_rng(20260322)
    probs, rewards = rng.dirichlet(np.ones(NUM_OUTCOMES)), rng.normal(size=NUM_OUTCOMES)
    ns = np.exp(rng.uniform(0, np.log(1000), num_pairs))
    temperatures = np.exp(rng.uniform(np.log(0.1), np.log(10), num_pairs))
    return bt.Policy.from_probs(probs, rewards), ns, temperatures


def arrangements(reference: bt.Policy) -> dict[str, Any]:
    """Compiled functions of (ns, temperatures), each giving KL divergences and certificates."""

    def pair(x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        policy = bt.soft_best_of_n(reference, x[0], x[1])
        return bt.kl_divergence(policy, reference), bt.certificate(policy)

    def one_by_one(ns: jax.Array, temperatures: jax.Array) -> Any:
        return jax.lax.map(pair, (ns, temperatures))

    def in_batches(ns: jax.Array, temperatures: jax.Array) -> Any:
        return jax.lax.map(pair, (ns, temperatures), batch_size=64)

    mesh = jax.make_mesh(
        (jax.device_count(),), ("pairs",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    dealt = PartitionSpec("pairs")
    on_every_core = jax.shard_map(
        one_by_one, mesh=mesh, in_specs=(dealt, dealt), out_specs=dealt, check_vma=False
    )
    return {
        "one_by_one": jax.jit(one_by_one),
        EVERY_CORE: jax.jit(on_every_core),
        "in_batches_of_64": jax.jit(in_batches),
    }


def exact(function: Any, ns: np.ndarray, temperatures: np.ndarray, repeats: int) -> dict[str, Any]:
    """First call (compilation included), median of later ones, and the worst certificate."""

    def run() -> Any:
        return jax.block_until_ready(function(jnp.asarray(ns), jnp.asarray(temperatures)))

    start = time.perf_counter()
    _, certificates = run()
    first = time.perf_counter() - start
    return {
        "first_call_s": first,
        "seconds": measure.seconds(run, repeats=repeats),
        "largest_certificate": float(certificates.max()),
    }


def simulate(
    rng: np.random.Generator, reference: bt.Policy, n: int, temperature: float, trials: int
) -> np.ndarray:
    """Counts of the selected outcome, ``[K]``."""
    cdf = np.cumsum(np.asarray(reference.probs))
    mean_waits = np.exp(-np.asarray(reference.rewards) / temperature)
    counts = np.zeros(len(cdf), np.int64)
    while trials > 0:
        size = min(trials, max(1, CHUNK // n))
        drawn = np.searchsorted(cdf[:-1], rng.random((size, n)), side="right")
        waits = rng.standard_exponential((size, n)) * mean_waits[drawn]
        first = np.argmin(waits, axis=1)
        counts += np.bincount(drawn[np.arange(size), first], minlength=len(cdf))
        trials -= size
    return counts


def trials_needed(probs: np.ndarray, accuracy: float) -> int:
    """Trials after which the expected total variation of the empirical law is ``accuracy``."""
    spread = np.sum(np.sqrt(probs * (1 - probs)))
    return int(np.ceil(spread**2 / (2 * np.pi * accuracy**2)))


def simulation(
    reference: bt.Policy, ns: np.ndarray, temperatures: np.ndarray, quick: bool
) -> dict[str, Any]:
    """Seconds per pair of the simulation, extrapolated from measured seconds per trial."""
    rng = np.random.default_rng(1)
    anchors = np.array([1, 4, 16, 64, 256, 1000])
    per_trial = []
    for n in anchors:
        trials = (1 if quick else 8) * CHUNK // int(n)
        run = functools.partial(simulate, rng, reference, int(n), 0.5, trials)
        per_trial.append(measure.seconds(run, repeats=1 if quick else 3) / trials)
    laws = jax.jit(
        lambda n, t: jax.lax.map(lambda x: bt.soft_best_of_n(reference, x[0], x[1]).probs, (n, t))
    )(ns, temperatures)
    trials = np.array([trials_needed(np.asarray(law), ACCURACY) for law in laws])
    per_pair = trials * np.interp(ns, anchors, per_trial)

    # Run in full where that takes seconds: is the accuracy reached, and the time as predicted?
    accuracy = 10 * ACCURACY if quick else ACCURACY
    checks = []
    for n, temperature in ((2, 0.2), (2, 5.0), (8, 0.2)):
        law = np.asarray(bt.soft_best_of_n(reference, n, temperature).probs)
        needed = trials_needed(law, accuracy)
        start = time.perf_counter()
        counts = simulate(rng, reference, n, temperature, needed)
        duration = time.perf_counter() - start
        reached = 0.5 * float(np.abs(counts / needed - law).sum())
        predicted = float(needed * np.interp(n, anchors, per_trial))
        checks.append(
            {
                "n": n,
                "temperature": temperature,
                "trials": needed,
                "accuracy_wanted": accuracy,
                "total_variation_reached": reached,
                "seconds": duration,
                "seconds_predicted": predicted,
            }
        )
    return {
        "accuracy": ACCURACY,
        "pairs_averaged": len(ns),
        "seconds_per_pair_extrapolated": float(per_pair.mean()),
        "seconds_per_trial": dict(zip(map(str, anchors), per_trial, strict=True)),
        "pairs_run_in_full": checks,
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    jax.config.update("jax_enable_x64", True)
    # One device per core, so that the pairs can be dealt out; before the first computation.
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    num_pairs = 200 if chosen.quick else 10_000
    num_pairs -= num_pairs % jax.device_count()
    repeats = 1 if chosen.quick else chosen.repeats
    reference, ns, temperatures = problem(num_pairs)
    functions = arrangements(reference)
    timed = {
        "integer_n": {
            name: exact(function, np.round(ns), temperatures, repeats)
            for name, function in functions.items()
        },
        "real_n": {EVERY_CORE: exact(functions[EVERY_CORE], ns, temperatures, min(repeats, 3))},
    }
    few = slice(0, 20 if chosen.quick else 500)
    simulated = simulation(reference, np.round(ns)[few], temperatures[few], chosen.quick)
    best = min(timed["integer_n"].values(), key=lambda each: each["seconds"])
    ratio = simulated["seconds_per_pair_extrapolated"] * num_pairs / best["seconds"]
    holds = {
        "10,000 pairs in at most 2 s": best["seconds"] <= 2 * num_pairs / 10_000,
        "first call at most 3 s": best["first_call_s"] <= 3,
        "simulation more than 10,000 times as long": ratio > 1e4,
    }
    results = {
        "num_outcomes": NUM_OUTCOMES,
        "num_pairs": num_pairs,
        "exact": timed,
        "simulation": simulated,
        "ratio": ratio,
    }
    return measure.publish("exact_soft_best_of_n", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
