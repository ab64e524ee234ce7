"""Divergences and performance of two discrete laws, summed term by term in multiprecision."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from tests.oracles.discrete import DIGITS, exact
from tests.oracles.multiprecision import Real, mp


def kl(p: Sequence[Any], q: Sequence[Any]) -> Real:
    """Return Σ p log(p/q) in nats; outcomes without p add nothing, p without q gives inf."""
    with mp.workdps(DIGITS):
        pairs = [(a, b) for a, b in zip(exact(p), exact(q), strict=True) if a > 0]
        if any(b == 0 for _, b in pairs):
            return mp.inf
        return mp.fsum(a * mp.log(a / b) for a, b in pairs)


def renyi(p: Sequence[Any], q: Sequence[Any], order: Any, digits: int = DIGITS) -> Real:
    """Return log(Σ p^α q^{1−α})/(α − 1); orders 0, 1, inf are −log q(p>0), KL, log max p/q.

    For orders near 0 and 1 the sum of powers is near 1: give it the digits to differ from it.
    """
    with mp.workdps(digits):
        pairs = list(zip(exact(p), exact(q), strict=True))
        if order == 1:
            return kl(p, q)
        if order == 0:
            return -mp.log(mp.fsum(b for a, b in pairs if a > 0))
        if order > 1 and any(a > 0 and b == 0 for a, b in pairs):
            return mp.inf
        pairs = [(a, b) for a, b in pairs if a > 0 and b > 0]
        if order == mp.inf:
            return mp.log(max(a / b for a, b in pairs))
        alpha = mp.mpf(order)
        total = mp.fsum(a**alpha * b ** (1 - alpha) for a, b in pairs)
        return mp.log(total) / (alpha - 1) if total > 0 else mp.inf


def chi_squared(p: Sequence[Any], q: Sequence[Any]) -> Real:
    """Return Σ (p − q)²/q."""
    with mp.workdps(DIGITS):
        pairs = [(a, b) for a, b in zip(exact(p), exact(q), strict=True) if a > 0 or b > 0]
        if any(b == 0 for _, b in pairs):
            return mp.inf
        return mp.fsum((a - b) ** 2 / b for a, b in pairs)


def total_variation(p: Sequence[Any], q: Sequence[Any]) -> Real:
    """Return ½ Σ |p − q|."""
    with mp.workdps(DIGITS):
        return mp.fsum(abs(a - b) for a, b in zip(exact(p), exact(q), strict=True)) / 2


def squared_hellinger(p: Sequence[Any], q: Sequence[Any]) -> Real:
    """Return Σ (√p − √q)², between 0 and 2."""
    with mp.workdps(DIGITS):
        pairs = zip(exact(p), exact(q), strict=True)
        return mp.fsum((mp.sqrt(a) - mp.sqrt(b)) ** 2 for a, b in pairs)


def jensen_shannon(p: Sequence[Any], q: Sequence[Any]) -> Real:
    """Return ½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2, in nats."""
    with mp.workdps(DIGITS):
        middle = [(a + b) / 2 for a, b in zip(exact(p), exact(q), strict=True)]
        return (kl(p, middle) + kl(q, middle)) / 2


def f_divergence(p: Sequence[Any], q: Sequence[Any], generator: Callable[[Real], Real]) -> Real:
    """Return Σ q f(p/q) over the outcomes with q > 0."""
    with mp.workdps(DIGITS):
        pairs = zip(exact(p), exact(q), strict=True)
        return mp.fsum(b * generator(a / b) for a, b in pairs if b > 0)


def expected_value(p: Sequence[Any], values: Sequence[Any]) -> Real:
    """Return Σ p·value."""
    with mp.workdps(DIGITS):
        return mp.fsum(a * v for a, v in zip(exact(p), exact(values), strict=True))


def win_rate(
    p: Sequence[Any],
    p_rewards: Sequence[Any],
    q: Sequence[Any],
    q_rewards: Sequence[Any],
    *,
    ties: Literal["half", "win", "loss"] = "half",
) -> Real:
    """Return the chance that a draw of p has the higher reward than an independent draw of q."""
    tie_value = {"half": mp.mpf(1) / 2, "win": mp.mpf(1), "loss": mp.mpf(0)}[ties]
    with mp.workdps(DIGITS):
        total = mp.mpf(0)
        for a, reward in zip(exact(p), p_rewards, strict=True):
            for b, other in zip(exact(q), q_rewards, strict=True):
                value = tie_value if reward == other else mp.mpf(int(reward > other))
                total += a * b * value
        return total
