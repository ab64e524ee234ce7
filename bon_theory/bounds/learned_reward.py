r"""Bounds on best-of-n by a learned reward, in win rates by the true one.

All that is known of the learned reward is its pairwise error :math:`\epsilon`
(:func:`~bon_theory.pairwise_error`). Win rates are means over pairs, so of a law whose density is
at most :math:`M` the true win rate :math:`R` and that by the learned reward, :math:`W`, differ by
at most :math:`M\epsilon`; the density of best-of-n is at most :math:`n`. Discrete references only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory.bounds.inequality import Parameter, inequality
from bon_theory.bounds.quantities import BEST_TRUE_REGRET, BEST_TRUE_WIN_RATE
from bon_theory.performance import win_rate
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, top_fraction
from bon_theory.tuning import pairwise_error

__all__ = [
    "best_of_n_true_win_rate_above_learned",
    "best_of_n_true_win_rate_below_learned",
    "best_of_n_true_win_rate_regret",
    "best_of_n_true_win_rate_regret_exponential",
]


@inequality("lower", BEST_TRUE_WIN_RATE, source="Derived here, for the error of S. and B. 2026")
def best_of_n_true_win_rate_above_learned(
    reference: Policy, true_reward: Parameter, n: Parameter
) -> jax.Array:
    r""":math:`R(P_n) \ge W(P_n) - n\epsilon`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> bound = bounds.best_of_n_true_win_rate_above_learned(reference, [0.0, 0.6, 0.5], n=2)
        >>> round(float(bound.value), 6)
        0.4
    """
    return _learned_win_rate(reference, n) - n * pairwise_error(reference, true_reward)


@inequality("upper", BEST_TRUE_WIN_RATE, source="Derived here, for the error of S. and B. 2026")
def best_of_n_true_win_rate_below_learned(
    reference: Policy, true_reward: Parameter, n: Parameter
) -> jax.Array:
    r""":math:`R(P_n) \le W(P_n) + n\epsilon`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> bound = bounds.best_of_n_true_win_rate_below_learned(reference, [0.0, 0.6, 0.5], n=2)
        >>> round(float(bound.value), 6)
        0.88
    """
    return _learned_win_rate(reference, n) + n * pairwise_error(reference, true_reward)


@inequality("upper", BEST_TRUE_REGRET, source="Derived here, sharpening S. and B. 2026")
def best_of_n_true_win_rate_regret(
    reference: Policy, true_reward: Parameter, n: Parameter, ratio: Parameter
) -> jax.Array:
    r""":math:`R(\text{top }1/M) - R(P_n) \le (M + n)\epsilon + W(\text{top }1/M) - W(P_n)`.

    On the left the top is by the true reward: the highest win rate of a density of at most
    :math:`M`; on the right by the learned one. For any comparator see
    :func:`~bon_theory.regret_bound`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> bound = bounds.best_of_n_true_win_rate_regret(reference, [0.0, 0.6, 0.5], n=4, ratio=2)
        >>> round(float(bound.value), 6)
        0.6974
    """
    error = pairwise_error(reference, true_reward)
    top = win_rate(top_fraction(reference, 1 / ratio), reference)
    return (ratio + n) * error + top - _learned_win_rate(reference, n)


@inequality("upper", BEST_TRUE_REGRET, source="Sriraman and Block 2026 (arXiv 2603.05739)")
def best_of_n_true_win_rate_regret_exponential(
    reference: Policy, true_reward: Parameter, n: Parameter, ratio: Parameter
) -> jax.Array:
    r""":math:`R(\text{top }1/M) - R(P_n) \le (M + n)\epsilon + \tfrac12 e^{-n/M}`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import bounds
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> bound = bounds.best_of_n_true_win_rate_regret_exponential(
        ...     reference, [0.0, 0.6, 0.5], n=4, ratio=2)
        >>> round(float(bound.value), 6)
        0.787668
    """
    return (ratio + n) * pairwise_error(reference, true_reward) + jnp.exp(-n / ratio) / 2


def _learned_win_rate(reference: Policy, n: jax.Array) -> jax.Array:
    return win_rate(best_of_n(reference, n), reference)
