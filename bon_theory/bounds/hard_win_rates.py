r"""Bounds on the win rate of best-of-n against its reference.

Without ties it is :math:`n/(n+1)`, whatever the law. With ties it depends on how they count, and
every bound is a statistic of the reward levels: :math:`p_{max}`, the largest probability of one,
and :math:`e^{-H_2}`, the probability that two draws have the same reward.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import log_expm1_quotient
from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import (
    BEST_PENALISED_WIN_RATE,
    BEST_WIN_RATE,
    BEST_WIN_RATE_TIES_LOSE,
    BEST_WIN_RATE_TIES_WIN,
)
from bon_theory.bounds.statistics import collision_probability, largest_level
from bon_theory.policy import Policy

__all__ = [
    "best_of_n_win_rate",
    "best_of_n_win_rate_from_largest_level",
    "best_of_n_win_rate_from_collisions",
    "best_of_n_win_rate_ties_won",
    "best_of_n_win_rate_ties_won_from_largest_level",
    "best_of_n_win_rate_ties_won_from_collisions",
    "best_of_n_win_rate_ties_lost",
    "best_of_n_win_rate_ties_lost_from_largest_level",
    "best_of_n_win_rate_ties_lost_from_collisions",
    "best_of_n_penalised_win_rate",
]


@inequality("upper", BEST_WIN_RATE, source="[G] §2; ties derived here")
def best_of_n_win_rate(n: Parameter) -> jax.Array:
    r""":math:`W \le \frac{n}{n+1}`, ties counting one half; an equality without ties.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_win_rate(n=4).value), 6)
        0.8
    """
    return n / (n + 1)


@inequality("lower", BEST_WIN_RATE, source="Derived here")
def best_of_n_win_rate_from_largest_level(reference: Policy, n: Parameter) -> jax.Array:
    r"""The win rate that ties can cost, ties counting one half.

    .. math:: W \ge \frac{n}{n+1} - p_{max}^2 \max\Bigl\{\frac{n}{12},
              \frac{n-1}{2(n+1)}\Bigr\}

    A level on ranks :math:`[a, b]` costs :math:`\tfrac{n(n-1)}{2}\int_a^b (u-a)(b-u)\,u^{n-2}du`.
    Outside :math:`2 < n < 3` the power is convex, so averaging it over the middle of the level,
    where the parabola puts its weight, gives at most its plain average: the sum is at most
    :math:`n p_{max}^2/12`. Inside it is concave, and the ratio of the two averages is largest for a
    level that begins at rank 0; the second term is the cost of a single level :math:`[0, 1]`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> constant = bt.Policy.from_probs([1.0], rewards=[0.0])
        >>> value = bounds.best_of_n_win_rate_from_largest_level(constant, n=2.5).value
        >>> round(float(value), 6)  # n/12 alone would say 0.505952
        0.5
    """
    constant = jnp.maximum(n / 12, (n - 1) / (2 * (n + 1)))
    return n / (n + 1) - largest_level(reference) ** 2 * constant


@inequality("lower", BEST_WIN_RATE, source="[B]")
def best_of_n_win_rate_from_collisions(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`W \ge \frac{n}{n+1} - \frac{n-1}{2}\,e^{-H_2}`, ties counting one half.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([float(i) for i in range(100)])
        >>> round(float(bounds.best_of_n_win_rate_from_collisions(reference, n=4).value), 6)
        0.785
    """
    return n / (n + 1) - (n - 1) / 2 * collision_probability(reference)


@inequality(
    "lower", BEST_WIN_RATE_TIES_WIN, source="[G] Appendix B, Theorems 7–9; real n derived here"
)
def best_of_n_win_rate_ties_won(n: Parameter) -> jax.Array:
    r""":math:`W_\ge \ge \frac{n}{n+1}`, ties counting as wins ([G]'s definition).

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_win_rate_ties_won(n=4).value), 6)
        0.8
    """
    return n / (n + 1)


@inequality("upper", BEST_WIN_RATE_TIES_WIN, source="Derived here")
def best_of_n_win_rate_ties_won_from_largest_level(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`W_\ge \le \frac{n}{n+1} + p_{max}`, ties counting as wins.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([0.0, 1.0, 2.0, 3.0])
        >>> bound = bounds.best_of_n_win_rate_ties_won_from_largest_level(reference, n=1)
        >>> round(float(bound.value), 6)
        0.75
    """
    return n / (n + 1) + largest_level(reference)


@inequality(
    "upper",
    BEST_WIN_RATE_TIES_WIN,
    source="[G] Appendix B, Theorems 7–9; ties and real n derived here",
)
def best_of_n_win_rate_ties_won_from_collisions(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`W_\ge \le \frac{n}{n+1} + n\,e^{-H_2}`, ties counting as wins.

    :math:`e^{-H_2}`, the probability that two draws have the same reward, is [G]'s
    :math:`\sum p_i^2` over responses of distinct rewards. Below :math:`p_{max}`, the other bound,
    where levels are many and draws few.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([0.0, 1.0, 2.0, 3.0])
        >>> bound = bounds.best_of_n_win_rate_ties_won_from_collisions(reference, n=1)
        >>> round(float(bound.value), 6)
        0.75
    """
    return n / (n + 1) + n * collision_probability(reference)


@inequality(
    "upper", BEST_WIN_RATE_TIES_LOSE, source="[G] Appendix B, Theorems 7–9; real n derived here"
)
def best_of_n_win_rate_ties_lost(n: Parameter) -> jax.Array:
    r""":math:`W_> \le \frac{n}{n+1}`, ties counting as losses.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_win_rate_ties_lost(n=4).value), 6)
        0.8
    """
    return n / (n + 1)


@inequality("lower", BEST_WIN_RATE_TIES_LOSE, source="Derived here")
def best_of_n_win_rate_ties_lost_from_largest_level(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`W_> \ge \frac{n}{n+1} - p_{max}`, ties counting as losses.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([0.0, 1.0, 2.0, 3.0])
        >>> bound = bounds.best_of_n_win_rate_ties_lost_from_largest_level(reference, n=1)
        >>> round(float(bound.value), 6)
        0.25
    """
    return n / (n + 1) - largest_level(reference)


@inequality(
    "lower",
    BEST_WIN_RATE_TIES_LOSE,
    source="[G] Appendix B, Theorems 7–9; ties and real n derived here",
)
def best_of_n_win_rate_ties_lost_from_collisions(reference: Policy, n: Parameter) -> jax.Array:
    r""":math:`W_> \ge \frac{n}{n+1} - n\,e^{-H_2}`, ties counting as losses.

    :math:`e^{-H_2}`, the probability that two draws have the same reward, is [G]'s
    :math:`\sum p_i^2` over responses of distinct rewards. Below :math:`p_{max}`, the other bound,
    where levels are many and draws few.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_samples([0.0, 1.0, 2.0, 3.0])
        >>> bound = bounds.best_of_n_win_rate_ties_lost_from_collisions(reference, n=1)
        >>> round(float(bound.value), 6)
        0.25
    """
    return n / (n + 1) - n * collision_probability(reference)


@inequality(
    "upper", BEST_PENALISED_WIN_RATE, source="[G] Theorem 1, in dual form; ties derived here"
)
def best_of_n_penalised_win_rate(strength: Parameter) -> jax.Array:
    r""":math:`W - \tfrac1c\mathrm{KL}(P\|\pi) \le \tfrac1c \log\frac{e^c - 1}{c}`.

    Holds for every policy :math:`P`, best-of-n or not; the win-rate optimum attains it without
    ties. Ties can be broken at random within a level, so they do not raise the optimum.

    Example:
        >>> from bon_theory import bounds
        >>> round(float(bounds.best_of_n_penalised_win_rate(strength=5.0).value), 6)
        0.67676
    """
    # log((e^c - 1)/c) = c + log((1 - e^{-c})/c)
    return 1 + log_expm1_quotient(strength) / strength
