r"""Statistics of a reference that bounds may use, and functions with removable singularities."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import log1mexp, log_diff_exp
from bon_theory.divergences import log_ratio
from bon_theory.policy import Policy
from bon_theory.selection import exponential_tilt

__all__ = [
    "collision_probability",
    "largest_level",
    "log1p_quotient",
    "log_level_mass",
    "log_sinh_half_range",
    "log_tilt_ratio",
    "reward_extremes",
    "tie_free_kl",
    "top_level_log_mass",
]


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


def reward_extremes(reference: Policy) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest reward that are possible (at a node, for a continuous law)."""
    possible = reference.log_probs > -jnp.inf
    lowest = jnp.min(jnp.where(possible, reference.rewards, jnp.inf), axis=-1)
    return lowest, jnp.max(jnp.where(possible, reference.rewards, -jnp.inf), axis=-1)


def log_tilt_ratio(reference: Policy, temperature: jax.Array) -> tuple[Policy, jax.Array]:
    r"""The tilt, and :math:`\log\bar w = r/\lambda - \log E_\pi e^{r/\lambda}`, ``[..., K]``."""
    tilt = exponential_tilt(reference, temperature)
    return tilt, log_ratio(tilt, reference)


def log_sinh_half_range(reference: Policy, temperature: jax.Array) -> jax.Array:
    r""":math:`\log\sinh\frac{R}{2\lambda}`, -inf where all rewards are equal."""
    lowest, highest = reward_extremes(reference)
    x = (highest - lowest) / temperature  # sinh(x/2) = e^{x/2} (1 - e^{-x}) / 2
    return x / 2 + log1mexp(-x) - jnp.log(jnp.asarray(2, x.dtype))


def log1p_quotient(x: jax.Array) -> jax.Array:
    r""":math:`\frac{\log(1+x)}{x}` for :math:`x \ge -1`: 1 at 0, where it is smooth, 0 at infinity.

    The series serves :math:`|x| < 10^{-3}`; its next term is below 2e-16.
    """
    small = jnp.abs(x) < 1e-3
    series = 1 + x * (-1 / 2 + x * (1 / 3 + x * (-1 / 4 + x / 5)))
    safe = jnp.where(small | (x == jnp.inf), 1, x)
    direct = jnp.where(x == jnp.inf, 0, jnp.log1p(safe) / safe)
    return jnp.where(small, series, direct)


def tie_free_kl(n: jax.Array) -> jax.Array:
    r""":math:`\log n - \frac{n-1}{n}`, the divergence of best-of-n without ties."""
    return jnp.log(n) - (n - 1) / n
