r"""Exact soft best-of-n over long sequences: 512 symbols out of 16, n up to 1e15.

A point is everything asked about one (n, λ): the law of what is kept, its divergences from the
reference and from the optimum, and its reward. The law of the reference is timed by itself: it
serves all points. Temperatures are given in units of one symbol's range of rewards: at 1/1000 the
levels of reward are 67 temperatures apart and race one by one. Real n below 2 takes four times as
many nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import bon_theory as bt
from benchmarks import measure
from bon_theory import sequence

SENTENCE = (
    "exact soft best-of-n over sequences of 512 symbols out of 16, in blocks of any length, i.i.d. "
    "or Markov, takes at most 1 s per (n, λ) after compilation, for n up to 1e15 and λ down to a "
    "thousandth of a symbol's range of rewards, in float64 on 2 cores; so does the reference's "
    "law; real n below 2, which needs four times the nodes, takes at most 2 s"
)
LENGTH, NUM_SYMBOLS = 512, 16
BLOCK_LENGTHS = (1, 16, 64, 512)
POINTS = ((1.5, 1.0), (16, 1.0), (1e3, 0.1), (1e15, 0.1), (1.5, 1e-3), (16, 1e-3), (1e15, 1e-3))


def references(length: int) -> dict[str, Callable[[int], sequence.SequenceLaw]]:
    """Random references with rewards 0, 1/15, …, 1, as functions of the block length."""
    rng = np.random.default_rng(20261122)
    rewards = np.arange(NUM_SYMBOLS) / (NUM_SYMBOLS - 1)
    first, rows = rng.dirichlet(np.ones(NUM_SYMBOLS)), rng.dirichlet(np.ones(NUM_SYMBOLS), size=16)
    symbol = bt.Policy.from_probs(first, rewards)
    chain = sequence.MarkovChain.from_probs(first, rows, rewards)
    return {
        "independent": lambda b: sequence.SequenceLaw.independent(symbol, length, block_length=b),
        "markov": lambda b: sequence.SequenceLaw.markov(chain, length, block_length=b),
    }


@jax.jit
def point(law: sequence.SequenceLaw, n: Any, temperature: Any) -> dict[str, jax.Array]:
    """Everything about one (n, λ)."""
    policy = law.select(bt.soft_best_of_n, n, temperature)
    return {
        "kl": sequence.kl_divergence(policy, law),
        "kl_from_optimum": sequence.kl_divergence(sequence.optimum(law, temperature), policy),
        "reward": sequence.expected_reward(policy),
    }


def timed(function: Callable[[], Any], repeats: int) -> dict[str, float]:
    """First call, compilation included, and the median of later ones."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    first = time.perf_counter() - start
    seconds = measure.seconds(lambda: jax.block_until_ready(function()), repeats=repeats)
    return {"first_call_s": first, "seconds": seconds}


def run(length: int, block_lengths: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """One row per reference, block length and (n, λ)."""
    rows = []
    for name, reference in references(length).items():
        for block_length in block_lengths:
            law = reference(block_length)
            laws = timed(lambda b=block_length, r=reference: r(b), repeats)
            for n, temperature in POINTS:
                clock = timed(lambda law=law, n=n, t=temperature: point(law, n, t), repeats)
                values = {key: float(value) for key, value in point(law, n, temperature).items()}
                rows.append(
                    {"reference": name, "block_length": block_length, "n": n}
                    | {"temperature": temperature, "law_seconds": laws["seconds"]}
                    | clock
                    | values
                )
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    jax.config.update("jax_enable_x64", True)
    length = 64 if chosen.quick else LENGTH
    lengths = tuple(b for b in BLOCK_LENGTHS if b <= length)
    rows = run(length, lengths, chosen.repeats)
    slowest = max(row["seconds"] for row in rows)
    slowest_whole = max(row["seconds"] for row in rows if row["n"] >= 2)
    slowest_law = max(row["law_seconds"] for row in rows)
    finite = all(np.isfinite(row["kl"] + row["kl_from_optimum"]) for row in rows)
    return measure.publish(
        "long_sequences",
        SENTENCE,
        {
            "a point within 1 s": measure.Target(slowest_whole, at_most=1),
            "real n below 2 within 2 s": measure.Target(slowest, at_most=2),
            "a law within 1 s": measure.Target(slowest_law, at_most=1),
            "finite": finite,
        },
        {
            "length": length,
            "num_symbols": NUM_SYMBOLS,
            "slowest_point_s": slowest,
            "slowest_law_s": slowest_law,
            "slowest_first_call_s": max(row["first_call_s"] for row in rows),
            "rows": rows,
        },
        chosen,
    )


if __name__ == "__main__":
    main()
