"""What rules of n draws can reach, by going through every set of draws."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Masses = NDArray[np.float64]


def draws(reference: Masses, n: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Every multiset of n draws: its probability, and which outcomes are in it."""
    for drawn in itertools.combinations_with_replacement(range(len(reference)), n):
        counts = [drawn.count(k) for k in range(len(reference))]
        arrangements = math.factorial(n) / math.prod(map(math.factorial, counts))
        yield arrangements * math.prod(reference[k] for k in drawn), tuple(sorted(set(drawn)))


def least_total_variation(target: Masses, reference: Masses, n: int) -> float:
    """Over all selection kernels, by a linear programme (HiGHS).

    Variables: for every multiset what is returned of it, then what each outcome has too little of.
    """
    size = len(reference)
    multisets = list(draws(reference, n))
    kernel = [(m, k) for m, (_, support) in enumerate(multisets) for k in support]
    cost = np.append(np.zeros(len(kernel)), np.ones(size))
    of_multiset = np.zeros((len(multisets), len(cost)))
    lacks = np.zeros((size, len(cost)))
    for column, (m, k) in enumerate(kernel):
        of_multiset[m, column] = 1
        lacks[k, column] = -multisets[m][0]
    lacks[:, len(kernel) :] = -np.eye(size)
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(
        cost, lacks, -np.asarray(target), of_multiset, np.ones(len(multisets)), options=tight
    )
    assert found.status == 0, found.message
    return found.fun


def least_mean(cost: Masses, reference: Masses, n: int) -> float:
    """The least mean of ``cost`` under any rule: of every multiset the cheapest is returned."""
    return math.fsum(p * min(cost[k] for k in support) for p, support in draws(reference, n))


def draws_for_exact(target: Masses, reference: Masses) -> Any:
    """By bisection: the least n with P*(A) ≤ 1 − (1 − π(A))ⁿ for each of the 2^K sets A."""
    p, q = ([mp.mpf(float(x)) for x in law] for law in (target, reference))
    p, q = ([x / mp.fsum(law) for x in law] for law in (p, q))
    outcomes = range(len(p))
    sets = [A for r in range(1, len(p)) for A in itertools.combinations(outcomes, r)]
    sums = [(mp.fsum(p[k] for k in A), mp.fsum(q[k] for k in A)) for A in sets]

    def enough(n: Any) -> bool:
        return all(mass <= 1 - (1 - drawn) ** n for mass, drawn in sums)

    low, high = mp.mpf(1), mp.mpf(2)
    if enough(low):
        return low
    while not enough(high):
        low, high = high, 2 * high
    while high - low > low * mp.mpf(10) ** -25:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def nearest_to_tilt(
    probs: Sequence[float], rewards: Sequence[float], n: float, temperature: float
) -> list[float]:
    """The law of n draws nearest to the tilt: levels from the top, each slope a max of min.

    Of the curve h over s the slope of its greatest convex minorant between points k - 1 and k is
    the largest over i < k of the least over j >= k of the slope from i to j.
    """
    levels = sorted({r for r, p in zip(rewards, probs, strict=True) if p > 0}, reverse=True)
    drawn = [math.fsum(p for p, r in zip(probs, rewards, strict=True) if r == t) for t in levels]
    tilted = [
        p * math.exp((t - levels[0]) / temperature) for p, t in zip(drawn, levels, strict=True)
    ]
    wanted = [w / math.fsum(tilted) for w in tilted]
    p, s = ([math.fsum(x[:k]) for k in range(len(levels) + 1)] for x in (drawn, wanted))
    h = [1 - max(1 - q, 0) ** n for q in p]
    points = range(len(levels) + 1)

    def slope(k: int) -> float:
        return max(
            min((h[j] - h[i]) / (s[j] - s[i]) for j in points if j >= k) for i in points if i < k
        )

    ratio = {t: wanted[k] * slope(k + 1) / drawn[k] for k, t in enumerate(levels)}
    return [p * ratio.get(r, 0.0) for p, r in zip(probs, rewards, strict=True)]
