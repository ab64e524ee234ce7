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
from paper_repro.papers.bonbon_alignment.rank_policies import best_of_n_curve
from paper_repro.papers.claim import DERIVED, READ, Claim, Tolerance
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
    """The law of best-of-n on the law `probs`, levels ascending, and how it performs."""
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


def _tie_free_kl(n: int) -> float:
    return math.log(n) - (n - 1) / n


def _kl_shortfalls() -> list[float]:
    """KL of tie-free best-of-n minus that on the law, both by the core."""
    tie_free = np.asarray(best_of_n_curve(jnp.array(_NUMBERS, float))[1]).tolist()
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


def _collision_bounds(scale: float) -> tuple[float, ...]:
    """[B]: a multiple of (n−1)·e^{−H₂} = (n−1)·Σπ²; `scale` per n follows from the statement."""
    return tuple((n - 1) * scale * math.fsum(p * p for p in LAWS[name]) for name, n in _CASES)


def _one_atom_kl() -> float:
    """KL of best-of-10 for a top atom of 1/100 over 200,000 equal levels, nearly a continuum."""
    levels, top = 200_000, 0.01
    probs = np.append(np.full(levels, (1 - top) / levels), top)
    return float(_best_of_n(jnp.asarray(probs), jnp.asarray(10.0))["kl"])


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
    return [_tie_free_kl(10) - _kl(name, 10), 10 / 11 - _win_rates(name, 10)[2]]


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/discrete-law",
        statement="With ties, best-of-n has probability Fⁿ − F₋ⁿ on each reward level.",
        compute=lambda: np.concatenate(
            [_selected("5 : 3 : 2", 3)["probs"], _selected("7 : 3", 8)["probs"]]
        ),
        expected=(0.125, 0.387, 0.488, 0.05764801, 0.94235199),
        tolerance=ROUNDING,
        labels=(*(f"5 : 3 : 2, n=3, level {j}" for j in "123"), "7 : 3, n=8, level 1", "level 2"),
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-win-rates",
        statement=(
            "A tie may count as a win (the paper's definition), as a loss, or as one half: for "
            "5 : 3 : 2 and n = 3, three different win rates."
        ),
        compute=lambda: _win_rates("5 : 3 : 2", 3),
        expected=(0.8601, 0.5839, 0.7220),
        tolerance=ROUNDING,
        labels=("ties win", "ties lose", "ties count half"),
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl",
        statement="KL of discrete best-of-n: two small laws and 100 equal levels at n = 10.",
        compute=lambda: [_kl("5 : 3 : 2", 3), _kl("7 : 3", 8), _kl("100 equal levels", 10)],
        expected=(0.360555, 0.934681, 1.4021632888),
        tolerance=Tolerance("stated to 6 decimals", absolute=5e-7),
        labels=("5 : 3 : 2, n=3", "7 : 3, n=8", "100 equal levels, n=10"),
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl-is-smaller",
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
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl-identity",
        statement=(
            "What is missing is exactly Σ_j P_j·KL(density ∝ uⁿ⁻¹ on atom j's ranks ‖ uniform)."
        ),
        compute=_kl_shortfalls,
        expected=tuple(_divergence_within_atoms(LAWS[name], n) for name, n in _CASES),
        tolerance=Tolerance("differences of numbers up to 4 in float64", absolute=2e-14),
        labels=_LABELS,
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-kl-bound",
        where="related: Beirami et al.",
        statement=(
            "log n − (n−1)/n − KL ≤ 2n(n−1)·e^{−H₂}, H₂ the collision entropy. Entries: the bound "
            "minus what it bounds."
        ),
        compute=lambda: [
            n * bound - shortfall
            for (_, n), bound, shortfall in zip(
                _CASES, _collision_bounds(2.0), _kl_shortfalls(), strict=True
            )
        ],
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-win-rate-bound",
        where="related: Beirami et al.",
        statement=("n/(n+1) − W_half ≤ (n−1)/2·e^{−H₂}. Entries: the bound minus what it bounds."),
        compute=lambda: [
            bound - (n / (n + 1) - _win_rates(name, n)[2])
            for (name, n), bound in zip(_CASES, _collision_bounds(0.5), strict=True)
        ],
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-gaps-of-equal-levels",
        where="related: Beirami et al.",
        statement=(
            "For L = 100 equal levels and n = 10 the published bounds on what discreteness costs, "
            "2n(n−1)/L and (n−1)/(2L), hold."
        ),
        compute=_hundred_levels,
        expected=(1.8, 0.045),
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("leading terms in 1/L: the next are of order (n/L)²", relative=5e-4),
        labels=("KL", "win rate"),
        sharper=(
            "The order is 1/L², not 1/L: the gaps are n(n−1)²/(24(n−2)L²) and n/(12L²) to leading "
            "order."
        ),
        sharp_value=(10 * 81 / (24 * 8 * 100**2), 10 / (12 * 100**2)),
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/half-ties-upper-bound",
        where="related: Beirami et al.",
        statement=(
            "With half-counted ties best-of-n wins with probability n/(n+1) at most. Entries: by "
            "how much it falls short."
        ),
        compute=_half_ties_shortfalls,
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/half-ties-shortfall",
        statement="It falls short by n·p_max²/12 at most.",
        compute=_half_ties_shortfalls,
        expected=tuple(n * max(LAWS[name]) ** 2 / 12 for name, n in _CASES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/ties-as-wins-or-losses",
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
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/tie-conventions-distance",
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
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/one-atom-estimate",
        where="related: Beirami et al.",
        statement=(
            "Their estimate D̂(ε) of the KL is exact for one top atom ε over a continuum: at n = 10 "
            "D̂(1/100) = 1.4025525051."
        ),
        compute=_one_atom_kl,
        expected=1.4025525051,
        tolerance=Tolerance(
            "stated to 10 decimals; 200,000 levels stand for the continuum to 1.1e-10",
            absolute=2e-10,
        ),
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/coarse-atoms-exceed-one-point",
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
        provenance=DERIVED,
        checked_by=(*_CHECKED_BY, "exponential_tilt on distinct rewards"),
    ),
)
