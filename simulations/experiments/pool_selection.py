"""The real process on pools of rewards: take n candidates, select one, compare it with one more.

Letters: B prompts, M or N candidates in a pool, G = ⌊M/(n+1)⌋ groups.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def measure(key: jax.Array, rewards: Floats, ratios: Floats, n: int, temperature: float) -> Floats:
    """Means ``[3, B]`` of reward, win score and log-ratio of the selected; consumes ``key``.

    In each of the disjoint groups of n+1 consecutive candidates the first is the opponent, and the
    others compete: selected is argmax r/λ + Gumbel, or argmax r for λ = 0, where ties need no lot
    because tied candidates have the same reward. What is left over at the end is not used.

    Args:
        key: a typed key.
        rewards: ``[B, M]``.
        ratios: ``[B, M]``, the log-ratio of each candidate under the law that is predicted.
        n: candidates that compete.
        temperature: λ.
    """
    noise = np.asarray(_noise(key, rewards.shape)) if temperature > 0 else 0.0
    scores = rewards / temperature + noise if temperature > 0 else rewards
    opponents, _ = _groups(rewards, n)
    winner = np.argmax(_groups(scores, n)[1], axis=-1)[..., None]
    selected, ratio = (
        np.take_along_axis(_groups(table, n)[1], winner, axis=-1)[..., 0]
        for table in (rewards, ratios)
    )
    win_score = (1 + np.sign(selected - opponents)) / 2
    return np.stack([selected, win_score, ratio]).mean(axis=-1)


def resample(
    key: jax.Array, rewards: Floats, ratios: Floats, n: int, temperature: float, *, num_draws: int
) -> Floats:
    """``measure`` among ``num_draws`` fresh draws from each prompt's pool; consumes ``key``."""
    index_key, noise_key = jax.random.split(key)
    drawn = np.asarray(_places(index_key, (len(rewards), num_draws), rewards.shape[1]))
    rewards, ratios = (np.take_along_axis(table, drawn, axis=1) for table in (rewards, ratios))
    return measure(noise_key, rewards, ratios, n, temperature)


def _groups(table: Floats, n: int) -> tuple[Floats, Floats]:
    """Opponents ``[B, G]`` and candidates ``[B, G, n]`` of ``table [B, M]``."""
    num_groups = table.shape[1] // (n + 1)
    groups = table[:, : num_groups * (n + 1)].reshape(len(table), num_groups, n + 1)
    return groups[..., 0], groups[..., 1:]


@partial(jax.jit, static_argnames="shape")
def _noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.gumbel(key, shape, jnp.result_type(float))


@partial(jax.jit, static_argnames=("shape", "size"))
def _places(key: jax.Array, shape: tuple[int, ...], size: int) -> jax.Array:
    return jax.random.randint(key, shape, 0, size, dtype=jnp.int32)
