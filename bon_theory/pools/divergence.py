r"""How far best-of-n goes from the model, from the log-probabilities of answers or without them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory.pools.curves import Curve, best_of_n_weights, checked_numbers, tie_averaged
from bon_theory.pools.pool import Pool

__all__ = ["kl_curve"]

UPPER_BOUND = "upper bound log n - (n - 1)/n"
ESTIMATE = "estimate by the log-probabilities of answers"


def kl_curve(pool: Pool, *, n: ArrayLike | None = None) -> Curve:
    r"""KL divergence of best-of-n from the model, in nats.

    With log-probabilities it is the mean over all subsets of n answers of

    .. math:: \hat D_n(\varepsilon) = (1 - \varepsilon)^n \Bigl(\log n + (n - 1)
              \log(1 - \varepsilon) - \frac{n - 1}{n}\Bigr) + \bigl(1 - (1 - \varepsilon)^n\bigr)
              \log \frac{1 - (1 - \varepsilon)^n}{\varepsilon},

    :math:`\varepsilon` the probability of the subset's best answer: its mean is at least the
    divergence. Without them it is :math:`\log n - (n - 1)/n`, which no law exceeds. ``label`` of
    the result says which of the two it is.

    Args:
        pool: the answers, with ``log_probs`` or without.
        n: as in :func:`best_of_n_curve`.

    Raises:
        ValueError: ``n`` as in :func:`best_of_n_curve`.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.2, 0.9, 0.4]], log_probs=[[-0.5, -2.0, -1.2]])
        >>> bt.pools.kl_curve(pool, n=3).mean.round(4)
        array([0.4307])
        >>> bt.pools.kl_curve(bt.pools.Pool.from_lists([[0.2, 0.9, 0.4]]), n=3).label
        'upper bound log n - (n - 1)/n'

    [B] equation 12, §4; that the estimate's mean is at least the divergence is proved on the page
    of bounds.
    """
    numbers = checked_numbers(pool, n)
    bound = np.log(numbers) - (numbers - 1) / numbers
    if pool.log_probs is None:
        per_prompt = np.tile(bound, (pool.num_prompts, 1))
        return Curve(numbers, per_prompt, pool.weights, label=UPPER_BOUND)
    log_probs = np.where(np.isnan(pool.log_probs), 0, pool.log_probs)
    per_prompt = np.empty((pool.num_prompts, numbers.size))
    for column, number in enumerate(numbers.tolist()):
        values = tie_averaged(pool, _divergence(log_probs, number))
        for count, rows in pool.of_count():
            weights = best_of_n_weights(count, [number])[0]
            per_prompt[rows, column] = values[rows, :count] @ weights
    return Curve(numbers, per_prompt, pool.weights, label=ESTIMATE)


def _divergence(log_probs: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The formula above at every answer."""
    certain = log_probs == 0
    rare = log_probs < -700  # an answer that is never drawn twice
    log_prob = np.where(certain | rare, -1.0, log_probs)
    small = log_prob < -0.7  # each form where it is accurate, and not where it is infinite
    log_rest = np.where(
        small, np.log1p(-np.exp(np.where(small, log_prob, -1.0))), np.log(-np.expm1(log_prob))
    )
    misses = np.exp(n * log_rest)
    hits = -np.expm1(n * log_rest)
    missed = misses * (np.log(n) + (n - 1) * log_rest - (n - 1) / n)
    value = missed + hits * (np.log(hits) - log_prob)
    return np.where(certain, 0.0, np.where(rare, np.log(n) - (n - 1) / n, value))
