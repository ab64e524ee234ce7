"""Soft best-of-n of a discrete law at real n, by multiprecision integration of the arrival race.

Candidate i arrives after an exponential time with rate w_i = e^{r_i/λ} and the first one wins
(Gumbel-max). Valid for any n ≥ 1, also where enumeration is hopeless; held to the enumeration at
small integer n by the tests.
"""

from collections.abc import Sequence
from typing import Any

from tests.oracles.discrete import normalized, weights
from tests.oracles.multiprecision import Law, mp
from tests.oracles.soft_continuous import nodes

DIGITS = 40


def soft_best_of_n(probs: Sequence[Any], rewards: Sequence[Any], n: Any, temperature: Any) -> Law:
    """Return π_j ∫ n w_j e^{−t w_j} (Σ_i π_i e^{−t w_i})^{n−1} dt over t = e^s > 0."""
    p, w = normalized(probs), weights(rewards, temperature)
    with mp.workdps(DIGITS):
        n = mp.mpf(n)
        law = [mp.mpf(0)] * len(p)
        # Before the window no candidate has arrived; after it all have, but for e^{−60}.
        window = (-60 - mp.log(n) - mp.log(max(w)), mp.log(60) - mp.log(min(w)))
        for s, width in nodes(*window, mp.mpf(2)):
            t = mp.exp(s)
            waiting = [mp.exp(-t * rate) for rate in w]
            # M near one from 1 − M, a sum of small terms: at n = 1e15 its rounding is raised to n.
            arrived = mp.fsum(a * -mp.expm1(-t * rate) for a, rate in zip(p, w, strict=True))
            survive = mp.fsum(a * b for a, b in zip(p, waiting, strict=True))
            others = mp.exp((n - 1) * (mp.log1p(-arrived) if arrived < 0.5 else mp.log(survive)))
            for j, rate in enumerate(w):
                law[j] += width * t * n * p[j] * rate * waiting[j] * others
        return law
