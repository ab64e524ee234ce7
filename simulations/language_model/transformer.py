"""A decoder-only transformer in Flax NNX, whose every forward pass can read and fill a cache.

Letters: B batch, T tokens of this pass, S slots of keys (S = T without a cache), V tokens that can
be emitted, D width, H heads, C = D/H width of a head. Everything is float32, whatever the caller's
x64 switch: a language model's law is what its float32 arithmetic says it is.

Linear layers see two-dimensional inputs and attention sees (B, H, T, C): on a CPU the naive
(B, T, D) form takes 1.5–2 times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from simulations.language_model.text.tokenizers import BYTES, Vocabulary


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the model; the default has 131,648 parameters.

    Attributes:
        vocabulary: what it reads and emits.
        width: D, a multiple of twice the number of heads.
        num_layers: attention and perceptron count as one.
        num_heads: H.

    Raises:
        ValueError: the heads cannot share the width evenly.
    """

    vocabulary: Vocabulary = BYTES
    width: int = 64
    num_layers: int = 2
    num_heads: int = 2

    def __post_init__(self) -> None:
        """Refuse a width that the heads cannot share."""
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"width is {self.width} and num_heads is {self.num_heads}: rotary positions need "
                "an even width per head, so make width a multiple of 2 * num_heads"
            )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens seen so far.

    Attributes:
        keys: ``[B, H, S, C]`` per layer.
        values: likewise.
        occupied: ``[B, S]``, which slots hold a token; False is empty, or padding.
        length: how many slots are used, the same for every row because prompts are padded on the
            left.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    occupied: jax.Array
    length: jax.Array

    @classmethod
    def empty(cls, config: TransformerConfig, batch_size: int, num_slots: int) -> Cache:
        """A cache of ``num_slots`` free slots for ``batch_size`` rows."""
        head_width = config.width // config.num_heads
        shape = (batch_size, config.num_heads, num_slots, head_width)
        layers = tuple(jnp.zeros(shape, jnp.float32) for _ in range(config.num_layers))
        occupied = jnp.zeros((batch_size, num_slots), bool)
        return cls(layers, layers, occupied, jnp.zeros((), jnp.int32))

    def take(self, rows: jax.Array) -> Cache:
        """The cache of the given rows, repeated as often as they are named."""
        keys = tuple(layer[rows] for layer in self.keys)
        values = tuple(layer[rows] for layer in self.values)
        return Cache(keys, values, self.occupied[rows], self.length)


class Attention(nnx.Module):
    """Causal multi-head attention with rotary positions."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.num_heads = config.num_heads
        self.project = _linear(config.width, 3 * config.width, rngs=rngs)
        self.output = _linear(config.width, config.width, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        rotation: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        slots: tuple[jax.Array, jax.Array, jax.Array] | None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Attended ``x [B·T, D]``, keys and values; ``slots``: (keys, values, next slot)."""
        batch_size, _, num_tokens, _ = mask.shape
        split = self.project(x).reshape(batch_size, num_tokens, 3, self.num_heads, -1)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        query, key = _rotate(query, rotation), _rotate(key, rotation)

        if slots is not None:
            keys, values, start = slots
            key = jax.lax.dynamic_update_slice_in_dim(keys, key, start, axis=2)
            value = jax.lax.dynamic_update_slice_in_dim(values, value, start, axis=2)

        scores = jnp.einsum("bhtc,bhsc->bhts", query, key) * (query.shape[-1] ** -0.5)
        # Finite, not -inf: a padded query sees no slot at all, and its softmax must not be NaN.
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1)
        attended = jnp.einsum("bhts,bhsc->bhtc", weights, value)
        return self.output(attended.transpose(0, 2, 1, 3).reshape(x.shape)), (key, value)


class Layer(nnx.Module):
    """Attention, then a two-layer perceptron: each normalises its input and adds its output."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.attention_norm = _norm(config.width, rngs=rngs)
        self.attention = Attention(config, rngs=rngs)
        self.perceptron_norm = _norm(config.width, rngs=rngs)
        self.expand = _linear(config.width, 4 * config.width, rngs=rngs)
        self.contract = _linear(4 * config.width, config.width, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        rotation: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        slots: tuple[jax.Array, jax.Array, jax.Array] | None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """The stream ``x [B·T, D]`` after this block, and the layer's keys and values."""
        attended, stored = self.attention(self.attention_norm(x), rotation, mask, slots)
        x = x + attended
        return x + self.contract(jax.nn.gelu(self.expand(self.perceptron_norm(x)))), stored


class Transformer(nnx.Module):
    """The law of the next token given the tokens so far.

    ``model(tokens [B, T])`` gives logits ``[B, T, V]``, and ``model.extend(tokens, cache)`` gives
    the same numbers for tokens that continue those in the cache. PAD tokens, to the left of a
    prompt or the right of a response, change nothing for the tokens proper.

    Args:
        config: shape of the model.
        rngs: of the first parameters.

    Example:
        >>> model = Transformer(TransformerConfig(width=8, num_layers=1), rngs=nnx.Rngs(0))
        >>> model(jnp.array([[257, 72, 105]], jnp.int32)).shape
        (1, 3, 257)
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = nnx.Embed(
            config.vocabulary.num_inputs,
            config.width,
            embedding_init=nnx.initializers.normal(0.02),
            dtype=jnp.float32,
            param_dtype=jnp.float32,
            rngs=rngs,
        )
        self.blocks = nnx.List([Layer(config, rngs=rngs) for _ in range(config.num_layers)])
        self.norm = _norm(config.width, rngs=rngs)
        self.head = _linear(config.width, config.vocabulary.num_tokens, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits ``[B, T, V]`` of the token after each of ``tokens [B, T]``."""
        occupied = tokens != self.config.vocabulary.pad_id
        causal = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
        mask = occupied[:, None, None, :] & causal[None, None, :, :]
        return self._forward(tokens, _positions(occupied), mask, None)[0]

    def extend(self, tokens: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Logits ``[B, T, V]`` of ``tokens [B, T]`` after those in ``cache``, and the longer cache.

        Args:
            tokens: what comes next, with PAD where a row has nothing.
            cache: with T free slots, which is not checked: a full one would be overwritten.
        """
        num_tokens, num_slots = tokens.shape[1], cache.occupied.shape[1]
        new = tokens != self.config.vocabulary.pad_id
        occupied = jax.lax.dynamic_update_slice_in_dim(cache.occupied, new, cache.length, axis=1)
        before = jnp.sum(cache.occupied, axis=1, keepdims=True, dtype=jnp.int32)
        query = cache.length + jnp.arange(num_tokens, dtype=jnp.int32)
        causal = jnp.arange(num_slots, dtype=jnp.int32)[None, :] <= query[:, None]
        mask = occupied[:, None, None, :] & causal[None, None, :, :]

        logits, stored = self._forward(tokens, before + _positions(new), mask, cache)
        keys, values = zip(*stored, strict=True)
        return logits, Cache(keys, values, occupied, cache.length + num_tokens)

    def _forward(
        self, tokens: jax.Array, positions: jax.Array, mask: jax.Array, cache: Cache | None
    ) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
        rotation = _rotation(positions, self.config.width // self.config.num_heads)
        x = self.embedding(tokens.reshape(-1))
        stored = []
        for layer, block in enumerate(self.blocks):
            slots = None
            if cache is not None:
                slots = (cache.keys[layer], cache.values[layer], cache.length)
            x, keys_and_values = block(x, rotation, mask, slots)
            stored.append(keys_and_values)
        return self.head(self.norm(x)).reshape(*tokens.shape, -1), stored


def next_token_loss(model: Transformer, tokens: jax.Array) -> jax.Array:
    """Mean of −log p(token | tokens before it) in nats, over the tokens that can be emitted.

    Args:
        model: the language model.
        tokens: ``[B, T+1]``; PAD and BOS are not predicted, so neither enters the mean.
    """
    targets = tokens[:, 1:]
    counted = targets < model.config.vocabulary.num_tokens
    log_probs = token_log_probs(model(tokens[:, :-1]), jnp.where(counted, targets, 0))
    total = jnp.sum(counted, dtype=jnp.float32)
    return -jnp.sum(jnp.where(counted, log_probs, 0.0)) / total


def token_log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """log softmax(logits)[token]: logits ``[..., V]`` and tokens ``[...]`` give ``[...]``."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]


def num_parameters(model: nnx.Module) -> int:
    """Number of trained numbers.

    Example:
        >>> num_parameters(Transformer(TransformerConfig(), rngs=nnx.Rngs(0)))
        131648
    """
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _linear(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(
        inputs, outputs, use_bias=False, dtype=jnp.float32, param_dtype=jnp.float32, rngs=rngs
    )


def _norm(width: int, *, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(width, dtype=jnp.float32, param_dtype=jnp.float32, rngs=rngs)


def _positions(occupied: jax.Array) -> jax.Array:
    """Index ``[B, T]`` of each token among the tokens proper of its row."""
    return jnp.cumsum(occupied, axis=1, dtype=jnp.int32) - 1


def _rotation(positions: jax.Array, head_width: int) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine ``[B, 1, T, C/2]`` of the rotary angles position · 10000^{−2i/C}."""
    exponents = jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width
    angles = jnp.einsum("bt,c->btc", positions.astype(jnp.float32), 10_000.0**-exponents)[:, None]
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(x: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotate each pair (x_i, x_{i+C/2}) of ``x [B, H, T, C]`` by its position's angle."""
    cosine, sine = rotation
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
