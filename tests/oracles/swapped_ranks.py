"""What partners of ranks have to fulfil, in multiprecision arithmetic; and what n draws come to.

A density is a function on [0, 1] that rises; it is integrated between the roots of what it exceeds
the density of the highest of n ranks by, which are found on a fine grid.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracles.multiprecision import mp

Density = Callable[[Any], Any]


class Rule:
    """Partners and chances for a density ``p`` with the integral ``mass`` from 0."""

    def __init__(self, p: Density, mass: Density, n: Any, edges: Sequence[Any]) -> None:
        self.p, self.mass, self.n = p, mass, mp.mpf(n)
        self.cuts = [mp.mpf(0)]
        for low, high in itertools.pairwise(edges):
            grid = [low + (high - low) * (k + mp.mpf(1) / 2) / 400 for k in range(400)]
            for a, b in itertools.pairwise(grid):
                if (self.excess(a) > 0) != (self.excess(b) > 0):
                    self.cuts.append(_root(self.excess, a, b))
            self.cuts.append(mp.mpf(high))

    def excess(self, u: Any) -> Any:
        return self.p(u) - self.q(u)

    def q(self, u: Any) -> Any:
        return self.n * u ** (self.n - 1)

    def above(self, sign: int, u: Any) -> Any:
        """The integral of ``(p - q)₊``, or of ``(q - p)₊``, above ``u``."""
        total = mp.mpf(0)
        for low, high in itertools.pairwise(self.cuts):
            if high > u and sign * self.excess((low + high) / 2) > 0:
                low = max(low, u)
                gain = self.mass(high) - self.mass(low) - (high**self.n - low**self.n)
                total += sign * gain
        return total

    def mismatch(self, u: Any, v: Any) -> Any:
        """By how much more is above one of two partners than above the other."""
        sign = 1 if self.excess(u) > 0 else -1
        return self.above(sign, u) - self.above(-sign, v)

    def density_off(self, u: Any, v: Any, chance: Any) -> Any:
        """By how much the mean of q at the score is not the density of the law."""
        return self.excess(u) - chance * (self.q(v) - self.q(u))


def of_tilt(temperature: Any, n: Any) -> Rule:
    """Of the tilt of a uniform reward."""
    lam = mp.mpf(temperature)
    top = mp.expm1(1 / lam)
    return Rule(
        lambda u: mp.exp(u / lam) / (lam * top), lambda u: mp.expm1(u / lam) / top, n, [0, 1]
    )


def of_outcomes(reference: NDArray[np.float64], law: NDArray[np.float64], n: Any) -> Rule:
    """Of a discrete law, outcomes by their ratio to the reference."""
    ranked = sorted((mp.mpf(p) / mp.mpf(r), mp.mpf(r)) for p, r in zip(law, reference, strict=True))
    edges = [mp.fsum(r for _, r in ranked[:k]) for k in range(len(ranked) + 1)]
    sums = [mp.fsum(p * r for p, r in ranked[:k]) for k in range(len(ranked) + 1)]

    def place(u: Any) -> int:
        return max(k for k in range(len(ranked)) if edges[k] <= u)

    def mass(u: Any) -> Any:
        return sums[place(u)] + ranked[place(u)][0] * (u - edges[place(u)])

    return Rule(lambda u: ranked[place(u)][0], mass, n, edges)


def kept(
    ranks: NDArray[np.float64],
    partners: NDArray[np.float64],
    chances: NDArray[np.float64],
    n: float,
) -> NDArray[np.float64]:
    """Of draws from equally likely ``ranks``: how often each is kept, the highest score winning."""
    scores = np.concatenate([ranks, partners])
    masses = np.concatenate([1 - chances, chances]) / ranks.size
    order = np.argsort(scores, kind="stable")
    wins = np.diff(np.minimum(np.cumsum(masses[order]), 1) ** n, prepend=0)
    return np.bincount(order % ranks.size, wins, minlength=ranks.size).astype(np.float64)


def score_cdf_error(
    ranks: NDArray[np.float64], partners: NDArray[np.float64], chances: NDArray[np.float64]
) -> float:
    """How far scores of equally likely ``ranks`` are from uniform."""
    scores = np.concatenate([ranks, partners])
    masses = np.concatenate([1 - chances, chances]) / ranks.size
    order = np.argsort(scores, kind="stable")
    return float(np.max(np.abs(np.cumsum(masses[order]) - scores[order])))


def _root(f: Density, low: Any, high: Any) -> Any:
    """Between ends at which a function differs in sign."""
    is_low = f(low) > 0
    for _ in range(mp.prec):
        middle = (low + high) / 2
        low, high = (middle, high) if (f(middle) > 0) == is_low else (low, middle)
    return low
