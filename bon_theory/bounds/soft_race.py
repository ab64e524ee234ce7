r"""Bounds on the exponential race, which is nearer to the tilt than soft best-of-n ([U])."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import log1mexp
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    RACE_KL_FROM_TILT,
    RACE_KL_TO_TILT,
    RACE_TOTAL_VARIATION,
)
from bon_theory.bounds.statistics import log_weight
from bon_theory.divergences import kl_divergence
from bon_theory.policy import Policy
from bon_theory.selection import exponential_tilt, soft_best_of_n

__all__ = [
    "exponential_race_total_variation",
    "exponential_race_kl_to_tilt",
    "exponential_race_kl_from_tilt",
]


@inequality("upper", RACE_TOTAL_VARIATION, source="[U]", conditions="a discrete reference")
def exponential_race_total_variation(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{TV}(P, P^*) \le (1 - 1/\bar w_{max})^n`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.exponential_race_total_variation(reference, 4, 0.5).value), 6)
        0.149649
    """
    largest = jnp.max(log_weight(reference, temperature), axis=-1)
    # Rounding may leave the largest weight a hair below the mean.
    return jnp.exp(n * log1mexp(-jnp.maximum(largest, 0)))


@inequality("upper", RACE_KL_TO_TILT, source="[U]", conditions="a discrete reference")
def exponential_race_kl_to_tilt(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P^*\|P_{race}) \le \mathrm{KL}(P^*\|P_{soft})`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.exponential_race_kl_to_tilt(reference, 4, 0.5).value), 6)
        0.036633
    """
    tilt = exponential_tilt(reference, temperature)
    return kl_divergence(tilt, soft_best_of_n(reference, n, temperature))


@inequality("upper", RACE_KL_FROM_TILT, source="[U]", conditions="a discrete reference")
def exponential_race_kl_from_tilt(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P_{race}\|P^*) \le \mathrm{KL}(P_{soft}\|P^*)`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.exponential_race_kl_from_tilt(reference, 4, 0.5).value), 6)
        0.037117
    """
    tilt = exponential_tilt(reference, temperature)
    return kl_divergence(soft_best_of_n(reference, n, temperature), tilt)
