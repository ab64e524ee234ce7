"""Best-of-n by noisy rewards, by enumeration: who the others are, then the winner's integral.

The sum is over all count vectors of the other candidates, and the integral by QUADPACK between the
places where somebody's noise is near its middle. Terms are positive, so that errors are relative.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy import integrate, special

Law = Callable[[float], tuple[float, float]]


def gaussian(e: float) -> tuple[float, float]:
    """Density and distribution function."""
    return math.exp(-e * e / 2) / math.sqrt(2 * math.pi), float(special.ndtr(e))


def student_t2(e: float) -> tuple[float, float]:
    root = math.hypot(math.sqrt(2), e)
    tail = 1 / (root * (root + abs(e)))
    return root**-3, tail if e < 0 else 1 - tail


def logistic(e: float) -> tuple[float, float]:
    below, above = float(special.expit(e)), float(special.expit(-e))
    return below * above, below


def count_vectors(n: int, num_outcomes: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write n as an ordered sum of ``num_outcomes`` nonnegative counts."""
    if num_outcomes == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in count_vectors(n - first, num_outcomes - 1):
            yield (first, *rest)


def noisy_best_of_n(
    probs: Sequence[float], rewards: Sequence[float], n: int, scale: float, noise: Law = gaussian
) -> list[float]:
    """Pick argmax r_i + σ ε_i among n drawn: n P(one draw is y and beats the n - 1 others)."""
    levels, place = np.unique(rewards, return_inverse=True)
    masses = np.bincount(place, probs) / math.fsum(probs)
    wins = np.zeros(levels.size)
    for counts in count_vectors(n - 1, levels.size):
        chance = math.factorial(n) * math.prod(
            mass**count / math.factorial(count) for mass, count in zip(masses, counts, strict=True)
        )
        for k, level in enumerate(levels):
            wins[k] += chance * _wins((level - levels) / scale, counts, noise)
    return [float(p / math.fsum(probs) * wins[k]) for p, k in zip(probs, place, strict=True)]


def _wins(gaps: np.ndarray, counts: tuple[int, ...], noise: Law) -> float:
    """Probability that noise beats that of the others, who are ``gaps`` behind."""
    others = [(gap, count) for gap, count in zip(gaps.tolist(), counts, strict=True) if count]

    def integrand(e: float) -> float:
        return noise(e)[0] * math.prod(noise(e + gap)[1] ** count for gap, count in others)

    middles = {0.0, *(-gap for gap, _ in others)}
    cuts = sorted({middle + x for middle in middles for x in (-12.0, -4.0, 0.0, 4.0, 12.0)})
    pieces = pairwise([-math.inf, *cuts, math.inf])
    return math.fsum(
        integrate.quad(integrand, *piece, epsabs=1e-16, epsrel=1e-13)[0] for piece in pieces
    )


def of_gaussian(
    probs: Sequence[float], rewards: Sequence[float], n: int, scale: float
) -> list[float]:
    """The same for standard normal noise."""
    return noisy_best_of_n(probs, rewards, n, scale)
