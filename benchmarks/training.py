"""Training: here and in PyTorch, and what the default model has learnt beside n-grams.

One Llama, one optimiser, the same batches, float32, two sizes. Ours computes a gradient in parts of
256 or 512 tokens, which fit into a processor's cache and change rounding alone. Each side runs in a
process of its own, so that memory is its own, and by turns, so that a busy machine is busy for
both. The default model of ``make repro`` and Kneser–Ney n-grams see the same tokens, and tell the
same held-out text.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.measure import Target

SENTENCE = (
    "training takes as many tokens per second as the same model in PyTorch's transformers, and "
    "compiles within 5 CPU seconds; in 90 seconds the default model tells held-out text in fewer "
    "bits than 3- to 6-grams of the same tokens"
)
SIZES: dict[str, dict[str, int]] = {
    "small": {
        "vocabulary": 1024,
        "width": 128,
        "layers": 4,
        "heads": 4,
        "hidden": 352,
        "batch": 16,
        "window": 64,
        "parts": 4,
    },
    "larger": {
        "vocabulary": 4096,
        "width": 256,
        "layers": 6,
        "heads": 4,
        "hidden": 688,
        "batch": 8,
        "window": 256,
        "parts": 4,
    },
}
QUICK = {"quick": SIZES["small"] | {"width": 16, "hidden": 32, "layers": 1, "batch": 4}}
RATE = 1e-3
PEER = ("torch", "transformers")


def batches(size: dict[str, int], step: int) -> np.ndarray:
    """Random tokens: what they are changes no time."""
    shape = size["batch"], size["window"] + 1
    return np.random.default_rng(step).integers(0, size["vocabulary"], shape).astype(np.int32)


def ours(size: dict[str, int], num_steps: int) -> dict[str, float]:
    """Two runs of the driver: the first compiles, the second is timed."""
    import optax
    from flax import nnx

    from simulations.language_model.fit import Update, fit
    from simulations.language_model.text.tokenizers import Vocabulary
    from simulations.language_model.transformer import (
        Transformer,
        TransformerConfig,
        next_token_loss,
        num_parameters,
    )

    config = TransformerConfig(
        vocabulary=Vocabulary(size["vocabulary"], eos_id=0, bos_id=0),
        width=size["width"],
        num_layers=size["layers"],
        num_heads=size["heads"],
        hidden_width=size["hidden"],
        activation="silu",
        gated=True,
        tied_head=True,
    )
    model, transform = Transformer(config, rngs=nnx.Rngs(0)), optax.adamw(RATE)
    losses: list[float] = []

    def run(num_steps: int) -> float:
        def noted(update: Update) -> None:
            losses.append(update.loss)

        start = time.process_time()
        fit(
            model,
            next_token_loss,
            lambda step: batches(size, step),
            transform,
            num_steps=num_steps,
            num_parts=size["parts"],
            progress=noted,
        )
        return time.process_time() - start

    compiled = run(1) - run(1)
    return timed(run, size, num_steps) | {
        "compile_cpu_s": compiled,
        "parameters": num_parameters(model),
        "first_loss": losses[0],
    }


def theirs(size: dict[str, int], num_steps: int) -> dict[str, float]:
    """The usual loop of transformers."""
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=size["vocabulary"],
        hidden_size=size["width"],
        intermediate_size=size["hidden"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        max_position_embeddings=size["window"],
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-4)
    losses: list[float] = []

    def run(num_steps: int) -> None:
        for step in range(num_steps):
            tokens = torch.from_numpy(batches(size, step)).long()
            logits = model(input_ids=tokens[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    run(2)
    return timed(run, size, num_steps) | {
        "parameters": sum(leaf.numel() for leaf in model.parameters()),
        "first_loss": losses[0],
    }


def timed(run: Any, size: dict[str, int], num_steps: int) -> dict[str, float]:
    """Tokens of ``num_steps`` by wall and by processor time."""
    tokens = num_steps * size["batch"] * size["window"]
    wall, cpu = time.perf_counter(), time.process_time()
    run(num_steps)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"tokens_per_second": tokens / wall, "tokens_per_cpu_second": tokens / cpu}


def counted() -> dict[str, float]:
    """Bits per byte of held-out text by n-grams, n = 3 … 6."""
    from simulations.language_model.text.corpus import bits_per_byte, token_stream
    from simulations.language_model.text.kneser_ney import KneserNey

    corpus, tokenizer, stream = texts()
    told, vocabulary = token_stream(corpus.validation, tokenizer), tokenizer.vocabulary
    models = {order: KneserNey.fit(stream, vocabulary, order=order) for order in (3, 4, 5, 6)}
    return {
        f"{order}-grams": bits_per_byte(-float(np.nansum(model.log_probs(told))), corpus.validation)
        for order, model in models.items()
    }


def learnt(seed: int, num_steps: int | None) -> dict[str, float]:
    """The same of the default model, and what its training takes, compilation counted."""
    import jax

    from simulations.language_model.train import TrainingConfig, evaluate, train

    corpus, tokenizer, stream = texts()
    config = TrainingConfig()
    if num_steps is not None:
        config = dataclasses.replace(config, num_steps=num_steps, warmup_steps=1)
    wall, cpu = time.perf_counter(), time.process_time()
    trained = train(config, jax.random.key(seed), stream)
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    told = evaluate(trained.model, corpus.validation, tokenizer)
    return spent | {"bits_per_byte": told.bits_per_byte}


def texts() -> tuple[Any, Any, np.ndarray]:
    """The corpus, its tokenizer, and the tokens to train on."""
    from simulations.language_model.text.corpus import load_corpus, token_stream
    from simulations.language_model.text.tokenizers import SubwordTokenizer
    from simulations.language_model.train import DEFAULT_MODEL

    corpus = load_corpus()
    tokenizer = SubwordTokenizer.train(corpus.train, num_tokens=DEFAULT_MODEL.vocabulary.num_tokens)
    return corpus, tokenizer, token_stream(corpus.train, tokenizer)


def tell_learnt(seed: int, num_steps: int | None) -> None:
    """Prints it as JSON."""
    print(json.dumps(learnt(seed, num_steps)))


def child(side: str, sizes: dict[str, dict[str, int]], num_steps: int) -> None:
    """One side alone; prints its numbers as JSON."""
    found = {}
    for name, size in sizes.items():
        steps = max(2, min(num_steps, num_steps * size_of(SIZES["small"]) // size_of(size)))
        found[name] = {"ours": ours, "theirs": theirs}[side](size, steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found[name]["peak_memory_gib"] = peak / 2**20
    print(json.dumps(found))


def alone(function: str, *arguments: Any) -> Any:
    """What a ``function`` of this module prints as its last line, in a process of its own."""
    code = (
        "import sys, json; from benchmarks import training; "
        f"training.{function}(*json.load(sys.stdin))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(arguments),
        # What was compiled before must not count as compiled quickly.
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def size_of(size: dict[str, int]) -> int:
    """Multiplications of a step, roughly."""
    layer = 4 * size["width"] ** 2 + 3 * size["width"] * size["hidden"]
    per_token = size["layers"] * layer + size["vocabulary"] * size["width"]
    return per_token * size["batch"] * size["window"]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure by turns, print, and write."""
    chosen = measure.options(SENTENCE, arguments)
    sizes, num_steps = (QUICK, 3) if chosen.quick else (SIZES, 120)
    installed = all(importlib.util.find_spec(name) for name in PEER)
    sides = ["ours", "theirs"] if installed else ["ours"]
    found: dict[str, list[dict[str, dict[str, float]]]] = {side: [] for side in sides}
    repeats = 1 if chosen.quick else min(chosen.repeats, 3)
    for _ in range(repeats):
        for side in sides:
            found[side].append(alone("child", side, sizes, num_steps))
    medians = {
        name: {
            side: {
                number: statistics.median(run[name][number] for run in runs)
                for number in runs[0][name]
            }
            for side, runs in found.items()
        }
        for name in sizes
    }
    holds: dict[str, bool | Target] = {
        f"{name}: compiles within 5 CPU s": Target(row["ours"]["compile_cpu_s"], at_most=5)
        for name, row in medians.items()
    }
    for name, row in medians.items():
        if "theirs" in row:
            row["ratio"] = {
                number: row["ours"][number] / row["theirs"][number]
                for number in ("tokens_per_second", "tokens_per_cpu_second", "peak_memory_gib")
            }
            holds[f"{name}: as fast as transformers"] = Target(
                row["ratio"]["tokens_per_second"], at_least=1
            )
            if row["ours"]["parameters"] != row["theirs"]["parameters"]:
                raise AssertionError(f"{name}: not the same architecture, {row}")
    told = counted()
    runs = [alone("tell_learnt", seed, 2 if chosen.quick else None) for seed in range(repeats)]
    worst = {number: max(run[number] for run in runs) for number in runs[0]}
    holds |= {
        "default model: fewer bits than any n-grams": Target(
            worst["bits_per_byte"], at_most=min(told.values())
        ),
        "default model: within 90 s": Target(worst["wall_s"], at_most=90),
    }
    results = {
        "sizes": sizes,
        "steps": num_steps,
        "peer": {name: metadata.version(name) for name in PEER if installed},
        "measured": medians,
        "held_out_bits_per_byte": told,
        "default_model": runs,
    }
    return measure.publish("training", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
