"""The distribution function of the reward, from the masses of the outcomes, in log space."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import is_concrete
from bon_theory._numerics import (
    cumulative_log_sum,
    log1mexp,
    namespace,
    numpy_or_program,
    one_program,
    safe_log,
)
from bon_theory._quadrature import running_sum

__all__ = ["log_from_both_tails", "reward_log_cdf"]


def reward_log_cdf(
    log_probs: jax.Array, rewards: jax.Array, continuous: bool = False
) -> tuple[jax.Array, jax.Array]:
    r""":math:`\log F(r-)` and :math:`\log F(r)` at every outcome, ``[..., K]``.

    What is not being traced is sorted and summed by NumPy: no program is compiled for it.
    """
    if continuous:
        log_cdf = _at_nodes(log_probs)
        return log_cdf, log_cdf
    if not is_concrete(log_probs, rewards):
        return _at_outcomes(log_probs, rewards)
    below, at = _at_outcomes(np.asarray(log_probs), np.asarray(rewards))
    return jax.device_put((below, at))


@one_program
def _at_nodes(log_probs: jax.Array) -> jax.Array:
    """Of a continuous law."""
    below = jnp.clip(running_sum(jnp.exp(log_probs)), 0, 1)
    return log_from_both_tails(safe_log(below), safe_log(1 - below))


@numpy_or_program
def _at_outcomes(log_probs: jax.Array, rewards: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of a discrete law, whose outcomes of equal reward form one level.

    The sum over levels runs in log space from below and from above, and each value is taken from
    the tail in which it is the smaller of the two.
    """
    xp = namespace(rewards)
    order = xp.argsort(rewards, axis=-1, stable=True)
    sorted_rewards = xp.take_along_axis(rewards, order, axis=-1)
    sorted_log_probs = xp.take_along_axis(log_probs, order, axis=-1)
    from_below = cumulative_log_sum(sorted_log_probs)
    from_above = cumulative_log_sum(sorted_log_probs, reverse=True)
    first, last = _levels(sorted_rewards)
    nothing = xp.full_like(from_below[..., :1], -xp.inf)
    before = xp.concatenate([nothing, from_below], axis=-1)  # before[i]: positions < i
    after = xp.concatenate([from_above, nothing], axis=-1)  # after[i]: positions >= i
    log_cdf = log_from_both_tails(before, after)  # [..., K + 1]: of the first i positions
    place = _inverse(order)  # where each outcome went

    def at(position: Any) -> Any:
        return xp.take_along_axis(log_cdf, xp.take_along_axis(position, place, axis=-1), axis=-1)

    return at(first), at(last + 1)


def _inverse(order: Any) -> Any:
    """The inverse of permutations ``[..., K]``, without another sort."""
    xp = namespace(order)
    index = xp.broadcast_to(xp.arange(order.shape[-1], dtype=order.dtype), order.shape)
    if xp is jnp:
        return jnp.put_along_axis(order, order, index, axis=-1, inplace=False)
    place = np.empty_like(order)
    np.put_along_axis(place, order, index, axis=-1)
    return place


def _levels(ascending: Any) -> tuple[Any, Any]:
    """First and last position of the level of equal rewards that a position belongs to."""
    xp, size = namespace(ascending), ascending.shape[-1]
    index = xp.broadcast_to(xp.arange(size), ascending.shape)
    rises = ascending[..., 1:] != ascending[..., :-1]
    edge = xp.ones_like(index[..., :1], dtype=bool)
    starts = xp.where(xp.concatenate([edge, rises], axis=-1), index, 0)
    ends = xp.where(xp.concatenate([rises, edge], axis=-1), index, size)[..., ::-1]
    if xp is np:
        return np.maximum.accumulate(starts, -1), np.minimum.accumulate(ends, -1)[..., ::-1]
    last_axis = starts.ndim - 1
    return jax.lax.cummax(starts, last_axis), jax.lax.cummin(ends, last_axis)[..., ::-1]


def log_from_both_tails(log_lower: Any, log_upper: Any) -> Any:
    """log F from log F and log(1 - F), using the smaller of the two."""
    xp = namespace(log_lower)
    upper = xp.minimum(log1mexp(xp.minimum(log_upper, 0)), 0)
    return xp.where(log_lower <= log_upper, log_lower, upper)
