"""What queries attend to: the tokens before them, read at once or remembered; and their rotation.

Letters as in :mod:`simulations.language_model.transformer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulations.language_model.cache import Prefix

Attend = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""(queries ``[R, K, G, C]``, keys and values ``[R, K, C]``, memory) → ``[R, K, G, C]``, memory."""

Own = tuple[jax.Array, jax.Array]
"""Keys and values of branches."""

Rotation = Callable[[jax.Array], jax.Array]
"""Queries or keys ``[R, heads, C]``, turned by the positions of the R tokens."""


def attend_causally(
    query: jax.Array, key: jax.Array, value: jax.Array, occupied: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Each token attends to itself and to the tokens before it in its row of ``occupied [B, T]``.

    Remembers keys and values ``[B, K, T, C]``.
    """
    rows, (_, group, size) = occupied.shape, query.shape[1:]
    query = query.reshape(*rows, -1, group, size).transpose(0, 2, 3, 1, 4)  # [B, K, G, T, C]
    key = key.reshape(*rows, -1, size).swapaxes(1, 2)  # [B, K, T, C]
    value = value.reshape(*rows, -1, size).swapaxes(1, 2)

    causal = jnp.tril(jnp.ones((rows[1], rows[1]), bool))
    mask = jnp.tile(occupied[:, None, :] & causal[None], (1, group, 1))[:, None]
    # The queries that share a key are one axis: XLA would copy products of five.
    attended = _attended(query.reshape(*key.shape[:2], -1, size), key, value, mask)
    attended = attended.reshape(query.shape).transpose(0, 3, 1, 2, 4)
    return attended.reshape(-1, *attended.shape[2:]), (key, value)


@jax.custom_vjp
def _attended(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """softmax(q kᵀ / √C) v of q ``[B, K, Q, C]``, k and v ``[B, K, S, C]``, as q.

    Its derivative is written out, so that of all that is ``[Q, S]`` only the weights are kept, and
    none is transposed: of its own derivative of softmax XLA makes two, one the other's transpose.
    """
    return _attended_and_kept(query, key, value, mask)[0]


def _attended_and_kept(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    scores = _scores(jnp.einsum("bkqc,bksc->bkqs", query, key), mask, query.shape[-1])
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    attended = jnp.einsum("bkqs,bksc->bkqc", weights, value)
    return attended, (query, key, value, mask, weights, attended)


def _derivatives(
    kept: tuple[jax.Array, ...], outer: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    """For weights W and o = W v: dv = Wᵀ do and, of the scores, W ⊙ (do vᵀ − ⟨do, o⟩)."""
    query, key, value, mask, weights, attended = kept
    inner = jnp.sum((outer * attended).astype(jnp.float32), axis=-1, keepdims=True)
    per_weight = jnp.einsum("bkqc,bksc->bkqs", outer, value).astype(jnp.float32)
    scores = weights.astype(jnp.float32) * (per_weight - inner) * query.shape[-1] ** -0.5
    # As one array: fused into the two products that read it, it would be computed for each.
    scores = jax.lax.optimization_barrier(jnp.where(mask, scores, 0.0).astype(value.dtype))
    return (
        jnp.einsum("bkqs,bksc->bkqc", scores, key),
        jnp.einsum("bkqc,bkqs->bkcs", query, scores).swapaxes(2, 3),
        jnp.einsum("bkqc,bkqs->bkcs", outer, weights).swapaxes(2, 3),
        None,  # the mask's
    )


_attended.defvjp(_attended_and_kept, _derivatives)


def attend_to_prefix_and_own(
    prefix: Prefix,
    occupied: jax.Array,
    length: jax.Array,
    layer: jax.Array | None,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    own: Own,
) -> tuple[jax.Array, Own]:
    """The one new token of each branch attends to its prefix and to its branch so far.

    ``prefix`` has the keys ``[B, K, S, C]`` of this layer alone, ``own`` those of the branches
    ``[N, B K, T, C]``, or those of all layers where ``layer`` says which one this is. The new ones
    are written there at ``length``, and all of it remembered.
    """
    num_rows, num_branches, _ = occupied.shape
    group = query.shape[2]

    def by_branch(new: jax.Array) -> jax.Array:
        """``[B N, K, W, C]`` as ``[N, B K, W, C]``."""
        new = new.reshape(num_rows, num_branches, *new.shape[1:]).swapaxes(0, 1)
        return new.reshape(num_branches, -1, *new.shape[3:])

    def write(memory: jax.Array, new: jax.Array) -> tuple[jax.Array, jax.Array]:
        """All of the memory, and this layer's."""
        new, zero = by_branch(new[:, :, None]), jnp.int32(0)
        start = (zero, zero, length, zero)
        if layer is None:
            memory = jax.lax.dynamic_update_slice(memory, new, start)
            return memory, memory
        memory = jax.lax.dynamic_update_slice(memory, new[None], (layer, *start))
        return memory, jax.lax.dynamic_index_in_dim(memory, layer, keepdims=False)

    all_keys, own_keys = write(own[0], key)
    all_values, own_values = write(own[1], value)

    def by_row(array: jax.Array) -> jax.Array:
        """``[N, B K, G, W]`` as ``[B, N, K, G, W]``."""
        apart = array.reshape(num_branches, num_rows, -1, group, array.shape[-1])
        return apart.swapaxes(0, 1)

    mine = by_row(jnp.einsum("nkgc,nktc->nkgt", by_branch(query), own_keys))
    query = query.reshape(num_rows, num_branches, *query.shape[1:])  # [B, N, K, G, C]
    shared = jnp.einsum("bnkgc,bksc->bnkgs", query, prefix.keys)
    shared = _scores(shared, prefix.occupied[:, None, None, None], query.shape[-1])
    mine = _scores(mine, occupied[:, :, None, None], query.shape[-1])
    weights = jax.nn.softmax(jnp.concatenate([shared, mine], axis=-1), axis=-1)
    shared, mine = jnp.split(weights.astype(value.dtype), [shared.shape[-1]], axis=-1)

    mine = by_branch(mine.reshape(-1, *mine.shape[2:]))
    attended = jnp.einsum("bnkgs,bksc->bnkgc", shared, prefix.values)
    attended += by_row(jnp.einsum("nkgt,nktc->nkgc", mine, own_values))
    return attended.reshape(-1, *attended.shape[2:]), (all_keys, all_values)


def _scores(products: jax.Array, mask: jax.Array, size: int) -> jax.Array:
    # Finite, not -inf: a padded query sees no token at all, and its softmax must not be NaN.
    return jnp.where(mask, products.astype(jnp.float32) * size**-0.5, -1e30)


def rotation_frequencies(rotated: int, base: float) -> np.ndarray:
    """θ_i = base^{−2i/R}, ``[R/2]``, for R rotated coordinates."""
    return base ** (-np.arange(0, rotated, 2, dtype=np.float32) / rotated)


def rotation_by(positions: jax.Array, num_positions: int, rotated: int, base: float) -> Rotation:
    """Turns pairs (i, i + R/2) of the first R coordinates of ``[R, heads, C]`` by position · θ_i.

    θ_i = base^{−2i/R}. Cosines and sines are looked up: if they were computed, each loop that
    rotates would compute them again.
    """
    frequencies = rotation_frequencies(rotated, base)
    angles = np.arange(num_positions, dtype=np.float32)[:, None, None] * frequencies
    cosine, sine = (jnp.asarray(table)[positions] for table in (np.cos(angles), np.sin(angles)))

    def rotate(x: jax.Array) -> jax.Array:
        first, second, rest = jnp.split(x, [rotated // 2, rotated], axis=-1)
        turned = [first * cosine - second * sine, second * cosine + first * sine]
        return jnp.concatenate([*(part.astype(x.dtype) for part in turned), rest], axis=-1)

    return rotate
