"""Claims on the f-divergences of best-of-n and on the reward that a divergence buys."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, Claim, Tolerance
from paper_repro.papers.inequalities import never_violated

_PAPER = "information_theoretic_guarantees"
_NUMBERS = (1.5, 2.0, 8.0, 1000.0)
_ORDERS = (0.5, 2.0, math.inf)
_DIVERGENCES = ("reverse KL", "χ²", "total variation", "∫(√p − √q)²")


@jax.jit
def _tie_free(n: Array) -> Array:
    """The divergences of best-of-n on a continuous reward, then Rényi's at ``_ORDERS``."""
    reference = bt.Policy.uniform_reward()
    best = bt.best_of_n(reference, n)
    return jnp.stack(
        [
            bt.kl_divergence(reference, best),
            bt.chi_squared_divergence(best, reference),
            bt.total_variation(best, reference),
            bt.squared_hellinger(best, reference),
            *(bt.renyi_divergence(best, reference, order) for order in _ORDERS),
        ]
    )


def _computed(columns: slice) -> Array:
    return jnp.stack([_tie_free(jnp.asarray(n))[columns] for n in _NUMBERS])


def _closed_forms(n: float) -> tuple[float, ...]:
    return (
        n - 1 - math.log(n),
        (n - 1) ** 2 / (2 * n - 1),
        (1 - 1 / n) * n ** (-1 / (n - 1)),
        2 * (math.sqrt(n) - 1) ** 2 / (n + 1),
    )


def _renyi(n: float, order: float) -> float:
    if order == math.inf:
        return math.log(n)
    return (order * math.log(n) - math.log(order * (n - 1) + 1)) / (order - 1)


_claim = partial(
    Claim,
    paper=_PAPER,
    provenance=ABSTRACT,
    where="divergences of best-of-n",
    tolerance=Tolerance("quadrature in float64", absolute=1e-13, relative=1e-12),
    checked_by=("best_of_n on uniform reward",),
)
_holds = partial(never_violated, paper=_PAPER, provenance=ABSTRACT)

CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="information/divergences",
        where="divergences of best-of-n",
        statement=(
            "Without ties: KL(π‖P_n) = n − 1 − log n, χ² = (n−1)²/(2n−1), "
            "TV = (1 − 1/n)·n^{−1/(n−1)}, ∫(√p − √q)² = 2(√n − 1)²/(n + 1)."
        ),
        compute=lambda: _computed(slice(4)),
        expected=tuple(value for n in _NUMBERS for value in _closed_forms(n)),
        labels=tuple(f"{name}, n={n:g}" for n in _NUMBERS for name in _DIVERGENCES),
        test="bon_theory/test_selection_continuous.py::test_closed_forms_of_best_of_n",
    ),
    _claim(
        id="information/renyi",
        where="divergences of best-of-n",
        statement="Without ties D_α(P_n‖π) = [α log n − log(α(n−1)+1)]/(α−1), and D_∞ = log n.",
        compute=lambda: _computed(slice(4, None)),
        expected=tuple(_renyi(n, order) for n in _NUMBERS for order in _ORDERS),
        labels=tuple(f"α={order:g}, n={n:g}" for n in _NUMBERS for order in _ORDERS),
        test="bon_theory/test_selection_continuous.py::test_closed_forms_of_best_of_n",
    ),
    _holds(
        "best_of_n_reverse_kl",
        "best_of_n_chi_squared",
        "best_of_n_total_variation",
        "best_of_n_squared_hellinger",
        "best_of_n_renyi",
        id="information/ties",
        where="divergences of best-of-n",
        statement="With ties each of these is an upper bound (data processing).",
        figure="bounds",
        test="bon_theory/test_inequalities.py::test_ties_only_lower_a_divergence",
    ),
    _holds(
        "best_of_n_reward_from_range",
        "best_of_n_reward",
        id="information/reward-for-divergence",
        where="reward against divergence",
        statement=(
            "E_{P_n} r ≤ E_π r + R·√(½(log n − (n−1)/n)) for a reward of range R (its tails are "
            "sub-Gaussian), and the Cramér form λ·KL + λ log E_π e^{r/λ} at any λ."
        ),
        figure="bounds",
        test="bon_theory/test_bounds.py::test_no_bound_is_violated",
    ),
)
