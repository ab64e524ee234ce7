r"""What is bounded: each quantity, computed exactly by the core.

The modules that hold the inequalities name these quantities and never compute them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from bon_theory.bounds.problem import Problem, Range
from bon_theory.divergences import (
    chi_squared_divergence,
    kl_divergence,
    renyi_divergence,
    squared_hellinger,
    total_variation,
)
from bon_theory.performance import expected_reward, win_rate
from bon_theory.policy import Policy
from bon_theory.selection import top_fraction

__all__ = ["Quantity", "above_zero"]


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Something that inequalities bound.

    Attributes:
        name: as it is printed.
        selection: the selection that it is about.
        ranges: what a problem has to give for it, besides the reference, and what it admits of it.
        exact: its value on a problem, one number per batch element.
        compares: whether it is about two rewards, so that a problem has to give the true one.

    Example:
        >>> from bon_theory import bounds
        >>> quantity = bounds.REGISTRY["best_of_n_kl"].quantity
        >>> quantity.name, quantity.selection, quantity.parameters
        ('KL(best-of-n ‖ reference)', 'best_of_n', ('n',))

    Derived here (bookkeeping; no published counterpart).
    """

    name: str
    selection: str
    ranges: Mapping[str, Range] = dataclasses.field(hash=False)
    exact: Callable[[Problem], jax.Array]
    compares: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, besides the reference."""
        return tuple(self.ranges)

    def is_defined(self, problem: Problem) -> bool:
        """Whether the problem gives all it takes.

        The exponential race, and the comparison of two rewards, need a discrete law.

        Example:
            >>> import bon_theory as bt
            >>> from bon_theory import bounds
            >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> kl = bounds.REGISTRY["best_of_n_kl"].quantity
            >>> kl.is_defined(bounds.Problem.of(coin, temperature=1.0))
            False
        """
        given = all(name in problem.parameters for name in self.parameters)
        if self.compares and problem.true_reward is None:
            return False
        discrete_only = self.compares or self.selection == "exponential_race"
        return given and not (discrete_only and problem.law.continuous)


# --- what parameters may be -------------------------------------------------------------


def at_least_one(_: Any) -> dict[str, Any]:
    """Numbers of draws, and largest densities."""
    return {"at_least": 1}


def not_negative(_: Any) -> dict[str, Any]:
    """Mean numbers of draws beyond the first."""
    return {"at_least": 0}


def above_zero(dtype: Any) -> dict[str, Any]:
    """Temperatures and strengths."""
    return {"at_least": float(np.finfo(dtype).tiny)}


def extended(_: Any) -> dict[str, Any]:
    """Orders of a divergence, infinity included."""
    return {"at_least": 0, "finite": False}


_DRAWS: Mapping[str, Range] = {"n": at_least_one}
_RACE: Mapping[str, Range] = {"n": at_least_one, "temperature": above_zero}

# --- best-of-n --------------------------------------------------------------------------


def _best(name: str, exact: Callable[[Problem], jax.Array], **more: Range) -> Quantity:
    return Quantity(name, "best_of_n", {**_DRAWS, **more}, exact)


BEST_KL = _best("KL(best-of-n ‖ reference)", lambda p: kl_divergence(p.best_of_n, p.law))
BEST_REVERSE_KL = _best("KL(reference ‖ best-of-n)", lambda p: kl_divergence(p.law, p.best_of_n))
BEST_CHI_SQUARED = _best(
    "χ²(best-of-n ‖ reference)", lambda p: chi_squared_divergence(p.best_of_n, p.law)
)
BEST_TOTAL_VARIATION = _best(
    "TV(best-of-n, reference)", lambda p: total_variation(p.best_of_n, p.law)
)
BEST_HELLINGER = _best(
    "∫(√best-of-n − √reference)²", lambda p: squared_hellinger(p.best_of_n, p.law)
)
BEST_RENYI = _best(
    "Rényi D_α(best-of-n ‖ reference)",
    lambda p: renyi_divergence(p.best_of_n, p.law, p["order"]),
    order=extended,
)
BEST_WIN_RATE = _best("win rate of best-of-n", lambda p: win_rate(p.best_of_n, p.law))
BEST_WIN_RATE_TIES_WIN = _best(
    "win rate of best-of-n, ties won", lambda p: win_rate(p.best_of_n, p.law, ties="win")
)
BEST_WIN_RATE_TIES_LOSE = _best(
    "win rate of best-of-n, ties lost", lambda p: win_rate(p.best_of_n, p.law, ties="loss")
)
BEST_PENALISED_WIN_RATE = _best(
    "win rate − KL/strength of best-of-n",
    lambda p: win_rate(p.best_of_n, p.law) - kl_divergence(p.best_of_n, p.law) / p["strength"],
    strength=above_zero,
)
BEST_REWARD = _best("reward of best-of-n", lambda p: expected_reward(p.best_of_n))

# --- best-of-n by a learned reward, as the true one sees it -----------------------------


def _learned(name: str, exact: Callable[[Problem], jax.Array], **more: Range) -> Quantity:
    return Quantity(name, "best_of_n_by_learned_reward", {**_DRAWS, **more}, exact, compares=True)


def _true_win_rate(policy: Policy, problem: Problem) -> jax.Array:
    return win_rate(problem.by_truth(policy), problem.truth)


BEST_TRUE_WIN_RATE = _learned(
    "true win rate of best-of-n", lambda p: _true_win_rate(p.best_of_n, p)
)
BEST_TRUE_REGRET = _learned(
    "true win rate of the top 1/ratio − best-of-n",
    lambda p: (
        win_rate(top_fraction(p.truth, 1 / p["ratio"]), p.truth) - _true_win_rate(p.best_of_n, p)
    ),
    ratio=at_least_one,
)

# --- the two other families of rank policies --------------------------------------------

POISSON_KL = Quantity(
    "KL(best-of-Poisson ‖ reference)",
    "best_of_poisson",
    {"mean_extra_draws": not_negative},
    lambda p: kl_divergence(p.best_of_poisson, p.law),
)
POISSON_WIN_RATE = Quantity(
    "win rate of best-of-Poisson",
    "best_of_poisson",
    {"mean_extra_draws": not_negative},
    lambda p: win_rate(p.best_of_poisson, p.law),
)
OPTIMAL_KL = Quantity(
    "KL(win-rate optimum ‖ reference)",
    "win_rate_optimal",
    {"strength": above_zero},
    lambda p: kl_divergence(p.win_rate_optimal, p.law),
)
OPTIMAL_WIN_RATE = Quantity(
    "win rate of the win-rate optimum",
    "win_rate_optimal",
    {"strength": above_zero},
    lambda p: win_rate(p.win_rate_optimal, p.law),
)
OPTIMAL_WIN_RATE_TIES_WIN = Quantity(
    "win rate of the win-rate optimum, ties won",
    "win_rate_optimal",
    {"strength": above_zero},
    lambda p: win_rate(p.win_rate_optimal, p.law, ties="win"),
)
OPTIMAL_WIN_RATE_TIES_LOSE = Quantity(
    "win rate of the win-rate optimum, ties lost",
    "win_rate_optimal",
    {"strength": above_zero},
    lambda p: win_rate(p.win_rate_optimal, p.law, ties="loss"),
)

# --- soft best-of-n and the exponential race --------------------------------------------

TILT_CHI_SQUARED = Quantity(
    "χ²(tilt ‖ reference)",
    "exponential_tilt",
    {"temperature": above_zero},
    lambda p: chi_squared_divergence(p.exponential_tilt, p.law),
)


def _soft(name: str, exact: Callable[[Problem], jax.Array]) -> Quantity:
    return Quantity(name, "soft_best_of_n", _RACE, exact)


SOFT_KL_TO_TILT = _soft(
    "KL(tilt ‖ soft best-of-n)", lambda p: kl_divergence(p.exponential_tilt, p.soft_best_of_n)
)
SOFT_KL_FROM_TILT = _soft(
    "KL(soft best-of-n ‖ tilt)", lambda p: kl_divergence(p.soft_best_of_n, p.exponential_tilt)
)
SOFT_MAX_LOG_RATIO = _soft(
    "max log tilt/soft best-of-n",
    lambda p: renyi_divergence(p.exponential_tilt, p.soft_best_of_n, float("inf")),
)
SOFT_TOTAL_VARIATION = _soft(
    "TV(soft best-of-n, tilt)", lambda p: total_variation(p.soft_best_of_n, p.exponential_tilt)
)
SOFT_REWARD = _soft("reward of soft best-of-n", lambda p: expected_reward(p.soft_best_of_n))
SOFT_KL = _soft("KL(soft best-of-n ‖ reference)", lambda p: kl_divergence(p.soft_best_of_n, p.law))


def _race(name: str, exact: Callable[[Problem], jax.Array]) -> Quantity:
    return Quantity(name, "exponential_race", _RACE, exact)


RACE_TOTAL_VARIATION = _race(
    "TV(exponential race, tilt)", lambda p: total_variation(p.exponential_race, p.exponential_tilt)
)
RACE_KL_TO_TILT = _race(
    "KL(tilt ‖ exponential race)", lambda p: kl_divergence(p.exponential_tilt, p.exponential_race)
)
RACE_KL_FROM_TILT = _race(
    "KL(exponential race ‖ tilt)", lambda p: kl_divergence(p.exponential_race, p.exponential_tilt)
)
