r"""The whole on one accelerator, in one command of a few minutes; or on a processor.

Six parts, each on its own, and said so where a package is missing (JAX is all that is required;
PyTorch and CuPy are peers, flax is the language model's):

* draws per second of best-of-16 and soft best-of-16, the engine beside PyTorch and CuPy on the same
  card;
* the share of the integer throughput that uniform best-of-16 reaches: 37.5 additions, rotations and
  exclusive ors per word, over the rate at which a chain of the same instructions runs;
* 10,000 exact laws of soft best-of-n in float64, batched: one law at a time leaves a card idle;
* whether the counts are those of the processor, bit for bit;
* tokens per second of the default language model, sampling and training;
* the same for SmolLM2-135M and a model of Pythia-1.4b's size in bfloat16, beside ``transformers``,
  with their share of the card's matrix throughput and bandwidth
  (:mod:`benchmarks.accelerator_models`).

Nothing is assumed of the machine: ``python -m benchmarks.accelerator --output FILE``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import bon_theory as bt
from benchmarks import measure
from benchmarks.exact_soft_best_of_n import problem
from benchmarks.monte_carlo import N, ours, sampler, works
from benchmarks.monte_carlo_peers import Work, array_peer, torch_peer
from simulations.draws.words import key_words, threefry_words
from simulations.engine.accumulate import Schedule
from simulations.engine.simulate import simulate

SENTENCE = (
    "on one accelerator the engine draws more than PyTorch and CuPy do on the same card in every "
    "work, and its counts of selections by rank are those of the processor, bit for bit"
)
INSTRUCTIONS_PER_WORD = (20 * 3 + 15) / 2  # rounds and key injections of threefry2x32, two words
CHAIN = 8  # generator calls in a row, by which integer throughput is measured
SECONDS = 0.5  # that a measurement is to last, beyond its first run


def peers(device: str) -> dict[str, Callable[[Work, int], Callable[[int], float]]]:
    """The peers that are installed, on the ``device``: of a work and a number of trials at once."""
    found: dict[str, Any] = {}
    if importlib.util.find_spec("torch"):
        found["torch"] = lambda work, chunk: torch_peer(
            work, device="cpu" if device == "cpu" else "cuda", chunk=chunk
        )
    if importlib.util.find_spec("cupy") and device != "cpu":
        import cupy  # pyright: ignore[reportMissingImports]

        found["cupy"] = lambda work, chunk: array_peer(work, cupy, chunk=chunk)
    return found


def draw_rates(device: str, chunk: int) -> dict[str, dict[str, float]]:
    """Million candidate draws per second, by work and method."""
    results: dict[str, dict[str, float]] = {}
    for name, work in works().items():
        methods = {"ours": ours(work)} | {
            peer: make(work, chunk) for peer, make in peers(device).items()
        }
        results[name] = {}
        for method, run in methods.items():
            trials, spent = chunk, 0.0
            while spent < SECONDS and trials < 2**31:
                run(trials)  # compiles: runs of other lengths may be other programs
                start = time.perf_counter()
                run(trials)
                spent, done = time.perf_counter() - start, trials
                # Whole chunks, at most sixteen times as many: as long as is wanted, but no longer.
                wanted = int(min(16.0, 1.5 * SECONDS / max(spent, 1e-9)) * trials)
                trials = max(2 * done, wanted) // chunk * chunk
                results[name][method] = N * done / spent / 1e6
    return results


def integer_throughput(size: int) -> dict[str, float]:
    """Billion 32-bit integer instructions per second of dependent generator calls in registers."""

    @jax.jit
    def chain(key: jax.Array, words: jax.Array) -> jax.Array:
        left, right = words, words
        for _ in range(CHAIN):
            left, right = threefry_words(key, left, right)
        return left ^ right

    key, words = key_words(jax.random.key(0)), jnp.arange(size, dtype=jnp.uint32)

    def run() -> None:
        jax.block_until_ready(chain(key, words))

    run()
    seconds = measure.seconds(run, repeats=9)
    return {"billion_per_second": CHAIN * 2 * INSTRUCTIONS_PER_WORD * size / seconds / 1e9}


def exact_pairs(num_pairs: int, batch_size: int) -> dict[str, float]:
    """Seconds for so many exact laws of 256 outcomes with their KL divergences, in float64."""
    with jax.enable_x64(True):
        reference, ns, temperatures = problem(num_pairs)
        order = np.argsort(temperatures)  # lanes of a batch wait for the slowest
        pairs = jnp.asarray(np.round(ns)[order]), jnp.asarray(temperatures[order])

        @jax.jit
        def all_pairs(reference: bt.Policy, pairs: tuple[jax.Array, jax.Array]) -> jax.Array:
            def kl(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
                return bt.kl_divergence(bt.soft_best_of_n(reference, *pair), reference)

            return jax.lax.map(kl, pairs, batch_size=batch_size)

        def run() -> jax.Array:
            return jax.block_until_ready(all_pairs(reference, pairs))

        start = time.perf_counter()
        values = np.asarray(run())
        first = time.perf_counter() - start
        some = slice(0, None, max(1, num_pairs // 20))
        with jax.default_device(jax.devices("cpu")[0]):
            on_processor = [
                float(bt.kl_divergence(bt.soft_best_of_n(reference, n, t), reference))
                for n, t in zip(np.round(ns)[order][some], temperatures[order][some], strict=True)
            ]
        return {
            "num_pairs": num_pairs,
            "first_call_s": first,
            "seconds": measure.seconds(run, repeats=3),
            "largest_difference_from_processor": float(np.abs(values[some] - on_processor).max()),
        }


def counts_of_processor(num_trials: int) -> dict[str, int]:
    """How many trials were counted elsewhere than on the processor, by work."""
    processor = Schedule(mesh=Mesh(np.array(jax.devices("cpu")[:1]), ("trials",)))
    moved = {}
    for name, work in works().items():
        key, race = jax.random.key(1), sampler(work)
        here = simulate(key, race, num_trials=num_trials).counts
        there = simulate(key, race, num_trials=num_trials, schedule=processor).counts
        moved[name] = int(np.abs(here - there).sum()) // 2
    return moved


def language_model(num_rows: int, num_tokens: int, num_steps: int) -> dict[str, float]:
    """Tokens per second of the default model, sampled and trained on."""
    from flax import nnx

    from simulations.language_model import train
    from simulations.language_model.generate import generate
    from simulations.language_model.text.corpus import load_corpus, token_stream
    from simulations.language_model.text.tokenizers import ByteTokenizer, encode_prompts
    from simulations.language_model.transformer import Transformer, TransformerConfig

    model = Transformer(TransformerConfig(), rngs=nnx.Rngs(0))
    prompts = encode_prompts(["The "], ByteTokenizer())

    def sample() -> None:
        generate(
            jax.random.key(0),
            model,
            prompts,
            num_candidates=num_rows,
            max_new_tokens=num_tokens,
            batch_size=num_rows,
        )

    sample()
    sampling = measure.seconds(sample, repeats=3)
    clock: list[float] = []
    config = train.TrainingConfig(
        TransformerConfig(), num_steps=num_steps, warmup_steps=1, num_parts=1, counted_share=0.0
    )
    train.train(
        config,
        jax.random.key(0),
        token_stream(load_corpus().train, ByteTokenizer()),
        progress=lambda *_: clock.append(time.perf_counter()),
    )
    step = float(np.median(np.diff(clock)))
    return {
        "sampled_per_second": num_rows * num_tokens / sampling,
        "trained_on_per_second": config.batch_size * config.window / step,
    }


def parts(*, quick: bool) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; large enough to fill a card, or tiny."""
    platform = jax.devices()[0].platform
    measured: dict[str, Callable[[], Any]] = {
        "million_draws_per_second": lambda: draw_rates(platform, 2**12 if quick else 2**20),
        "integer": lambda: integer_throughput(2**12 if quick else 2**26),
        "exact_pairs": lambda: exact_pairs(20, 10) if quick else exact_pairs(10_000, 1000),
        "trials_counted_elsewhere": lambda: counts_of_processor(2**12 if quick else 2**22),
    }
    if importlib.util.find_spec("flax"):
        from benchmarks import accelerator_models  # needs flax as well

        sizes = (4, 4, 3) if quick else (4096, 128, 100)
        measured["tokens"] = lambda: language_model(*sizes)
        measured["models"] = lambda: accelerator_models.run(platform, quick=quick)
    return measured


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish; a part that fails is published as failed, and stops no other.

    Interrupted, it publishes what there is, but never in place of committed results.
    """
    chosen = measure.options(SENTENCE, arguments)
    device = jax.devices()[0]
    results: dict[str, Any] = {
        "device": {"platform": device.platform, "kind": device.device_kind},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "missing": [
            name
            for name in ("torch", "cupy", "flax", "transformers")
            if importlib.util.find_spec(name) is None
        ],
        "seconds": {},
        "failed": {},
    }
    for name, part in parts(quick=chosen.quick).items():
        start = time.perf_counter()
        try:
            results[name] = part()
        except (Exception, KeyboardInterrupt) as error:
            traceback.print_exc()
            results["failed"][name] = f"{type(error).__name__}: {error}"[:1000]
            if isinstance(error, KeyboardInterrupt):
                chosen.output = chosen.output or Path("out") / "accelerator.json"
                break
        results["seconds"][name] = time.perf_counter() - start
        print(f"{name}: {results['seconds'][name]:.1f} s", file=sys.stderr, flush=True)
    holds: dict[str, bool | measure.Target] = {
        f"{name}: measured": False for name in results["failed"]
    }
    rates = results.get("million_draws_per_second", {})
    if "integer" in results and rates:
        # The generator alone, as uniform best-of-16 runs it.
        reached = rates["best, uniform reward"]["ours"] * INSTRUCTIONS_PER_WORD / 1e3
        results["integer"]["share"] = reached / results["integer"]["billion_per_second"]
    for name, row in rates.items():
        if others := [rate for peer, rate in row.items() if peer != "ours"]:
            ratio = measure.Target(row["ours"] / max(others), at_least=1.0)
            holds[f"{name}: times its fastest peer"] = ratio
    for name, moved in results.get("trials_counted_elsewhere", {}).items():
        if name.startswith("best"):
            holds[f"{name}: counts of the processor"] = moved == 0
    return measure.publish("accelerator", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
