r"""Pass@k beyond the number of answers: difficulty as a Beta law, an extrapolation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bon_theory._arguments import shown
from bon_theory.pools.curves import require_binary
from bon_theory.pools.pool import Pool

__all__ = ["CoverageFit", "fit_coverage"]


@dataclasses.dataclass(frozen=True)
class CoverageFit:
    r"""A Beta law of the chance that an answer is right, fitted to prompts.

    Attributes:
        a: its weight at 0, which is the exponent of the tail: :math:`1 - \text{pass@}k` falls like
            :math:`k^{-a}`.
        b: its weight at 1.
        a_error: standard error of :math:`\log a`, from the curvature of the likelihood.
        b_error: of :math:`\log b`.
        log_likelihood: of the fit.
        num_answers: the most answers that a prompt has: beyond, ``pass_at`` extrapolates.
    """

    a: float
    b: float
    a_error: float
    b_error: float
    log_likelihood: float
    num_answers: int

    def pass_at(self, k: ArrayLike) -> NDArray[np.float64]:
        r""":math:`1 - B(a, b + k)/B(a, b)`; an extrapolation where k is above ``num_answers``.

        Example:
            >>> import bon_theory as bt
            >>> fit = bt.pools.CoverageFit(0.3, 2.0, 0.1, 0.1, 0.0, 50)
            >>> fit.pass_at([50]).round(5)
            array([0.64269])
        """
        failed = special.betaln(self.a, self.b + np.asarray(k, np.float64))
        return np.asarray(-np.expm1(failed - special.betaln(self.a, self.b)))


def fit_coverage(pool: Pool) -> CoverageFit:
    r"""Beta law of the difficulty of prompts, by maximum likelihood.

    A prompt's number of right answers is then beta-binomial,

    .. math:: \Pr(c) = \binom Nc \frac{B(a + c, b + N - c)}{B(a, b)}.

    Args:
        pool: whose scores are 0 (wrong) and 1 (right).

    Raises:
        ValueError: a score is neither 0 nor 1; or the likelihood has no maximum, as where all
            prompts fare alike.

    Example:
        >>> import numpy as np
        >>> import bon_theory as bt
        >>> draws = np.random.default_rng(0)
        >>> right = draws.uniform(size=(2000, 20)) < draws.beta(0.5, 2.0, size=(2000, 1))
        >>> fit = bt.pools.fit_coverage(bt.pools.Pool.from_lists(right))
        >>> abs(fit.a - 0.5) < 0.05 and abs(fit.b - 2.0) < 0.3
        True

    Standard (Skellam 1948); that the exponent of the tail is a is in Schaeffer et al. 2025. A law
    of difficulty that is no Beta law has another tail: what lies beyond the data is the fit's.
    """
    require_binary(pool)
    shares = np.sum(pool.scores == 1, axis=1) / pool.counts
    results = np.stack([pool.counts * shares, pool.counts], axis=1).round()
    (right, total), group = _columns(np.unique(results, axis=0, return_inverse=True))
    weights = np.bincount(group, pool.weights) * pool.num_prompts
    wrong = total - right

    def loss(logs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        a, b = np.exp(logs)
        terms = special.betaln(a + right, b + wrong) - special.betaln(a, b)
        both = special.digamma(a + b) - special.digamma(a + b + total)
        by_a = special.digamma(a + right) - special.digamma(a) + both
        by_b = special.digamma(b + wrong) - special.digamma(b) + both
        return -float(weights @ terms), -np.array([a * (weights @ by_a), b * (weights @ by_b)])

    bounds = [(-14.0, 14.0)] * 2
    from scipy import optimize  # a seventh of the memory of what imports this package

    found = optimize.minimize(loss, np.zeros(2), jac=True, bounds=bounds, method="TNC")
    step = 1e-4
    slopes = [(loss(found.x + e)[1] - loss(found.x - e)[1]) / (2 * step) for e in step * np.eye(2)]
    if np.linalg.eigvalsh(np.array(slopes)).min() < 1e-3:
        raise ValueError(
            f"scores must differ between prompts, got shares of right answers {shown(shares)}: "
            "no Beta law of their difficulty is the most likely."
        )
    (a, b), errors = np.exp(found.x), np.sqrt(np.diag(np.linalg.inv(np.array(slopes))))
    chosen = special.gammaln(total + 1) - special.gammaln(right + 1) - special.gammaln(wrong + 1)
    return CoverageFit(
        float(a),
        float(b),
        float(errors[0]),
        float(errors[1]),
        float(weights @ chosen - found.fun),
        int(pool.counts.max()),
    )


def _columns(unique: tuple[Any, Any]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    return unique[0].T, unique[1].ravel()
