r"""Bounds on best-of-Poisson and on the win-rate optimum: their closed forms without ties.

By data processing the divergences are upper bounds for a law with ties, and so are the win rates
with ties counting one half.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._numerics import kl_term, log_expm1_quotient
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    OPTIMAL_KL,
    OPTIMAL_WIN_RATE,
    OPTIMAL_WIN_RATE_TIES_LOSE,
    OPTIMAL_WIN_RATE_TIES_WIN,
    POISSON_KL,
    POISSON_WIN_RATE,
)
from bon_theory.bounds.statistics import collision_probability
from bon_theory.policy import Policy

__all__ = [
    "best_of_poisson_kl",
    "best_of_poisson_win_rate",
    "win_rate_optimal_kl",
    "win_rate_optimal_kl_from_collisions",
    "win_rate_optimal_win_rate",
    "win_rate_optimal_win_rate_ties_won",
    "win_rate_optimal_win_rate_ties_won_from_collisions",
    "win_rate_optimal_win_rate_ties_lost",
    "win_rate_optimal_win_rate_ties_lost_from_collisions",
]


@inequality("upper", POISSON_KL, source="Derived here, for [K]'s policy")
def best_of_poisson_kl(mean_extra_draws: Parameter) -> jax.Array:
    r"""The divergence of best-of-Poisson without ties.

    .. math:: \mathrm{KL}(P\|\pi) \le \log(1+\mu) - 1
              + \frac{e^{-(\mu+1)}}{\mu} \bigl(\mathrm{Ei}(\mu+1) - \mathrm{Ei}(1)\bigr)

    An equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_poisson_kl(mean_extra_draws=2.0).value), 6)
        0.298724
    """
    mu = mean_extra_draws
    # φ(ℓ) = ℓ e^ℓ - e^ℓ + 1 of the density e^ℓ = (1 + μu) e^{-μ(1-u)}: its integral, term by term
    near = mu < 50
    m = jnp.where(near, mu, 1)[..., None]
    nodes, weights = (
        jnp.asarray(x, mu.dtype).reshape((1,) * mu.ndim + (-1,)) for x in _gauss_legendre(80)
    )
    ell = jnp.log1p(m * nodes) - m * (1 - nodes)
    close = jnp.sum(weights * kl_term(ell, jnp.exp(ell), jnp.ones_like(ell)), axis=-1)
    # Beyond, Ei(1) is nothing, and e^{-x} Ei(x) its asymptotic series.
    large = jnp.where(near, 100, mu)
    inverse = 1 / (large + 1)
    factorials = [float(math.factorial(k)) for k in range(30)]
    far = jnp.log1p(large) - 1 + inverse * _polynomial(factorials, inverse) / large
    return jnp.where(near, close, far)


@inequality("upper", POISSON_WIN_RATE, source="Derived here, for [K]'s policy")
def best_of_poisson_win_rate(mean_extra_draws: Parameter) -> jax.Array:
    r""":math:`W \le 1 - \frac1\mu + \frac{1 - e^{-\mu}}{\mu^2}`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_poisson_win_rate(mean_extra_draws=2.0).value), 6)
        0.716166
    """
    mu = mean_extra_draws
    small = mu < 0.5
    coefficients = [(-1) ** k / math.factorial(k + 2) for k in range(15)]
    m = jnp.where(small, 1, mu)
    missing = jnp.where(
        small,
        _polynomial(coefficients, jnp.where(small, mu, 0)),
        (1 + jnp.expm1(-m) / m) / m,
    )
    return 1 - missing


@inequality("upper", OPTIMAL_KL, source="[G]; ties derived here")
def win_rate_optimal_kl(strength: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P\|\pi) \le c\,W(c) - \log\frac{e^c - 1}{c}`, an equality without ties.

    :math:`W(c)` is the win rate of :func:`win_rate_optimal_win_rate`.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.win_rate_optimal_kl(strength=5.0).value), 10)
        0.6501169364
    """
    return _optimal_kl(strength)


@inequality("lower", OPTIMAL_KL, source="[G] Appendix B, Theorems 7–9; ties derived here")
def win_rate_optimal_kl_from_collisions(reference: Policy, strength: Parameter) -> jax.Array:
    r""":math:`\mathrm{KL}(P\|\pi) \ge c\,W(c) - \log\frac{e^c-1}{c} - c^2 s\,e^{-H_2}`.

    With :math:`s = \frac{1}{1 - e^{-c}}`; :math:`e^{-H_2}` is the probability that two draws have
    the same reward, [G]'s :math:`\sum p_i^2` over responses of distinct rewards.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(100)])
        >>> bound = bounds.win_rate_optimal_kl_from_collisions(reference, strength=2.0)
        >>> round(float(bound.value), 6)
        0.105335
    """
    steepest = strength * (strength / -jnp.expm1(-strength))
    return _optimal_kl(strength) - steepest * collision_probability(reference)


@inequality("upper", OPTIMAL_WIN_RATE, source="[G]; ties derived here")
def win_rate_optimal_win_rate(strength: Parameter) -> jax.Array:
    r""":math:`W \le \frac{1}{1 - e^{-c}} - \frac1c`, an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.win_rate_optimal_win_rate(strength=5.0).value), 10)
        0.8067836549
    """
    return _optimal_win_rate(strength)


@inequality("lower", OPTIMAL_WIN_RATE_TIES_WIN, source="[G] Appendix B, Theorems 7–9")
def win_rate_optimal_win_rate_ties_won(strength: Parameter) -> jax.Array:
    r""":math:`W_\ge \ge \frac{1}{1 - e^{-c}} - \frac1c`, ties counting as wins ([G]'s definition).

    Example:
        >>> from bon_theory import bounds
        >>> bound = bounds.win_rate_optimal_win_rate_ties_won(strength=5.0)
        >>> round(float(bound.value), 10)
        0.8067836549
    """
    return _optimal_win_rate(strength)


@inequality(
    "upper", OPTIMAL_WIN_RATE_TIES_WIN, source="[G] Appendix B, Theorems 7–9; ties derived here"
)
def win_rate_optimal_win_rate_ties_won_from_collisions(
    reference: Policy, strength: Parameter
) -> jax.Array:
    r""":math:`W_\ge le \frac{1}{1 - e^{-c}} - \frac1c + \frac{c}{1 - e^{-c}}\,e^{-H_2}`.

    Ties counting as wins; :math:`e^{-H_2}` as in :func:`win_rate_optimal_kl_from_collisions`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(100)])
        >>> bound = bounds.win_rate_optimal_win_rate_ties_won_from_collisions(reference, 2.0)
        >>> round(float(bound.value), 6)
        0.679648
    """
    steepest = strength / -jnp.expm1(-strength)
    return _optimal_win_rate(strength) + steepest * collision_probability(reference)


@inequality("upper", OPTIMAL_WIN_RATE_TIES_LOSE, source="[G] Appendix B, Theorems 7–9")
def win_rate_optimal_win_rate_ties_lost(strength: Parameter) -> jax.Array:
    r""":math:`W_> \le \frac{1}{1 - e^{-c}} - \frac1c`, ties counting as losses.

    Example:
        >>> from bon_theory import bounds
        >>> bound = bounds.win_rate_optimal_win_rate_ties_lost(strength=5.0)
        >>> round(float(bound.value), 10)
        0.8067836549
    """
    return _optimal_win_rate(strength)


@inequality(
    "lower", OPTIMAL_WIN_RATE_TIES_LOSE, source="[G] Appendix B, Theorems 7–9; ties derived here"
)
def win_rate_optimal_win_rate_ties_lost_from_collisions(
    reference: Policy, strength: Parameter
) -> jax.Array:
    r""":math:`W_> ge \frac{1}{1 - e^{-c}} - \frac1c - \frac{c}{1 - e^{-c}}\,e^{-H_2}`.

    Ties counting as losses; :math:`e^{-H_2}` as in :func:`win_rate_optimal_kl_from_collisions`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(100)])
        >>> bound = bounds.win_rate_optimal_win_rate_ties_lost_from_collisions(reference, 2.0)
        >>> round(float(bound.value), 6)
        0.633387
    """
    steepest = strength / -jnp.expm1(-strength)
    return _optimal_win_rate(strength) - steepest * collision_probability(reference)


_BERNOULLI = [
    b / math.factorial(2 * k)
    for k, b in enumerate(
        [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510], start=1
    )
]
"""B_{2k}/(2k)! for k = 1, 2, …: at c = 0.7 the next term is below 1e-17 of the first."""


def _optimal_kl(c: jax.Array) -> jax.Array:
    small = c < 0.7
    # K(c) = log((e^c - 1)/c) = c/2 + Σ B_{2k} c^{2k} / (2k (2k)!), and the divergence is cK' - K.
    terms = [b * (2 * k - 1) / (2 * k) for k, b in enumerate(_BERNOULLI, start=1)]
    square = jnp.where(small, c, 0) ** 2
    series = square * _polynomial(terms, square)
    m = jnp.where(small, 1, c)
    # c W - log((e^c - 1)/c) without the two large numbers: c/(e^c - 1) - 1 - log((1 - e^{-c})/c)
    direct = jnp.exp(-m - log_expm1_quotient(m)) - 1 - log_expm1_quotient(m)
    return jnp.where(small, series, direct)


def _optimal_win_rate(c: jax.Array) -> jax.Array:
    small = c < 0.7
    safe = jnp.where(small, c, 0)
    m = jnp.where(small, 1, c)
    series = 0.5 + safe * _polynomial(_BERNOULLI, safe**2)
    return jnp.where(small, series, 1 / -jnp.expm1(-m) - 1 / m)


def _polynomial(coefficients: list[float], x: jax.Array) -> jax.Array:
    """Horner's rule; the constant comes first."""
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _gauss_legendre(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1]: for μ < 50 the singularity at -1/μ costs e^{-0.28·2·size}."""
    nodes, weights = np.polynomial.legendre.leggauss(size)
    return (nodes + 1) / 2, weights / 2
