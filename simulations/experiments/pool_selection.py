"""The real process on pools of rewards: take n candidates, select one, compare it with one more.

Letters: B prompts, M or N candidates in a pool, G groups of n+1, one program for every n <
``width``.
"""

from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.jit, static_argnames="width")
def measure(
    key: jax.Array, pool: jax.Array, n: jax.Array, temperature: jax.Array, *, width: int
) -> jax.Array:
    """``_compete`` in the disjoint groups of n+1 consecutive candidates of ``pool [B, M]``.

    One program serves every n < ``width``: groups are filled up to ``width``, and ``_compete``
    looks at n+1 of them. What is left over at the end of the pool is not used.
    """
    size = pool.shape[1]
    starts = jnp.arange(size // 2, dtype=jnp.int32) * (n + 1)
    members = starts[:, None] + jnp.arange(width, dtype=jnp.int32)[None, :]
    return _compete(key, pool[:, jnp.minimum(members, size - 1)], starts + n < size, n, temperature)


@partial(jax.jit, static_argnames=("width", "num_groups"))
def resample(
    key: jax.Array,
    pool: jax.Array,
    n: jax.Array,
    temperature: jax.Array,
    *,
    width: int,
    num_groups: int,
) -> jax.Array:
    """``_compete`` in groups of fresh draws from each prompt's ``pool [B, N]``."""
    index_key, noise_key = jax.random.split(key)
    shape = (pool.shape[0], num_groups * width)
    members = jax.random.randint(index_key, shape, 0, pool.shape[1], dtype=jnp.int32)
    groups = jnp.take_along_axis(pool, members, axis=1).reshape(-1, num_groups, width)
    return _compete(noise_key, groups, jnp.ones(num_groups, bool), n, temperature)


def _compete(
    key: jax.Array, groups: jax.Array, counted: jax.Array, n: jax.Array, temperature: jax.Array
) -> jax.Array:
    """Mean reward and win score ``[2, B]`` of the selected, over ``groups [B, G, width]``.

    The real process, in the groups that are ``counted [G]``: the first member is the opponent and
    the next n are the candidates. Selected is argmax r/λ + Gumbel, or argmax r for λ = 0, where
    ties need no lot because tied candidates have the same reward.
    """
    opponent, members = groups[..., 0], groups[..., 1:]
    noise = jax.random.gumbel(key, members.shape, members.dtype)
    hard = temperature == 0
    scores = members / jnp.where(hard, 1.0, temperature) + jnp.where(hard, 0.0, noise)
    is_candidate = jnp.arange(members.shape[-1], dtype=jnp.int32) < n
    winner = jnp.argmax(jnp.where(is_candidate[None, None, :], scores, -jnp.inf), axis=-1)
    selected = jnp.take_along_axis(members, winner[..., None], axis=-1)[..., 0]
    win_score = (1 + jnp.sign(selected - opponent)) / 2
    return jnp.mean(jnp.stack([selected, win_score]), axis=-1, where=counted[None, None, :])
