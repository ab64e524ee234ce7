"""The distribution function of the reward, from the masses of the outcomes, in log space."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from bon_theory._numerics import cumulative_log_sum, log1mexp, one_program, safe_log
from bon_theory._quadrature import running_sum

__all__ = ["reward_log_cdf"]


@functools.partial(one_program, static_argnames="continuous")
def reward_log_cdf(
    log_probs: jax.Array, rewards: jax.Array, continuous: bool = False
) -> tuple[jax.Array, jax.Array]:
    r""":math:`\log F(r-)` and :math:`\log F(r)` at every outcome, ``[..., K]``.

    Outcomes of equal reward form one level. The sum over levels runs in log space from below and
    from above, and each value is taken from the tail in which it is the smaller of the two.
    """
    if continuous:
        below = jnp.clip(running_sum(jnp.exp(log_probs)), 0, 1)
        log_cdf = _from_both_tails(safe_log(below), safe_log(1 - below))
        return log_cdf, log_cdf
    order = jnp.argsort(rewards, axis=-1)
    index = jnp.broadcast_to(jnp.arange(rewards.shape[-1]), rewards.shape)
    inverse = jnp.put_along_axis(jnp.zeros_like(index), order, index, axis=-1, inplace=False)
    sorted_rewards = jnp.take_along_axis(rewards, order, axis=-1)
    sorted_log_probs = jnp.take_along_axis(log_probs, order, axis=-1)
    axis = log_probs.ndim - 1
    from_below = cumulative_log_sum(sorted_log_probs)
    from_above = cumulative_log_sum(sorted_log_probs, reverse=True)
    # First and last position of the level that a position belongs to.
    rises = sorted_rewards[..., 1:] != sorted_rewards[..., :-1]
    starts = jnp.concatenate([jnp.ones_like(index[..., :1], dtype=bool), rises], axis=-1)
    ends = jnp.concatenate([rises, jnp.ones_like(index[..., :1], dtype=bool)], axis=-1)
    first = jax.lax.cummax(jnp.where(starts, index, 0), axis=axis)
    last = jax.lax.cummin(jnp.where(ends, index, rewards.shape[-1]), axis=axis, reverse=True)
    nothing = jnp.full_like(from_below[..., :1], -jnp.inf)
    before = jnp.concatenate([nothing, from_below], axis=-1)  # before[i]: positions < i
    after = jnp.concatenate([from_above, nothing], axis=-1)  # after[i]: positions >= i

    def at(position: jax.Array) -> jax.Array:
        lower = jnp.take_along_axis(before, position, axis=-1)
        upper = jnp.take_along_axis(after, position, axis=-1)
        return jnp.take_along_axis(_from_both_tails(lower, upper), inverse, axis=-1)

    return at(first), at(last + 1)


def _from_both_tails(log_lower: jax.Array, log_upper: jax.Array) -> jax.Array:
    """log F from log F and log(1 - F), using the smaller of the two."""
    return jnp.where(
        log_lower <= log_upper, log_lower, jnp.minimum(log1mexp(jnp.minimum(log_upper, 0)), 0)
    )
