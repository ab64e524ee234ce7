r"""The variance of a subset estimate, itself estimated without bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory.pools.curves import Curve, best_of_n_curve, best_of_n_weights, checked_numbers
from bon_theory.pools.pool import Pool

__all__ = ["jackknife_variance", "subset_variance"]


def subset_variance(pool: Pool, *, n: ArrayLike | None = None) -> Curve:
    r"""Variance of a prompt's :func:`best_of_n_curve` over fresh answers, unbiased, n ≤ N/2.

    The square of the estimate is unbiased for its mean square, and the product of the best of two
    disjoint subsets for the square of its mean; what is left is the variance:

    .. math:: \hat V_n = \hat R_n^2 - \frac{2 \sum_{i<j} x_{(i)} x_{(j)} \binom{i-1}{n-1}
              \binom{j-1-n}{n-1}}{\binom{N}{n} \binom{N-n}{n}}.

    It may be negative where the variance is small, as unbiased estimates of variances are.

    Args:
        pool: the answers.
        n: whole numbers, at most half of the shortest prompt's count; by default all of them.

    Raises:
        ValueError: ``n`` as in :func:`best_of_n_curve`, for half of the answers.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[1.0, 2.0, 4.0, 7.0]])
        >>> bt.pools.subset_variance(pool, n=1).mean  # the sample variance, over N
        array([1.75])

    Derived here: C(i−1, n−1) subsets have the i-th answer as their best, and of the j − 1 answers
    below a higher j-th, those that the first subset left can fill C(j−1−n, n−1) second ones.
    """
    numbers = checked_numbers(pool, n, lambda counts: counts // 2)
    squares = best_of_n_curve(pool, n=numbers).per_prompt ** 2
    per_prompt = np.empty_like(squares)
    for count, rows in pool.of_count():
        # About the mean, so that the difference of two squares does not cancel.
        scores = pool.scores[rows, :count]
        centre = scores.mean(axis=-1, keepdims=True)
        first = best_of_n_weights(count, numbers)  # C(i-1, n-1)/C(N, n)
        later = _second_subset(count, numbers)  # C(j-1-n, n-1)/C(N-n, n)
        for row, x in zip(rows, scores - centre, strict=True):
            below = np.cumsum(first * x, axis=1) - first * x
            product = 2 * np.sum(later * x * below, axis=1)
            per_prompt[row] = (first @ x) ** 2 - product
    return Curve(numbers, per_prompt, pool.weights)


def _second_subset(count: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[G, N]``: C(j−1−n, n−1)/C(N−n, n), which is that of N − n answers, n places further up."""
    weights = np.zeros((numbers.size, count))
    for row, n in zip(weights, numbers.tolist(), strict=True):
        row[n:] = best_of_n_weights(count - n, [n])[0]
    return weights


def jackknife_variance(pool: Pool, *, n: ArrayLike | None = None) -> Curve:
    r"""Variance of a prompt's :func:`best_of_n_curve` over fresh answers, by leaving one out.

    .. math:: \hat V_n = \frac{N - 1}{N} \sum_i \bigl(\hat R_n^{(-i)} - \bar R_n\bigr)^2,

    for any n below N. It is biased high, and never negative, where :func:`subset_variance` is
    unbiased and for n up to N/2.

    Args:
        pool: the answers.
        n: whole numbers, below the shortest prompt's count; by default all of them.

    Raises:
        ValueError: ``n`` as in :func:`best_of_n_curve`, for one answer less.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[1.0, 2.0, 4.0, 7.0]])
        >>> bt.pools.jackknife_variance(pool, n=[1, 2]).mean.round(4)
        array([1.75  , 3.5833])

    Efron and Stein 1981, for the bias.
    """
    numbers = checked_numbers(pool, n, lambda counts: counts - 1)
    per_prompt = np.empty((pool.num_prompts, numbers.size))
    for count, rows in pool.of_count():
        weights = best_of_n_weights(count - 1, numbers)  # of what is left
        steps = np.diff(pool.scores[rows, :count], axis=1)
        # Without the i-th, those above it move down a place: x_(j+1) in place of x_(j) from j = i.
        gains = steps[:, None, :] * weights[None]  # [rows, G, N - 1]
        left = np.zeros((rows.size, numbers.size, count))
        left[..., :-1] = np.cumsum(gains[..., ::-1], axis=-1)[..., ::-1]
        left -= left.mean(axis=-1, keepdims=True)
        per_prompt[rows] = (count - 1) / count * np.sum(left**2, axis=-1)
    return Curve(numbers, per_prompt, pool.weights)
