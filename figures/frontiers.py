"""Points of the optimal frontiers at a given KL divergence, by bisection on the exact laws."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import bon_theory as bt

__all__ = ["reward_frontier", "win_rate_frontier"]

_STEPS = 60  # halvings: the bracket ends narrower than float64 resolves


def win_rate_frontier(reference: bt.Policy, kl: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Strength c with KL(π*_c‖π) = ``kl [...]``, and the win rate of π*_c, the largest at that KL.

    For a tie-free reward: [G] Theorem 1. KL grows with c, from 0.
    """

    def at(log_strength: jax.Array) -> bt.Policy:
        return bt.win_rate_optimal(reference, jnp.exp(log_strength))

    def solve(target: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_strength = _bisect(lambda s: bt.kl_divergence(at(s), reference), target, (-12.0, 12.0))
        return jnp.exp(log_strength), bt.win_rate(at(log_strength), reference)

    return jax.lax.map(solve, kl, batch_size=64)


def reward_frontier(reference: bt.Policy, kl: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Temperature λ with KL(P*‖π) = ``kl [...]``, and E_{P*} r, the largest expected reward there.

    P* is the exponential tilt at λ; KL falls with λ. ``kl`` beyond that of the most rewarding
    outcomes gives the coldest tilt of the bracket.
    """

    def at(log_inverse: jax.Array) -> bt.Policy:
        return bt.exponential_tilt(reference, jnp.exp(-log_inverse))

    def solve(target: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_inverse = _bisect(lambda s: bt.kl_divergence(at(s), reference), target, (-12.0, 12.0))
        return jnp.exp(-log_inverse), bt.expected_reward(at(log_inverse))

    return jax.lax.map(solve, kl, batch_size=64)


def _bisect(
    increasing: Callable[[jax.Array], jax.Array], target: jax.Array, bracket: tuple[float, float]
) -> jax.Array:
    """The argument in ``bracket`` at which an increasing function reaches ``target``."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        too_low = increasing(middle) < target
        return jnp.where(too_low, middle, low), jnp.where(too_low, high, middle)

    low, high = (jnp.full_like(target, end) for end in bracket)
    low, high = jax.lax.fori_loop(0, _STEPS, halve, (low, high))
    return (low + high) / 2
