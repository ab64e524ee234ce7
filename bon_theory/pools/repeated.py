r"""A judge that scores repeatedly: select by one scoring, report by the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bon_theory._arguments import shown
from bon_theory.pools.curves import Curve, best_of_n_curve
from bon_theory.pools.pool import Pool

__all__ = ["held_out_curve", "length_normalised"]


def held_out_curve(scorings: Sequence[ArrayLike], *, n: ArrayLike | None = None) -> Curve:
    r"""Mean of best-of-n by a judge's scoring, as its other scorings see it.

    .. math:: \frac1J \sum_j \hat R_n\Bigl(\text{select by } r^{(j)};\ \text{average }
              \frac1{J-1} \sum_{k \ne j} r^{(k)}\Bigr)

    What is selected by a noisy score looks better by it than it is; another scoring of the same
    answers does not flatter.

    Args:
        scorings: J of them, each ``[B, N]`` or one list per prompt, in the same order.
        n: as in :func:`best_of_n_curve`.

    Raises:
        ValueError: fewer than two scorings, or of different lengths.

    Example:
        >>> import bon_theory as bt
        >>> first, second = [[0.9, 0.1, 0.5]], [[0.3, 0.2, 0.6]]
        >>> bt.pools.held_out_curve([first, second], n=[1, 3]).mean.round(4)
        array([0.4333, 0.4   ])

    Standard (sample splitting), averaged over which scoring selects.
    """
    if len(scorings) < 2:
        raise ValueError(
            f"scorings must be at least 2, got {len(scorings)}: have answers rescored."
        )
    tables = [[np.asarray(row, np.float64) for row in np.asarray(s, object)] for s in scorings]
    shapes = {tuple(row.shape for row in table) for table in tables}
    if len(shapes) > 1:
        raise ValueError(f"scorings must be of the same answers, got shapes {shown(shapes)}.")
    curves = []
    for chosen, table in enumerate(tables):
        others = [other for index, other in enumerate(tables) if index != chosen]
        truth = [np.mean(rows, axis=0) for rows in zip(*others, strict=True)]
        pool = Pool.from_lists(table, true_scores=truth)
        curves.append(best_of_n_curve(pool, n=n, of="true_scores"))
    mean = np.mean([curve.per_prompt for curve in curves], axis=0)
    return dataclasses.replace(curves[0], per_prompt=mean)


def length_normalised(
    scores: Sequence[ArrayLike], lengths: Sequence[ArrayLike], *, exponent: float = 1.0
) -> list[np.ndarray]:
    r"""Scores over a power of the answers' lengths, :math:`r_i / \ell_i^{\,a}`.

    For sums over tokens, such as log-probabilities, which otherwise favour short answers; 1 is the
    mean per token and 0 the sum.

    Args:
        scores: one list per prompt.
        lengths: of the same answers, positive.
        exponent: :math:`a`.

    Raises:
        ValueError: a length is not positive and finite, or lists differ in length.

    Example:
        >>> import bon_theory as bt
        >>> bt.pools.length_normalised([[-6.0, -4.0]], [[3, 1]])
        [array([-2., -4.])]

    Standard.
    """
    found = []
    for prompt, (row, size) in enumerate(zip(scores, lengths, strict=True)):
        values, sizes = np.asarray(row, np.float64), np.asarray(size, np.float64)
        if values.shape != sizes.shape or not np.all((sizes > 0) & np.isfinite(sizes)):
            raise ValueError(
                f"lengths of prompt {prompt} must be positive, one per score, got {shown(size)}."
            )
        found.append(values / sizes**exponent)
    return found
