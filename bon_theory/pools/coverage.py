r"""Pass@k beyond the number of answers: a Beta law of difficulty, or a power; extrapolations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown
from bon_theory.pools.curves import pass_at_k, require_binary
from bon_theory.pools.pool import Pool

__all__ = ["CoverageFit", "TailFit", "fit_coverage", "fit_tail"]


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

    @property
    def label(self) -> str:
        """What numbers of it are."""
        return f"extrapolation beyond k = {self.num_answers} by a Beta law of difficulty"

    def pass_at(self, k: ArrayLike) -> NDArray[np.float64]:
        r""":math:`1 - B(a, b + k)/B(a, b)`; an extrapolation where k is above ``num_answers``.

        Example:
            >>> import bon_theory as bt
            >>> fit = bt.pools.CoverageFit(0.3, 2.0, 0.1, 0.1, 0.0, 50)
            >>> fit.pass_at([50]).round(5)
            array([0.64269])
        """
        failed = scipy.special.betaln(self.a, self.b + np.asarray(k, np.float64))
        return np.asarray(-np.expm1(failed - scipy.special.betaln(self.a, self.b)))


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
        terms = scipy.special.betaln(a + right, b + wrong) - scipy.special.betaln(a, b)
        both = scipy.special.digamma(a + b) - scipy.special.digamma(a + b + total)
        by_a = scipy.special.digamma(a + right) - scipy.special.digamma(a) + both
        by_b = scipy.special.digamma(b + wrong) - scipy.special.digamma(b) + both
        return -float(weights @ terms), -np.array([a * (weights @ by_a), b * (weights @ by_b)])

    bounds = [(-14.0, 14.0)] * 2
    found = scipy.optimize.minimize(loss, np.zeros(2), jac=True, bounds=bounds, method="TNC")
    step = 1e-4
    slopes = [(loss(found.x + e)[1] - loss(found.x - e)[1]) / (2 * step) for e in step * np.eye(2)]
    if np.linalg.eigvalsh(np.array(slopes)).min() < 1e-3:
        raise ValueError(
            f"scores must differ between prompts, got shares of right answers {shown(shares)}: "
            "no Beta law of their difficulty is the most likely."
        )
    (a, b), errors = np.exp(found.x), np.sqrt(np.diag(np.linalg.inv(np.array(slopes))))
    chosen = -np.log(total + 1) - scipy.special.betaln(right + 1, wrong + 1)
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


@dataclasses.dataclass(frozen=True)
class TailFit:
    r"""A power of k fitted to the chance that all of k answers are wrong.

    Attributes:
        exponent: :math:`a` of :math:`1 - \text{pass@}k \approx C k^{-a}`.
        log_scale: :math:`\log C`.
        covariance: ``[2, 2]`` of ``log_scale`` and ``exponent``, over prompts.
        k: the numbers it was fitted at.
        residual: largest deviation of the logarithm of the pool's chance from the fit.
        num_answers: the most k that the pool tells: beyond, ``pass_at`` extrapolates.
    """

    exponent: float
    log_scale: float
    covariance: NDArray[np.float64]
    k: NDArray[np.int64]
    residual: float
    num_answers: int

    @property
    def exponent_error(self) -> float:
        """Standard error, over prompts."""
        return float(np.sqrt(self.covariance[1, 1]))

    @property
    def label(self) -> str:
        """What numbers of it are."""
        return f"extrapolation beyond k = {self.num_answers} by a power of k"

    def pass_at(self, k: ArrayLike) -> NDArray[np.float64]:
        """:math:`1 - C k^{-a}`; an extrapolation where k is above ``num_answers``.

        Example:
            >>> import numpy as np
            >>> import bon_theory as bt
            >>> fit = bt.pools.TailFit(0.5, 0.0, np.zeros((2, 2)), np.array([8, 16]), 0.0, 16)
            >>> fit.pass_at([100]).round(6)
            array([0.9])
        """
        logs = self.log_scale - self.exponent * np.log(np.asarray(k, np.float64))
        return np.asarray(-np.expm1(np.minimum(logs, 0)))

    def interval(
        self, k: ArrayLike, *, level: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends of an interval for ``pass_at`` by the fit's covariance, if the power goes on."""
        logs = np.log(np.asarray(k, np.float64))
        by = np.stack([np.ones_like(logs), -logs])
        error = np.sqrt(np.einsum("i...,ij,j...->...", by, self.covariance, by))
        middle = self.log_scale - self.exponent * logs
        z = float(scipy.special.ndtri(0.5 + level / 2))
        low, high = (-np.expm1(np.minimum(middle + sign * z * error, 0)) for sign in (1, -1))
        return low, high


def fit_tail(pool: Pool) -> TailFit:
    r"""How fast the chance of failure falls with k, from the pool's own curve near its end.

    .. math:: \log\bigl(1 - \widehat{\text{pass@}k}\bigr) = \log C - a \log k,

    by least squares at k from N/8 to N, evenly in log k; errors leave every prompt out once. Where
    the density of difficulty near 0 is :math:`p^{a - 1}`, that is the exponent, whatever the rest
    of the law is: a Beta law (:func:`fit_coverage`) has the exponent that fits all of it best.
    Prompts that are never solved make the curve flatten: a falls with N then.

    Args:
        pool: whose scores are 0 (wrong) and 1 (right).

    Raises:
        ValueError: a score is neither 0 nor 1; fewer than 3 prompts or 4 answers; or there is no
            chance of failure that could be followed.

    Example:
        >>> import numpy as np
        >>> import bon_theory as bt
        >>> draws = np.random.default_rng(0)
        >>> hard = np.where(draws.uniform(size=(4000, 1)) < 0.5, draws.beta(0.5, 1.0, (4000, 1)), 1)
        >>> right = draws.uniform(size=(4000, 128)) < hard
        >>> fit = bt.pools.fit_tail(bt.pools.Pool.from_lists(right))
        >>> abs(fit.exponent - 0.5) < 3 * fit.exponent_error < 0.2
        True

    Schaeffer et al. 2025 for the power and its exponent; the errors are derived here.
    """
    require_binary(pool)
    size = int(pool.counts.min())
    if size < 4 or np.sum(pool.weights > 0) < 3:
        raise ValueError(
            f"a tail takes at least 4 answers to each of 3 prompts, got {size} to each of "
            f"{pool.num_prompts}."
        )
    k = np.unique(np.round(size * 2.0 ** (-np.arange(7) / 2))).astype(np.int64)
    failed = 1 - pass_at_k(pool, k=k).per_prompt
    seen = pool.weights @ failed > 1e-12
    weights, failed, k = pool.weights[pool.weights > 0], failed[pool.weights > 0][:, seen], k[seen]
    # Without prompt b: of all weight but its own.
    left = (weights @ failed - weights[:, None] * failed) / (1 - weights[:, None])
    if k.size < 3 or not np.all(left > 1e-12):
        raise ValueError(
            f"scores must hold failures of several prompts, got pass@{size} of "
            f"{shown(1 - weights @ failed)}: with so few there is no tail to fit."
        )
    basis = np.stack([np.ones(k.size), -np.log(k)], axis=1)
    solve = np.linalg.pinv(basis)
    curve = np.log(weights @ failed)
    log_scale, exponent = (solve @ curve).tolist()
    deviations = np.log(left) @ solve.T - np.array([log_scale, exponent])
    count = weights.size
    covariance = deviations.T @ deviations * (count - 1) / count
    residual = float(np.abs(curve - basis @ np.array([log_scale, exponent])).max())
    return TailFit(exponent, log_scale, covariance, k, residual, size)
