"""What divergences sum over: the log ratio of two laws, outcome by outcome, and their masses."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from bon_theory._laws import aligned, require_same_outcomes
from bon_theory._numerics import one_program
from bon_theory._ragged import completed, law_program
from bon_theory.policy import Policy

__all__ = ["log_ratio", "log_ratio_of", "outcome_log_probs", "ratio_and_masses"]


def log_ratio(policy: Policy, reference: Policy) -> jax.Array:
    r""":math:`\ell(y) = \log P(y) - \log Q(y)`, shape ``[..., K]``.

    0 where both are zero, :math:`-\infty` where only the policy is, :math:`+\infty` where only the
    reference is.

    Raises:
        ValueError: the policies are not on the same number of outcomes, or one is continuous and
            the other discrete.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> bt.log_ratio(bt.worst_of_n(reference, n=1), reference).tolist()
        [0.0, 0.0]

    Standard.
    """
    require_same_outcomes(policy, "reference", reference)
    return _log_ratio(*aligned(policy, reference))


@functools.partial(law_program, per_outcome=True)
def _log_ratio(policy: Policy, reference: Policy) -> jax.Array:
    return log_ratio_of(policy.log_probs, reference.log_probs)


def outcome_log_probs(
    policy: Policy, reference: Policy, beside: Any = ()
) -> tuple[jax.Array, jax.Array]:
    """Both ``[..., K]``, of one rank, completed: for what sums over outcomes."""
    require_same_outcomes(policy, "reference", reference)
    policy, reference = aligned(*completed(policy, reference, beside=beside))
    return policy.log_probs, reference.log_probs


@one_program
def log_ratio_of(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Log P/Q from both logarithms, as :func:`log_ratio` has it."""
    p_zero, q_zero = log_p == -jnp.inf, log_q == -jnp.inf
    finite = jnp.where(p_zero, 0, log_p) - jnp.where(q_zero, 0, log_q)
    one_sided = jnp.where(p_zero, -jnp.inf, jnp.where(q_zero, jnp.inf, finite))
    return jnp.where(p_zero & q_zero, 0, one_sided)


def ratio_and_masses(log_p: jax.Array, log_q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log P/Q, P and Q, of one shape."""
    ell = log_ratio_of(log_p, log_q)
    p, q = (jnp.broadcast_to(jnp.exp(x), ell.shape) for x in (log_p, log_q))
    return ell, p, q
