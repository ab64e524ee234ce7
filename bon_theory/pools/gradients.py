r"""Weights of answers in the gradient of best-of-n: what each contributes to the next step."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown, whole_number
from bon_theory.pools.curves import ranked_weights

__all__ = ["gradient_weights"]


def gradient_weights(scores: ArrayLike, *, n: int, baseline: bool = True) -> NDArray[np.float64]:
    r"""Weights :math:`s_i` with which :math:`\sum_i s_i \nabla \log \pi(y_i)` is unbiased.

    For the gradient of the mean of best-of-n, pass@n where scores are 0 and 1:

    .. math:: s_i = \binom Nn^{-1} \sum_{S \ni i} \Bigl(\max_S r - \max_{S \setminus i} r\Bigr),

    over subsets of n answers; the baseline, what the others reach without answer i, has mean zero
    beside its score function, and without it :math:`\max_S r` stands alone.

    Args:
        scores: ``[..., N]``, finite, answers of one prompt along the last axis, in any order.
        n: from 1 to N.
        baseline: whether it is subtracted, which lowers the variance. At n = 1 there are no others,
            and the mean of the other answers takes its place.

    Returns:
        ``[..., N]`` in the order of the scores; tied answers have equal weights.

    Raises:
        ValueError: ``scores`` are not finite numbers, or ``n`` is not a whole number from 1 to N.

    Example:
        >>> import bon_theory as bt
        >>> bt.pools.gradient_weights([0, 1, 0, 0], n=2, baseline=False).round(4)
        array([0.1667, 0.5   , 0.1667, 0.1667])
        >>> bt.pools.gradient_weights([0, 1, 0, 0], n=2).round(4)
        array([0. , 0.5, 0. , 0. ])

    Walder and Karkhanis 2025, theorem 1 for 0 and 1 and equation 19 for the rest; derived here: the
    shared weights of ties.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim == 0 or not np.all(np.isfinite(values)):
        raise ValueError(f"scores must be finite numbers along an axis, got {shown(scores)}.")
    size = values.shape[-1]
    n = whole_number("n", n)
    if n > size:
        raise ValueError(f"n must be at most {size}, the number of answers, got {n}.")
    order = np.argsort(values, axis=-1, kind="stable")
    x = np.take_along_axis(values, order, axis=-1)
    if n == 1:
        others = (x.sum(axis=-1, keepdims=True) - x) / max(size - 1, 1)
        weights = (x - others * (baseline and size > 1)) / size
    else:
        best = ranked_weights(size, [n], 1)[0]
        weights = best * x
        if baseline:
            # Only the best of a subset loses by its absence, down to the best of the others.
            for i in range(n - 1, size):
                weights[..., i] -= best[i] * (x[..., :i] @ ranked_weights(i, [n - 1], 1)[0])
        else:
            above = np.zeros(size)  # beside the i-th, the best is a higher one
            above[1:] = ranked_weights(size - 1, [n - 1], 1)[0] * n / size
            earned = above * x
            weights += earned.sum(axis=-1, keepdims=True) - np.cumsum(earned, axis=-1)
    back = np.empty_like(weights)
    np.put_along_axis(back, order, weights, axis=-1)
    return back
