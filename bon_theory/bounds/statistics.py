r"""Statistics of a reference that bounds may use, and functions with removable singularities.

With :math:`\bar w = e^{r/\lambda} / E_\pi e^{r/\lambda}`, everything about the tilt is computed
from :math:`\log\bar w`, which keeps its relative accuracy at every temperature: a bound at
:math:`\lambda = 10^{15}` is a difference of weights that agree to 15 digits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import kl_term, log1mexp, log_diff_exp, safe_log
from bon_theory.divergences.named import chi_squared_of
from bon_theory.performance import reward_extremes
from bon_theory.policy import Policy
from bon_theory.selection import exponential_tilt

__all__ = [
    "collision_probability",
    "largest_level",
    "log_level_mass",
    "log_mean_weight",
    "log_mixed_weight",
    "log_weight",
    "reverse_tie_free_kl",
    "tie_free_kl",
    "tilt_chi_squared",
    "top_level_log_mass",
]


# --- of the levels of the reward --------------------------------------------------------


def log_level_mass(reference: Policy) -> jax.Array:
    """Log probability of the reward level of each outcome, ``[..., K]``; -inf without ties."""
    return log_diff_exp(reference.log_cdf, reference.log_cdf_below)


def largest_level(reference: Policy) -> jax.Array:
    """The probability of the most probable reward; 0 for a continuous law."""
    return jnp.exp(jnp.max(log_level_mass(reference), axis=-1))


def collision_probability(reference: Policy) -> jax.Array:
    r""":math:`e^{-H_2}`: that two draws have the same reward; 0 for a continuous law."""
    return jnp.sum(reference.probs * jnp.exp(log_level_mass(reference)), axis=-1)


def top_level_log_mass(reference: Policy) -> jax.Array:
    """Log probability of the highest possible reward; -inf for a continuous law."""
    if reference.continuous:
        return jnp.full(reference.log_probs.shape[:-1], -jnp.inf, reference.dtype)
    possible = reference.log_probs > -jnp.inf
    below = jnp.where(possible, reference.log_cdf_below, -jnp.inf)
    return log1mexp(jnp.max(below, axis=-1))


# --- of rewards over a temperature ------------------------------------------------------


def log_mean_weight(reference: Policy, temperature: jax.Array) -> jax.Array:
    r""":math:`\log E_\pi e^{(r - r_{max})/\lambda} \le 0`, accurate where it is near 0."""
    below_top = _below_top(reference, temperature)
    # Summed with E_π 1 = 1 taken out, unless it is the larger part.
    excess = jnp.sum(reference.probs * jnp.expm1(below_top), axis=-1)
    near = excess > -0.5
    far = jax.nn.logsumexp(reference.log_probs + below_top, axis=-1)
    return jnp.where(near, jnp.log1p(jnp.where(near, excess, 0)), far)


def log_weight(reference: Policy, temperature: jax.Array) -> jax.Array:
    r""":math:`\log\bar w = r/\lambda - \log E_\pi e^{r/\lambda}`, ``[..., K]``."""
    if reference.continuous:
        exponential_tilt(reference, temperature)  # refuses a tail that its nodes do not resolve
    mean = log_mean_weight(reference, temperature)
    return _below_top(reference, temperature) - mean[..., None]


def log_mixed_weight(log_weight: jax.Array, n: jax.Array) -> jax.Array:
    r""":math:`\log\frac{n - 1 + \bar w}{n}`, accurate where it is near 0."""
    near = jnp.where(n < 2, jnp.abs(log_weight) < 0.5, log_weight < jnp.log(n))
    safe = jnp.where(near, log_weight, 0)
    far = jnp.logaddexp(safe_log(n - 1), log_weight) - jnp.log(n)
    return jnp.where(near, jnp.log1p(jnp.expm1(safe) / n), far)


def tilt_chi_squared(reference: Policy, temperature: jax.Array) -> jax.Array:
    r""":math:`\chi^2(P^*\|\pi) = \mathrm{Var}_\pi(\bar w)`."""
    ell = log_weight(reference, temperature)
    return chi_squared_of(ell, reference.log_probs + ell, reference.log_probs)


def _below_top(reference: Policy, temperature: jax.Array) -> jax.Array:
    r""":math:`(r - r_{max})/\lambda`, ``[..., K]``; 0 for outcomes of probability zero."""
    _, highest = reward_extremes(reference)
    possible = reference.log_probs > -jnp.inf
    return jnp.where(possible, reference.rewards - highest[..., None], 0) / temperature[..., None]


# --- of n -------------------------------------------------------------------------------


def tie_free_kl(n: jax.Array) -> jax.Array:
    r""":math:`\log n - \frac{n-1}{n}`, the divergence of best-of-n without ties."""
    return kl_term(jnp.log(n), jnp.ones_like(n), 1 / n)


def reverse_tie_free_kl(n: jax.Array) -> jax.Array:
    r""":math:`n - 1 - \log n`, the divergence to best-of-n without ties."""
    return kl_term(-jnp.log(n), jnp.ones_like(n), n)
