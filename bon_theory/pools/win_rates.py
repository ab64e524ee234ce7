r"""How often best-of-n, hard or soft, beats one more answer, from all subsets of n + 1."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory.performance import Ties
from bon_theory.pools.curves import (
    Curve,
    best_of_n_curve,
    best_of_n_weights,
    checked_numbers,
    is_answer,
)
from bon_theory.pools.pool import Pool
from bon_theory.pools.quotients import integral, log_weights
from bon_theory.pools.soft import checked_temperatures, soft_best_of_n_curve

__all__ = ["win_rate_between", "win_rate_curve"]


def win_rate_curve(
    pool: Pool,
    *,
    n: ArrayLike | None = None,
    temperature: float | None = None,
    ties: Ties = "half",
) -> Curve:
    r"""Win rate of best-of-n against a fresh draw, over all choices of n answers and one other.

    With :math:`h(x)` and :math:`l(x)` the answers that score at most and less than :math:`x`,

    .. math:: \Pr(\text{other} > \text{best}) = \frac1N \sum_x \binom{l(x)}{n} \Big/ \binom{N-1}{n},
              \qquad \Pr(\text{other} \ge \text{best})
              = \frac1N \sum_x \binom{h(x) - 1}{n} \Big/ \binom{N-1}{n}.

    Without ties this is :math:`n/(n+1)` exactly, whatever the scores. Of soft best-of-n, the i-th
    of a subset S that is selected with probability :math:`p_i(S)` and beats :math:`F_i` of all
    other answers, :math:`K_i(S)` of them in S, wins

    .. math:: E_S \sum_{i \in S} p_i(S)\, \frac{F_i - K_i(S)}{N - n},

    up to rounding of some 1e-13 N n/(N − n).

    Args:
        pool: the answers.
        n: whole numbers of candidates, below the shortest prompt's count; by default all.
        temperature: :math:`\lambda > 0` of soft best-of-n; None for best-of-n.
        ties: "half" counts a tie as half a win (default), "win" as a win, "loss" as a loss.

    Raises:
        ValueError: ``n`` as in :func:`best_of_n_curve`, for one answer less; ``ties`` unknown;
            ``temperature`` is not positive and finite.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.1, 0.4, 0.4, 0.9]])
        >>> bt.pools.win_rate_curve(pool, n=[1, 3]).mean
        array([0.5 , 0.75])
        >>> bt.pools.win_rate_curve(pool, n=2, ties="win").mean.round(4)
        array([0.75])
        >>> bt.pools.win_rate_curve(pool, n=3, temperature=0.5).mean.round(4)
        array([0.6271])

    Derived here: the other answer is fixed first, and the n are drawn from the N − 1 that are left.
    """
    share = _share_of_ties(ties)
    numbers = checked_numbers(pool, n, lambda counts: counts - 1)
    if temperature is not None:
        return _soft_win_rate(pool, numbers, temperature, share)
    per_prompt = np.empty((pool.num_prompts, numbers.size))
    for count, rows in pool.of_count():
        scores = pool.scores[rows, :count]
        # Of the N − 1 others, how many score less, and how many at most, [rows, N].
        less = np.stack([np.searchsorted(row, row, side="left") for row in scores])
        at_most = np.stack([np.searchsorted(row, row, side="right") for row in scores]) - 1
        chance = _chance_below(count - 1, numbers).T
        beaten, tied_or_beaten = (_shares(places) @ chance for places in (less, at_most))
        per_prompt[rows] = 1 - beaten - (1 - share) * (tied_or_beaten - beaten)
    return Curve(numbers, per_prompt, pool.weights)


def win_rate_between(
    pool: Pool,
    opponent: Pool,
    *,
    n: ArrayLike | None = None,
    opponent_n: int = 1,
    temperature: float | None = None,
    ties: Ties = "half",
) -> Curve:
    r"""Win rate of best-of-n from one pool against best-of-m from another, on the same scale.

    .. math:: \sum_{i,j} w_n(i)\, v_m(j)\, \bigl(1\{x_{(i)} > y_{(j)}\}
              + c\, 1\{x_{(i)} = y_{(j)}\}\bigr),

    with the weights of :func:`best_of_n_weights`; two models' answers are independent, so that all
    pairs of subsets count.

    Args:
        pool: the answers of one model.
        opponent: those of another to the same prompts in the same order.
        n: as in :func:`best_of_n_curve`, for ``pool``.
        opponent_n: m, at most the answers that every prompt has in ``opponent``.
        temperature: of soft best-of-n from ``pool``, whose weights then stand for :math:`w_n`.
        ties: c: "half" (default), "win" counts 1, "loss" counts 0.

    Raises:
        ValueError: different numbers of prompts; ``n``, ``opponent_n`` or ``ties`` as in
            :func:`win_rate_curve`.

    Example:
        >>> import bon_theory as bt
        >>> one, other = bt.pools.Pool.from_lists([[1, 3]]), bt.pools.Pool.from_lists([[1, 2]])
        >>> bt.pools.win_rate_between(one, other).mean
        array([0.625, 1.   ])

    Derived here (all pairs of subsets).
    """
    share = _share_of_ties(ties)
    if pool.num_prompts != opponent.num_prompts:
        raise ValueError(
            f"opponent must have the prompts of pool, {pool.num_prompts}, got "
            f"{opponent.num_prompts}: match them first."
        )
    numbers, (against,) = checked_numbers(pool, n), checked_numbers(opponent, [opponent_n])
    beaten = np.zeros_like(pool.scores)  # what each answer of pool scores against best-of-m
    for row, (scores, count) in enumerate(zip(opponent.scores, opponent.counts, strict=True)):
        mass = np.concatenate([[0.0], np.cumsum(best_of_n_weights(count, [against])[0])])
        low, high = (np.searchsorted(scores[:count], pool.scores[row], s) for s in _SIDES)
        beaten[row] = mass[low] + share * (mass[high] - mass[low])
    if temperature is None:
        return best_of_n_curve(pool, n=numbers, of=beaten)
    return soft_best_of_n_curve(pool, n=numbers, temperature=temperature, of=beaten)


_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def _soft_win_rate(
    pool: Pool, numbers: NDArray[np.int64], temperature: float, share: float
) -> Curve:
    (heat,) = checked_temperatures(temperature).tolist()
    real, counts = is_answer(pool), pool.counts[:, None]
    beaten = np.zeros_like(pool.scores)
    for row, (scores, count) in enumerate(zip(pool.scores, pool.counts, strict=True)):
        low, high = (np.searchsorted(scores[:count], scores[:count], s) for s in _SIDES)
        beaten[row, :count] = low + share * (high - low - 1)
    weights = log_weights(pool, heat)
    extra = np.zeros_like(beaten)  # a tie with the answer before it counts half for each by itself
    extra[:, 1:] = np.where(pool.scores[:, 1:] == pool.scores[:, :-1], 2 * share - 1, 0)
    pairs = np.sum(np.exp(weights) * beaten, axis=1, keepdims=True) / (counts * (counts - 1))
    start = numbers * (numbers - 1) * pairs
    inside = integral(pool, numbers, weights, np.where(real, extra, 0), start, "places")
    every = soft_best_of_n_curve(pool, n=numbers, temperature=heat, of=beaten)
    per_prompt = (every.per_prompt - inside) / (counts - numbers)
    return Curve(numbers, per_prompt, pool.weights, every.temperature)


def _share_of_ties(ties: Ties) -> float:
    """What a tie counts."""
    if ties not in ("half", "win", "loss"):
        raise ValueError(f"ties must be 'half', 'win' or 'loss', got {ties!r}.")
    return {"half": 0.5, "win": 1.0, "loss": 0.0}[ties]


def _chance_below(num_others: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[G, N]``: the chance C(m, n)/C(N − 1, n) that n others are among the lowest m < N."""
    weights = best_of_n_weights(num_others, numbers)
    return np.concatenate([np.zeros((numbers.size, 1)), np.cumsum(weights, axis=1)], axis=1)


def _shares(places: NDArray[np.intp]) -> NDArray[np.float64]:
    """``[rows, N]``: the share of a row's entries that are 0, 1, …, N − 1."""
    num_rows, size = places.shape
    cells = places + size * np.arange(num_rows)[:, None]
    return np.bincount(cells.ravel(), minlength=places.size).reshape(places.shape) / size
