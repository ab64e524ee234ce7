r"""The law of a million sequences of a language model, and every rule on it, exactly.

A transformer over 11 tokens, one of which ends a sequence, cut at 6: 1,111,111 sequences, whose
rewards are sums over tokens, so that many tie. What is timed, in processor seconds with
compilation: reading off the law of every sequence, then each rule on whole sequences (best-of-n,
soft best-of-n, exponential race, threshold, tilt) and in blocks of two tokens. That the law is one,
and that selecting whole sequences by the tilt is what its conditionals say, is checked on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

import bon_theory as bt
from benchmarks import measure
from simulations.language_model.enumerate import (
    EnumeratedLaw,
    at_ends,
    enumerate_sequences,
    partial_rewards,
    select_blocks,
    soft_values,
)
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig
from simulations.selection.candidates import (
    best_of_n,
    exponential_race,
    first_above,
    soft_best_of_n,
)

SENTENCE = (
    "the law of more than a million sequences and all rules on it take at most 20 processor "
    "seconds, and so they do together with all rules in blocks of 2"
)
LENGTH, BLOCK, TEMPERATURE = 6, 2, 0.5
RULES: dict[str, Callable[[bt.Policy], bt.Policy]] = {
    "best-of-8": best_of_n(8).law,
    "soft best-of-8": soft_best_of_n(8, TEMPERATURE).law,
    "exponential race of 8": exponential_race(8, TEMPERATURE).law,
    "first of 8 above 2": first_above(8, 2.0).law,
    "tilt": partial(bt.exponential_tilt, temperature=TEMPERATURE),
}


def timed(function: Callable[[], EnumeratedLaw]) -> tuple[EnumeratedLaw, float]:
    """A law, and the processor seconds that it took."""
    start = time.process_time()
    law = function()
    return law, time.process_time() - start


def run(num_tokens: int) -> dict[str, Any]:
    """Seconds by what is done."""
    vocabulary = Vocabulary.plain(num_tokens)
    config = TransformerConfig(vocabulary, width=16, num_layers=1)
    model = Transformer(config, rngs=nnx.Rngs(0))
    prompt = [vocabulary.bos_id]
    law, spent = timed(partial(enumerate_sequences, model, prompt, max_new_tokens=LENGTH))
    seconds = {"every sequence's law": spent}
    # Of a lexicon, in eighths: sums are exact, and many tie.
    valences = np.random.default_rng(0).integers(-16, 17, num_tokens) / 8
    values = partial_rewards(law, valences)
    kl = {}
    reference = law.policy(at_ends(values))
    for block_length in (LENGTH, BLOCK):
        for name, rule in RULES.items():
            title = f"{name}, {'whole' if block_length == LENGTH else f'blocks of {block_length}'}"
            selected, seconds[title] = timed(
                partial(select_blocks, law, values, rule, block_length=block_length)
            )
            kl[title] = float(bt.kl_divergence(selected.policy(at_ends(values)), reference))
    optimum = select_blocks(
        law, soft_values(law, at_ends(values), TEMPERATURE), RULES["tilt"], block_length=1
    )
    whole = select_blocks(law, values, RULES["tilt"], block_length=LENGTH)
    return {
        "num_sequences": int(law.log_probs.size),
        "processor_s": seconds,
        "whole_processor_s": sum(s for title, s in seconds.items() if "blocks" not in title),
        "total_processor_s": sum(seconds.values()),
        "kl_divergence": kl,
        "mass_lost": float(abs(1 - np.exp(law.log_probs).sum())),
        "tilt_by_its_conditionals": float(np.abs(optimum.log_probs - whole.log_probs).max()),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    with jax.enable_x64(True):
        results = run(4 if chosen.quick else 11)
    holds: dict[str, bool | measure.Target] = {
        "a million sequences": results["num_sequences"] >= 10**6,
        "all rules on whole sequences": measure.Target(results["whole_processor_s"], at_most=20),
        "and in blocks": measure.Target(results["total_processor_s"], at_most=20),
    }
    return measure.publish("enumeration", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
