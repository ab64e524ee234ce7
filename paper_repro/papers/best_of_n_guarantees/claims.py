"""Claims on the divergence and the win rate of best-of-n, and on the estimator of the former."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import bon_theory as bt
from bon_theory import bounds
from paper_repro.papers.best_of_n_guarantees import budgets
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance, printed
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.inequalities import never_violated

_PAPER = "best_of_n_guarantees"
_claim = partial(Claim, paper=_PAPER, provenance=ABSTRACT)
_holds = partial(never_violated, paper=_PAPER, provenance=ABSTRACT)

_CHECKED_BY = ("best_of_n on tied rewards", "best_of_n on distinct rewards")
_COARSE = (((0.5, 0.3, 0.2), 3), ((0.7, 0.3), 8), ((0.01,) * 100, 10))
_ATOMS = (0.3, 0.01, 1e-6)
_LEVELS_BELOW = 2**16


def _kl_by_enumeration(probs: tuple[float, ...], n: int) -> float:
    """Σ P log(P/p) with P = Fⁿ − F₋ⁿ, levels ascending."""
    above = np.cumsum(probs)
    best = np.diff(np.concatenate([[0.0], above]) ** n)
    return math.fsum(best * np.log(best / np.asarray(probs)))


@jax.jit
def _kl(probs: Array, n: Array) -> Array:
    law = bt.Policy.from_probs(probs, jnp.arange(probs.size, dtype=float))
    return bt.kl_divergence(bt.best_of_n(law, n), law)


@jax.jit
def _one_atom(atom: Array) -> tuple[Array, Array]:
    """KL of best-of-8 for a top atom over many equal levels, and the paper's D̂(atom)."""
    levels = jnp.full(_LEVELS_BELOW, (1 - atom) / _LEVELS_BELOW)
    law = bt.Policy.from_probs(jnp.append(levels, atom), jnp.arange(_LEVELS_BELOW + 1.0))
    exact = bt.kl_divergence(bt.best_of_n(law, 8.0), law)
    return exact, bounds.best_of_n_kl_from_top_atom(law, n=8.0).value


def _estimator_error() -> list[float]:
    pairs = [_one_atom(jnp.asarray(atom)) for atom in _ATOMS]
    return [float(exact) / float(estimate) for exact, estimate in pairs]


@jax.jit
def _on_equal_levels() -> list[Array]:
    law = bt.Policy.from_samples(np.arange(100.0))
    exact = bt.kl_divergence(bt.best_of_n(law, 10), law)
    return [exact, bounds.best_of_n_kl_from_selected_atom(law, n=10).value]


CLAIMS: tuple[Claim, ...] = (
    _holds(
        "best_of_n_kl",
        id="guarantees/kl-upper-bound",
        where="abstract; theorem on the KL divergence",
        statement="KL(P_n‖π) ≤ log n − (n−1)/n, whatever the reference and the reward.",
        figure="bounds",
        test="bon_theory/test_bounds.py::test_no_bound_is_violated",
    ),
    _claim(
        id="guarantees/formula-is-not-the-divergence",
        where="abstract; theorem on the KL divergence",
        statement="With atoms log n − (n−1)/n, often quoted as the divergence, exceeds it.",
        compute=lambda: [_kl(jnp.array(p), jnp.asarray(float(n))) for p, n in _COARSE],
        expected=tuple(tie_free_kl(n) for _, n in _COARSE),
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("sums of at most 100 terms in float64", absolute=1e-14, relative=1e-13),
        labels=tuple(f"{len(p)} levels, n={n}" for p, n in _COARSE),
        sharper="The exact value is a finite sum at any n (entries: Σ P log(P/π), enumerated).",
        sharp_value=tuple(_kl_by_enumeration(p, n) for p, n in _COARSE),
        figure="ties",
        test="bon_theory/test_known_falsehoods.py::test_kl_of_best_of_n_is_not_the_closed_form_when_there_are_atoms",
        checked_by=_CHECKED_BY,
    ),
    _holds(
        "best_of_n_kl_from_collisions",
        id="guarantees/kl-gap",
        where="bound on the gap",
        statement="The formula exceeds the divergence by at most 2n(n−1)·e^{−H₂}, H₂ = −log Σπ².",
        figure="bounds",
        test="bon_theory/test_inequalities.py::test_collision_entropy_bounds_the_gaps",
    ),
    _claim(
        id="guarantees/estimator-is-exact-for-one-atom",
        kind="asymptotic",
        where="beside the estimator D̂",
        provenance=DERIVED,
        statement=(
            "D̂(ε) = (1−ε)ⁿ(log n + (n−1)log(1−ε) − (n−1)/n) + (1−(1−ε)ⁿ) log((1−(1−ε)ⁿ)/ε) is the "
            "divergence itself for one top atom ε over a continuum. Entries: exact over estimate "
            "at n = 8, the continuum being 65,536 equal levels."
        ),
        compute=_estimator_error,
        expected=(1.0,) * len(_ATOMS),
        tolerance=Tolerance(
            "L levels instead of a continuum cost n(n−1)²/(24(n−2)L²) ≈ 6e-10", absolute=2e-9
        ),
        labels=tuple(f"ε={atom:g}" for atom in _ATOMS),
        figure="ties",
        test="bon_theory/test_bounds.py::test_one_top_atom_over_a_continuum_attains_its_divergence",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="guarantees/estimator-on-equal-levels",
        where="beside the estimator D̂",
        provenance=DERIVED,
        statement="On 100 equal levels at n = 10 the estimator exceeds the divergence by 0.03 %.",
        compute=_on_equal_levels,
        expected=(1.4021632888, 1.4025525051),
        tolerance=printed(11),
        labels=("exact", "D̂"),
        figure="ties",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKED_BY,
    ),
    _holds(
        "best_of_n_kl_from_selected_atom",
        "best_of_n_kl_from_selected_level",
        id="guarantees/estimator-conjecture",
        where="conjecture on the estimator",
        statement="The mean of D̂(π(Y)) over what best-of-n selects is at least the divergence.",
        sharper=(
            "It is a theorem (proof in docs/bounds.md), and log n − (n−1)/n − E k(1−p_Y, p_Y) lies "
            "between the two: a better estimator from the same knowledge."
        ),
        figure="bounds",
        test="bon_theory/test_inequalities.py::test_the_expected_top_atom_estimate_is_above_kl",
    ),
    _holds(
        "best_of_n_win_rate",
        id="guarantees/win-rate-upper-bound",
        where="abstract; theorem on the win rate",
        statement="Best-of-n wins with probability n/(n+1) at most, ties counting one half.",
        test="bon_theory/test_inequalities.py::test_half_counted_ties_cost_little",
    ),
    _holds(
        "best_of_n_win_rate_from_collisions",
        "best_of_n_win_rate_from_largest_level",
        id="guarantees/win-rate-gap",
        where="bound on the win rate",
        statement="The win rate is short of n/(n+1) by at most (n−1)/2·e^{−H₂}.",
        sharper="By at most p_max²·max{n/12, (n−1)/(2(n+1))}: the square, not the first power.",
        figure="bounds",
        test="bon_theory/test_inequalities.py::test_collision_entropy_bounds_the_gaps",
    ),
    *budgets.CLAIMS,
)
