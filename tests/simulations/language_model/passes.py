"""The ways to compute the logits of the same tokens: at once, padded, and one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simulations.language_model.cache import Branches
from simulations.language_model.transformer import Transformer

READ = 3
"""Tokens that are prefilled; the others are decoded one by one."""


@nnx.jit
def whole(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model(tokens)


@nnx.jit
def _decoded(model: Transformer, tokens: jax.Array) -> jax.Array:
    first, prefix = model.prefill(tokens[:, :READ])
    branches = Branches.empty(prefix, 1, tokens.shape[1] - READ)

    def step(branches: Branches, token: jax.Array) -> tuple[Branches, jax.Array]:
        logits, branches = model.step(token[:, None], prefix, branches)
        return branches, logits[:, 0]

    _, rest = jax.lax.scan(step, branches, tokens[:, READ:].T)
    return jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)


def logits_by_pass(model: Transformer, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Logits ``[B, T, V]``; of those that are decoded ``[B, T − READ + 1, V]``, the last ones."""
    both = np.asarray(whole(model, jnp.asarray(padded(model, tokens))))
    return {
        "whole": both[: len(tokens), :-2],
        "left-padded": both[len(tokens) :, 2:],
        "decoded": np.asarray(_decoded(model, jnp.asarray(tokens))),
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
