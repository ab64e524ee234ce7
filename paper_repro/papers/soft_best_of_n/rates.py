"""Claims on how fast soft best-of-n tends to the tilt: published bounds and sharp constants.

A published rate is an upper bound that holds at every n. For a fixed problem the truth can be
smaller; then the verdict is *sharpened*, and the exact constant is given.
"""

from __future__ import annotations

import math

import numpy as np

from paper_repro.papers.claim import DERIVED, Claim, Provenance, Tolerance, printed
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.soft_best_of_n.laws import (
    GENERAL,
    INEQUALITY,
    LAWS,
    ROUNDING,
    SOFT_CHECK,
    TIED_CHECK,
    TILT_CHECK,
    Weights,
    claim,
    point,
    weights,
)

_CHECKED_BY = (SOFT_CHECK, TIED_CHECK, TILT_CHECK)
_KL_THEOREM = "theorem on convergence in KL"
_REWARD_THEOREM = "theorem on the relative reward gap"

_TEMPERATURES = (0.1, 0.5)
_CASES = tuple(
    (name, t, n) for name in GENERAL for t in _TEMPERATURES for n in (1, 2, 16, 256, 1e5)
)
_LABELS = tuple(f"{name}, λ={t:g}, n={n:g}" for name, t, n in _CASES)

# Where asymptotics are met: the next order is below 50/n relative to the leading one.
_LATE = tuple((name, t, n) for name in GENERAL for t in (0.5,) for n in (1e5, 1e6))
_LATE_LABELS = tuple(f"{name}, λ={t:g}, n={n:g}" for name, t, n in _LATE)
_ASYMPTOTIC = Tolerance(
    "the next order in 1/n is below 1e-3 of the leading one at n = 1e5", relative=1e-3
)


def relative_gap_constant(w: Weights) -> float:
    """c − 1 with c = E_{P*}[r w̄]/E_{P*}[r]."""
    return float(w.tilt @ (w.rewards * w.relative)) / w.reward - 1


def relative_covariance(w: Weights) -> float:
    """Cov_{P*}(r, w̄)/E_{P*}[r]."""
    return float(w.tilt @ (w.rewards * w.centred)) / w.reward


def half_mean_deviation(w: Weights) -> float:
    """½ E_{P*}|w̄ − 1 − χ²|."""
    return float(w.tilt @ np.abs(w.centred)) / 2


def _relative_gaps(cases: tuple[tuple[str, float, float], ...]) -> list[float]:
    points = [point(name, n, t) for name, t, n in cases]
    return [p.tilt_reward / p.reward - 1 for p in points]


def _pointwise() -> list[float]:
    """Smallest P_n(x)·(n − 1 + w̄(x))/(n·P*(x)) over x."""
    points = [(point(name, n, t), n) for name, t, n in _CASES]
    return [float(np.min(p.probs * (n - 1 + p.weight) / (n * p.tilt))) for p, n in points]


def _sufficient(epsilon: float) -> list[float]:
    """KL(P*‖P_n) at n = max(1, χ²/(e^ε − 1))."""
    divergences = []
    for name in GENERAL:
        for t in _TEMPERATURES:
            n = max(1.0, weights(name, t).chi_squared / math.expm1(epsilon))
            divergences.append(point(name, n, t).kl_from_tilt)
    return divergences


def distance_bound(name: str, temperature: float, n: float) -> float:
    """min{KL(P*‖π), log n − (n−1)/n, log(n/(1 + (n−1)e^{−R/λ}))}, R the range of the reward."""
    w, (probs, rewards) = weights(name, temperature), LAWS[name]
    tilt_kl = float(w.tilt @ np.log(w.tilt / np.array(probs)))
    decay = math.exp(-(max(rewards) - min(rewards)) / temperature)
    return min(tilt_kl, tie_free_kl(n), math.log(n / (1 + (n - 1) * decay)))


def _shortfall(name: str, temperature: float, n: float) -> float:
    """E*[r] − λ·KL(P*‖π) − (E_n[r] − λ·KL(P_n‖π))."""
    p = point(name, n, temperature)
    return p.tilt_reward - temperature * p.tilt_kl - (p.reward - temperature * p.kl)


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/kl-rate",
        where="theorem on the KL divergence",
        provenance=Provenance("quoted", "arXiv 2506.04118, eq. 2"),
        statement=(
            "KL(P*‖P_n) = O(1/n): at every n it is at most log(1 + χ²/n) ≤ χ²/n, with "
            "χ² = Var_π(w/E_π w)."
        ),
        compute=lambda: [point(name, n, t).kl_from_tilt for name, t, n in _CASES],
        expected=tuple(math.log1p(weights(name, t).chi_squared / n) for name, t, n in _CASES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_soft_best_of_n_approaches_the_tilt_at_the_published_rate",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/kl-rate-sharp",
        kind="asymptotic",
        where="theorem on the KL divergence",
        provenance=Provenance("quoted", "arXiv 2506.04118, eq. 2"),
        statement="KL(P*‖P_n) is at most log(1 + χ²/n), which is of the order 1/n.",
        compute=lambda: [point(name, n, t).kl_from_tilt for name, t, n in _LATE],
        expected=tuple(math.log1p(weights(name, t).chi_squared / n) for name, t, n in _LATE),
        relation="<=",
        tolerance=_ASYMPTOTIC,
        labels=_LATE_LABELS,
        sharper=(
            "For a fixed problem it is Θ(1/n²): n²·KL → ½Var_{P*}(w̄). (Entries: ½Var/n².) The "
            "bound has the right order while n is far below χ², and uniformly over problems."
        ),
        sharp_value=tuple(weights(name, t).half_variance / n**2 for name, t, n in _LATE),
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_sharp_constants_of_the_rates",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/reverse-kl-rate-sharp",
        kind="asymptotic",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement="The reverse divergence KL(P_n‖P*) has the same sharp rate, ½Var_{P*}(w̄)/n².",
        compute=lambda: [point(name, n, t).kl_to_tilt for name, t, n in _LATE],
        expected=tuple(weights(name, t).half_variance / n**2 for name, t, n in _LATE),
        tolerance=_ASYMPTOTIC,
        labels=_LATE_LABELS,
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_sharp_constants_of_the_rates",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/kl-rate-numbers",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement=(
            "On π = (.5, .3, .2), r = (0, .5, 1), λ = 0.5: χ², and n²·KL(P*‖P_n) on its way to "
            "½Var_{P*}(w̄) = 0.4735402."
        ),
        compute=lambda: [
            point("three outcomes", 10, 0.5).chi_squared,
            10**2 * point("three outcomes", 10, 0.5).kl_from_tilt,
            1000**2 * point("three outcomes", 1000, 0.5).kl_from_tilt,
        ],
        expected=(0.74768916, 0.5530888, 0.4744042),
        tolerance=printed(7),
        labels=("χ²", "n=10", "n=1000"),
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_divergence_to_the_tilt_is_of_order_one_over_n_squared",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/kl-rate-is-uniformly-right",
        kind="asymptotic",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement=(
            "The 1/n bound cannot be improved uniformly: where one outcome of probability ε has "
            "all the reward, λ = 0.02 and n = 10³ is far below χ² ≈ 1/ε, the bound is met."
        ),
        compute=lambda: [point(f"needle {e:g}", 1e3, 0.02).kl_from_tilt for e in (1e-6, 1e-9)],
        expected=tuple(
            math.log1p(weights(f"needle {e:g}", 0.02).chi_squared / 1e3) for e in (1e-6, 1e-9)
        ),
        tolerance=Tolerance(
            "log(1 + 1/(nε)) − log(1/(nε)) − nε/2, about nε/2 ≤ 5e-4", absolute=1e-3
        ),
        labels=("ε=1e-6", "ε=1e-9"),
        test="bon_theory/test_rates.py::test_soft_best_of_n_approaches_the_tilt_at_the_published_rate",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/chi-squared-bound",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement="For rewards in [0, 1], χ² ≤ sinh²(1/(2λ)).",
        compute=lambda: [
            point(name, 1, t).chi_squared for name in GENERAL for t in (0.1, 0.5, 2.0)
        ],
        expected=tuple(math.sinh(1 / (2 * t)) ** 2 for _ in GENERAL for t in (0.1, 0.5, 2.0)),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=tuple(f"{name}, λ={t:g}" for name in GENERAL for t in (0.1, 0.5, 2.0)),
        test="bon_theory/test_bounds.py::test_two_outcomes_attain_the_variance_of_the_weights",
        checked_by=(TILT_CHECK,),
    ),
    claim(
        id="soft/chi-squared-bound-is-met",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement="It is met by two outcomes, r = 0 and 1, with π(1) = 1/(1 + e^{1/λ}).",
        compute=lambda: [point(f"extremal {t:g}", 1, t).chi_squared for t in (0.1, 0.5, 2.0)],
        expected=tuple(math.sinh(1 / (2 * t)) ** 2 for t in (0.1, 0.5, 2.0)),
        tolerance=Tolerance("π(0) = 1 − π(1) is rounded", relative=1e-10),
        labels=("λ=0.1", "λ=0.5", "λ=2"),
        test="bon_theory/test_bounds.py::test_two_outcomes_attain_the_variance_of_the_weights",
        checked_by=(TILT_CHECK,),
    ),
    claim(
        id="soft/sufficient-draws",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement="n ≥ χ²/(e^ε − 1) suffices for KL(P*‖P_n) ≤ ε; ε = 0.1.",
        compute=lambda: _sufficient(0.1),
        expected=(0.1,) * len(GENERAL) * len(_TEMPERATURES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=tuple(f"{name}, λ={t:g}" for name in GENERAL for t in _TEMPERATURES),
        test="bon_theory/test_rates.py::test_this_many_samples_suffice",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/pointwise-bound",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement=(
            "At every outcome P_n ≥ P*·n/(n − 1 + w̄) (Jensen), from which the bounds follow. "
            "Entries: smallest ratio of the two sides."
        ),
        compute=_pointwise,
        expected=(1.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        test="bon_theory/test_rates.py::test_soft_best_of_n_is_pointwise_near_the_tilt",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/reward-rate",
        where="beside the theorem on the relative reward",
        provenance=DERIVED,
        statement=(
            "The relative reward gap is O(1/n): E*[r]/E_n[r] − 1 ≤ (c − 1)/n, c = E*[r w̄]/E*[r]."
        ),
        compute=lambda: _relative_gaps(_CASES),
        expected=tuple(relative_gap_constant(weights(name, t)) / n for name, t, n in _CASES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_the_relative_reward_gap_is_of_order_one_over_n",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/reward-rate-sharp",
        kind="asymptotic",
        where="abstract: the expected (relative) reward at the rate O(1/n)",
        statement="The relative reward gap is at most (c − 1)/n.",
        compute=lambda: _relative_gaps(_LATE),
        expected=tuple(relative_gap_constant(weights(name, t)) / n for name, t, n in _LATE),
        relation="<=",
        tolerance=_ASYMPTOTIC,
        labels=_LATE_LABELS,
        sharper=(
            "The order 1/n is exact; the constant is Cov_{P*}(r, w̄)/E*[r], smaller by χ². "
            "(Entries: that over n.)"
        ),
        sharp_value=tuple(relative_covariance(weights(name, t)) / n for name, t, n in _LATE),
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_sharp_constants_of_the_rates",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/total-variation-rate-sharp",
        kind="asymptotic",
        where="beside the theorem on the KL divergence",
        provenance=DERIVED,
        statement=(
            "TV(P_n, P*) is Θ(1/n): n·TV → ½E_{P*}|w̄ − 1 − χ²|, where the bound on KL and "
            "Pinsker's inequality give no more than n^{-1/2}. (Expected: the limit over n.)"
        ),
        compute=lambda: [point(name, n, t).variation_to_tilt for name, t, n in _LATE],
        expected=tuple(half_mean_deviation(weights(name, t)) / n for name, t, n in _LATE),
        tolerance=_ASYMPTOTIC,
        labels=_LATE_LABELS,
        figure="convergence_rate",
        test="bon_theory/test_rates.py::test_sharp_constants_of_the_rates",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/distance-bounds",
        where="KL divergence from the reference",
        provenance=DERIVED,
        statement=(
            "KL(P_n‖π) ≤ min{KL(P*‖π), log n − (n−1)/n, log(n/(1 + (n−1)e^{−R/λ}))}, R the range "
            "of the reward; the last by Aminian et al., Lemma 4.1."
        ),
        compute=lambda: [point(name, n, t).kl for name, t, n in _CASES],
        expected=tuple(distance_bound(name, t, n) for name, t, n in _CASES),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=_LABELS,
        test="bon_theory/test_rates.py::test_soft_best_of_n_diverges_least_of_three_bounds",
        checked_by=(SOFT_CHECK, TIED_CHECK),
    ),
    claim(
        id="soft/regret-identity",
        where="KL-regularised objective",
        provenance=DERIVED,
        statement=(
            "What soft best-of-n falls short of the optimum of E[r] − λKL(·‖π) is exactly "
            "λ·KL(P_n‖P*). Entries: shortfall minus that."
        ),
        compute=lambda: [
            _shortfall(name, t, n) - t * point(name, n, t).kl_to_tilt for name, t, n in _CASES
        ],
        expected=(0.0,) * len(_CASES),
        tolerance=ROUNDING,
        labels=_LABELS,
        test="bon_theory/test_rates.py::test_the_regret_is_temperature_times_kl_to_the_tilt",
        checked_by=_CHECKED_BY,
    ),
    claim(
        id="soft/regret-and-reward",
        where="KL-regularised objective",
        provenance=DERIVED,
        statement="KL(P_n‖P*) ≤ (E*[r] − E_n[r])/λ. Entries: left minus right.",
        compute=lambda: [
            p.kl_to_tilt - (p.tilt_reward - p.reward) / t
            for p, t in ((point(name, n, t), t) for name, t, n in _CASES)
        ],
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation="<=",
        tolerance=Tolerance(
            "an inequality; the gap in reward is divided by λ = 0.1", absolute=1e-13
        ),
        labels=_LABELS,
        test="bon_theory/test_rates.py::test_the_regret_is_temperature_times_kl_to_the_tilt",
        checked_by=_CHECKED_BY,
    ),
)
