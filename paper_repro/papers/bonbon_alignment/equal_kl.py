"""Claims on Figure 2: best-of-n against the win-rate optimum at the same KL."""

from __future__ import annotations

from functools import cache, partial

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from paper_repro.papers.bonbon_alignment.rank_policies import (
    BEST_OF_N_CHECK,
    OPTIMAL_CHECK,
    RIVALS,
    optimal_curve,
    optimal_kl,
    optimal_win_rate,
    rivals,
    win_rates_and_kls,
)
from paper_repro.papers.claim import DERIVED, READ, Claim, Tolerance, printed
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.search import maximum, root

_claim = partial(Claim, paper="bonbon_alignment", provenance=READ)
_BOTH = (BEST_OF_N_CHECK, OPTIMAL_CHECK)

TABLE = {  # n: strength of the optimum at the KL of best-of-n, its win rate, its advantage
    2: (2.288640586, 0.6759068193, 9.24015e-3),
    4: (4.916907932, 0.8039958879, 3.99589e-3),
    8: (9.054541421, 0.8896750565, 7.86168e-4),
    64: (65.00785335, 0.9846172432, 1.85856e-6),
}
_SHOWN = tuple(range(2, 11))
_LABELS = tuple(f"n={n}" for n in TABLE)


def strength_at_kl(kl: float) -> float:
    """Return c at which the optimum's KL is ``kl``, by root finding."""
    return root(lambda c: float(optimal_curve(jnp.asarray([c]))[1][0]) - kl, 1e-6, 1e6)


def win_rate_at_kl(kl: float) -> float:
    """Win rate of the optimum at that KL."""
    return float(optimal_curve(jnp.asarray([strength_at_kl(kl)]))[0][0])


def equal_kl(numbers: ArrayLike) -> NDArray[np.float64]:
    """Strength, win rate and advantage of the optimum at the KL of best-of-n: ``[N, 3]``."""
    win_rates, kls = win_rates_and_kls(jnp.atleast_1d(jnp.asarray(numbers, float)))
    rows = []
    for win_rate, kl in zip(np.asarray(win_rates), np.asarray(kls), strict=True):
        strength = strength_at_kl(float(kl))
        best = float(optimal_curve(jnp.asarray([strength]))[0][0])
        rows.append((strength, best, best - float(win_rate)))
    return np.array(rows)


def _gain_by_closed_forms(n: int) -> float:
    """The same without the library: WR(c) − n/(n+1) where KL(c) = log n − (n−1)/n."""
    kl = tie_free_kl(n)
    strength = root(lambda c: optimal_kl(c) - kl, 1e-3, 1e3)
    return optimal_win_rate(strength) - n / (n + 1)


@cache
def _table() -> NDArray[np.float64]:
    return equal_kl(list(TABLE))


@cache
def _largest_gap() -> tuple[float, float]:
    """The largest advantage over real n ≥ 1, and where it is."""
    return maximum(lambda n: float(equal_kl(n)[0, 2]), 1.2, 3.0, accuracy=1e-6)


def _win_rates_at_equal_kl() -> list[float]:
    """Win rate of the optimum minus that of each rival at the rival's KL."""
    return [win_rate_at_kl(kl) - win_rate for win_rate, kl, *_ in rivals().tolist()]


def _decrease_in_n() -> NDArray[np.float64]:
    """Advantage at n+1 minus advantage at n, for n = 2 … 31."""
    return np.diff(equal_kl(np.arange(2.0, 33.0))[:, 2])


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/optimum-beats-rivals",
        where="Theorem 1, p. 5",
        statement=(
            "No policy has a higher win rate at the same KL. Entries: win rate of the optimum "
            "minus that of six other policies, at their KL."
        ),
        compute=_win_rates_at_equal_kl,
        expected=(0.0,) * len(RIVALS),
        kind="inequality",
        relation=">=",
        tolerance=Tolerance("an inequality: no slack but the root finder's", absolute=1e-12),
        labels=RIVALS,
        figure="families",
        test="bon_theory/test_inequalities.py::test_nothing_wins_more_at_its_divergence",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/equal-kl-strength",
        where="beside Figure 2",
        provenance=DERIVED,
        statement="The optimum has the KL of best-of-n at the strength c_n.",
        compute=lambda: _table()[:, 0],
        expected=tuple(strength for strength, _, _ in TABLE.values()),
        tolerance=printed(10),
        labels=_LABELS,
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/equal-kl-win-rate",
        where="beside Figure 2, left",
        provenance=DERIVED,
        statement="Win rate of the optimum at the KL of best-of-n.",
        compute=lambda: _table()[:, 1],
        expected=tuple(win_rate for _, win_rate, _ in TABLE.values()),
        tolerance=printed(10),
        labels=_LABELS,
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/equal-kl-gap",
        where="beside Figure 2, right",
        provenance=DERIVED,
        statement="Win rate of the optimum minus that of best-of-n, at the KL of best-of-n.",
        compute=lambda: _table()[:, 2],
        expected=tuple(gap for _, _, gap in TABLE.values()),
        tolerance=printed(6),
        labels=_LABELS,
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/gap-under-one-point",
        where="§3.3 and Figure 2, right, p. 5",
        statement=(
            "Best-of-n is essentially optimal: at equal KL its win rate is less than one "
            "percentage point below the optimum's. Entry: the largest gap over real n ≥ 1."
        ),
        compute=lambda: _largest_gap()[0],
        expected=0.01,
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("the sharp value is stated to 4 significant digits", absolute=5e-7),
        sharper="The largest gap is 0.009473, at n = 1.778.",
        sharp_value=0.009473,
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/figure-2-right",
        where="Figure 2, right, p. 5",
        statement=(
            "What the optimum gains on best-of-n at its KL, n = 2 … 10: less than one percentage "
            "point, most at n = 2."
        ),
        kind="inequality",
        compute=lambda: equal_kl(np.array(_SHOWN, float))[:, 2],
        expected=(0.01,) * len(_SHOWN),
        relation="<=",
        tolerance=Tolerance("the optimum is solved for to 1e-12 by either route", absolute=1e-11),
        labels=tuple(f"n={n}" for n in _SHOWN),
        sharper=(
            "The nine gains are known exactly: .00924 at n = 2, .00637 at 3, falling to .00042 at "
            "10. (Entries: by closed forms alone.)"
        ),
        sharp_value=tuple(_gain_by_closed_forms(n) for n in _SHOWN),
        figure="published_points",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/largest-gap-location",
        where="beside Figure 2, right",
        provenance=DERIVED,
        statement="The gap over real n is largest at n = 1.778.",
        compute=lambda: _largest_gap()[1],
        expected=1.778,
        tolerance=printed(4),
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/gap-decreases",
        where="beside Figure 2, right",
        provenance=DERIVED,
        statement="The gap decreases in n. Entries: gap at n+1 minus gap at n, n = 2 … 31.",
        compute=_decrease_in_n,
        expected=(0.0,) * 30,
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("an inequality: no slack"),
        labels=tuple(f"n={n}" for n in range(2, 32)),
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
    _claim(
        id="bonbon/gap-asymptote",
        kind="asymptotic",
        where="beside Figure 2, right",
        provenance=DERIVED,
        statement="The gap tends to 1/(2n³). Entries: 2n³·gap.",
        compute=lambda: equal_kl([1000.0])[:, 2] * 2 * 1000.0**3,
        expected=(1.0,),
        tolerance=Tolerance("the next term is about −1.7/n", absolute=2e-3),
        labels=("n=1000",),
        figure="win_rate_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_BOTH,
    ),
)
