"""Selection laws of a continuous reward, by multiprecision quadrature from their definitions.

Rank selections: the density ratio h(u) = dH/du of a distortion H of the reward quantile u is
written out, and every functional is a tanh–sinh integral of it over (0, 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from tests.oracles.multiprecision import Real, mp

DIGITS = 34
Density = Callable[[Real, Real], Real]


@dataclass(frozen=True)
class RankLaw:
    """A density ratio h(u, 1 − u) on (0, 1), with the points between which it is smooth."""

    density: Density
    breaks: tuple[Any, ...] = ()

    @cached_property
    def remembered(self) -> Density:
        """h: every functional of a law asks for it at the same nodes."""
        return cache(self.density)

    def integral(self, integrand: Callable[[Real, Real], Real], *extra: Any) -> Real:
        """Return ∫ integrand(u, h(u)) du over (0, 1), each half from its own end."""
        # Laws with n = 1e6 change within 1e-6 of an end: resolve it down to 1e-9.
        decades = [mp.mpf(10) ** -k for k in range(1, 10, 2)]
        half = mp.mpf(1) / 2
        breaks = [mp.mpf(b) for b in (*self.breaks, *extra)]
        lower = {0, *decades, half, *(b for b in breaks if b < half)}
        upper = {0, *decades, half, *(1 - b for b in breaks if b > half)}
        with mp.workdps(DIGITS):
            return mp.quad(
                lambda u: integrand(u, self.remembered(u, 1 - u)), sorted(lower)
            ) + mp.quad(lambda v: integrand(1 - v, self.remembered(1 - v, v)), sorted(upper))

    def crossing(self) -> list[Real]:
        """Return where the monotone h passes 1, where |h − 1| has its corner."""
        with mp.workdps(DIGITS):
            low, high = mp.mpf(0), mp.mpf(1)
            rising = self.density(mp.mpf("1e-30"), mp.mpf(1)) < 1
            for _ in range(4 * DIGITS):
                middle = (low + high) / 2
                below = self.density(middle, 1 - middle) < 1
                low, high = (middle, high) if below == rising else (low, middle)
            return [low]


def best_of_n(n: Any) -> RankLaw:
    """Maximum of n uniforms, real n: h = n u^{n−1}."""
    return RankLaw(lambda u, v: mp.mpf(n) * u ** (mp.mpf(n) - 1))


def worst_of_n(n: Any) -> RankLaw:
    """Minimum of n uniforms: h = n (1−u)^{n−1}."""
    return RankLaw(lambda u, v: mp.mpf(n) * v ** (mp.mpf(n) - 1))


def best_of_poisson(mean_extra_draws: Any) -> RankLaw:
    """Maximum of 1 + Poisson(μ) uniforms: h = Σ_k Pr(k) (k+1) u^k = (μu + 1) e^{μ(u−1)}."""
    mu = mp.mpf(mean_extra_draws)
    return RankLaw(lambda u, v: (mu * u + 1) * mp.exp(-mu * v))


def win_rate_optimal(strength: Any) -> RankLaw:
    """Density ratio proportional to e^{cu}."""
    c = mp.mpf(strength)
    return RankLaw(lambda u, v: c * mp.exp(-c * v) / -mp.expm1(-c))


def top_fraction(fraction: Any) -> RankLaw:
    """The best ``fraction`` of the mass, each outcome equally likely."""
    q = mp.mpf(fraction)
    return RankLaw(lambda u, v: 1 / q if v < q else mp.mpf(0), (1 - q,))


def kl(law: RankLaw) -> Real:
    """Return ∫ h log h."""
    return law.integral(lambda u, h: h * mp.log(h) if h > 0 else mp.mpf(0))


def reverse_kl(law: RankLaw) -> Real:
    """Return −∫ log h."""
    return law.integral(lambda u, h: -mp.log(h))


def renyi(law: RankLaw, order: Any) -> Real:
    """Return log(∫ h^α)/(α−1)."""
    alpha = mp.mpf(order)
    moment = law.integral(lambda u, h: h**alpha if h > 0 else mp.mpf(0))
    return mp.log(moment) / (alpha - 1)


def chi_squared(law: RankLaw) -> Real:
    """Return ∫ (h − 1)²."""
    return law.integral(lambda u, h: (h - 1) ** 2)


def total_variation(law: RankLaw) -> Real:
    """Return ½ ∫ |h − 1|."""
    return law.integral(lambda u, h: abs(h - 1), *law.crossing()) / 2


def squared_hellinger(law: RankLaw) -> Real:
    """Return ∫ (√h − 1)²."""
    return law.integral(lambda u, h: (mp.sqrt(h) - 1) ** 2)


def jensen_shannon(law: RankLaw) -> Real:
    """Return ½ ∫ h log(2h/(1+h)) + ½ ∫ log(2/(1+h))."""

    def integrand(u: Real, h: Real) -> Real:
        first = h * mp.log(2 * h / (1 + h)) if h > 0 else mp.mpf(0)
        return (first + mp.log(2 / (1 + h))) / 2

    return law.integral(integrand)


def win_rate(law: RankLaw) -> Real:
    """Return ∫ u h, the chance to beat an independent draw of the reference."""
    return law.integral(lambda u, h: u * h)


def expected_value(law: RankLaw, value: Callable[[Real], Real], *breaks: Any) -> Real:
    """Return ∫ value(u) h for a function of the quantile."""
    return law.integral(lambda u, h: value(u) * h, *breaks)
