"""Best-of-N and soft best-of-N with a random number of candidates, by mixing enumerations.

The mixture over N is cut where the rest is provably negligible for every outcome: outcome x has
P_N(x) ≤ N π(x) (one of the N candidates must be x) and P(x) ≥ Pr(N=1) π(x), so dropping N > M
changes P(x) by a factor of at most 1 ± Σ_{N>M} N Pr(N) / Pr(N=1).
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from tests.oracles.discrete import DIGITS, best_of_n, soft_best_of_n
from tests.oracles.multiprecision import Law, Real, mp

NEGLIGIBLE = 1e-40


def mixture(law_of_n: Callable[[int], Law], pmf: Callable[[int], Real], mean: Any) -> Law:
    """Return Σ_N Pr(N) P_N, truncated by the rule in the module's docstring."""
    with mp.workdps(DIGITS):
        terms: list[Law] = []
        mass_times_n = mp.mpf(0)
        for n in count(1):
            terms.append([pmf(n) * p for p in law_of_n(n)])
            mass_times_n += n * pmf(n)
            # What remains of E[N] is the tail sum that bounds the relative error.
            if mp.mpf(mean) - mass_times_n < NEGLIGIBLE * pmf(1):
                return [mp.fsum(column) for column in zip(*terms, strict=True)]
        raise AssertionError("unreachable")


def poisson_pmf(mean: Any, k: int) -> Real:
    """Return e^{−μ} μ^k / k!."""
    return mp.exp(-mp.mpf(mean)) * mp.mpf(mean) ** k / mp.factorial(k)


def best_of_poisson(probs: Sequence[Any], rewards: Sequence[Any], mean_extra_draws: Any) -> Law:
    """Best of N candidates, N = 1 + Poisson(μ)."""
    with mp.workdps(DIGITS):
        return mixture(
            lambda n: best_of_n(probs, rewards, n),
            lambda n: poisson_pmf(mean_extra_draws, n - 1),
            1 + mp.mpf(mean_extra_draws),
        )


def soft_best_of_poisson(
    probs: Sequence[Any], rewards: Sequence[Any], mean_extra_draws: Any, temperature: Any
) -> Law:
    """Soft best of N candidates, N = 1 + Poisson(ν)."""
    with mp.workdps(DIGITS):
        return mixture(
            lambda n: soft_best_of_n(probs, rewards, n, temperature),
            lambda n: poisson_pmf(mean_extra_draws, n - 1),
            1 + mp.mpf(mean_extra_draws),
        )


def best_of_positive_poisson(probs: Sequence[Any], rewards: Sequence[Any], strength: Any) -> Law:
    """Best of N candidates, N Poisson(c) given N ≥ 1: the win-rate-optimal policy."""
    with mp.workdps(DIGITS):
        positive = -mp.expm1(-mp.mpf(strength))
        return mixture(
            lambda n: best_of_n(probs, rewards, n),
            lambda n: poisson_pmf(strength, n) / positive,
            mp.mpf(strength) / positive,
        )
