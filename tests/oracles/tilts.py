"""Laws that need no candidates: the reference reweighted by a function of the reward."""

import itertools
from collections.abc import Sequence
from typing import Any

from tests.oracles.discrete import DIGITS, exact, normalized, weights
from tests.oracles.multiprecision import Law, mp


def exponential_tilt(probs: Sequence[Any], rewards: Sequence[Any], temperature: Any) -> Law:
    """Return π e^{r/λ} / E_π e^{r/λ}."""
    with mp.workdps(DIGITS):
        terms = zip(normalized(probs), weights(rewards, temperature), strict=True)
        return normalized([p * w for p, w in terms])


def chi_squared_tilt(probs: Sequence[Any], rewards: Sequence[Any], strength: Any) -> Law:
    """Return π (r − ν)₊/β with ν such that it sums to one, by bisection on ν.

    This is the maximiser of E[r] − (β/2)·χ²(·‖π); at ν = max r the sum is 0, and at
    ν = min r − β it is at least 1.
    """
    with mp.workdps(DIGITS):
        p, r, beta = normalized(probs), exact(rewards), mp.mpf(strength)

        def unnormalized(nu: Any) -> Law:
            return [a * max(b - nu, 0) / beta for a, b in zip(p, r, strict=True)]

        low, high = min(r) - beta, max(r)
        for _ in range(4 * DIGITS):
            middle = (low + high) / 2
            low, high = (middle, high) if mp.fsum(unnormalized(middle)) > 1 else (low, middle)
        return normalized(unnormalized(low))


def estimated_chi_squared_tilt(
    probs: Sequence[Any], rewards: Sequence[Any], strength: Any, n: int
) -> Law:
    """Average the χ² tilt of ν̂ over all πⁿ samples that ν̂ might be estimated from.

    ν̂ is the tilt's own ν with the sample's shares in place of π: found among the sums over the k
    highest rewards, of which the right one has ν̂ between the k-th reward and the next.
    """
    with mp.workdps(DIGITS):
        p, r, beta = normalized(probs), exact(rewards), mp.mpf(strength)
        law = [mp.mpf(0)] * len(p)
        for sample in itertools.product(range(len(p)), repeat=n):
            drawn = sorted((r[j] for j in sample), reverse=True)
            tops = [(mp.fsum(drawn[:k]) - n * beta) / k for k in range(1, n + 1)]
            nu = max(tops)  # Σ_{top k} (r − ν) ≤ Σ (r − ν)₊ for every k, with equality for one
            chance = mp.fprod(p[j] for j in sample)
            tilt = normalized([a * max(b - nu, 0) for a, b in zip(p, r, strict=True)])
            law = [a + chance * b for a, b in zip(law, tilt, strict=True)]
        return law


def top_fraction(probs: Sequence[Any], rewards: Sequence[Any], fraction: Any) -> Law:
    """Keep the best ``fraction`` of the mass: fill from the highest reward level downwards.

    The level that only fits in part keeps the same share of each of its outcomes.
    """
    with mp.workdps(DIGITS):
        p = normalized(probs)
        law, room = [mp.mpf(0)] * len(p), mp.mpf(fraction)
        for level in sorted(set(rewards), reverse=True):
            tied = [j for j, reward in enumerate(rewards) if reward == level]
            mass = mp.fsum(p[j] for j in tied)
            kept = min(mass, room)
            for j in tied:
                law[j] = p[j] / mass * kept / mp.mpf(fraction) if mass else mp.mpf(0)
            room -= kept
        return law
