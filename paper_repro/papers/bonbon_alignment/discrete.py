"""Claims on finitely many responses: ties, three win rates, distance to the tie-free theory."""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.bonbon_alignment.rank_policies import (
    optimal_kl,
    optimal_win_rate,
    win_rates_and_kls,
)
from paper_repro.papers.claim import DERIVED, READ, Claim, Tolerance
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.search import root

_claim = partial(
    Claim, paper="bonbon_alignment", provenance=READ, where="appendix: discrete responses"
)

TIED_CHECK = "best_of_n on tied rewards"
DISTINCT_CHECK = "best_of_n on distinct rewards"
_CHECKED_BY = (TIED_CHECK, DISTINCT_CHECK)

ROUNDING = Tolerance("sums of a few float64 terms", absolute=1e-15, relative=1e-14)
INEQUALITY = Tolerance("an inequality: no slack but rounding", absolute=1e-15)

# Laws of the reward, levels ascending: from fine to coarse, and one with a rare top.
LAWS: dict[str, tuple[float, ...]] = {
    "5 : 3 : 2": (0.5, 0.3, 0.2),
    "7 : 3": (0.7, 0.3),
    "100 equal levels": (0.01,) * 100,
    "rare top": (0.6, 0.399, 0.001),
    "one level": (1.0,),
}
_NUMBERS: tuple[int, ...] = (2, 8, 64)
_CASES = tuple((name, n) for name in LAWS for n in _NUMBERS)
_LABELS = tuple(f"{name}, n={n}" for name, n in _CASES)


@jax.jit
def _best_of_n(probs: Array, n: Array) -> dict[str, Array]:
    """The law of best-of-n on the law ``probs``, levels ascending, and how it performs."""
    reference = bt.Policy.from_probs(probs, jnp.arange(probs.size, dtype=float))
    policy = bt.best_of_n(reference, n)
    return {
        "probs": policy.probs,
        "kl": bt.kl_divergence(policy, reference),
        "win": bt.win_rate(policy, reference, ties="win"),
        "loss": bt.win_rate(policy, reference, ties="loss"),
        "half": bt.win_rate(policy, reference, ties="half"),
    }


@cache
def _selected(name: str, n: int) -> dict[str, NDArray[np.float64]]:
    found = _best_of_n(jnp.array(LAWS[name]), jnp.asarray(float(n)))
    return {quantity: np.asarray(value) for quantity, value in found.items()}


def _kl(name: str, n: int) -> float:
    return float(_selected(name, n)["kl"])


def _win_rates(name: str, n: int) -> tuple[float, float, float]:
    """Ties count as wins, as losses, as one half."""
    selected = _selected(name, n)
    return float(selected["win"]), float(selected["loss"]), float(selected["half"])


def _half_ties_shortfalls() -> list[float]:
    return [n / (n + 1) - _win_rates(name, n)[2] for name, n in _CASES]


def _kl_shortfalls() -> list[float]:
    """KL of tie-free best-of-n minus that on the law, both by the core."""
    tie_free = np.asarray(win_rates_and_kls(jnp.array(_NUMBERS, float))[1]).tolist()
    at = dict(zip(_NUMBERS, tie_free, strict=True))
    return [at[n] - _kl(name, n) for name, n in _CASES]


def _divergence_within_atoms(probs: tuple[float, ...], n: int) -> float:
    """Σ_j P_j·KL(density ∝ uⁿ⁻¹ on [F_{j−1}, F_j] ‖ uniform there), in closed form."""
    terms = []
    for a, b in pairwise([0.0, *np.cumsum(probs)[:-1].tolist(), 1.0]):
        mass = b**n - a**n
        log_at_a = a**n * math.log(a) if a else 0.0
        mean_log = (b**n * math.log(b) - log_at_a) / mass - 1 / n
        terms.append(mass * (math.log(n * (b - a) / mass) + (n - 1) * mean_log))
    return math.fsum(terms)


@jax.jit
def _coarse(strength: Array) -> dict[str, Array]:
    """Best-of-2 and the discrete optimum π·e^{c·midrank}/Z on a coarse law."""
    probs = jnp.array([0.05, 0.09, 0.72, 0.14])
    reference = bt.Policy.from_probs(probs, jnp.cumsum(probs) - probs / 2)
    best = bt.best_of_n(reference, 2.0)
    optimum = bt.exponential_tilt(reference, 1 / strength)
    return {
        "excess_kl": bt.kl_divergence(optimum, reference) - bt.kl_divergence(best, reference),
        "advantage": bt.win_rate(optimum, reference) - bt.win_rate(best, reference),
    }


def _coarse_gap() -> float:
    """Advantage of the optimum at the KL of best-of-2."""
    strength = root(lambda c: float(_coarse(jnp.asarray(c))["excess_kl"]), 0.1, 100.0)
    return float(_coarse(jnp.asarray(strength))["advantage"])


def _hundred_levels() -> list[float]:
    """What 100 equal levels cost best-of-10 against a continuum: KL, win rate."""
    name = "100 equal levels"
    return [tie_free_kl(10) - _kl(name, 10), 10 / 11 - _win_rates(name, 10)[2]]


_NUM_LAWS, _MOST_LEVELS, _SEED = 2_000, 12, 20241101
_STRENGTH = 5.0
_GAPS = ("KL", "win rate, ties won", "win rate, ties lost")


@cache
def _random_laws() -> NDArray[np.float64]:
    """``[2000, 12]``: laws of 2 to 12 levels, from nearly equal to one that nearly has all."""
    rng = np.random.default_rng(_SEED)
    levels = rng.integers(2, _MOST_LEVELS, _NUM_LAWS, endpoint=True)
    sizes = rng.exponential(size=(_NUM_LAWS, _MOST_LEVELS)) ** rng.choice(
        [0.3, 1, 3], (_NUM_LAWS, 1)
    )
    sizes *= np.arange(_MOST_LEVELS) < levels[:, None]
    return sizes / sizes.sum(1, keepdims=True)


@cache
def _corrections() -> dict[str, NDArray[np.float64]]:
    """Continuous minus discrete KL, and how ties move the win rate; ``[3, 2000]`` per policy."""
    shift = np.array([1.0, -1.0, 1.0])[:, None]
    found = _on_random_laws(jnp.asarray(_random_laws()))
    tie_free = {f"n={n}": (tie_free_kl(n), n / (n + 1), n / (n + 1)) for n in _NUMBERS}
    win_rate = optimal_win_rate(_STRENGTH)
    tie_free[f"c={_STRENGTH:g}"] = (optimal_kl(_STRENGTH), win_rate, win_rate)
    return {
        name: shift * (np.array(values)[:, None] - np.asarray(found[name]))
        for name, values in tie_free.items()
    }


@jax.jit
def _on_random_laws(laws: Array) -> dict[str, Array]:
    """KL, win rate with ties won and with ties lost, ``[3, B]``, of each policy."""
    reference = bt.Policy.from_probs(laws, jnp.arange(_MOST_LEVELS, dtype=float))
    policies = {f"n={n}": bt.best_of_n(reference, float(n)) for n in _NUMBERS}
    policies[f"c={_STRENGTH:g}"] = bt.win_rate_optimal(reference, _STRENGTH)
    return {
        name: jnp.stack(
            [
                bt.kl_divergence(policy, reference),
                bt.win_rate(policy, reference, ties="win"),
                bt.win_rate(policy, reference, ties="loss"),
            ]
        )
        for name, policy in policies.items()
    }


def _limits() -> dict[str, tuple[float, float]]:
    """What follows for the corrections of KL and of either win rate, over Σp²."""
    slope = _STRENGTH / -math.expm1(-_STRENGTH)
    best: dict[str, tuple[float, float]] = {f"n={n}": (n * (n - 1.0), float(n)) for n in _NUMBERS}
    return best | {f"c={_STRENGTH:g}": (_STRENGTH * slope, slope)}


def _negative_corrections() -> list[int]:
    """On how many laws a correction has the wrong sign, rounding aside."""
    return [int(x) for found in _corrections().values() for x in (found < -1e-13).sum(1)]


def _corrections_beyond_their_limits() -> list[int]:
    """On how many laws a correction is larger than its limit."""
    collisions = (_random_laws() ** 2).sum(1)
    counts = []
    for name, (kl, win_rate) in _limits().items():
        limits = np.array([kl, win_rate, win_rate])[:, None] * collisions
        counts += [int(x) for x in (_corrections()[name] > limits + 1e-13).sum(1)]
    return counts


_CORRECTED = tuple(f"{gap}, {name}" for name in _limits() for gap in _GAPS)
_VIOLATIONS = Tolerance("a count of violations by more than 1e-13, which is rounding")

CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/appendix-b-order",
        where="Appendix B, Theorems 7–9",
        statement=(
            "On finitely many responses the KL of best-of-n and of the optimum is smaller than "
            "without ties, the win rate larger if a tie is won and smaller if it is lost. Entries: "
            "how many of 2,000 random laws violate that."
        ),
        kind="inequality",
        compute=_negative_corrections,
        expected=(0.0,) * len(_CORRECTED),
        relation="<=",
        tolerance=_VIOLATIONS,
        labels=_CORRECTED,
        figure="ties",
        test="bon_theory/test_inequalities.py::test_win_rates_bracket_the_continuous_one",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/appendix-b-gaps",
        where="beside Appendix B, Theorems 7–9, which bound these gaps through ½Σp²",
        provenance=DERIVED,
        statement=(
            "What ties change is at most n(n−1)Σp² of best-of-n's KL and nΣp² of either win rate; "
            "for the optimum c²eᶜ/(eᶜ−1)·Σp² and c·eᶜ/(eᶜ−1)·Σp². Entries: how many of 2,000 "
            "random laws violate that."
        ),
        kind="inequality",
        compute=_corrections_beyond_their_limits,
        expected=(0.0,) * len(_CORRECTED),
        relation="<=",
        tolerance=_VIOLATIONS,
        labels=_CORRECTED,
        figure="ties",
        test="paper_repro/test_bonbon_alignment.py::test_corrections_for_ties_by_exact_sums",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-law",
        where="beside Appendix B",
        provenance=DERIVED,
        statement="With ties, best-of-n has probability Fⁿ − F₋ⁿ on each reward level.",
        compute=lambda: np.concatenate(
            [_selected("5 : 3 : 2", 3)["probs"], _selected("7 : 3", 8)["probs"]]
        ),
        expected=(0.125, 0.387, 0.488, 0.05764801, 0.94235199),
        tolerance=ROUNDING,
        labels=(*(f"5 : 3 : 2, n=3, level {j}" for j in "123"), "7 : 3, n=8, level 1", "level 2"),
        figure="ties",
        test="bon_theory/test_selection_exact.py::test_rank_selections_equal_enumeration",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-win-rates",
        where="beside §2, where a tie counts as a win",
        provenance=DERIVED,
        statement=(
            "A tie may count as a win (the paper's definition), as a loss, or as one half: for "
            "5 : 3 : 2 and n = 3, three different win rates."
        ),
        compute=lambda: _win_rates("5 : 3 : 2", 3),
        expected=(0.8601, 0.5839, 0.7220),
        tolerance=ROUNDING,
        labels=("ties win", "ties lose", "ties count half"),
        figure="ties",
        test="bon_theory/test_selection_exact.py::test_win_rates_equal_the_double_sum",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl",
        where="beside Appendix B",
        provenance=DERIVED,
        statement="KL of discrete best-of-n: two small laws and 100 equal levels at n = 10.",
        compute=lambda: [_kl("5 : 3 : 2", 3), _kl("7 : 3", 8), _kl("100 equal levels", 10)],
        expected=(0.360555, 0.934681, 1.4021632888),
        tolerance=Tolerance("stated to 6 decimals", absolute=5e-7),
        labels=("5 : 3 : 2, n=3", "7 : 3, n=8", "100 equal levels, n=10"),
        figure="ties",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl-is-smaller",
        where="footnote 3, p. 6; Appendix B, Theorems 7–9",
        statement=(
            "With finitely many responses log n − (n−1)/n is only an upper bound for the KL. "
            "Entries: by how much it is missed."
        ),
        compute=_kl_shortfalls,
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        figure="ties",
        test="bon_theory/test_inequalities.py::test_ties_only_lower_a_divergence",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl-identity",
        where="beside Appendix B",
        provenance=DERIVED,
        statement=(
            "What is missing is exactly Σ_j P_j·KL(density ∝ uⁿ⁻¹ on atom j's ranks ‖ uniform)."
        ),
        compute=_kl_shortfalls,
        expected=tuple(_divergence_within_atoms(LAWS[name], n) for name, n in _CASES),
        tolerance=Tolerance("differences of numbers up to 4 in float64", absolute=2e-14),
        labels=_LABELS,
        figure="ties",
        test="bon_theory/test_inequalities.py::test_the_gap_of_kl_is_what_ties_hide_within_atoms",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-gaps-of-equal-levels",
        kind="asymptotic",
        where="beside Appendix B",
        provenance=DERIVED,
        statement=(
            "On L = 100 equal levels discreteness costs best-of-10 the KL n(n−1)²/(24(n−2)L²) and "
            "the win rate n/(12L²) to leading order: 1/L², where the bounds through Σp² are of the "
            "order 1/L."
        ),
        compute=_hundred_levels,
        expected=(10 * 81 / (24 * 8 * 100**2), 10 / (12 * 100**2)),
        tolerance=Tolerance("leading terms in 1/L: the next are of order (n/L)²", relative=5e-4),
        labels=("KL", "win rate"),
        figure="ties",
        test="bon_theory/test_inequalities.py::test_uniform_atoms_have_the_asymptotic_gaps",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/half-ties-shortfall",
        where="beside Appendix B",
        provenance=DERIVED,
        statement="It falls short by n·p_max²/12 at most.",
        compute=_half_ties_shortfalls,
        expected=tuple(n * max(LAWS[name]) ** 2 / 12 for name, n in _CASES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        figure="ties",
        test="bon_theory/test_inequalities.py::test_half_counted_ties_cost_little",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/ties-as-wins-or-losses",
        where="Appendix B, Theorems 7–9",
        statement=(
            "Ties counted as wins, best-of-n wins with at least n/(n+1); as losses, with at most "
            "that. Entries: the smaller of the two distances."
        ),
        compute=lambda: [
            min(win - n / (n + 1), n / (n + 1) - loss)
            for (win, loss, _), n in ((_win_rates(name, n), n) for name, n in _CASES)
        ],
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        figure="ties",
        test="bon_theory/test_inequalities.py::test_win_rates_bracket_the_continuous_one",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/tie-conventions-distance",
        where="beside Appendix B",
        provenance=DERIVED,
        statement="Neither is further than p_max away. Entries: the larger of the two distances.",
        compute=lambda: [
            max(win - n / (n + 1), n / (n + 1) - loss)
            for (win, loss, _), n in ((_win_rates(name, n), n) for name, n in _CASES)
        ],
        expected=tuple(max(LAWS[name]) for name, _ in _CASES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        figure="ties",
        test="bon_theory/test_inequalities.py::test_win_rates_bracket_the_continuous_one",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/coarse-atoms-exceed-one-point",
        where="beside §3.3 and Appendix B",
        provenance=DERIVED,
        statement=(
            "“Under one percentage point” needs continuous rewards: on the law (0.05, 0.09, 0.72, "
            "0.14), with half-counted ties, best-of-2 loses more than 0.01 to the discrete optimum "
            "at its KL. Entry: the loss."
        ),
        compute=_coarse_gap,
        expected=0.01,
        kind="inequality",
        relation=">=",
        tolerance=Tolerance("an inequality: no slack"),
        figure="ties",
        test="bon_theory/test_known_falsehoods.py::test_best_of_n_can_be_a_percentage_point_below_the_optimum_when_there_are_atoms",
        checked_by=(*_CHECKED_BY, "exponential_tilt on distinct rewards"),
    ),
)
