"""The law that a token is drawn from, and the draw.

Letters as in :mod:`simulations.language_model.transformer`. A law keeps what it does to logits in
one place, so that what is drawn, its log-probability, and an enumeration of all sequences agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from simulations.draws.words import threefry_words
from simulations.tools.pytree import pytree

BLOCK = 256
"""Tokens that are summed together first: about the square root of a large vocabulary."""


@pytree(data_fields=["temperature", "top_p"], meta_fields=["top_k", "greedy", "plain"])
@dataclass(frozen=True)
class TokenLaw:
    """softmax(logits / temperature), cut to its likeliest tokens.

    First the ``top_k`` largest logits are kept, then of what is left the fewest likeliest tokens
    whose probabilities add up to ``top_p``. Tokens that tie with the last one kept are kept.

    Attributes:
        temperature: divides the logits; 0 is the largest logit, the first of equals.
        top_k: how many tokens are kept; None keeps all.
        top_p: how much probability is kept, in (0, 1]; None keeps all.
        greedy: whether the temperature is 0.
        plain: whether this is the model's own law.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> law = TokenLaw(temperature=0.5, top_k=2)
        >>> jnp.exp(law.log_probs(jnp.log(jnp.float32([0.5, 0.3, 0.2])))).round(4)
        Array([0.7353, 0.2647, 0.    ], dtype=float32)
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = field(init=False)
    plain: bool = field(init=False)

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and say what kind of law this is."""
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature is {self.temperature}: it must be 0, for the likeliest token, or "
                "positive and finite"
            )
        if self.top_k is not None and not (isinstance(self.top_k, int) and self.top_k >= 1):
            raise ValueError(
                f"top_k is {self.top_k}: it must be a whole number of tokens, 1 or more; None "
                "keeps all"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"top_p is {self.top_p}: it must be a probability in (0, 1]; None keeps all"
            )
        uncut = self.top_k is None and self.top_p is None
        object.__setattr__(self, "greedy", self.temperature == 0)
        object.__setattr__(self, "plain", self.temperature == 1 and uncut)

    def log_weights(self, logits: jax.Array) -> jax.Array:
        """log-probabilities ``[..., V]`` up to a constant; −∞ for tokens that are cut."""
        if self.plain:
            return logits
        if self.greedy:
            tokens = jnp.arange(logits.shape[-1], dtype=jnp.int32)
            likeliest = jnp.argmax(logits, axis=-1, keepdims=True).astype(jnp.int32)
            return jnp.where(_along(tokens, logits) == likeliest, 0.0, -jnp.inf).astype(jnp.float32)
        weights = logits / jnp.asarray(self.temperature, jnp.float32)
        if self.top_k is not None:
            last = jax.lax.top_k(weights, self.top_k)[0][..., -1:]
            weights = jnp.where(weights >= last, weights, -jnp.inf)
        if self.top_p is not None:
            weights = _nucleus(weights, jnp.asarray(self.top_p, jnp.float32))
        return weights

    def log_probs(self, logits: jax.Array) -> jax.Array:
        """log-probabilities ``[..., V]``; −∞ for tokens that are cut."""
        return jax.nn.log_softmax(self.log_weights(logits), axis=-1)


def draw(
    law: TokenLaw, words: tuple[jax.Array, jax.Array], logits: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens ``[R]`` drawn from ``logits [R, V]``, and their log-probabilities.

    The inverse of the distribution function in two levels: a block of 256 tokens by their sums,
    then a token within the block, each by a word of its own. On a CPU a third of the time of one
    running sum over 49,152 tokens and a tenth of Gumbel noise for each token; probabilities are
    rounded by 2⁻²⁴ of the total for blocks, and of its block for a token, so that a rare token is
    as rare as it should be.

    Args:
        law: what is drawn from.
        words: two random words for each row, ``[R]`` uint32.
        logits: of the model.

    Returns:
        Tokens ``[R]``, their log-probabilities under the law, and under the model.
    """
    log_weights = law.log_weights(logits)
    largest = jnp.max(log_weights, axis=-1, keepdims=True)
    sums = _block_sums(jnp.exp(log_weights - largest))
    block = _inverse_cdf(words[0], sums)

    tokens = block[:, None] * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)[None]
    inside = jnp.minimum(tokens, logits.shape[-1] - 1)
    within = jnp.exp(jnp.take_along_axis(log_weights, inside, axis=-1) - largest)
    token = block * BLOCK + _inverse_cdf(words[1], jnp.where(tokens == inside, within, 0.0))

    def chosen(values: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values, token[:, None], axis=-1)[:, 0]

    log_prob = chosen(log_weights) - largest[:, 0] - jnp.log(jnp.sum(sums, axis=-1))
    if law.plain:
        return token, log_prob, log_prob
    return token, log_prob, chosen(logits) - jax.nn.logsumexp(logits, axis=-1)


def row_words(key: jax.Array, prompt: jax.Array, candidate: jax.Array) -> jax.Array:
    """A key for each row, ``[2, R]`` uint32, of the ``key``'s words and the row's place alone."""
    place = prompt.astype(jnp.uint32), candidate.astype(jnp.uint32)
    return jnp.stack(threefry_words(key, *place))


def token_words(
    rows: jax.Array, position: jax.Array, stream: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Two words for a ``position`` of each row, from the keys of :func:`row_words`.

    ``stream`` 0 is for the token there; others are for what else is random about it.
    """
    position = jnp.broadcast_to(position.astype(jnp.uint32), rows.shape[1:])
    return threefry_words(rows, position, jnp.full_like(position, stream))


def _inverse_cdf(words: jax.Array, weights: jax.Array) -> jax.Array:
    """Where the running sum of ``weights [R, W]`` passes the word's fraction of it, ``[R]`` int32.

    Only places of positive weight are compared with, for the rounded running sum need not be
    monotone; the largest of them is above the target, because the fraction is below one.
    """
    fraction = (words >> jnp.uint32(8)).astype(jnp.float32) * jnp.float32(2**-24)
    edges = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0.0)
    target = fraction[:, None] * jnp.max(edges, axis=-1, keepdims=True)
    return jnp.argmax(edges > target, axis=-1).astype(jnp.int32)


def _block_sums(weights: jax.Array) -> jax.Array:
    """Sums ``[R, ⌈V/256⌉]`` of consecutive ``weights [R, V]``."""
    num_rows, size = weights.shape
    whole = size // BLOCK * BLOCK
    sums = jnp.sum(weights[:, :whole].reshape(num_rows, -1, BLOCK), axis=-1)
    if whole == size:
        return sums
    return jnp.concatenate([sums, jnp.sum(weights[:, whole:], axis=-1, keepdims=True)], axis=-1)


def _nucleus(log_weights: jax.Array, mass: jax.Array) -> jax.Array:
    """``log_weights [..., V]`` from the largest down to where probability reaches ``mass``.

    The others become −∞. The threshold is found by halving the range of the 32-bit integers whose
    order is that of the floats: exactly, by 32 sums, a sixth of the time of a sort.
    """
    probs = jax.nn.softmax(log_weights, axis=-1)
    bits = jax.lax.bitcast_convert_type(log_weights, jnp.int32)
    order = bits ^ ((bits >> 31) & jnp.int32(0x7FFFFFFF))  # negative floats sort backwards

    def halve(_: int, limits: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = limits  # enough from low on, too little from high on
        middle = (low & high) + ((low ^ high) >> 1)  # where low + high would overflow
        kept = jnp.sum(jnp.where(order >= middle, probs, 0.0), axis=-1, keepdims=True)
        return jnp.where(kept >= mass, middle, low), jnp.where(kept >= mass, high, middle)

    largest = jnp.max(order, axis=-1, keepdims=True)
    start = jnp.full_like(largest, jnp.iinfo(jnp.int32).min), largest + 1
    low, _ = jax.lax.fori_loop(0, 32, halve, start)
    return jnp.where(order >= low, log_weights, -jnp.inf)


def _along(tokens: jax.Array, logits: jax.Array) -> jax.Array:
    return tokens.reshape((1,) * (logits.ndim - 1) + tokens.shape)
