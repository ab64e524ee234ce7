"""The most probable token at every step: answers that can be compared without any randomness."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simulations.language_model.cache import Branches
from simulations.language_model.transformer import Transformer
from simulations.tools.arguments import integer_within


def greedy(model: Transformer, prompts: np.ndarray, *, max_new_tokens: int) -> np.ndarray:
    """Answers ``[B, T]`` to ``prompts [B, P]``: up to EOS, which is the last token kept, then PAD.

    Args:
        model: the language model.
        prompts: token ids, PAD to the left.
        max_new_tokens: T, EOS included.

    Raises:
        ValueError: the prompts and the answers are longer than the model's context.
    """
    room = model.config.context - prompts.shape[1]
    integer_within(
        "max_new_tokens",
        max_new_tokens,
        at_most=room,
        remedy=f"the context is {model.config.context} and the prompts have {prompts.shape[1]}",
    )
    return np.asarray(_greedy(model, jnp.asarray(prompts, jnp.int32), max_new_tokens))


@nnx.jit(static_argnames="num_tokens")
def _greedy(model: Transformer, prompts: jax.Array, num_tokens: int) -> jax.Array:
    vocabulary = model.config.vocabulary
    logits, prefix = model.prefill(prompts)
    branches = Branches.empty(prefix, 1, num_tokens)
    graph, state = nnx.split(model)
    answers = jnp.full((prompts.shape[0], num_tokens), vocabulary.pad_id, jnp.int32)
    ended = jnp.zeros(prompts.shape[0], bool)

    def unfinished(carry: tuple) -> jax.Array:
        _, branches, _, ended = carry
        return (branches.length < num_tokens) & ~ended.all()

    def extend(carry: tuple) -> tuple:
        logits, branches, answers, ended = carry
        best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        token = jnp.where(ended, vocabulary.pad_id, best)
        answers = jax.lax.dynamic_update_slice_in_dim(
            answers, token[:, None], branches.length, axis=1
        )
        logits, branches = nnx.merge(graph, state).step(token[:, None], prefix, branches)
        return logits[:, 0], branches, answers, ended | (token == vocabulary.eos_id)

    return jax.lax.while_loop(unfinished, extend, (logits, branches, answers, ended))[2]
