r"""How often best-of-n beats one more answer of the same model, from all subsets of n + 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory.performance import Ties
from bon_theory.pools.curves import Curve, best_of_n_weights, checked_numbers
from bon_theory.pools.pool import Pool

__all__ = ["win_rate_curve"]


def win_rate_curve(pool: Pool, *, n: ArrayLike | None = None, ties: Ties = "half") -> Curve:
    r"""Win rate of best-of-n against a fresh draw, over all choices of n answers and one other.

    With :math:`h(x)` and :math:`l(x)` the answers that score at most and less than :math:`x`,

    .. math:: \Pr(\text{other} > \text{best}) = \frac1N \sum_x \binom{l(x)}{n} \Big/ \binom{N-1}{n},
              \qquad \Pr(\text{other} \ge \text{best})
              = \frac1N \sum_x \binom{h(x) - 1}{n} \Big/ \binom{N-1}{n}.

    Without ties this is :math:`n/(n+1)` exactly, whatever the scores.

    Args:
        pool: the answers.
        n: whole numbers of candidates, below the shortest prompt's count; by default all.
        ties: "half" counts a tie as half a win (default), "win" as a win, "loss" as a loss.

    Raises:
        ValueError: ``n`` as in :func:`best_of_n_curve`, for one answer less; ``ties`` unknown.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.1, 0.4, 0.4, 0.9]])
        >>> bt.pools.win_rate_curve(pool, n=[1, 3]).mean
        array([0.5 , 0.75])
        >>> bt.pools.win_rate_curve(pool, n=2, ties="win").mean.round(4)
        array([0.75])

    Derived here: the other answer is fixed first, and the n are drawn from the N − 1 that are left.
    """
    if ties not in ("half", "win", "loss"):
        raise ValueError(f"ties must be 'half', 'win' or 'loss', got {ties!r}.")
    numbers = checked_numbers(pool, n, lambda counts: counts - 1)
    per_prompt = np.empty((pool.num_prompts, numbers.size))
    for count, rows in pool.of_count():
        scores = pool.scores[rows, :count]
        # Of the N − 1 others, how many score less, and how many at most, [rows, N].
        less = np.stack([np.searchsorted(row, row, side="left") for row in scores])
        at_most = np.stack([np.searchsorted(row, row, side="right") for row in scores]) - 1
        chance = _chance_below(count - 1, numbers).T
        beaten, tied_or_beaten = (_shares(places) @ chance for places in (less, at_most))
        share = {"half": 0.5, "win": 0.0, "loss": 1.0}[ties]
        per_prompt[rows] = 1 - beaten - share * (tied_or_beaten - beaten)
    return Curve(numbers, per_prompt, pool.weights)


def _chance_below(num_others: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[G, N]``: the chance C(m, n)/C(N − 1, n) that n others are among the lowest m < N."""
    weights = best_of_n_weights(num_others, numbers)
    return np.concatenate([np.zeros((numbers.size, 1)), np.cumsum(weights, axis=1)], axis=1)


def _shares(places: NDArray[np.intp]) -> NDArray[np.float64]:
    """``[rows, N]``: the share of a row's entries that are 0, 1, …, N − 1."""
    num_rows, size = places.shape
    cells = places + size * np.arange(num_rows)[:, None]
    return np.bincount(cells.ravel(), minlength=places.size).reshape(places.shape) / size
