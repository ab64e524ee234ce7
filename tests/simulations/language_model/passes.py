"""The ways to compute the logits of the same tokens: at once, padded, and one after the other."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simulations.language_model.cache import Branches
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.transformer import Transformer
from tests.golden import make_answers

READ = 3
"""Tokens that are prefilled; the others are decoded one by one."""


@nnx.jit
def whole(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model(tokens)


@nnx.jit(static_argnames="read")
def decoded(model: Transformer, tokens: jax.Array, read: int) -> jax.Array:
    """Logits ``[B, T − read + 1, V]`` from the last of the ``read`` tokens on."""
    first, prefix = model.prefill(tokens[:, :read])
    branches = Branches.empty(prefix, 1, tokens.shape[1] - read)

    def step(branches: Branches, token: jax.Array) -> tuple[Branches, jax.Array]:
        logits, branches = model.step(token[:, None], prefix, branches)
        return branches, logits[:, 0]

    _, rest = jax.lax.scan(step, branches, tokens[:, read:].T)
    return jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)


def logits_by_pass(model: Transformer, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Logits ``[B, T, V]``; of those that are decoded ``[B, T − READ + 1, V]``, the last ones."""
    both = np.asarray(whole(model, jnp.asarray(padded(model, tokens))))
    return {
        "whole": both[: len(tokens), :-2],
        "left-padded": both[len(tokens) :, 2:],
        "decoded": np.asarray(decoded(model, jnp.asarray(tokens), READ)),
    }


def padded(model: Transformer, tokens: np.ndarray) -> np.ndarray:
    """Each row once with PAD to the right and once with PAD to the left."""
    pad = np.full((len(tokens), 2), model.config.vocabulary.pad_id, np.int32)
    return np.concatenate([np.hstack([tokens, pad]), np.hstack([pad, tokens])])


def error(model: Transformer, tokens: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference to ``expected [B, T, V]`` of the first pass alone."""
    both = np.asarray(whole(model, jnp.asarray(padded(model, tokens))))
    return float(np.abs(both[: len(tokens), :-2] - expected).max())


def differences(model: Transformer, tokens: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """The largest absolute difference to ``expected [B, T, V]``, by pass."""
    return {
        name: float(np.abs(logits - expected[:, -logits.shape[1] :]).max())
        for name, logits in logits_by_pass(model, tokens).items()
    }


def conversations(tokenizer: CheckpointTokenizer) -> tuple[np.ndarray, list[np.ndarray]]:
    """The golden questions as prompts ``[B, P]``, and the answers to them."""
    rows = json.loads(make_answers.FILE.read_text(encoding="utf-8"))["answers"]
    chats = [[{"role": "user", "content": row["question"]}] for row in rows]
    return chat_prompts(chats, tokenizer), [np.array(row["tokens"], np.int32) for row in rows]


def conversation_differences(
    model: Transformer, prompts: np.ndarray, answers: list[np.ndarray], expected: list[np.ndarray]
) -> dict[str, float]:
    """As ``differences``, of a batch of prompts with their answers behind them.

    ``expected`` has the logits of each conversation alone.
    """
    pad = model.config.vocabulary.pad_id
    lengths = np.sum(prompts < pad, axis=1) + [answer.size for answer in answers]
    longest = max(answer.size for answer in answers)
    behind = np.stack([np.pad(a, (0, longest - a.size), constant_values=pad) for a in answers])
    left = np.hstack([prompts, behind])
    starts = np.sum(prompts == pad, axis=1)
    right = np.stack([np.roll(row, -start) for row, start in zip(left, starts, strict=True)])
    read = prompts.shape[1]
    passes = {
        "whole": (whole(model, jnp.asarray(right)), 0 * starts, 0 * starts),
        "left-padded": (whole(model, jnp.asarray(left)), starts, 0 * starts),
        "decoded": (decoded(model, jnp.asarray(left), read), 0 * starts, read - 1 - starts),
    }
    return {
        name: max(
            float(np.abs(row[first : first + length - skip] - theirs[skip:]).max())
            for row, theirs, length, first, skip in zip(
                np.asarray(logits), expected, lengths, firsts, skips, strict=True
            )
        )
        for name, (logits, firsts, skips) in passes.items()
    }
