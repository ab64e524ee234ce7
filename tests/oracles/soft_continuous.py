"""Soft best-of-n of a continuous reward with real n, by multiprecision Gauss–Legendre quadrature.

A candidate with reward x wins if its noisy score x/λ + Gumbel is the highest of n. In the race form
the noisy score is −log of an arrival time, exponential with rate w(x) = e^{x/λ}, and the first
arrival wins: the density ratio to the reference is
    h(x) = n ∫ w e^{−tw} M(t)^{n−1} dt,   M(t) = P(a candidate arrives after t) = E e^{−tW}.
``density_ratio_by_definition`` integrates n w(x)/(w(x) + Σ w(X_i)) instead, and needs no race.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

from tests.oracles.discrete import gauss_legendre
from tests.oracles.multiprecision import Real, mp

DIGITS = 32
# 24 nodes on a piece of length 2 leave 1e-25 where the nearest singularity is π/2 away.
NODES_EXACT_TO_DEGREE = 47


@dataclass(frozen=True)
class Reward:
    """A reward distribution, its mass outside [low, high] below 1e-20, and M(t) at t = e^s."""

    low: float
    high: Callable[[Real], Real]
    pdf: Callable[[Real], Real]
    cdf: Callable[[Real], Real]
    survival_of_arrival: Callable[[Real, Real], Real]


def _uniform_arrival(s: Real, temperature: Real) -> Real:
    t = mp.exp(s)
    return temperature * (mp.e1(t) - mp.e1(t * mp.exp(1 / temperature)))


def _exponential_arrival(s: Real, temperature: Real) -> Real:
    # W = e^{X/λ} is Pareto: density λ w^{−λ−1} on w > 1.
    return temperature * mp.expint(temperature + 1, mp.exp(s))


@cache
def _gaussian_rates(temperature: Real) -> list[tuple[Real, Real]]:
    grid = nodes(mp.mpf(-12), mp.mpf(12), 2 * min(temperature, mp.mpf(1)))
    return [(weight * mp.npdf(x), mp.exp(x / temperature)) for x, weight in grid]


def _gaussian_arrival(s: Real, temperature: Real) -> Real:
    t = mp.exp(s)
    return mp.fsum(mass * mp.exp(-t * w) for mass, w in _gaussian_rates(temperature) if t * w < 90)


def nodes(low: Real, high: Real, longest: Real) -> list[tuple[Real, Real]]:
    """Return composite Gauss–Legendre nodes and weights on pieces no longer than ``longest``."""
    pieces = int(mp.ceil((high - low) / longest))
    edges = [low + (high - low) * k / pieces for k in range(pieces + 1)]
    return [
        node
        for a, b in pairwise(edges)
        for node in gauss_legendre(a, b, degree=NODES_EXACT_TO_DEGREE)
    ]


REWARDS = {
    "uniform": Reward(
        0, lambda tilt: mp.mpf(1), lambda x: mp.mpf(1), lambda x: x, _uniform_arrival
    ),
    "gaussian": Reward(-10, lambda tilt: 10 + tilt, mp.npdf, mp.ncdf, _gaussian_arrival),
    "exponential": Reward(
        0,
        # The tilt is exponential with rate 1 − 1/λ, if that is positive.
        lambda tilt: 50 / (1 - tilt) if tilt < 1 else mp.mpf(60),
        lambda x: mp.exp(-x),
        lambda x: -mp.expm1(-x),
        _exponential_arrival,
    ),
}


@dataclass(frozen=True)
class SoftBestOfN:
    """Soft best-of-n of a named reward distribution; every functional is one integral over it."""

    name: str
    n: float
    temperature: float

    @property
    def reward(self) -> Reward:
        return REWARDS[self.name]

    @property
    def support(self) -> tuple[Real, Real]:
        return mp.mpf(self.reward.low), self.reward.high(1 / mp.mpf(self.temperature))

    @cached_property
    def arrivals(self) -> list[tuple[Real, Real]]:
        """Pairs (t, n·M(t)^{n−1} dt) over the window of t where any candidate can win."""
        with mp.workdps(DIGITS):
            n, temperature = mp.mpf(self.n), mp.mpf(self.temperature)
            low, high = (x / temperature for x in self.support)
            # Below: n w t < 1e-24 even for the largest w. Above: e^{−tw} < 1e-26 for the smallest.
            window = (-55 - mp.log(n) - high, mp.log(60) - low)
            terms = [
                (mp.exp(s), weight * n * mp.exp(s) * self._survival(s) ** (n - 1))
                for s, weight in nodes(*window, mp.mpf(2))
            ]
            return [(t, term) for t, term in terms if term > 0]

    def _survival(self, s: Real) -> Real:
        return self.reward.survival_of_arrival(s, mp.mpf(self.temperature))

    def density_ratio(self, x: Any) -> Real:
        """Return h(x), the density of the selected reward over that of the reference."""
        with mp.workdps(DIGITS):
            w = mp.exp(mp.mpf(x) / mp.mpf(self.temperature))
            return mp.fsum(term * w * mp.exp(-t * w) for t, term in self.arrivals if t * w < 80)

    @cached_property
    def table(self) -> list[tuple[Real, Real, Real]]:
        """Triples (x, π(x) dx, h(x)) on nodes that resolve the scale λ of h."""
        with mp.workdps(DIGITS):
            longest = 2 * min(mp.mpf(self.temperature), mp.mpf(1))
            return [
                (x, weight * self.reward.pdf(x), self.density_ratio(x))
                for x, weight in nodes(*self.support, longest)
            ]

    def functional(self, integrand: Callable[[Real, Real], Real]) -> Real:
        """Return E_π[integrand(x, h)]."""
        with mp.workdps(DIGITS):
            return mp.fsum(mass * integrand(x, h) for x, mass, h in self.table)

    def mass(self) -> Real:
        return self.functional(lambda x, h: h)

    def expected_reward(self) -> Real:
        return self.functional(lambda x, h: h * x)

    def win_rate(self) -> Real:
        return self.functional(lambda x, h: h * self.reward.cdf(x))

    def kl(self) -> Real:
        return self.functional(lambda x, h: h * mp.log(h))

    def kl_from_tilt(self) -> Real:
        """Return KL(tilt‖P) for the tilt e^{x/λ}/E e^{X/λ}."""
        with mp.workdps(DIGITS):
            rate = 1 / mp.mpf(self.temperature)
            total = self.functional(lambda x, h: mp.exp(x * rate))
            return self.functional(
                lambda x, h: mp.exp(x * rate) / total * mp.log(mp.exp(x * rate) / total / h)
            )


def density_ratio_by_definition(name: str, x: Any, n: int, temperature: float) -> Real:
    """Return n E[w(x)/(w(x) + Σ_{i<n} w(X_i))] for n = 2 or 3, by plain iterated quadrature."""
    with mp.workdps(DIGITS):
        reward, scale = REWARDS[name], mp.mpf(temperature)
        grid = [
            (weight * reward.pdf(y), mp.exp(y / scale))
            for y, weight in nodes(
                mp.mpf(reward.low), reward.high(mp.mpf(0)), 2 * min(scale, mp.mpf(1))
            )
        ]
        w = mp.exp(mp.mpf(x) / scale)
        if n == 2:
            return 2 * mp.fsum(mass * w / (w + v) for mass, v in grid)
        return 3 * mp.fsum(
            mass * mp.fsum(inner * w / (w + v + u) for inner, u in grid) for mass, v in grid
        )
