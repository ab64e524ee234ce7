"""What a transformer remembers: a prefix that many continuations share, and their own tokens.

Letters as in :mod:`simulations.language_model.transformer`. A prompt is read once and kept once,
however many answers are drawn to it; after a block of each was drawn, the chosen branch becomes a
part of the prefix (:meth:`Prefix.append`), and the next block branches from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from simulations.tools.pytree import pytree

Memory = tuple[jax.Array, ...]
"""One array ``[L, N, B K, T, C]``, or of a shallow model ``[N, B K, T, C]`` for each layer.

An axis of size one, of one row or one layer, would stand between what is written in place and what
a matrix product reads: XLA then copies all of it at each step.
"""


def is_shallow(num_layers: int) -> bool:
    """Whether layers are compiled one by one, and what each remembers is an array of its own.

    The scan over the layers of a deep model compiles in the time of one of them, but copies its
    parameters, and what branches remember, out of those of all layers before it reads them.
    """
    return num_layers <= 4


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
            branches: of N continuations; the prefix has as many free slots as they have, which is
                not checked, and uses as many as they use.
            chosen: which of the N each row goes on with.
        """
        one = branches.keep(chosen[:, None])

        def append(old: jax.Array, new: Memory) -> jax.Array:
            layers = [part.reshape(-1, *old.shape[1:3], *part.shape[-2:]) for part in new]
            return jax.lax.dynamic_update_slice_in_dim(
                old, jnp.concatenate(layers), self.length, axis=3
            )

        occupied = jax.lax.dynamic_update_slice_in_dim(
            self.occupied, one.occupied[:, 0], self.length, axis=1
        )
        return Prefix(
            append(self.keys, one.keys),
            append(self.values, one.values),
            occupied,
            self.length + branches.length,
        )


@pytree(data_fields=["keys", "values", "occupied", "length"], meta_fields=[])
@dataclass(frozen=True)
class Branches:
    """Keys and values of N continuations of each of the B rows of a prefix.

    Attributes:
        keys: see ``Memory``.
        values: likewise.
        occupied: ``[B, N, T]``, which slots hold a token: not those to come, nor those after an
            end.
        length: how many slots are used.
    """

    keys: Memory
    values: Memory
    occupied: jax.Array
    length: jax.Array

    @classmethod
    def empty(cls, prefix: Prefix, num_branches: int, num_slots: int) -> Branches:
        """``num_branches`` continuations of each row of ``prefix``, with ``num_slots`` to fill."""
        layers, rows, heads, _, size = prefix.keys.shape
        shape = (num_branches, rows * heads, num_slots, size)

        def nothing() -> Memory:
            if is_shallow(layers):
                return tuple(jnp.zeros(shape, prefix.keys.dtype) for _ in range(layers))
            return (jnp.zeros((layers, *shape), prefix.keys.dtype),)

        occupied = jnp.zeros((rows, num_branches, num_slots), bool)
        return cls(nothing(), nothing(), occupied, jnp.zeros((), jnp.int32))

    @property
    def num_tokens(self) -> jax.Array:
        """How many tokens each branch holds, ``[B, N]``."""
        return jnp.sum(self.occupied, axis=-1, dtype=jnp.int32)

    def of_memory(self, function: Callable[[jax.Array], jax.Array]) -> Branches:
        """With the ``function`` of all keys and values ``[..., N, B K, T, C]``."""
        keys, values = jax.tree.map(function, (self.keys, self.values))
        return replace(self, keys=keys, values=values)

    def keep(self, kept: jax.Array) -> Branches:
        """The branches ``kept [B, M]`` of each row alone."""
        num_rows, num_branches, _ = self.occupied.shape
        rows = jnp.arange(num_rows, dtype=jnp.int32)

        def take(memory: jax.Array) -> jax.Array:
            *layers, _, _, slots, size = memory.shape
            apart = memory.reshape(*layers, num_branches, num_rows, -1, slots, size)
            return apart[..., kept.T, rows[None], :, :, :].reshape(
                *layers, kept.shape[1], -1, slots, size
            )

        return replace(self.of_memory(take), occupied=self.occupied[rows[:, None], kept])

    def widen(self, num_slots: int) -> Branches:
        """The same with ``num_slots``, at least as many as there are."""
        free = (0, num_slots - self.occupied.shape[-1])

        def pad(array: jax.Array, axis: int) -> jax.Array:
            return jnp.pad(array, [(0, 0)] * (array.ndim + axis) + [free] + [(0, 0)] * (-1 - axis))

        return replace(self.of_memory(partial(pad, axis=-2)), occupied=pad(self.occupied, axis=-1))
