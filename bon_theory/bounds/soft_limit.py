r"""Bounds on soft best-of-n: how near it is to the tilt, and what it earns.

With weights relative to their mean, :math:`\bar w = e^{r/\lambda} / E_\pi e^{r/\lambda}`, and
:math:`\chi^2 = \chi^2(P^*\|\pi) = \mathrm{Var}_\pi(\bar w)`, nearly everything follows from

.. math:: P_n(x) \ge P^*(x)\,\frac{n}{n - 1 + \bar w(x)},

which is Jensen's inequality in Lemma 1 of [V], the lemma for the law.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import log1p_shortfall
from bon_theory._quadrature import absolute_sum, running_sum
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    SOFT_KL_FROM_TILT,
    SOFT_KL_TO_TILT,
    SOFT_MAX_LOG_RATIO,
    SOFT_REWARD,
    SOFT_TOTAL_VARIATION,
)
from bon_theory.bounds.statistics import (
    log_mixed_weight,
    log_weight,
    tilt_chi_squared,
)
from bon_theory.performance import expected_reward, expected_value, reward_extremes
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, exponential_tilt, soft_best_of_n

__all__ = [
    "soft_best_of_n_kl_to_tilt",
    "soft_best_of_n_kl_to_tilt_over_n",
    "soft_best_of_n_kl_to_tilt_pointwise",
    "soft_best_of_n_kl_to_tilt_from_range",
    "soft_best_of_n_max_log_ratio",
    "soft_best_of_n_kl_from_tilt",
    "soft_best_of_n_total_variation",
    "soft_best_of_n_total_variation_pointwise",
    "soft_best_of_n_reward_floor",
    "soft_best_of_n_reward_above_reference",
    "soft_best_of_n_reward_below_tilt",
    "soft_best_of_n_reward_below_best_of_n",
]


@inequality("upper", SOFT_KL_TO_TILT, source="[V], the rate 1/n; the constant derived here")
def soft_best_of_n_kl_to_tilt(reference: Policy, n: Parameter, temperature: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P^*\|P_n) \le \log(1 + \chi^2/n)`.

    So :math:`n \ge \chi^2/(e^\varepsilon - 1)` draws suffice for :math:`\varepsilon` nats. The
    right order while :math:`n \ll \chi^2`; beyond, the divergence falls like :math:`1/n^2`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_to_tilt(reference, 4, 0.5).value), 6)
        0.171364
    """
    return jnp.log1p(tilt_chi_squared(reference, temperature) / n)


@inequality("upper", SOFT_KL_TO_TILT, source="[V], the rate 1/n; the constant derived here")
def soft_best_of_n_kl_to_tilt_over_n(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P^*\|P_n) \le \chi^2/n`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_to_tilt_over_n(reference, 4, 0.5).value), 6)
        0.186922
    """
    return tilt_chi_squared(reference, temperature) / n


@inequality("upper", SOFT_KL_TO_TILT, source="Derived here")
def soft_best_of_n_kl_to_tilt_pointwise(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P^*\|P_n) \le E_{P^*}\log\frac{n - 1 + \bar w}{n}`: the sharpest here.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_to_tilt_pointwise(reference, 4, 0.5).value), 6)
        0.148991
    """
    ell, number = log_weight(reference, temperature), n[..., None]
    mixed = log_mixed_weight(ell, number)
    # With y = w̄ - 1, E_π y = 0: the terms π ((1+y) log(1+y/n) - y/n) are not negative.
    near = jnp.abs(mixed) < 0.5
    y = jnp.where(near, jnp.expm1(jnp.where(near, ell, 0)), 0)
    log, z = jnp.where(near, mixed, 0), y / number
    by_small = reference.probs * (y * log - log1p_shortfall(z))
    by_large = jnp.exp(reference.log_probs + ell) * (mixed - 1 / number) + reference.probs / number
    return jnp.sum(jnp.where(near, by_small, by_large), axis=-1)


@inequality("upper", SOFT_KL_TO_TILT, source="[V], the rate 1/n; the constant derived here")
def soft_best_of_n_kl_to_tilt_from_range(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P^*\|P_n) \le \log\bigl(1 + \tfrac1n\sinh^2\tfrac{R}{2\lambda}\bigr)`.

    Knows only the range :math:`R` of the reward, for a continuous law that of its nodes.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_to_tilt_from_range(reference, 4, 0.5).value), 6)
        0.296598
    """
    lowest, highest = reward_extremes(reference)
    x = (highest - lowest) / temperature
    # log(1 + sinh²(x/2)/n), with sinh²(x/2) = e^x (1 - e^{-x})²/4 where that overflows
    near = x < 1
    close = jnp.log1p(jnp.sinh(jnp.where(near, x, 0) / 2) ** 2 / n)
    far = jax.nn.softplus(x + 2 * jnp.log(-jnp.expm1(-jnp.where(near, 1, x)) / 2) - jnp.log(n))
    return jnp.where(near, close, far)


@inequality("upper", SOFT_MAX_LOG_RATIO, source="Derived here")
def soft_best_of_n_max_log_ratio(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\max_x \log\frac{P^*(x)}{P_n(x)} \le \log\frac{n - 1 + \bar w_{max}}{n}`.

    The worst case of the pointwise bound at the head of this module.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_max_log_ratio(reference, 4, 0.5).value), 6)
        0.344526
    """
    largest = jnp.max(log_weight(reference, temperature), axis=-1)
    return log_mixed_weight(jnp.maximum(largest, 0), n)  # the largest weight is at least the mean


@inequality("upper", SOFT_KL_FROM_TILT, source="Derived here: λ KL is the shortfall in E r − λ KL")
def soft_best_of_n_kl_from_tilt(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|P^*) \le \frac{E_{P^*} r - E_{P_n} r}{\lambda}`.

    Needs the expected reward of soft best-of-n, but not its law.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_from_tilt(reference, 4, 0.5).value), 6)
        0.211024
    """
    _, highest = reward_extremes(reference)
    missing = highest[..., None] - reference.rewards  # small where both laws have their mass
    laws = soft_best_of_n(reference, n, temperature), exponential_tilt(reference, temperature)
    by_soft, by_tilt = (expected_value(law, missing) for law in laws)
    # Not below 0, however the two are rounded.
    return jnp.maximum(by_soft - by_tilt, 0) / temperature


@inequality("upper", SOFT_TOTAL_VARIATION, source="[V], with Pinsker's inequality")
def soft_best_of_n_total_variation(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{TV}(P_n, P^*) \le \sqrt{\tfrac12\log(1 + \chi^2/n)}`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_total_variation(reference, 4, 0.5).value), 6)
        0.292715
    """
    chi_squared = tilt_chi_squared(reference, temperature)
    positive = chi_squared > 0  # the root has no slope where the reward is constant
    divergence = jnp.log1p(jnp.where(positive, chi_squared, 1) / n)
    return jnp.where(positive, jnp.sqrt(divergence / 2), 0)


@inequality("upper", SOFT_TOTAL_VARIATION, source="Derived here")
def soft_best_of_n_total_variation_pointwise(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{TV}(P_n, P^*) \le E_{P^*}\frac{(\bar w - 1)_+}{n - 1 + \bar w}`.

    Of the right order :math:`1/n`, where Pinsker's inequality gives :math:`n^{-1/2}`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> bound = bounds.soft_best_of_n_total_variation_pointwise(reference, 4, 0.5)
        >>> round(float(bound.value), 6)
        0.15419
    """
    ell, number = log_weight(reference, temperature), n[..., None]
    tilt = jnp.exp(reference.log_probs + ell)
    # (w̄ - 1)/(n - 1 + w̄), from e^{-log w̄} where w̄ is large
    upwards, downwards = jnp.maximum(ell, 0), jnp.minimum(ell, 0)
    excess = -jnp.expm1(-upwards) / (1 + (number - 1) * jnp.exp(-upwards))
    if not reference.continuous:
        return jnp.sum(tilt * excess, axis=-1)
    # The integrand has a kink; twice its integral is ∫|f| + ∫f with f smooth.
    signed = tilt * (excess + jnp.expm1(downwards) / (number + jnp.expm1(downwards)))
    return 0.5 * (absolute_sum(running_sum(signed), signed) + jnp.sum(signed, axis=-1))


@inequality("lower", SOFT_REWARD, source="[V], the rate 1/n; the constant derived here")
def soft_best_of_n_reward_floor(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r"""The relative gap of the expected reward, solved for the reward.

    .. math:: \frac{E_{P^*} r - E_{P_n} r}{E_{P_n} r - a} \le \frac{c-1}{n}, \qquad a = \min r,
              \quad c = \frac{E_{P^*}[(r-a)\,\bar w]}{E_{P^*}[r - a]}

    For rewards that are not negative it holds with :math:`a = 0` as well, as published; counting
    from the lowest reward is sharper and needs no such condition.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_reward_floor(reference, 4, 0.5).value), 6)
        0.511028
    """
    lowest, _ = reward_extremes(reference)
    ell = log_weight(reference, temperature)
    above = jnp.where(reference.log_probs > -jnp.inf, reference.rewards - lowest[..., None], 0)
    log_tilt = reference.log_probs + ell
    mean = jnp.sum(jnp.exp(log_tilt) * above, axis=-1)
    # E[(r-a)(w̄-1)] = (c-1) E[r-a], with P* (w̄-1) from the larger of w̄ and 1
    change = -jnp.sign(ell) * jnp.expm1(-jnp.abs(ell)) * jnp.exp(log_tilt + jnp.maximum(ell, 0))
    excess = jnp.sum(change * above, axis=-1)
    positive = mean > 0
    safe = jnp.where(positive, mean, 1)
    return lowest + jnp.where(positive, safe / (1 + excess / (safe * n)), 0)


@inequality("lower", SOFT_REWARD, source="Derived here: the likelihood-ratio order in n")
def soft_best_of_n_reward_above_reference(reference: Policy) -> jax.Array:
    r""":math:`E_{P_n} r \ge E_\pi r`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_reward_above_reference(reference).value), 6)
        0.35
    """
    return expected_reward(reference)


@inequality("upper", SOFT_REWARD, source="Derived here: the likelihood-ratio order in n")
def soft_best_of_n_reward_below_tilt(reference: Policy, temperature: Parameter) -> jax.Array:
    r""":math:`E_{P_n} r \le E_{P^*} r`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_reward_below_tilt(reference, 0.5).value), 6)
        0.675028
    """
    return expected_reward(exponential_tilt(reference, temperature))


@inequality("upper", SOFT_REWARD, source="Standard: a draw from a batch is at most its maximum")
def soft_best_of_n_reward_below_best_of_n(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`E_{P_{n,\lambda}} r \le E_{P_{n,0}} r`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_reward_below_best_of_n(reference, 4).value), 6)
        0.76395
    """
    return expected_reward(best_of_n(reference, n))
