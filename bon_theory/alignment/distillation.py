r"""Best-of-n distilled without its samples: BOND and variational best-of-n."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, positive, scalar
from bon_theory._laws import aligned, require_policy, require_same_outcomes
from bon_theory._numerics import NOTHING
from bon_theory.alignment.pairs import require_discrete
from bon_theory.divergences import kl_divergence
from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n

__all__ = ["bond", "bond_loss", "variational_best_of_n", "variational_best_of_n_loss"]


def bond_loss(
    policy: Policy, reference: Policy, *, n: Numbers, forward_weight: Numbers
) -> jax.Array:
    r"""BOND: a Jeffreys divergence to best-of-n.

    .. math:: w\,\mathrm{KL}(P_n\|\pi_\theta) + (1-w)\,\mathrm{KL}(\pi_\theta\|P_n)

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw.
        n: number of candidates, real, at least 1.
        forward_weight: :math:`w \in [0, 1]`; 1 is SFT on the best of n, up to a constant.

    Raises:
        ValueError: ``n < 1``, ``forward_weight`` is outside [0, 1], or the laws are not on the same
            outcomes.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.alignment.bond_loss(coin, coin, n=2, forward_weight=0.5)), 6)
        0.137327

    Sessa et al. 2024 (BOND).
    """
    require_same_outcomes(policy, "reference", reference)
    weight = scalar("forward_weight", forward_weight, reference.dtype, at_least=0, at_most=1)
    best = best_of_n(reference, n)
    forward, backward = kl_divergence(best, policy), kl_divergence(policy, best)
    return jnp.where(weight > 0, weight * forward, 0) + jnp.where(
        weight < 1, (1 - weight) * backward, 0
    )


def bond(reference: Policy, *, n: Numbers) -> Policy:
    r"""Minimiser of :func:`bond_loss` at every weight: best-of-n, where both divergences vanish.

    What BOND's practice does beyond (a moving anchor, two candidates at a time) is best-of-n of
    best-of-n: ``best_of_n(best_of_n(reference, a), b)`` is best-of-ab.

    Args:
        reference: the law of one draw.
        n: number of candidates, real, at least 1.

    Raises:
        ValueError: ``n < 1`` or not finite.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> bt.alignment.bond(coin, n=2).probs.tolist()
        [0.25, 0.75]

    Gibbs' inequality, twice. Standard.
    """
    return best_of_n(reference, n)


def variational_best_of_n_loss(policy: Policy, reference: Policy, *, beta: Numbers) -> jax.Array:
    r"""Variational best-of-n: RLHF with the logarithm of the rank as its reward.

    .. math:: \mathrm{KL}(\pi_\theta\|\pi) - \frac1\beta E_{\pi_\theta} \log F(r),
              \qquad F(t) = P_\pi(r \le t)

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw, discrete.
        beta: :math:`\beta = 1/(n-1)`, positive.

    Raises:
        ValueError: the reference is continuous, ``beta`` is not positive, or the laws are not on
            the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.alignment.variational_best_of_n_loss(coin, coin, beta=1.0)), 6)
        0.346574

    Amini et al. 2024; [G] has the reward.
    """
    require_discrete(reference, "a loss")
    require_same_outcomes(policy, "reference", reference)
    strength = 1 / positive("beta", beta, reference.dtype)
    # An impossible outcome below all others has rank 0, and no policy that counts returns it.
    rank = jnp.maximum(reference.log_cdf, NOTHING)
    return kl_divergence(policy, reference) - strength * expected_value(policy, rank)


def variational_best_of_n(reference: Policy, *, beta: Numbers) -> Policy:
    r"""Minimiser of :func:`variational_best_of_n_loss`: :math:`P \propto \pi F(r)^{1/\beta}`.

    Without ties it is best-of-n, :math:`n = 1/\beta + 1`. With ties it is not: an atom on ranks
    :math:`[a, b]` has the density of its upper end, :math:`b^{n-1}`, where best-of-n has the mean
    of :math:`n u^{n-1}` over it. So lower outcomes gain too much, as their atoms reach further up
    in proportion.

    Args:
        reference: the law of one draw.
        beta: :math:`\beta`, positive.

    Raises:
        ValueError: ``beta`` is not positive or not finite.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> [round(float(p), 4) for p in bt.alignment.variational_best_of_n(coin, beta=1.0).probs]
        [0.3333, 0.6667]

    Amini et al. 2024; that ties spoil it is derived here.
    """
    require_policy("reference", reference)
    strength = 1 / positive("beta", beta, reference.dtype)
    (law,) = aligned(reference, ndim=strength.ndim + 1)
    rank = strength.reshape((1,) * (law.log_probs.ndim - 1 - strength.ndim) + strength.shape)
    exponent = rank[..., None] * jnp.maximum(law.log_cdf, NOTHING)
    log_normaliser = jax.nn.logsumexp(law.log_probs + exponent, axis=-1, keepdims=True)
    return law.without_ranks().with_log_ratio(exponent - log_normaliser).with_ranks()
