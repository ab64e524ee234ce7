r"""Votes among sampled answers: the majority exactly; by scores or among the bests, from subsets.

Of a random subset of n answers, what a vote returns is a matter of how often each final answer is
in it. With :math:`c_a` of N answers equal to a, the chance that a has :math:`v` votes and no other
more, ties shared evenly, is a coefficient of

.. math:: \int_0^1 \binom{c_a}{v} \prod_{b \ne a} \Bigl(\sum_{u < v} \binom{c_b}{u} z^u
          + y \binom{c_b}{v} z^v\Bigr) dy,

that of :math:`z^{n-v}`, over :math:`\binom Nn`: y counts those that tie, and the integral of
:math:`y^m` is 1/(m + 1), the share of one among m + 1. Derived here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import comb
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown, whole_number
from bon_theory.pools.curves import Curve, best_of_n_weights, checked_numbers
from bon_theory.pools.pool import Pool

__all__ = ["checked_votes", "majority_curve", "sampled_vote_curve"]

_MOST = 1000  # binomials beyond overflow


def majority_curve(
    answers: Sequence[Sequence[Hashable]],
    right: Sequence[Hashable],
    *,
    n: ArrayLike | None = None,
) -> Curve:
    r"""Chance that the majority of n answers is right, over all subsets, ties shared evenly.

    .. math:: \binom Nn^{-1} \sum_{|S| = n} \frac{1\{a \text{ is most frequent in } S\}}
              {\#\{\text{most frequent in } S\}}

    Args:
        answers: final answers to each prompt, equal where they agree; at most 1,000 each.
        right: the right one for each prompt, which need not be among them.
        n: as in :func:`best_of_n_curve`.

    Raises:
        ValueError: lists of different lengths, a prompt without answers or with more than 1,000.

    Example:
        >>> import bon_theory as bt
        >>> bt.pools.majority_curve([["4", "4", "5"]], ["4"], n=[1, 2, 3]).mean.round(4)
        array([0.6667, 0.6667, 1.    ])

    Wang et al. 2022 (self-consistency); the exact mean is derived here.
    """
    labels, pool = _checked(answers, right)
    if pool.counts.max() > _MOST:
        raise ValueError(
            f"answers must be at most {_MOST} to a prompt, got {pool.counts.max()}: "
            "take sampled_vote_curve."
        )
    numbers = checked_numbers(pool, n)
    rows = [_majority(row, wanted, numbers) for row, wanted in zip(labels, right, strict=True)]
    return Curve(numbers, np.stack(rows), pool.weights)


def _majority(
    row: Sequence[Hashable], wanted: Hashable, numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    counts = Counter(row)
    own = counts.pop(wanted, 0)
    most = int(numbers.max())
    nodes, weights = np.polynomial.legendre.leggauss(len(counts) // 2 + 1)
    y, weights = (nodes + 1) / 2, weights / 2
    chance = np.zeros(numbers.size)
    for votes in range(1, min(own, most) + 1):
        series = np.zeros((y.size, most - votes + 1))
        series[:, 0] = 1
        for count in counts.values():
            grown = series.copy()
            for u in range(1, min(votes, count, most - votes) + 1):
                tied = y[:, None] if u == votes else 1.0
                grown[:, u:] += comb(count, u) * tied * series[:, : series.shape[1] - u]
            series = grown
        total = weights @ series  # by how many other answers are in the subset
        inside = (numbers >= votes) & (numbers - votes < total.size)
        chance[inside] += comb(own, votes) * total[numbers[inside] - votes]
    return chance / np.array([float(comb(len(row), n)) for n in numbers.tolist()])


def sampled_vote_curve(
    key: jax.Array,
    answers: Sequence[Sequence[Hashable]],
    right: Sequence[Hashable],
    scores: Sequence[ArrayLike],
    *,
    n: ArrayLike | None = None,
    best_of: int | None = None,
    num_subsets: int = 256,
) -> Curve:
    r"""Chance that a vote by scores among n answers is right, over random subsets of n.

    A *weighted* vote returns the answer with the highest sum of scores in the subset, and a
    *majority of the bests* the one that is most often the best of m of the subset's answers, where

    .. math:: \Pr(a) = \sum_{i : a_i = a} \binom{i - 1}{m - 1} \Big/ \binom nm

    is computed, not sampled. Ties are shared evenly. Where scores repeat or few answers agree,
    :func:`weighted_vote_curve` needs no sampling.

    Args:
        key: consumed: draws the subsets.
        answers: as in :func:`majority_curve`, any number.
        right: the right one for each prompt.
        scores: of the same answers.
        n: as in :func:`best_of_n_curve`.
        best_of: m for a majority of the bests, at most every n; None for a weighted vote.
        num_subsets: per prompt and n; the error of a prompt's chance is at most 1/(2√num_subsets).

    Raises:
        ValueError: lists of different lengths; ``best_of`` above an n.

    Example:
        >>> import jax
        >>> import bon_theory as bt
        >>> votes, scores = [["4", "4", "5"]], [[0.3, 0.3, 0.5]]
        >>> bt.pools.sampled_vote_curve(jax.random.key(0), votes, ["4"], scores, n=3).mean
        array([1.])

    Li et al. 2022 for weighted votes, Rakhsha et al. 2025 for the majority of the bests.
    """
    labels, weights, pool = checked_votes(answers, right, scores)
    num_subsets = whole_number("num_subsets", num_subsets)
    least = 1 if best_of is None else whole_number("best_of", best_of)
    numbers = checked_numbers(pool, n, least=least)
    draws = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    chances = np.empty((pool.num_prompts, numbers.size))
    rows = zip(labels, weights, right, strict=True)
    for prompt, (row, values, wanted) in enumerate(rows):
        names = {name: i for i, name in enumerate(dict.fromkeys(row))}
        code = np.array([names[name] for name in row])
        own = names.get(wanted, -1)
        for column, number in enumerate(numbers.tolist()):
            subsets = draws.permuted(np.tile(np.arange(len(row)), (num_subsets, 1)), axis=1)
            strength = _strength(values, best_of)
            won = [_share(code[s], strength(s), own) for s in subsets[:, :number]]
            chances[prompt, column] = np.mean(won)
    return Curve(numbers, chances, pool.weights)


def _strength(
    values: NDArray[np.float64], best_of: int | None
) -> Callable[[NDArray[np.intp]], NDArray[np.float64]]:
    """What each answer of a subset brings to the vote."""
    if best_of is None:
        return lambda subset: values[subset]

    def often(subset: NDArray[np.intp]) -> NDArray[np.float64]:
        _, group, size = np.unique(values[subset], return_inverse=True, return_counts=True)
        weights = best_of_n_weights(subset.size, [best_of])[0]
        ends = np.cumsum(size)
        mass = np.concatenate([[0.0], np.cumsum(weights)])
        return ((mass[ends] - mass[ends - size]) / size)[group]

    return often


def _share(code: NDArray[np.intp], strength: NDArray[np.float64], own: int) -> float:
    """1 over the number of strongest labels, if ``own`` is one; equal to rounding is equal."""
    if own not in code:
        return 0.0
    present = np.unique(code)
    total = np.bincount(code, strength)[present]
    top = total >= total.max() - 1e-12 * np.abs(strength).sum()
    return float(top[present == own][0]) / float(top.sum())


def _checked(
    answers: Sequence[Sequence[Hashable]], right: Sequence[Hashable]
) -> tuple[list[list[Any]], Pool]:
    """The answers, and a pool that knows how many there are."""
    labels = [list(row) for row in answers]
    if len(labels) != len(right):
        raise ValueError(f"right must be one per prompt, {len(labels)}, got {len(right)}.")
    pairs = zip(labels, right, strict=True)
    return labels, Pool.from_lists([[a == wanted for a in row] for row, wanted in pairs])


def checked_votes(
    answers: Sequence[Sequence[Hashable]], right: Sequence[Hashable], scores: Sequence[ArrayLike]
) -> tuple[list[list[Any]], list[NDArray[np.float64]], Pool]:
    """The answers, their scores, and a pool that knows how many there are."""
    labels, pool = _checked(answers, right)
    if len(scores) != len(labels):
        raise ValueError(f"scores must be one list per prompt, {len(labels)}, got {len(scores)}.")
    weights = [np.asarray(row, np.float64) for row in scores]
    for prompt, (row, values) in enumerate(zip(labels, weights, strict=True)):
        if values.shape != (len(row),) or not np.all(np.isfinite(values)):
            raise ValueError(
                f"scores of prompt {prompt} must be finite, one per answer, got {shown(values)}."
            )
    return labels, weights, pool
