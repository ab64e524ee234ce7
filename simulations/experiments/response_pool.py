"""A pool of a real model's answers: many to each of a few instructions, with three rewards.

The pool that the repository holds was made by ``python -m simulations pool``, from
SmolLM2-135M-Instruct at temperature 1 with its own chat template: 64 instructions of
``instructions.txt``, which ask for one sentence so that most answers end, 256 answers to each, at
most 64 tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import polars as pl

from simulations.language_model.generate import generate
from simulations.language_model.rewards import tokens as token_rewards
from simulations.language_model.rewards.text import Sentiment, TrigramLikelihood, score
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.text.corpus import load_corpus
from simulations.language_model.transformer import Transformer

INSTRUCTIONS = Path(__file__).with_name("instructions.txt")


@dataclass(frozen=True)
class ResponsePoolConfig:
    """Size of a pool.

    Attributes:
        num_candidates: answers to each instruction.
        max_new_tokens: the longest answer, its end counted.
        batch_size: answers drawn at once; it decides nothing but the time.
    """

    num_candidates: int = 256
    max_new_tokens: int = 64
    batch_size: int = 256


def run(
    config: ResponsePoolConfig,
    key: jax.Array,
    model: Transformer,
    tokenizer: CheckpointTokenizer,
    instructions: Sequence[str],
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """A row for each answer; consumes ``key``.

    Columns: ``prompt_id``, ``candidate``, ``prompt``, ``text``, ``token_ids`` and
    ``token_log_probs`` (nats, under the model, at temperature 1 also the law of the draw; the end
    included), ``num_tokens``, ``finished`` (whether the answer ended by itself), ``log_prob`` of
    the whole, and three rewards: ``lexicon``, the sum of VADER's valences of whole-word tokens
    (additive, many ties); ``sentiment``, VADER's compound score of the text (some ties);
    ``likelihood``, the mean log-likelihood of its letters under a trigram model of the corpus
    (none).

    Args:
        config: size.
        key: a typed key.
        model: draws the answers.
        tokenizer: with the model's chat template.
        instructions: each the one message of a user.
        checkpoint: directory in which each batch of answers is kept as it is drawn.
        progress: called as ``progress(done, total)``, in answers.
    """
    prompts = chat_prompts(
        [[{"role": "user", "content": instruction}] for instruction in instructions], tokenizer
    )
    drawn = generate(
        key,
        model,
        prompts,
        num_candidates=config.num_candidates,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        checkpoint=checkpoint,
        progress=progress,
    )
    shape = drawn.lengths.shape
    prompt_id, candidate = (index.reshape(-1) for index in np.indices(shape))
    lengths = drawn.lengths.reshape(-1)
    tokens = drawn.tokens.reshape(lengths.size, -1)
    log_probs = drawn.token_model_log_probs.reshape(tokens.shape)
    texts = [tokenizer.decode(row) for row in tokens]
    likelihood = TrigramLikelihood.fit(load_corpus().scoring)
    lexicon = token_rewards.of_tokens(token_rewards.lexicon(tokenizer), tokens).sum(axis=1)
    return pl.DataFrame(
        {
            "prompt_id": prompt_id.astype(np.uint16),
            "candidate": candidate.astype(np.uint16),
            "prompt": np.asarray(instructions)[prompt_id].tolist(),
            "text": texts,
            "token_ids": _ragged(tokens.astype(np.uint16), lengths),
            "token_log_probs": _ragged(log_probs, lengths),
            "num_tokens": lengths.astype(np.uint16),
            "finished": (tokens == tokenizer.vocabulary.eos_id).any(axis=1),
            "log_prob": drawn.model_log_probs.reshape(-1).astype(np.float32),
            "lexicon": lexicon.astype(np.float32),
            "sentiment": score(Sentiment(), texts).astype(np.float32),
            "likelihood": score(likelihood, texts).astype(np.float32),
        }
    )


def instructions() -> list[str]:
    """Those of the repository's pool."""
    return INSTRUCTIONS.read_text().splitlines()


def _ragged(rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]
