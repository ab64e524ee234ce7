r"""Budgets per prompt: n and temperature for a KL divergence, against SciPy's root finders.

Each prompt has a pool of K = 64 Gaussian rewards and a KL budget of its own. Wanted are the real n
of best-of-n, and the temperature of soft best-of-16, that spend it.

``brentq`` is ``scipy.optimize.brentq`` in a loop over prompts, on laws written in NumPy;
``find_root`` is ``scipy.optimize.elementwise.find_root``, SciPy's vectorised Chandrupatla method,
over all prompts at once (for n only: the arrays of a NumPy law of soft best-of-n for all prompts do
not fit a cache, and the loop is faster). The NumPy laws are written for the occasion: distinct
rewards, equal masses, no tails to guard. The loops run on a part of the prompts and are scaled up.
The library deals the prompts out to all cores, which a Python loop cannot.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.sharding import PartitionSpec
from scipy.optimize import elementwise

import bon_theory as bt
from benchmarks import measure

SENTENCE = (
    "the n for a KL budget of each of 10,000 prompts costs less than a loop of SciPy's brentq on a "
    "NumPy law, the temperature at most twice as much, and they agree"
)
NUM_OUTCOMES, DRAWS = 64, 16
AGREEMENT = 1e-8  # relative; brentq stops at 1e-12, and what it inverts has a slope of about one


def problem(num_prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards ``[num_prompts, K]``, sorted, and budgets ``[num_prompts]``."""
    rng = np.random.default_rng(20261122)
    rewards = np.sort(rng.normal(size=(num_prompts, NUM_OUTCOMES)), axis=1)
    return rewards, rng.uniform(0.2, 1.5, num_prompts)


def best_of_n_kl(n: Any) -> Any:
    """KL of best-of-n on distinct rewards, in NumPy; n of any shape."""
    cdf = np.arange(NUM_OUTCOMES + 1) / NUM_OUTCOMES
    law = np.diff(cdf ** np.asarray(n)[..., None], axis=-1)
    return np.sum(law * np.log(np.maximum(law, 1e-300) * NUM_OUTCOMES), axis=-1)


def soft_best_of_n_kl(rewards: np.ndarray, n: int, temperature: float) -> float:
    """KL of soft best-of-n by the half-line integral, in NumPy, at the library's spacing."""
    below_top = (rewards - rewards[-1]) / temperature
    s = np.arange(-40 - np.log(n), 6 - below_top[0], 0.25)
    x = np.exp(s[:, None] + below_top[None, :])
    decay = np.exp(-x)
    ratio = 0.25 * n * ((decay.mean(axis=1) ** (n - 1)) @ (x * decay))
    return float(np.mean(ratio * np.log(ratio)))


def brentq(function: Callable[[float], float], low: float, high: float) -> float:
    """SciPy's, to 1e-12."""
    return cast(float, scipy.optimize.brentq(function, low, high, xtol=1e-12))


def n_by_brentq(budgets: np.ndarray) -> np.ndarray:
    """One prompt after another."""
    return np.array(
        [np.exp(brentq(lambda x, kl=kl: best_of_n_kl(np.exp(x)) - kl, 0, 20)) for kl in budgets]
    )


def n_by_find_root(budgets: np.ndarray) -> np.ndarray:
    """All prompts at once."""
    find_root: Any = elementwise.find_root
    low, high = np.zeros_like(budgets), np.full_like(budgets, 20.0)
    found = find_root(lambda x, kl: best_of_n_kl(np.exp(x)) - kl, (low, high), args=(budgets,))
    return np.exp(found.x)


def temperature_by_brentq(rewards: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """One prompt after another, in the logarithm of the temperature."""

    def excess(x: float, rewards: np.ndarray, kl: float) -> float:
        return soft_best_of_n_kl(rewards, DRAWS, np.exp(x)) - kl

    return np.array(
        [
            np.exp(brentq(functools.partial(excess, rewards=r, kl=kl), -3.5, 5.0))
            for r, kl in zip(rewards, budgets, strict=True)
        ]
    )


def n_by_library(rewards: jax.Array, budgets: jax.Array) -> jax.Array:
    """All prompts at once."""
    return bt.n_for_kl(bt.Policy.from_samples(rewards), budgets)


def temperature_by_library(rewards: jax.Array, budgets: jax.Array) -> jax.Array:
    """Prompts in turn, four at a time: a loop waits for the slowest of its lanes."""

    def one(x: tuple[jax.Array, jax.Array]) -> jax.Array:
        return bt.temperature_for_kl(bt.Policy.from_samples(x[0]), x[1], n=DRAWS)

    return jax.lax.map(one, (rewards, budgets), batch_size=4)


def on_every_core(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Prompts dealt out to all devices, of which there is one per core."""
    mesh = jax.make_mesh(
        (jax.device_count(),), ("prompts",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    dealt = PartitionSpec("prompts")
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=(dealt, dealt), out_specs=dealt, check_vma=False
    )
    return jax.jit(mapped)


def timed(
    method: Callable[..., Any], arguments: tuple[Any, ...], repeats: int
) -> tuple[dict[str, float], np.ndarray]:
    """Seconds of the first call, seconds per prompt of later ones, and the answers."""
    start = time.perf_counter()
    found = np.asarray(method(*arguments))
    first = time.perf_counter() - start
    seconds = measure.seconds(lambda: np.asarray(method(*arguments)), repeats=repeats)
    return {"first_call_s": first, "seconds_per_prompt": seconds / len(found)}, found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    prompts, part = (64, 4) if chosen.quick else (10_000, 200)
    repeats = 1 if chosen.quick else chosen.repeats
    rewards, budgets = problem(prompts)
    everything = jnp.asarray(rewards), jnp.asarray(budgets)
    few = rewards[:part], budgets[:part]
    methods: dict[str, dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]] = {
        "n": {
            "bon_theory": (on_every_core(n_by_library), everything),
            "brentq": (n_by_brentq, few[1:]),
            "find_root": (n_by_find_root, (budgets,)),
        },
        "temperature": {
            "bon_theory": (on_every_core(temperature_by_library), everything),
            "brentq": (temperature_by_brentq, few),
        },
    }
    results: dict[str, Any] = {"num_prompts": prompts, "prompts_of_brentq": part}
    holds = {}
    for quantity, cases in methods.items():
        rows, answers = {}, {}
        for name, (method, given) in cases.items():
            rows[name], answers[name] = timed(method, given, repeats)
        ours = rows["bon_theory"]["seconds_per_prompt"]
        for name in cases.keys() - {"bon_theory"}:
            theirs = answers[name]
            error = np.max(np.abs(answers["bon_theory"][: len(theirs)] / theirs - 1))
            rows[name]["largest_relative_difference"] = float(error)
            rows[name]["times_as_long"] = rows[name]["seconds_per_prompt"] / ours
            holds[f"{quantity}: agrees with {name}"] = bool(error < AGREEMENT)
        results[quantity] = rows
    ratios = {quantity: results[quantity]["brentq"]["times_as_long"] for quantity in methods}
    holds["n: cheaper than brentq"] = bool(ratios["n"] > 1)
    holds["temperature: at most twice brentq"] = bool(ratios["temperature"] > 0.5)
    return measure.publish("tuning", SENTENCE, dict(sorted(holds.items())), results, chosen)


if __name__ == "__main__":
    main()
