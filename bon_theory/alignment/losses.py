r"""The population losses, exact on a discrete reference: what the minimisers minimise.

Each is a function of the policy and of the reference from which the candidates come, and
differentiable in both. Policies are compared with the reference by :math:`h = \log P/\pi`; an
outcome that the reference lacks plays no part.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, positive, scalar
from bon_theory._laws import require_same_outcomes
from bon_theory._numerics import one_program
from bon_theory.alignment.margins import best_of_n_beta
from bon_theory.alignment.pairs import (
    best_and_worst_probs,
    number_of_candidates,
    per_law,
    require_discrete,
)
from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n

__all__ = ["bonbon_loss", "dpo_loss", "ipo_loss", "ipo_matched_loss", "sft_best_of_n_loss"]


def sft_best_of_n_loss(policy: Policy, reference: Policy, *, n: Numbers) -> jax.Array:
    r"""Supervised fine-tuning on the best of n: :math:`-E\log\pi_\theta(y_{(n)})`.

    .. math:: -\sum_y P_{\text{best}}(y)\,\log \pi_\theta(y)

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw, discrete.
        n: number of candidates, real, at least 1.

    Raises:
        ValueError: the reference is continuous, ``n < 1``, or batch axes do not match.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.alignment.sft_best_of_n_loss(coin, coin, n=2)), 6)  # log 2
        0.693147

    [G] §4, SFT-BoN.
    """
    require_discrete(reference, "a loss")
    require_same_outcomes(policy, "reference", reference)
    return -expected_value(best_of_n(reference, n), policy.log_probs)


def ipo_loss(policy: Policy, reference: Policy, *, n: Numbers = 2, beta: Numbers) -> jax.Array:
    r"""IPO on the best and the worst of n: squared distance of the margin from :math:`1/(2\beta)`.

    .. math:: E\Bigl(\log\frac{\pi_\theta(y_{(n)})}{\pi_\theta(y_{(1)})}
              - \log\frac{\pi(y_{(n)})}{\pi(y_{(1)})} - \frac{1}{2\beta}\Bigr)^2

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw, discrete.
        n: number of candidates, an integer of at least 2; 2 is an ordinary preference pair.
        beta: :math:`\beta > 0`.

    Raises:
        ValueError: the reference is continuous, ``beta`` is not positive, ``n`` is less than 2 or
            no integer, or batch axes do not match.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> float(bt.alignment.ipo_loss(coin, coin, beta=0.5))
        1.0

    Azar et al. 2023; on these pairs [G] §4.
    """
    require_discrete(reference, "a loss")
    margin = 0.5 / positive("beta", beta, reference.dtype)
    return _pair_mean(_ipo, policy, reference, n, beta=margin)


def ipo_matched_loss(policy: Policy, reference: Policy, *, n: Numbers) -> jax.Array:
    r"""IPO with the margin of best-of-n at each pair as that pair's target.

    .. math:: E\Bigl(\log\frac{\pi_\theta(y_{(n)})}{\pi_\theta(y_{(1)})}
              - \log\frac{P_n(y_{(n)})}{P_n(y_{(1)})}\Bigr)^2, \qquad
              \log\frac{P_n}{\pi} = \log n + (n-1)\log F \text{ without ties}

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw, discrete.
        n: number of candidates, an integer of at least 2.

    Raises:
        ValueError: as :func:`ipo_loss`.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.alignment.ipo_matched_loss(coin, coin, n=2)), 6)  # (log 3)² / 2
        0.603474

    Derived here; :func:`ipo_matched` has the reason.
    """
    require_discrete(reference, "a loss")

    def loss(policy: Policy, reference: Policy, n: jax.Array) -> jax.Array:
        target = _margins(best_of_n(reference, n), reference)
        return (_margins(policy, reference) - target) ** 2

    return _pair_mean(loss, policy, reference, n)


def bonbon_loss(
    policy: Policy,
    reference: Policy,
    *,
    n: Numbers,
    beta: Numbers | None = None,
    sft_weight: Numbers,
) -> jax.Array:
    r"""BoNBoN: :math:`\alpha` SFT-BoN :math:`+ (1-\alpha)` IPO-BoN.

    .. math:: -\alpha\,E\log\pi_\theta(y_{(n)}) + (1-\alpha)\,
              E\Bigl(h(y_{(n)}) - h(y_{(1)}) - \frac{1}{2\beta}\Bigr)^2

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw, discrete.
        n: number of candidates, an integer of at least 2.
        beta: :math:`\beta^*_n` unless given.
        sft_weight: :math:`\alpha \in [0, 1]`.

    Raises:
        ValueError: ``sft_weight`` is outside [0, 1], or as :func:`ipo_loss`.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.alignment.bonbon_loss(coin, coin, n=2, sft_weight=0.5)), 6)
        0.846574

    [G] §4, BoNBoN alignment.
    """
    require_discrete(reference, "a loss")
    margin = 0.5 / positive("beta", best_of_n_beta(n) if beta is None else beta, reference.dtype)
    weight = scalar("sft_weight", sft_weight, reference.dtype, at_least=0, at_most=1)

    def loss(
        policy: Policy, reference: Policy, n: jax.Array, margin: jax.Array, weight: jax.Array
    ) -> jax.Array:
        surprise = -policy.log_probs[:, None]  # of the best of a pair
        return _times(weight, surprise) + _times(1 - weight, _ipo(policy, reference, n, margin))

    return _pair_mean(loss, policy, reference, n, beta=margin, sft_weight=weight)


def dpo_loss(
    policy: Policy,
    reference: Policy,
    *,
    n: Numbers = 2,
    beta: Numbers,
    label_temperature: Numbers = 0.0,
) -> jax.Array:
    r"""DPO on the best and the worst of n: logistic in the margin.

    .. math:: -E\log\sigma\bigl(\beta\,[h(\text{preferred}) - h(\text{other})]\bigr)

    Args:
        policy: :math:`\pi_\theta`, on the reference's outcomes.
        reference: the law of one draw, discrete.
        n: number of candidates, an integer of at least 2; 2 is an ordinary preference pair.
        beta: :math:`\beta \ge 0`; at 0 the loss is :math:`\log 2`, whatever the policy.
        label_temperature: :math:`\tau \ge 0`; of a pair, :math:`y` is preferred to :math:`y'` with
            probability :math:`\sigma((r(y)-r(y'))/\tau)` (Bradley and Terry). 0 is a deterministic
            ranker, for which a tie is broken by lot.

    Raises:
        ValueError: ``beta`` or ``label_temperature`` is negative, or as :func:`ipo_loss`.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> round(float(bt.alignment.dpo_loss(coin, coin, beta=0.1)), 6)  # log 2
        0.693147

    Rafailov et al. 2023.
    """
    require_discrete(reference, "a loss")
    strength = scalar("beta", beta, reference.dtype, at_least=0)
    tau = scalar("label_temperature", label_temperature, reference.dtype, at_least=0)

    def loss(
        policy: Policy, reference: Policy, _: jax.Array, strength: jax.Array, tau: jax.Array
    ) -> jax.Array:
        gap = reference.rewards[:, None] - reference.rewards[None, :]
        noisy = jax.nn.sigmoid(gap / jnp.where(tau == 0, 1, tau))
        kept = jnp.where(tau == 0, (1 + jnp.sign(gap)) / 2, noisy)
        margins = _margins(policy, reference)
        margins = strength * jnp.where((strength == 0) & jnp.isinf(margins), 0, margins)
        won, lost = -jax.nn.log_sigmoid(margins), -jax.nn.log_sigmoid(-margins)
        return _times(kept, won) + _times(1 - kept, lost)

    return _pair_mean(loss, policy, reference, n, beta=strength, label_temperature=tau)


def _pair_mean(
    loss: Callable[..., jax.Array],
    policy: Policy,
    reference: Policy,
    n: Numbers,
    **parameters: jax.Array,
) -> jax.Array:
    """Mean over pairs of ``loss(policy, reference, n, *parameters) [K, K]``, best and worst."""
    require_same_outcomes(policy, "reference", reference)

    def mean(policy: Policy, reference: Policy, n: jax.Array, *rest: jax.Array) -> jax.Array:
        probs = best_and_worst_probs(reference, n=n)
        values = loss(policy, reference, n, *rest)
        return jnp.sum(_times(probs, values))

    count = number_of_candidates(n, reference.dtype)
    return per_law(mean, (policy, reference), {"n": count} | parameters, output="()")


@one_program
def _times(weights: jax.Array, values: jax.Array) -> jax.Array:
    """The product, in which a weight of 0 silences an infinite value."""
    heard = weights != 0
    return jnp.where(heard, weights * jnp.where(heard, values, 0), 0)


def _ipo(policy: Policy, reference: Policy, n: jax.Array, margin: jax.Array) -> jax.Array:
    return (_margins(policy, reference) - margin) ** 2


@one_program
def _margins(policy: Policy, reference: Policy) -> jax.Array:
    """The log ratio at the best (axis 0) less that at the worst (axis 1), ``[K, K]``.

    Pairs that are never drawn have any finite margin.
    """
    possible = reference.log_probs > -jnp.inf
    h = jnp.where(possible, policy.log_probs - jnp.where(possible, reference.log_probs, 0), 0)
    best, worst = h[:, None], h[None, :]
    both_missing = (best == -jnp.inf) & (worst == -jnp.inf)
    return jnp.where(both_missing, 0, best - jnp.where(both_missing, 0, worst))
