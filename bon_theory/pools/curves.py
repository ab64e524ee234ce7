r"""The reward of best-of-n at every n, from all subsets of n of a prompt's answers.

With the answers in ascending order of the score, the best of a random subset of :math:`n` out of
:math:`N` is the :math:`i`-th with probability

.. math:: w_n(i) = \binom{i-1}{n-1} \Big/ \binom{N}{n},

so that :math:`\sum_i w_n(i)\, g_i` is the mean of :math:`g` at the best over all subsets, and
unbiased for best-of-n of the model. Answers of equal score win equally often: their :math:`g` is
replaced by its mean, and then the order among them does not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown, whole_number
from bon_theory.pools.pool import Pool

__all__ = ["Curve", "best_of_n_curve", "best_of_n_weights", "pass_at_k", "ranked_weights"]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A quantity at several settings, n and a temperature each, for every prompt.

    Attributes:
        n: ``[G]``, in the order asked for.
        per_prompt: ``[B, G]``.
        weights: ``[B]``, of the prompts in the mean.
        temperature: ``[G]`` of soft best-of-n; None for best-of-n.
        label: what it is where that is not plain: an upper bound, an extrapolation.

    The difference of two curves, ``first - second``, is taken prompt by prompt: they are of the
    same prompts in the same order, and its interval is that of a paired comparison.

    Example:
        >>> import bon_theory as bt
        >>> curve = bt.pools.best_of_n_curve(bt.pools.Pool.from_lists([[1.0, 2.0, 6.0]]))
        >>> curve.mean
        array([3.        , 4.66666667, 6.        ])

    Derived here (bookkeeping; no published counterpart).
    """

    n: NDArray[np.int64]
    per_prompt: NDArray[np.float64]
    weights: NDArray[np.float64]
    temperature: NDArray[np.float64] | None = None
    label: str = ""

    def __sub__(self, other: Curve) -> Curve:
        """Prompt by prompt, at every setting."""
        if self.per_prompt.shape != other.per_prompt.shape:
            raise ValueError(
                f"curves must have the same prompts and settings, got shapes "
                f"{self.per_prompt.shape} and {other.per_prompt.shape}: take both at the same n."
            )
        same_weights = np.allclose(self.weights, other.weights, rtol=1e-12, atol=0)
        if not (np.array_equal(self.n, other.n) and same_weights):
            raise ValueError(
                f"curves must have the same n and weights, got n {shown(self.n)} and "
                f"{shown(other.n)}: take both at the same n, of pools of equal weights."
            )
        if not np.array_equal(self._heat(), other._heat()):
            raise ValueError(
                f"curves must have the same temperatures, got {shown(self._heat())} and "
                f"{shown(other._heat())}: to compare settings, "
                "subtract their per_prompt."
            )
        return dataclasses.replace(self, per_prompt=self.per_prompt - other.per_prompt)

    def _heat(self) -> NDArray[np.float64]:
        return np.zeros(self.n.size) if self.temperature is None else self.temperature

    @property
    def mean(self) -> NDArray[np.float64]:
        """``[G]``, over prompts."""
        return self.weights @ self.per_prompt


def best_of_n_curve(
    pool: Pool,
    *,
    n: ArrayLike | None = None,
    of: ArrayLike | None = None,
    rank: int = 1,
    top: int | None = None,
) -> Curve:
    r"""Mean score of best-of-n over all subsets of n answers, unbiased, at every n at once.

    .. math:: \hat R_n = \sum_{i=n}^{N} \binom{i-1}{n-1} \Big/ \binom{N}{n}\; g_{(i)}

    In place of the best it takes the r-th best, or one of the best k at random, with
    :func:`ranked_weights`.

    Args:
        pool: the answers; the best has the highest ``scores``.
        n: whole numbers of candidates, at most the answers that every prompt has; by default all.
        of: what is averaged at the best: ``"scores"`` (default) or ``"true_scores"``, or an array
            ``[B, N]`` in the pool's order, finite for every answer. Ties in the score are shared
            out evenly.
        rank: 1 for the best, 2 for the second best of n, and so on; n is at least that.
        top: k for the mean of the k best of n, in place of ``rank``.

    Raises:
        ValueError: ``n`` is not whole, below 1 or above the shortest prompt's count; there are no
            true scores, or ``of`` has another shape or is not finite.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0, 1, 1, 0]], true_scores=[[0.5, 0.1, 0.3, 0.9]])
        >>> bt.pools.best_of_n_curve(pool, n=[1, 2, 4]).mean
        array([0.5       , 0.83333333, 1.        ])
        >>> bt.pools.best_of_n_curve(pool, n=[1, 4], of="true_scores").mean
        array([0.45, 0.2 ])

    [Gao] Appendix I for scores without ties; ties derived here (the group's mean, since the order
    within it is uniform).
    """
    ranks = [whole_number("rank", rank)] if top is None else range(1, whole_number("top", top) + 1)
    numbers = checked_numbers(pool, n, least=ranks[-1])
    values = checked_values(pool, of)
    if values is not pool.scores:  # which are equal where they are tied
        values = tie_averaged(pool, values)
    per_prompt = np.empty((pool.num_prompts, numbers.size))
    for count, rows in pool.of_count():
        weights = np.mean([ranked_weights(count, numbers, r) for r in ranks], axis=0)
        per_prompt[rows] = values[rows, :count] @ weights.T
    return Curve(numbers, per_prompt, pool.weights)


def ranked_weights(num_answers: int, n: ArrayLike, rank: int) -> NDArray[np.float64]:
    r"""How often the i-th lowest of N answers is the r-th best of n.

    .. math:: \binom{i-1}{n-r} \binom{N-i}{r-1} \Big/ \binom{N}{n}

    Args:
        num_answers: :math:`N`.
        n: ``[G]`` whole numbers in [r, N].
        rank: :math:`r`, 1 for the best.

    Returns:
        ``[G, N]``, rows summing to one.

    Example:
        >>> import bon_theory as bt
        >>> bt.pools.ranked_weights(4, [2], 2).round(4)  # the lower of two
        array([[0.5   , 0.3333, 0.1667, 0.    ]])

    Standard (order statistics of a sample without replacement); the logarithms are summed from
    ratios of neighbours and normalised, since binomials of a million overflow.
    """
    if rank == 1:
        return best_of_n_weights(num_answers, n)
    numbers = np.asarray(n, np.float64)[:, None]
    i = np.arange(2.0, num_answers + 1)
    below, above = i - 1 - (numbers - rank), num_answers - i - rank + 2
    possible = (below > 0) & (above > 0)
    with np.errstate(all="ignore"):
        steps = np.where(
            possible, np.log((i - 1) / below) + np.log(above / (num_answers - i + 1)), 0
        )
    logs = np.concatenate([np.zeros_like(numbers), np.cumsum(steps, axis=1)], axis=1)
    places = np.arange(1.0, num_answers + 1)
    inside = (places > numbers - rank) & (places <= num_answers - rank + 1)
    logs = np.where(inside, logs, -np.inf)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def best_of_n_weights(num_answers: int, n: ArrayLike) -> NDArray[np.float64]:
    r""":math:`\binom{i-1}{n-1}/\binom{N}{n}`: how often the i-th lowest is the best of n.

    Args:
        num_answers: :math:`N`.
        n: ``[G]`` whole numbers in [1, N].

    Returns:
        ``[G, N]``, rows summing to one.

    Example:
        >>> import bon_theory as bt
        >>> bt.pools.best_of_n_weights(4, [1, 2]).round(4)
        array([[0.25  , 0.25  , 0.25  , 0.25  ],
               [0.    , 0.1667, 0.3333, 0.5   ]])

    [Gao] Appendix I; the product form is derived here: from the top, n/N, then a factor
    (i − n)/(i − 1) per step down, which never overflows and keeps its relative accuracy.
    """
    numbers = np.asarray(n, np.float64)[:, None]
    above = np.arange(num_answers, 1, -1.0)  # the rank i that is stepped down from
    factors = np.maximum(above - numbers, 0.0) / (above - 1.0)
    steps: NDArray[np.float64] = np.concatenate([numbers / num_answers, factors], axis=1)
    return np.asarray(np.cumprod(steps, axis=1), np.float64)[:, ::-1]


def pass_at_k(pool: Pool, *, k: ArrayLike | None = None) -> Curve:
    r"""Probability that at least one of k answers is right, unbiased: best-of-k of a 0/1 score.

    .. math:: 1 - \binom{N - c}{k} \Big/ \binom{N}{k}

    Args:
        pool: whose scores are 0 (wrong) and 1 (right).
        k: as ``n`` of :func:`best_of_n_curve`.

    Raises:
        ValueError: a score is neither 0 nor 1; ``k`` as ``n``.

    Example:
        >>> import bon_theory as bt
        >>> bt.pools.pass_at_k(bt.pools.Pool.from_lists([[0, 0, 1, 0]]), k=[1, 2]).mean
        array([0.25, 0.5 ])

    Chen et al. 2021, equation 1.
    """
    require_binary(pool)
    numbers = checked_numbers(pool, k)
    right = np.sum(pool.scores == 1, axis=1)
    per_prompt = np.empty((pool.num_prompts, numbers.size))
    for count, rows in pool.of_count():  # a row of the table for every number of right answers
        best = best_of_n_weights(count, numbers)[:, ::-1].T
        chance = np.concatenate([np.zeros((1, numbers.size)), np.cumsum(best, axis=0)])
        per_prompt[rows] = chance[right[rows]]
    return Curve(numbers, per_prompt, pool.weights)


def require_binary(pool: Pool) -> None:
    """Raise ``ValueError`` unless every score is 0 or 1."""
    is_stray = (pool.scores != 0) & (pool.scores != 1) & (pool.scores != np.inf)
    if is_stray.any():
        strays = np.unique(pool.scores[is_stray])
        raise ValueError(
            f"scores must be 0 or 1, got {shown(strays)}: compare them with a threshold first."
        )


def tie_averaged(pool: Pool, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[B, N]``: the mean of ``values`` over the answers of the same prompt and score."""
    num_prompts, size = pool.scores.shape
    starts = np.ones((num_prompts, size), bool)
    starts[:, 1:] = pool.scores[:, 1:] != pool.scores[:, :-1]
    group = np.cumsum(starts) - 1  # counts on from prompt to prompt
    # Divided before they are summed: a sum of the largest numbers would overflow.
    shares = np.where(is_answer(pool), values, 0.0).ravel() / np.bincount(group)[group]
    means = np.asarray(np.bincount(group, shares), np.float64)
    return means[group].reshape(num_prompts, size)


def checked_numbers(
    pool: Pool,
    n: ArrayLike | None,
    most: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda counts: counts,
    least: int = 1,
) -> NDArray[np.int64]:
    """The numbers of candidates asked for, or all up to the ``most`` that every prompt allows."""
    allowed = most(pool.counts)
    available = int(allowed.min())
    numbers = np.arange(least, max(available, least) + 1) if n is None else _numbers(n, least)
    short = int(np.sum(allowed < numbers.max()))
    if short:
        got = shown(numbers.max()) if n is None else shown(n)
        raise ValueError(
            f"n must be at most {available}, what the shortest prompt allows, got {got}: "
            f"{short} prompts are too short; leave them out by pool.with_at_least(...)."
        )
    return numbers.astype(np.int64)


def _numbers(n: ArrayLike, least: int) -> NDArray[np.float64]:
    """Whole numbers, at least one of them."""
    try:
        numbers = np.atleast_1d(np.asarray(n, np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    is_list = numbers.ndim == 1 and numbers.size > 0
    if not is_list or np.any(numbers != np.round(numbers)) or np.any(numbers < least):
        raise ValueError(f"n must be whole numbers of at least {least}, got {shown(n)}.")
    return numbers


def is_answer(pool: Pool) -> NDArray[np.bool_]:
    """``[B, N]``: what is within a prompt's count."""
    return np.arange(pool.scores.shape[1]) < pool.counts[:, None]


def checked_values(pool: Pool, of: ArrayLike | None) -> NDArray[np.float64]:
    if of is None or (isinstance(of, str) and of == "scores"):
        return pool.scores
    if isinstance(of, str):
        if of != "true_scores":
            raise ValueError(f"of must be 'scores', 'true_scores' or an array, got {of!r}.")
        if pool.true_scores is None:
            raise ValueError("of='true_scores' needs a pool that was given true_scores.")
        return pool.true_scores
    values = np.asarray(of, np.float64)
    if values.shape != pool.scores.shape:
        raise ValueError(f"of must have shape {pool.scores.shape}, got {values.shape}.")
    strays = values[is_answer(pool) & ~np.isfinite(values)]
    if strays.size:
        raise ValueError(f"of must be finite for every answer, got {shown(strays)}: score them.")
    return values
