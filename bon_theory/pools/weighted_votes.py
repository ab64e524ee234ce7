r"""Votes weighted by scores, over all subsets: exact where sums of scores can be listed.

Of a random subset of n answers, the answer with the highest sum of scores is returned. That the
right one has the sum s from u of its own, and no other more, ties shared evenly, is a coefficient
of

.. math:: A_u(s) \int_0^1 \prod_b \Bigl(1 + \sum_{v \ge 1} \bigl(L_{b,v}(s) + y E_{b,v}(s)\bigr)
          z^v\Bigr) dy,

that of :math:`z^{n-u}`, over :math:`\binom Nn`: A counts the subsets of u of the right one's
answers with the sum s, L and E those of v of another's with a sum below s and equal to it, and the
integral of :math:`y^m` is the share of one among m + 1. Derived here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory.pools.curves import Curve, checked_numbers
from bon_theory.pools.votes import checked_votes

__all__ = ["weighted_vote_curve"]

_MOST = 1000  # binomials beyond overflow
_CELLS = 1 << 21  # sums times sizes of subsets of one answer's votes
_CHUNK = 1 << 20  # coefficients that are held at once
_EQUAL = 1e-12  # of all scores: sums that differ by less are equal but for rounding

Sums = tuple[NDArray[np.float64], NDArray[np.float64]]
"""``[D]`` ascending, and ``[D, c + 1]``: how many subsets of each size have the sum."""


def weighted_vote_curve(
    answers: Sequence[Sequence[Hashable]],
    right: Sequence[Hashable],
    scores: Sequence[ArrayLike],
    *,
    n: ArrayLike | None = None,
) -> Curve:
    r"""Chance that the vote of n answers, weighted by their scores, is right, over all subsets.

    .. math:: \binom Nn^{-1} \sum_{|S| = n} \frac{1\{R_S(a) = \max_b R_S(b)\}}
              {\#\{b : R_S(b) = \max\}}, \qquad R_S(b) = \sum_{i \in S : a_i = b} r_i.

    The sums of the answers that agree are listed, at most :math:`2^c` for c of them, and far fewer
    where scores repeat, such as 1 to 10 from a judge.

    Args:
        answers: final answers to each prompt, equal where they agree; at most 1,000 each.
        right: the right one for each prompt.
        scores: of the same answers, finite, negative ones too. Only what is in a subset competes.
        n: as in :func:`best_of_n_curve`.

    Raises:
        ValueError: lists of different lengths, more than 1,000 answers, or more sums than can be
            listed: :func:`sampled_vote_curve` then knows the chance to a stated error.

    Example:
        >>> import bon_theory as bt
        >>> votes, scores = [["4", "4", "5"]], [[0.3, 0.3, 0.5]]
        >>> bt.pools.weighted_vote_curve(votes, ["4"], scores).mean.round(4)
        array([0.6667, 0.3333, 1.    ])

    Li et al. 2022 for the vote; the exact mean is derived here.
    """
    labels, values, pool = checked_votes(answers, right, scores)
    if pool.counts.max() > _MOST:
        raise ValueError(
            f"answers must be at most {_MOST} to a prompt, got {pool.counts.max()}: "
            "take sampled_vote_curve."
        )
    numbers = checked_numbers(pool, n)
    rows = [
        _chances(row, weights, wanted, numbers, prompt)
        for prompt, (row, weights, wanted) in enumerate(zip(labels, values, right, strict=True))
    ]
    return Curve(numbers, np.stack(rows), pool.weights)


def _chances(
    row: Sequence[Hashable],
    weights: NDArray[np.float64],
    wanted: Hashable,
    numbers: NDArray[np.int64],
    prompt: int,
) -> NDArray[np.float64]:
    votes: dict[Hashable, list[float]] = {}
    for label, weight in zip(row, weights.tolist(), strict=True):
        votes.setdefault(label, []).append(weight)
    equal = _EQUAL * float(np.abs(weights).sum())
    listed = {label: _listed(np.array(votes[label]), equal, prompt) for label in votes}
    sums, own = listed.pop(wanted, (np.zeros(0), np.zeros((0, 1))))
    sizes, others = int(numbers.max()), list(listed.values())
    chance = np.zeros(numbers.size)
    size = max(1, _CHUNK // (sizes * (len(others) + 1)))
    for at in range(0, sums.size, size):
        part = slice(at, at + size)
        beside = _beside(sums[part], others, equal, sizes - 1)
        for used in range(1, min(own.shape[1], sizes + 1)):
            total = own[part, used] @ beside
            inside = numbers >= used
            chance[inside] += total[numbers[inside] - used]
    return chance / np.array([float(comb(len(row), n)) for n in numbers.tolist()])


def _listed(weights: NDArray[np.float64], equal: float, prompt: int) -> Sums:
    """All sums of some of the weights, nonempty, by how many are in them."""
    sums, table = np.zeros(1), np.zeros((1, weights.size + 1))
    table[0, 0] = 1
    for weight in np.sort(weights):
        both = np.concatenate([sums, sums + weight])
        order = np.argsort(both, kind="stable")
        both = both[order]
        counts = np.concatenate([table, np.roll(table, 1, axis=1)])[order]
        starts = np.flatnonzero(np.diff(both, prepend=-np.inf) > equal)
        sums, table = both[starts], np.add.reduceat(counts, starts, axis=0)
        if table.size > _CELLS:
            raise ValueError(
                f"scores of prompt {prompt} have more sums than can be listed, {weights.size} "
                "answers agree: round scores to few values, or take sampled_vote_curve."
            )
    table[:, 0] = 0
    return sums, table


def _beside(
    sums: NDArray[np.float64], others: Sequence[Sums], equal: float, most: int
) -> NDArray[np.float64]:
    """``[D, most + 1]``: subsets of the others' answers by size, each by its share of the win."""
    pairs = []
    for theirs, table in others:
        low = np.searchsorted(theirs, sums - equal, side="left")
        high = np.searchsorted(theirs, sums + equal, side="right")
        mass = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])
        pairs.append((mass[low], mass[high] - mass[low]))
    tied = sum((pair[1].any(axis=1).astype(int) for pair in pairs), np.zeros(sums.size, int))
    nodes, shares = np.polynomial.legendre.leggauss(int(tied.max(initial=0)) // 2 + 1)
    total = np.zeros((sums.size, most + 1))
    for y, share in zip((nodes + 1) / 2, shares / 2, strict=True):
        series = np.zeros((sums.size, most + 1))
        series[:, 0] = 1
        for below, equals in pairs:
            grown = series.copy()
            for size in range(1, min(below.shape[1], most + 1)):
                counts = below[:, size] + y * equals[:, size]
                grown[:, size:] += counts[:, None] * series[:, : most + 1 - size]
            series = grown
        total += share * series
    return total
