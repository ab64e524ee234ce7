r"""What a policy earns: expected reward, expected values, win rate."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, real_array, require, require_batches, shown
from bon_theory._laws import aligned, require_policy, require_same_outcomes, total
from bon_theory._ragged import law_program
from bon_theory.policy import Policy

__all__ = ["expected_reward", "expected_value", "win_rate"]

Ties = Literal["half", "win", "loss"]
"""What two draws of equal reward count for the one whose win rate it is."""


def expected_reward(policy: Policy) -> jax.Array:
    r""":math:`E_P\,r = \sum_y P(y)\, r(y)`, one number per batch element.

    Infinite where the integral of a continuous law does not exist, such as the mean of a Pareto
    reward of index 1, as far as the tail up to the rank :math:`1 - e^{-80}` tells: a log-normal
    reward of :math:`\sigma > 12` looks like that too, and :math:`1/(s \log s)` does not.

    Raises:
        ValueError: ``policy`` is not a :class:`Policy`.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bt.expected_reward(bt.best_of_n(reference, n=3))), 4)
        0.6815

    [V] §3; [Gao].
    """
    require_policy("policy", policy)
    return _mean(policy)


@law_program
def _mean(policy: Policy) -> jax.Array:
    """The mean of ``policy.rewards``; an impossible outcome's may be infinite."""
    probs = policy.probs
    return total(policy, jnp.where(probs == 0, 0, probs * policy.rewards))


def expected_value(policy: Policy, values: Numbers) -> jax.Array:
    r""":math:`E_P f = \sum_y P(y) f(y)` for any ``values [..., K]``, such as a true reward.

    On a continuous law ``values`` are given at the nodes, that is as a function of
    ``policy.rewards`` or of the rank ``jnp.exp(reference.log_cdf)``.

    Raises:
        ValueError: the last axis of ``values`` is not K, or one is NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> float(bt.expected_value(bt.best_of_n(reference, n=2), [4.0, 8.0]))
        7.0

    Standard; the proxy/true setting is [Gao], [K].
    """
    require_policy("policy", policy)
    values = real_array("values", values)
    if values.shape[-1] != policy.num_outcomes:
        raise ValueError(
            f"values must have one entry per outcome, got shape {values.shape} for "
            f"{policy.num_outcomes} outcomes: outcomes are the last axis."
        )
    require(
        lambda: ~np.isnan(np.asarray(values)),
        lambda: "values contain NaN: every outcome needs a number, even at probability zero.",
        values,
    )
    require_batches("values", values.shape[:-1], policy.batch_shape)
    (policy,) = aligned(policy, ndim=values.ndim)
    values = values.reshape((1,) * (policy.log_probs.ndim - values.ndim) + values.shape)
    return _mean(dataclasses.replace(policy, rewards=values.astype(policy.dtype)))


def win_rate(policy: Policy, opponent: Policy, *, ties: Ties = "half") -> jax.Array:
    r"""Probability that a draw from ``policy`` has a higher reward than one from ``opponent``.

    .. math:: W = \sum_y P(y)\,\bigl[(1-c)\,F_Q(r(y)-) + c\,F_Q(r(y))\bigr],
              \quad c = \tfrac12, 1, 0 \text{ for } \mathtt{ties} = \text{half, win, loss}

    Args:
        policy: :math:`P`.
        opponent: :math:`Q`, on the same outcomes.
        ties: a tie counts one half, as a win ([G]'s definition), or as a loss.

    Raises:
        ValueError: ``ties`` is none of the three, or the policies are not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.7, 0.3], rewards=[0.0, 1.0])
        >>> best = bt.best_of_n(reference, n=8)
        >>> [round(float(bt.win_rate(best, reference, ties=t)), 6) for t in ("half", "win", "loss")]
        [0.821176, 0.982706, 0.659646]

    [G] §2: without ties :math:`n/(n+1)` for best-of-n against its reference.
    """
    shares = {"half": 0.5, "win": 1.0, "loss": 0.0}
    if ties not in list(shares):
        raise ValueError(
            f"ties must be 'half', 'win' or 'loss', got {shown(ties)}: choose how a tie counts."
        )
    share = shares[ties]
    require_same_outcomes(policy, "opponent", opponent)
    require(
        lambda: np.all(np.asarray(policy.rewards) == np.asarray(opponent.rewards)),
        lambda: (
            "policy and opponent must carry the same rewards, outcome by outcome: derive one from "
            "the other by a selection, or put both on the pooled outcomes with probability zero."
        ),
        policy,
        opponent,
    )
    return _wins(policy, opponent, share)


@functools.partial(law_program, ranks=True)
def _wins(policy: Policy, opponent: Policy, share: float) -> jax.Array:
    policy, opponent = aligned(policy, opponent)
    below, at_most = jnp.exp(opponent.log_cdf_below), jnp.exp(opponent.log_cdf)
    return jnp.sum(policy.probs * ((1 - share) * below + share * at_most), axis=-1)


def reward_extremes(reference: Policy) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest reward that are possible (at a node, for a continuous law)."""
    possible = reference.log_probs > -jnp.inf
    lowest = jnp.min(jnp.where(possible, reference.rewards, jnp.inf), axis=-1)
    return lowest, jnp.max(jnp.where(possible, reference.rewards, -jnp.inf), axis=-1)
