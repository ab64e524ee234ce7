"""A decoder-only transformer in Flax NNX: the families of its configuration by one model.

Letters: B prompts or rows, N continuations of each, T tokens of this pass, S slots of a cache,
V tokens that can be emitted, D width, H query heads, K key and value heads, G = H/K queries that
share a key, C width of a head, L layers.

Parameters and activations have the configuration's dtype, whatever the caller's x64 switch: a
language model's law is what its own arithmetic says it is. Norms, softmax and logits are float32.

All layers are one stacked layer, run by ``lax.scan``, so that compilation does not grow with depth;
the scan of a shallow model is unrolled, which is faster. A layer knows nothing of caches: it is
handed ``attend``, which turns the queries, keys and values of the tokens of this pass into what
they attend to, and remembers what is to be remembered.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simulations.language_model.architecture import TransformerConfig
from simulations.language_model.attending import (
    Attend,
    Own,
    Rotation,
    attend_causally,
    attend_to_prefix_and_own,
    rotation_by,
)
from simulations.language_model.cache import Branches, Prefix, is_shallow

UNROLLED = 8
"""Up to so many layers are compiled one by one where whole sequences are read.

A scan's derivative writes what each layer keeps, and its gradients, into stacks, which it first
fills with zeros: with 6 layers a seventh of the time. Compilation takes as long as the scan's.
"""


class Attention(nnx.Module):
    """Multi-head attention with grouped keys; who attends to whom is ``attend``'s business."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.heads = (config.key_heads, config.num_heads // config.key_heads, config.head_size)
        queries = config.num_heads * config.head_size
        keys = config.key_heads * config.head_size
        self.project = _linear(
            config, config.width, queries + 2 * keys, config.attention_bias, rngs
        )
        self.output = _linear(config, queries, config.width, config.output_bias, rngs)

    def __call__(
        self, x: jax.Array, rotation: Rotation, attend: Attend, memory: Any
    ) -> tuple[jax.Array, Any]:
        """Attended ``x [R, D]`` and the memory after it; R rows are the tokens of this pass."""
        key_heads, group, size = self.heads
        query, key, value = jnp.split(
            self.project(x), [key_heads * group * size, key_heads * (group + 1) * size], axis=-1
        )
        query = rotation(query.reshape(-1, key_heads * group, size))
        key = rotation(key.reshape(-1, key_heads, size))
        attended, memory = attend(
            query.reshape(-1, *self.heads), key, value.reshape(-1, key_heads, size), memory
        )
        return self.output(attended.reshape(x.shape[0], -1)), memory


class Perceptron(nnx.Module):
    """contract(activation(expand x)), or contract(activation(gate x) · up x)."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.gated = config.gated
        self.activation = config.activation
        inputs = config.hidden_size * (2 if config.gated else 1)
        self.expand = _linear(config, config.width, inputs, config.perceptron_bias, rngs)
        self.contract = _linear(
            config, config.hidden_size, config.width, config.perceptron_bias, rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[R, D]`` to ``[R, D]``."""
        activate = {
            "silu": jax.nn.silu,
            "gelu": partial(jax.nn.gelu, approximate=False),
            "gelu_tanh": partial(jax.nn.gelu, approximate=True),
        }[self.activation]
        hidden = self.expand(x)
        if self.gated:
            gate, up = jnp.split(hidden, 2, axis=-1)
            return self.contract(activate(gate) * up)
        return self.contract(activate(hidden))


class Layer(nnx.Module):
    """Attention and perceptron, each of a normalised input, each added to the stream."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.parallel = config.parallel
        self.attention_norm = _norm(config, rngs)
        self.attention = Attention(config, rngs=rngs)
        self.perceptron_norm = _norm(config, rngs)
        self.perceptron = Perceptron(config, rngs=rngs)

    def __call__(
        self, x: jax.Array, rotation: Rotation, attend: Attend, memory: Any
    ) -> tuple[jax.Array, Any]:
        """The stream ``x [R, D]`` after this layer, and the memory after it."""
        attended, memory = self.attention(self.attention_norm(x), rotation, attend, memory)
        if self.parallel:
            return x + attended + self.perceptron(self.perceptron_norm(x)), memory
        x = x + attended
        return x + self.perceptron(self.perceptron_norm(x)), memory


class Transformer(nnx.Module):
    """The law of the next token given the tokens so far.

    ``model(tokens [B, T])`` gives logits ``[B, T, V]``. ``model.prefill(prompts)`` gives the same
    for the token after each prompt together with what the model remembers of it, and
    ``model.step`` continues N ways from there, a token at a time. PAD tokens, to the left of a
    prompt or the right of a response, change nothing for the tokens proper.

    Args:
        config: architecture.
        rngs: of the first parameters.

    Example:
        >>> model = Transformer(TransformerConfig(width=8, num_layers=1), rngs=nnx.Rngs(0))
        >>> model(jnp.array([[257, 72, 105]], jnp.int32)).shape
        (1, 3, 257)
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = _embedding(config, config.vocabulary.num_inputs, rngs)
        if not config.rotated:
            self.positions = _embedding(config, config.context, rngs)

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> Layer:
            return Layer(config, rngs=rngs)

        self.layers = stacked(rngs)
        self.norm = _norm(config, rngs)
        if not config.tied_head:
            spread = config.width**-0.5  # so that logits have the size of features
            self.head = _embedding(config, config.vocabulary.num_tokens, rngs, spread)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits ``[B, T, V]`` of the token after each of ``tokens [B, T]``."""
        return self.logits(self.features(tokens))

    def features(self, tokens: jax.Array) -> jax.Array:
        """What the logits are made of, ``[B, T, D]``, for ``tokens [B, T]``."""
        return self._whole(tokens, remember=False)[0]

    def logits(self, features: jax.Array) -> jax.Array:
        """Logits ``[..., V]`` in float32 from ``features [..., D]``."""
        rows = self.embedding if self.config.tied_head else self.head
        table = rows.embedding[...][: self.config.vocabulary.num_tokens]
        return jnp.einsum("...d,vd->...v", features, table, preferred_element_type=jnp.float32)

    def prefill(
        self, prompts: jax.Array, *, num_slots: int | None = None
    ) -> tuple[jax.Array, Prefix]:
        """Logits ``[B, V]`` of the token after each of ``prompts [B, P]``, and their prefix.

        Args:
            prompts: token ids, PAD to the left.
            num_slots: of the prefix, at least P; more leave room for what is appended to it.
        """
        features, (keys, values) = self._whole(prompts, remember=True)
        prefix = Prefix.of(keys, values, self._occupied(prompts), num_slots or prompts.shape[1])
        return self.logits(features[:, -1]), prefix

    def step(
        self, tokens: jax.Array, prefix: Prefix, branches: Branches
    ) -> tuple[jax.Array, Branches]:
        """Logits ``[B, N, V]`` after ``tokens [B, N]``, one more for each branch of a prefix.

        Args:
            tokens: the next token of each branch, PAD where a branch has ended.
            prefix: of the B prompts.
            branches: with a free slot, which is not checked.
        """
        new = self._occupied(tokens)
        positions = prefix.num_tokens[:, None] + branches.num_tokens
        occupied = jax.lax.dynamic_update_slice_in_dim(
            branches.occupied, new[..., None], branches.length, axis=2
        )
        x, rotation = self._embed(tokens, positions, prefix.occupied.shape[1] + occupied.shape[2])
        graph, state = nnx.split(self.layers)

        def layer(x: jax.Array, own: Own, index: jax.Array | None, inputs: tuple) -> tuple:
            state, prefix_keys, prefix_values = inputs
            shared = Prefix(prefix_keys, prefix_values, prefix.occupied, prefix.length)
            attend = partial(attend_to_prefix_and_own, shared, occupied, branches.length, index)
            return nnx.merge(graph, state)(x, rotation, attend, own)

        inputs = (state, prefix.keys, prefix.values)
        memory = list(zip(branches.keys, branches.values, strict=True))
        if is_shallow(self.config.num_layers):
            for index in range(self.config.num_layers):
                one = jax.tree.map(lambda leaf, index=index: leaf[index], inputs)
                x, memory[index] = layer(x, memory[index], None, one)
        else:
            # The whole of the branches' memory is carried and written in place, a slot per layer:
            # handed on as scan's inputs and outputs it would be copied each step.
            def scanned(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
                return layer(*carry, *inputs), None

            numbered = jnp.arange(self.config.num_layers, dtype=jnp.int32), inputs
            (x, memory[0]), _ = jax.lax.scan(scanned, (x, memory[0]), numbered)
        keys, values = zip(*memory, strict=True)
        logits = self.logits(self.norm(x)).reshape(*tokens.shape, -1)
        return logits, Branches(keys, values, occupied, branches.length + 1)

    def _whole(self, tokens: jax.Array, *, remember: bool) -> tuple[jax.Array, Any]:
        """Features ``[B, T, D]`` and, if asked for, keys and values ``[L, B, K, T, C]``."""
        occupied = self._occupied(tokens)
        positions = jnp.cumsum(occupied, axis=1, dtype=jnp.int32) - 1
        x, rotation = self._embed(tokens, positions, tokens.shape[1])
        graph, state = nnx.split(self.layers)

        def layer(x: jax.Array, state: nnx.State) -> tuple[jax.Array, Any]:
            x, stored = nnx.merge(graph, state)(x, rotation, attend_causally, occupied)
            return x, stored if remember else None

        layer = jax.checkpoint(layer) if self.config.rematerialise else layer
        x, stored = jax.lax.scan(layer, x, state, unroll=self.config.num_layers <= UNROLLED)
        return self.norm(x).reshape(*tokens.shape, -1), stored

    def _embed(
        self, tokens: jax.Array, positions: jax.Array, num_positions: int
    ) -> tuple[jax.Array, Rotation]:
        """The stream ``[R, D]`` before the first layer, and how its heads are rotated.

        All ``positions`` are below ``num_positions``.
        """
        config = self.config
        positions = jnp.maximum(positions, 0).reshape(-1)  # padding before a prompt is at −1
        # PAD has no row: what is read for it reaches nothing but its own, unused, output.
        inputs = jnp.minimum(tokens, config.vocabulary.num_inputs - 1).reshape(-1)
        x = self.embedding(inputs)
        if not config.rotated:
            return x + self.positions(positions), lambda x: x
        return x, rotation_by(positions, num_positions, config.rotated, config.rotary_base)

    def _occupied(self, tokens: jax.Array) -> jax.Array:
        return tokens < self.config.vocabulary.num_inputs


def next_token_loss(model: Transformer, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of −log p(token | tokens before it) in nats over the tokens that can be emitted.

    Args:
        model: the language model.
        tokens: ``[B, T+1]``; PAD, and a BOS that is an input only, are not predicted.

    Returns:
        The sum, and the number of tokens in it.
    """
    targets = tokens[:, 1:]
    counted = targets < model.config.vocabulary.num_tokens
    log_probs = token_log_probs(model(tokens[:, :-1]), jnp.where(counted, targets, 0))
    return -jnp.sum(jnp.where(counted, log_probs, 0.0)), jnp.sum(counted, dtype=jnp.float32)


def law_loss(model: Transformer, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Sum of −Σ_w q(w) log p(w | tokens before it) in nats, for laws q of what is to be predicted.

    Args:
        model: the language model.
        batch: tokens ``[B, T]`` and the law ``[B, T, V]`` of the one after each; all zero where
            nothing is to be predicted.

    Returns:
        The sum, and how many laws there are.
    """
    tokens, laws = batch
    logits = model(tokens)
    mass = jnp.sum(laws, axis=-1)
    nats = mass * jax.nn.logsumexp(logits, axis=-1) - jnp.sum(laws * logits, axis=-1)
    return jnp.sum(nats), jnp.sum(mass)


def token_log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """log softmax(logits)[token]: logits ``[..., V]`` and tokens ``[...]`` give ``[...]``."""
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def num_parameters(model: nnx.Module) -> int:
    """Number of trained numbers.

    Example:
        >>> num_parameters(Transformer(TransformerConfig(), rngs=nnx.Rngs(0)))
        131584
    """
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def parameters_sha256(model: nnx.Module) -> str:
    """Hash of all parameters, in the order of the module's tree: which model it is."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(nnx.state(model)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _linear(
    config: TransformerConfig, inputs: int, outputs: int, bias: bool, rngs: nnx.Rngs
) -> nnx.Linear:
    dtype = jnp.dtype(config.dtype)
    return nnx.Linear(inputs, outputs, use_bias=bias, dtype=dtype, param_dtype=dtype, rngs=rngs)


def _embedding(
    config: TransformerConfig, rows: int, rngs: nnx.Rngs, spread: float = 0.02
) -> nnx.Embed:
    dtype, normal = jnp.dtype(config.dtype), nnx.initializers.normal(spread)
    return nnx.Embed(
        rows, config.width, embedding_init=normal, dtype=dtype, param_dtype=dtype, rngs=rngs
    )


def _norm(config: TransformerConfig, rngs: nnx.Rngs) -> nnx.RMSNorm | nnx.LayerNorm:
    norm = {"rms": nnx.RMSNorm, "layer": nnx.LayerNorm}[config.norm]
    dtype = jnp.dtype(config.dtype)
    return norm(
        config.width, epsilon=config.norm_epsilon, dtype=dtype, param_dtype=dtype, rngs=rngs
    )
