"""What a transformer remembers: a prefix that many continuations share, and their own tokens.

Letters as in :mod:`simulations.language_model.transformer`. A prompt is read once and kept once,
however many answers are drawn to it; after a block of each was drawn, the chosen branch becomes a
part of the prefix (:meth:`Prefix.append`), and the next block branches from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from simulations.tools.pytree import pytree


@pytree(data_fields=["keys", "values", "occupied", "length"], meta_fields=[])
@dataclass(frozen=True)
class Prefix:
    """Keys and values of B rows that were read already.

    Attributes:
        keys: ``[L, B, K, S, C]``.
        values: likewise.
        occupied: ``[B, S]``, which slots hold a token; the others are empty, or padding.
        length: how many slots are used, the same for every row, because prompts are padded on the
            left.
    """

    keys: jax.Array
    values: jax.Array
    occupied: jax.Array
    length: jax.Array

    @classmethod
    def of(cls, keys: jax.Array, values: jax.Array, occupied: jax.Array, num_slots: int) -> Prefix:
        """The prefix of ``keys [L, B, K, T, C]`` and ``occupied [B, T]`` with free slots after."""
        free = num_slots - keys.shape[3]
        spread = [(0, 0), (0, 0), (0, 0), (0, free), (0, 0)]
        length = jnp.asarray(keys.shape[3], jnp.int32)
        return cls(
            jnp.pad(keys, spread),
            jnp.pad(values, spread),
            jnp.pad(occupied, spread[2:4]),
            length,
        )

    @property
    def num_tokens(self) -> jax.Array:
        """How many tokens each row holds, ``[B]``."""
        return jnp.sum(self.occupied, axis=-1, dtype=jnp.int32)

    def take(self, rows: jax.Array) -> Prefix:
        """The given rows, repeated as often as they are named."""
        return replace(
            self,
            keys=self.keys[:, rows],
            values=self.values[:, rows],
            occupied=self.occupied[rows],
        )

    def append(self, branches: Branches, chosen: jax.Array) -> Prefix:
        """The prefix with the tokens of branch ``chosen [B]`` of each row after it.

        Args:
            branches: T tokens of each of N continuations; the prefix has T free slots, which is
                not checked.
            chosen: which of the N each row goes on with.
        """
        rows = jnp.arange(chosen.shape[0], dtype=jnp.int32)

        def append(old: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(
                old, new[:, rows, chosen], self.length, axis=3
            )

        occupied = jax.lax.dynamic_update_slice_in_dim(
            self.occupied, branches.occupied[rows, chosen], self.length, axis=1
        )
        return Prefix(
            append(self.keys, branches.keys),
            append(self.values, branches.values),
            occupied,
            self.length + branches.occupied.shape[-1],
        )


@pytree(data_fields=["keys", "values", "occupied", "length"], meta_fields=[])
@dataclass(frozen=True)
class Branches:
    """Keys and values of N continuations of each of the B rows of a prefix.

    Attributes:
        keys: ``[L, B, N, K, T, C]``.
        values: likewise.
        occupied: ``[B, N, T]``, which slots hold a token: not those to come, nor those after an
            end.
        length: how many slots are used.
    """

    keys: jax.Array
    values: jax.Array
    occupied: jax.Array
    length: jax.Array

    @classmethod
    def empty(cls, prefix: Prefix, num_branches: int, num_slots: int) -> Branches:
        """``num_branches`` continuations of each row of ``prefix``, with ``num_slots`` to fill."""
        layers, rows, heads, _, size = prefix.keys.shape
        shape = (layers, rows, num_branches, heads, num_slots, size)
        return cls(
            jnp.zeros(shape, prefix.keys.dtype),
            jnp.zeros(shape, prefix.values.dtype),
            jnp.zeros((rows, num_branches, num_slots), bool),
            jnp.zeros((), jnp.int32),
        )

    @property
    def num_tokens(self) -> jax.Array:
        """How many tokens each branch holds, ``[B, N]``."""
        return jnp.sum(self.occupied, axis=-1, dtype=jnp.int32)

    def widen(self, num_slots: int) -> Branches:
        """The same with ``num_slots``, at least as many as there are."""
        free = (0, num_slots - self.occupied.shape[-1])
        spread = [(0, 0), (0, 0), (0, 0), (0, 0), free, (0, 0)]
        return replace(
            self,
            keys=jnp.pad(self.keys, spread),
            values=jnp.pad(self.values, spread),
            occupied=jnp.pad(self.occupied, [(0, 0), (0, 0), free]),
        )
