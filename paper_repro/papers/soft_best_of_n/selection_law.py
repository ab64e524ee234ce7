"""Claims on the law of soft best-of-n: Lemma 1, its limits, its order in n."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from paper_repro.papers.claim import DERIVED, Claim, Tolerance, printed
from paper_repro.papers.soft_best_of_n.laws import (
    BEST_CHECK,
    GENERAL,
    INEQUALITY,
    LAWS,
    ROUNDING,
    SOFT_CHECK,
    TIED_CHECK,
    TILT_CHECK,
    claim,
    enumerated,
    point,
)

_TERNARY = "three outcomes"
_ENUMERATED = ((2, 0.5), (4, 0.5), (16, 0.1), (40, 0.05))

# n, λ -> probabilities, KL(P*‖P), KL(P‖P*), KL(P‖π), as printed in the theory reference.
_PRINTED = {
    (4, 0.5): (
        (0.26155819, 0.33785150, 0.40059031),
        3.6633494709e-2,
        3.7116734332e-2,
        0.1489266696,
    ),
    (64, 0.1): (
        (1.22476968e-4, 0.010899581, 0.98897794),
        3.8631958668e-5,
        3.9739005924e-5,
        1.5435864316,
    ),
}
_NUMBERS = (1.0, 2.0, 3.0, 8.0, 64.0, 1e3, 1e6)


def _pairwise(temperature: float) -> tuple[float, ...]:
    """2π(x)·E σ((r(x) − r(X′))/λ)."""
    probs, rewards = LAWS[_TERNARY]
    return tuple(
        2
        * p
        * sum(
            q / (1 + math.exp((s - r) / temperature)) for q, s in zip(probs, rewards, strict=True)
        )
        for p, r in zip(probs, rewards, strict=True)
    )


def _printed_divergences() -> list[float]:
    points = [point(_TERNARY, n, t) for n, t in _PRINTED]
    return [kl for p in points for kl in (p.kl_from_tilt, p.kl_to_tilt, p.kl)]


def _smallest_step(earlier: NDArray[np.float64], later: NDArray[np.float64]) -> float:
    """Smallest increase of log(later/earlier) from one reward to the next higher one."""
    return float(np.diff(np.log(later) - np.log(earlier)).min())


def _step_in_n(name: str, temperature: float) -> float:
    """The smallest step along π ≤ P_n ≤ P_{n+1} ≤ P*, over n."""
    reference = np.array(LAWS[name][0])
    steps = []
    for n in _NUMBERS:
        here, later = point(name, n, temperature), point(name, n + 1, temperature)
        steps += [
            _smallest_step(reference, here.probs),
            _smallest_step(here.probs, later.probs),
            _smallest_step(later.probs, later.tilt),
        ]
    return min(steps)


def _step_in_temperature() -> float:
    """The smallest step of the likelihood ratio between λ = 0.1 and λ = 0.05 at n = 2."""
    warm, cold = (point("uneven", 2, t).probs for t in (0.1, 0.05))
    return _smallest_step(warm, cold)


_LABELS = tuple(
    f"n={n}, λ={t:g}, P({'abc'[x]})" for n, t in _ENUMERATED for x in range(len(LAWS[_TERNARY][0]))
)
_DIVERGENCES = ("KL(P*‖P)", "KL(P‖P*)", "KL(P‖π)")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/lemma-1",
        where="its law of the selected response",
        statement=(
            "P_n(x) = n·π(x)·E[w(x)/(w(x) + Σ_{i=2}^n w(X_i))] with w = exp(r/λ). Expected: that "
            "sum over all other draws, on π = (.5, .3, .2), r = (0, .5, 1)."
        ),
        compute=lambda: [p for n, t in _ENUMERATED for p in point(_TERNARY, n, t).probs],
        expected=tuple(p for n, t in _ENUMERATED for p in enumerated(_TERNARY, n, t)),
        tolerance=ROUNDING,
        labels=_LABELS,
        test="bon_theory/test_selection_exact.py::test_soft_best_of_n_equals_enumeration",
        checked_by=(SOFT_CHECK, TIED_CHECK),
    ),
    claim(
        id="soft/two-draws",
        where="two draws",
        provenance=DERIVED,
        statement="P_2(x) = 2π(x)·E σ((r(x) − r(X′))/λ), σ the logistic function; λ = 0.2.",
        compute=lambda: point(_TERNARY, 2, 0.2).probs,
        expected=_pairwise(0.2),
        tolerance=ROUNDING,
        labels=("P(a)", "P(b)", "P(c)"),
        test="bon_theory/test_invariances.py::test_two_soft_candidates_meet_in_a_logistic_duel",
        checked_by=(SOFT_CHECK,),
    ),
    claim(
        id="soft/vectors",
        where="the law in numbers",
        provenance=DERIVED,
        statement="Reference values of the law on π = (.5, .3, .2), r = (0, .5, 1).",
        compute=lambda: [p for n, t in _PRINTED for p in point(_TERNARY, n, t).probs],
        expected=tuple(p for probs, *_ in _PRINTED.values() for p in probs),
        tolerance=printed(8),
        labels=tuple(f"n={n}, λ={t:g}, P({x})" for n, t in _PRINTED for x in "abc"),
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=(SOFT_CHECK,),
    ),
    claim(
        id="soft/divergence-vectors",
        where="the law in numbers",
        provenance=DERIVED,
        statement="Reference values of its divergences from the tilt P* and from π.",
        compute=_printed_divergences,
        expected=tuple(kl for _, *kls in _PRINTED.values() for kl in kls),
        tolerance=printed(10),
        labels=tuple(f"n={n}, λ={t:g}, {d}" for n, t in _PRINTED for d in _DIVERGENCES),
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=(SOFT_CHECK,),
    ),
    claim(
        id="soft/limit-tilt",
        kind="asymptotic",
        where="abstract: convergence to the optimal tilted distribution",
        statement="As n → ∞ the law tends to the tilt π·exp(r/λ)/Z. Entries: total variation.",
        compute=lambda: [point(name, 1e12, 0.1).variation_to_tilt for name in GENERAL],
        expected=(0.0,) * len(GENERAL),
        tolerance=Tolerance(
            "total variation is c/n, c below 1000 here, at n = 1e12", absolute=1e-9
        ),
        labels=GENERAL,
        figure="convergence_rate",
        test="bon_theory/test_laws.py::test_countless_candidates_give_the_tilt",
        checked_by=(SOFT_CHECK, TILT_CHECK),
    ),
    claim(
        id="soft/limit-best-of-n",
        kind="asymptotic",
        where="abstract: interpolation by the temperature",
        statement="As λ → 0 it tends to best-of-n. Entries: total variation, n = 8.",
        compute=lambda: [
            point(name, 8, t).variation_to_best for name in GENERAL for t in (2e-3, 0.0)
        ],
        expected=(0.0,) * 2 * len(GENERAL),
        tolerance=Tolerance(
            "at λ = 0.002 a loser wins with odds below exp(−1/(7·0.002)) < 1e-30; rounding remains",
            absolute=2e-14,
        ),
        labels=tuple(f"{name}, λ={t:g}" for name in GENERAL for t in (2e-3, 0.0)),
        figure="reward_frontier",
        test="bon_theory/test_laws.py::test_without_temperature_a_race_is_its_hard_rule",
        checked_by=(SOFT_CHECK, BEST_CHECK),
    ),
    claim(
        id="soft/limit-reference",
        kind="asymptotic",
        where="abstract: interpolation by the temperature",
        statement="As λ → ∞, and at n = 1, it is π. Entries: total variation.",
        compute=lambda: [
            point(name, n, t).variation_to_reference
            for name in GENERAL
            for n, t in ((8, 1e9), (8, math.inf), (1, 0.1))
        ],
        expected=(0.0,) * 3 * len(GENERAL),
        tolerance=Tolerance("at λ = 1e9 total variation is at most range/λ = 1e-9", absolute=1e-9),
        labels=tuple(
            f"{name}, {case}"
            for name in GENERAL
            for case in ("n=8, λ=1e9", "n=8, λ=∞", "n=1, λ=0.1")
        ),
        figure="reward_frontier",
        test="bon_theory/test_laws.py::test_at_infinite_temperature_a_race_is_the_reference",
        checked_by=(SOFT_CHECK,),
    ),
    claim(
        id="soft/order-in-n",
        where="order of the laws",
        provenance=DERIVED,
        statement=(
            "π, P_n, P_{n+1}, P* are ordered by likelihood ratio. Entries: smallest step of a "
            "log-ratio from one reward to the next higher, over n = 1, 2, 3, 8, 64, 10³, 10⁶."
        ),
        compute=lambda: [_step_in_n(name, t) for name in GENERAL for t in (0.05, 0.5)],
        expected=(0.0,) * 2 * len(GENERAL),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=tuple(f"{name}, λ={t:g}" for name in GENERAL for t in (0.05, 0.5)),
        test="bon_theory/test_laws.py::test_soft_best_of_n_is_ordered_in_n",
        checked_by=(SOFT_CHECK, TILT_CHECK),
    ),
    claim(
        id="soft/no-order-in-temperature",
        where="order of the laws",
        provenance=DERIVED,
        statement=(
            "At fixed n the laws are not ordered in λ, so that results for ordered families do not "
            "cover tuning λ. Entry: smallest step of log P_{λ=.05}/P_{λ=.1} from one reward to the "
            "next higher, n = 2, π = (.5, .25, .25), r = (0, .75, 1): well below 0."
        ),
        compute=_step_in_temperature,
        expected=-0.02,
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        test="bon_theory/test_known_falsehoods.py::test_soft_best_of_n_is_not_ordered_by_likelihood_ratio_in_temperature",
        checked_by=(SOFT_CHECK,),
    ),
)
