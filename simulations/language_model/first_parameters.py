"""Parameters that training begins with: what is known of a text before any layer has learnt."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from simulations.language_model.attending import rotation_frequencies
from simulations.language_model.fit import fit
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer
from simulations.language_model.windows import chunks


def start_from_pairs(model: Transformer, stream: np.ndarray, num_steps: int) -> None:
    """Make of an untrained model the best law of the next token given the last alone.

    The layers' outputs start from zero, so that features are the normalised embedding.
    """
    for last in (model.layers.attention.output, model.layers.perceptron.contract):
        last.kernel[...] = jnp.zeros_like(last.kernel[...])
    _to_unit_length(model.embedding)
    counts = pair_counts(stream, model.config.vocabulary)
    fit(
        model,
        pair_loss,
        lambda step: counts,
        _pair_optimizer(num_steps),
        num_steps=num_steps,
        trained=nnx.Any(nnx.PathContains("embedding"), nnx.PathContains("head")),
    )
    _to_unit_length(model.embedding)


def pair_loss(model: Transformer, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of −log p(second | first) without layers over ``counts [V_in, V]``; their number."""
    logits = model.logits(model.norm(model.embedding.embedding[...]))
    return -jnp.sum(counts * jax.nn.log_softmax(logits)), jnp.sum(counts)


@functools.cache
def _pair_optimizer(num_steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.linear_schedule(0.05, 0.0, num_steps), b2=0.95)


def look_back(model: Transformer) -> None:
    """Give the first layer's key head k biases with which it attends to the token k + 1 before.

    With a = (α, …, 0, …) for the queries' bias and the same turned by k + 1 positions for that of
    the keys, the bias of i's query and j's key have the product α² Σ_f cos((i − j − k − 1) θ_f),
    and α is such that the tokens beside the one that is attended to have e⁻⁴ of its weight.
    """
    config = model.config
    half, size = config.rotated // 2, config.head_size
    frequencies = rotation_frequencies(config.rotated, config.rotary_base)
    drop = np.sum(1 - np.cos(frequencies))
    scale = np.sqrt(4 * np.sqrt(size) / drop)
    query, key = np.zeros(size), np.zeros((config.key_heads, size))
    query[:half] = scale
    turns = np.arange(1, config.key_heads + 1)[:, None] * frequencies
    key[:, :half], key[:, half : 2 * half] = scale * np.cos(turns), scale * np.sin(turns)
    first = np.concatenate([np.tile(query, config.num_heads), key.reshape(-1)])
    bias = model.layers.attention.project.bias
    assert bias is not None  # the configuration has it
    bias[...] = bias[...].at[0, : first.size].set(first.astype(config.dtype))


def pair_counts(stream: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """How often a token follows another in a document, ``[V_in, V]``."""
    counts = np.zeros((vocabulary.num_inputs, vocabulary.num_inputs), np.float32)
    for chunk in chunks(stream, overlap=1):
        np.add.at(counts, (chunk[:-1], chunk[1:]), 1)
    counts[vocabulary.eos_id, vocabulary.bos_id] = 0  # from one document to the next
    return counts[:, : vocabulary.num_tokens]


def _to_unit_length(embedding: nnx.Embed) -> None:
    """Make the mean square of each row one, as RMSNorm does."""
    rows = embedding.embedding[...]
    size = jnp.sqrt(jnp.mean(jnp.square(rows), axis=1, keepdims=True))
    embedding.embedding[...] = rows / jnp.maximum(size, 1e-6).astype(rows.dtype)
