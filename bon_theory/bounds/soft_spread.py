r"""Bounds on soft best-of-n and its limit: how far from the reference they can be."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import kl_term
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    SOFT_KL,
    TILT_CHI_SQUARED,
)
from bon_theory.bounds.statistics import log_weight, tie_free_kl
from bon_theory.divergences import kl_divergence
from bon_theory.performance import reward_extremes
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, soft_best_of_n

__all__ = [
    "soft_best_of_n_kl_below_tilt",
    "soft_best_of_n_kl_tie_free",
    "soft_best_of_n_kl_from_range",
    "soft_best_of_n_kl_below_best_of_n",
    "soft_best_of_n_kl_below_cooler",
    "tilt_chi_squared_from_range",
]


@inequality("upper", SOFT_KL, source="Derived here: the likelihood-ratio order in n")
def soft_best_of_n_kl_below_tilt(reference: Policy, temperature: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le \mathrm{KL}(P^*\|\pi)`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_below_tilt(reference, 0.5).value), 6)
        0.322834
    """
    ell = log_weight(reference, temperature)
    terms = kl_term(ell, jnp.exp(reference.log_probs + ell), reference.probs)
    return jnp.sum(terms, axis=-1)


@inequality("upper", SOFT_KL, source="Derived here: any rule that selects among n draws")
def soft_best_of_n_kl_tie_free(n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le \log n - \frac{n-1}{n}`.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.soft_best_of_n_kl_tie_free(n=8).value), 6)
        1.204442
    """
    return tie_free_kl(n)


@inequality("upper", SOFT_KL, source="[A] Lemma 4.1")
def soft_best_of_n_kl_from_range(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P_n\|\pi) \le \log\frac{n}{1 + (n-1)e^{-R/\lambda}}`.

    :math:`R` is the range of the reward, for a continuous law that of its nodes.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_from_range(reference, 4, 0.5).value), 6)
        1.045541
    """
    lowest, highest = reward_extremes(reference)
    x = (highest - lowest) / temperature
    # One minus what the bound's argument falls short of: n / (1 + (n-1) e^{-x}) = 1 / (1 - loss)
    loss = -jnp.expm1(-x) * ((n - 1) / n)
    near = loss < 0.5
    far = jnp.log(n) - jnp.log1p((n - 1) * jnp.exp(-x))
    return jnp.where(near, -jnp.log1p(-jnp.where(near, loss, 0)), far)


@inequality("upper", SOFT_KL, source="Derived here: the divergence decreases in the temperature")
def soft_best_of_n_kl_below_best_of_n(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P_{n,\lambda}\|\pi) \le \mathrm{KL}(P_{n,0}\|\pi)`.

    Integrating by parts in :math:`E_{P_n} f = \int n M^{n-1} E_\pi[f W e^{-tW}]\,dt`, for a fixed
    :math:`f` and :math:`W = e^{\beta r}`,

    .. math:: \frac{d}{d\beta} E_{P_n} f = n(n-1) \int_0^\infty t\, M^{n-2}
              \bigl(E_\pi W e^{-tW}\bigr)^2\, \mathrm{Cov}_t(f, r)\,dt,

    with the covariance under the law :math:`\propto \pi W e^{-tW}`: not negative if :math:`f`
    increases in :math:`r`. So :math:`P_{n,\lambda}` is stochastically ordered in :math:`\lambda`
    (though not in likelihood ratio), and since :math:`\frac{d}{d\beta}\mathrm{KL}` is this with
    :math:`f = \log P_n/\pi`, which increases in :math:`r`, the divergence decreases in
    :math:`\lambda`; so does every :math:`f`-divergence from the reference.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_below_best_of_n(reference, 4).value), 6)
        0.559751
    """
    return kl_divergence(best_of_n(reference, n), reference)


@inequality("upper", SOFT_KL, source="Derived here: the divergence decreases in the temperature")
def soft_best_of_n_kl_below_cooler(
    reference: Policy, n: Parameter, temperature: Parameter
) -> jax.Array:
    r""":math:`\mathrm{KL}(P_{n,\lambda}\|\pi) \le \mathrm{KL}(P_{n,0.99\lambda}\|\pi)`.

    The monotonicity proved at :func:`soft_best_of_n_kl_below_best_of_n` where it is sharpest, by
    comparison with a temperature one percent lower.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.soft_best_of_n_kl_below_cooler(reference, 4, 0.5).value), 6)
        0.151366
    """
    return kl_divergence(soft_best_of_n(reference, n, 0.99 * temperature), reference)


@inequality("upper", TILT_CHI_SQUARED, source="Derived here")
def tilt_chi_squared_from_range(reference: Policy, temperature: Parameter) -> jax.Array:
    r""":math:`\chi^2(P^*\|\pi) \le \sinh^2\frac{R}{2\lambda}`.

    Attained by two outcomes :math:`R` apart, the lower one :math:`e^{R/\lambda}` times as likely.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bounds.tilt_chi_squared_from_range(reference, 0.5).value), 6)
        1.381098
    """
    lowest, highest = reward_extremes(reference)
    return jnp.sinh((highest - lowest) / temperature / 2) ** 2
