"""Selection laws on a finite outcome space, by enumeration in multiprecision arithmetic.

A draw of n candidates is a count vector (c_1, …, c_K) of multinomial probability
n!/∏c_j! ∏π_j^{c_j}; each selection says what it picks given the counts. Floats are taken at
their exact binary value and every sum has nonnegative terms only, so with ``DIGITS`` digits each
probability is right to some 55 significant digits, however small it is.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from mpmath.calculus.quadrature import GaussLegendre

from tests.oracles.multiprecision import Law, Real, mp

DIGITS = 70
RULE = GaussLegendre(mp)  # one for all, since it remembers its nodes
Shares: TypeAlias = Callable[[tuple[int, ...]], Law]


def exact(values: Sequence[Any]) -> Law:
    """Return the values as multiprecision numbers, floats at their exact binary value."""
    return [mp.mpf(value) for value in values]


def normalized(weights: Sequence[Any]) -> Law:
    """Return the weights divided by their sum."""
    with mp.workdps(DIGITS):
        total = mp.fsum(exact(weights))
        return [weight / total for weight in exact(weights)]


def logs(law: Sequence[Any]) -> list[float]:
    """Return natural logarithms as floats, -inf for zero: finite even for 1e-8000."""
    with mp.workdps(DIGITS):
        return [float(mp.log(p)) if p > 0 else float("-inf") for p in law]


def enumerate_selection(probs: Sequence[Any], n: int, shares: Shares) -> Law:
    """Return Σ_c Multinomial(c; n, π)·shares(c), the law of the picked outcome."""
    with mp.workdps(DIGITS):
        probs = normalized(probs)
        # powers[j][c] = π_j^c / c!, and vectors that begin alike share a product.
        powers = [[p**c / mp.factorial(c) for c in range(n + 1)] for p in probs]
        law = [mp.mpf(0)] * len(probs)

        def extend(counts: tuple[int, ...], left: int, probability: Real) -> None:
            row = powers[len(counts)]
            if len(counts) == len(probs) - 1:
                for j, share in enumerate(shares((*counts, left))):
                    if share:
                        law[j] += probability * row[left] * share
                return
            for count in range(left + 1):
                extend((*counts, count), left - count, probability * row[count])

        extend((), n, mp.factorial(n))
        return law


def best_of_n(probs: Sequence[Any], rewards: Sequence[Any], n: int) -> Law:
    """Pick uniformly among the drawn candidates that have the highest drawn reward."""

    def shares(counts: tuple[int, ...]) -> Law:
        top = max(reward for reward, count in zip(rewards, counts, strict=True) if count)
        winners = [
            count if reward == top else 0 for reward, count in zip(rewards, counts, strict=True)
        ]
        return [mp.mpf(count) / sum(winners) for count in winners]

    return enumerate_selection(probs, n, shares)


def worst_of_n(probs: Sequence[Any], rewards: Sequence[Any], n: int) -> Law:
    """Pick uniformly among the drawn candidates that have the lowest drawn reward."""

    def shares(counts: tuple[int, ...]) -> Law:
        low = min(reward for reward, count in zip(rewards, counts, strict=True) if count)
        winners = [
            count if reward == low else 0 for reward, count in zip(rewards, counts, strict=True)
        ]
        return [mp.mpf(count) / sum(winners) for count in winners]

    return enumerate_selection(probs, n, shares)


def kth_best_of_n(probs: Sequence[Any], rewards: Sequence[Any], n: int, k: int) -> Law:
    """Pick the k-th of the candidates in order of reward, those of one reward shuffled."""
    return enumerate_selection(probs, n, lambda counts: places(rewards, counts, k, k))


def top_k_of_n(probs: Sequence[Any], rewards: Sequence[Any], n: int, k: int) -> Law:
    """Pick one of the first k candidates in that order, each with probability 1/k."""
    return enumerate_selection(probs, n, lambda counts: places(rewards, counts, 1, k))


def places(rewards: Sequence[Any], counts: tuple[int, ...], first: int, last: int) -> Law:
    """Return the law of a random one of the places first, …, last in order of reward."""
    law, place = [mp.mpf(0)] * len(counts), 0
    for level in sorted(set(rewards), reverse=True):
        tied = [j for j, reward in enumerate(rewards) if reward == level]
        size = sum(counts[j] for j in tied)
        taken = max(0, min(place + size, last) - max(place, first - 1))
        for j in tied:
            if size:
                law[j] += mp.mpf(taken * counts[j]) / size / (last - first + 1)
        place += size
    return law


def best_of_n_stopped(
    probs: Sequence[Any], rewards: Sequence[Any], threshold: Any, n_max: int
) -> Law:
    """Draw one after the other: keep the first accepted, or of n_max refused ones the best.

    Of the level at which the ranks pass the threshold that share is accepted which lies above.
    """
    with mp.workdps(DIGITS):
        probs, accepted = normalized(probs), [mp.mpf(0)] * len(probs)
        for j, reward in enumerate(rewards):
            below = mp.fsum(p for p, r in zip(probs, rewards, strict=True) if r < reward)
            level = mp.fsum(p for p, r in zip(probs, rewards, strict=True) if r == reward)
            if level:
                share = (below + level - mp.mpf(threshold)) / level
                accepted[j] = probs[j] * min(1, max(0, share))
        refused = [p - q for p, q in zip(probs, accepted, strict=True)]
        rest = mp.fsum(refused)
        law = [q * mp.fsum(rest**i for i in range(n_max)) for q in accepted]
        if rest:
            best = best_of_n(refused, rewards, n_max)
            law = [p + rest**n_max * q for p, q in zip(law, best, strict=True)]
        return law


def weights(rewards: Sequence[Any], temperature: Any) -> Law:
    """Return e^{(r − r_max)/λ}; multiprecision exponents do not overflow."""
    with mp.workdps(DIGITS):
        rewards = exact(rewards)
        return [mp.exp((r - max(rewards)) / mp.mpf(temperature)) for r in rewards]


def soft_best_of_n(probs: Sequence[Any], rewards: Sequence[Any], n: int, temperature: Any) -> Law:
    """Pick a candidate with probability proportional to e^{r/λ} among the n drawn."""
    w = weights(rewards, temperature)

    def shares(counts: tuple[int, ...]) -> Law:
        terms = [
            count * weight if count else mp.mpf(0) for count, weight in zip(counts, w, strict=True)
        ]
        total = mp.fsum(terms)
        return [term / total for term in terms]

    return enumerate_selection(probs, n, shares)


def exponential_race(probs: Sequence[Any], rewards: Sequence[Any], n: int, temperature: Any) -> Law:
    """Pick argmax r_i/λ + Exp(1)_i among n drawn, as the first arrival U_i/w_i, U_i uniform.

    A candidate of outcome j arrives before z with probability min(1, w_j z), so it wins with
    probability ∫ w_j S(z)^{n−1} dz over 0 < z < 1/w_j, S(z) = Σ π_i (1 − w_i z)₊ being the chance
    that another candidate has not arrived. Between breakpoints 1/w_i this is a polynomial of
    degree n − 1, which Gauss–Legendre with 24 positive-weight nodes (48 for n > 48) integrates
    exactly.
    """
    with mp.workdps(DIGITS):
        probs, w = normalized(probs), weights(rewards, temperature)
        arrival = [1 / weight for weight in w]
        breaks = [mp.mpf(0), *sorted(set(arrival))]
        law = [mp.mpf(0)] * len(probs)
        for low, high in pairwise(breaks):
            for z, width in gauss_legendre(low, high, degree=n - 1):
                survival = mp.fsum(
                    p * (1 - weight * z)
                    for p, weight in zip(probs, w, strict=True)
                    if weight * z < 1
                )
                for j, last in enumerate(arrival):
                    if high <= last:
                        law[j] += width * n * probs[j] * w[j] * survival ** (n - 1)
        return law


def exponential_race_by_counts(
    probs: Sequence[Any], rewards: Sequence[Any], n: int, temperature: Any
) -> Law:
    """Return ``exponential_race`` by enumeration: per count vector, the exact race integral.

    With counts c the chance that outcome j arrives first is
    ∫ c_j w_j (1 − w_j z)^{c_j − 1} ∏_{i≠j} (1 − w_i z)^{c_i} dz over 0 < z < 1/max drawn w.
    """
    w = weights(rewards, temperature)

    def shares(counts: tuple[int, ...]) -> Law:
        last = 1 / max(weight for weight, count in zip(w, counts, strict=True) if count)
        result = [mp.mpf(0)] * len(w)
        for z, width in gauss_legendre(mp.mpf(0), last, degree=n - 1):
            left = [1 - weight * z for weight in w]
            everyone = mp.fprod(x**count for x, count in zip(left, counts, strict=True) if count)
            for j, count in enumerate(counts):
                if count:
                    result[j] += width * count * w[j] * everyone / left[j]
        return result

    return enumerate_selection(probs, n, shares)


def gauss_legendre(low: Real, high: Real, *, degree: int) -> list[tuple[Real, Real]]:
    """Return nodes and positive weights on [low, high], exact for polynomials of the degree."""
    # Level l of mpmath's rule has 3·2^{l−1} nodes, hence is exact up to degree 3·2^l − 1.
    level = next(level for level in range(1, 12) if 3 * 2**level - 1 >= degree)
    half, middle = (high - low) / 2, (high + low) / 2
    nodes = RULE.get_nodes(-1, 1, level, mp.prec)
    return [(middle + half * x, half * weight) for x, weight in nodes]
