r"""How far best-of-n goes from the model, from the log-probabilities of answers or without them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory.pools.curves import Curve, best_of_n_weights, checked_numbers, tie_averaged
from bon_theory.pools.pool import Pool
from bon_theory.pools.soft import soft_best_of_n_law

__all__ = ["kl_curve"]

UPPER_BOUND = "upper bound log n - (n - 1)/n"
ESTIMATE = "estimate by the log-probabilities of answers"
OF_THE_POOL = "estimate by the pool's own law, at most log n - (n - 1)/n"
_CELLS = 1 << 22  # numbers of a law that are held at once


def kl_curve(pool: Pool, *, n: ArrayLike | None = None, temperature: float | None = None) -> Curve:
    r"""KL divergence of best-of-n from the model, in nats.

    With log-probabilities it is the mean over all subsets of n answers of

    .. math:: \hat D_n(\varepsilon) = (1 - \varepsilon)^n \Bigl(\log n + (n - 1)
              \log(1 - \varepsilon) - \frac{n - 1}{n}\Bigr) + \bigl(1 - (1 - \varepsilon)^n\bigr)
              \log \frac{1 - (1 - \varepsilon)^n}{\varepsilon},

    :math:`\varepsilon` the probability of the subset's best answer: its mean is at least the
    divergence. Without them it is :math:`\log n - (n - 1)/n`, which no law exceeds. Of
    soft best-of-n the probability ratio of an answer with weight :math:`w = e^{r/\lambda}` is, for
    every model,

    .. math:: \frac{P(y)}{\pi(y)} = n\, E\, \frac{w}{w + w_2 + \dots + w_n},

    a matter of scores alone: the divergence of the pool's own law
    (:func:`soft_best_of_n_law`) from equal chances estimates it without log-probabilities. It never
    exceeds :math:`\log n - (n - 1)/n`. ``label`` of the result says which of the three it is.

    Args:
        pool: the answers, with ``log_probs`` or without.
        n: as in :func:`best_of_n_curve`.
        temperature: :math:`\lambda > 0` of soft best-of-n; None for best-of-n.

    Raises:
        ValueError: ``n`` as in :func:`best_of_n_curve`; ``temperature`` is not positive and finite.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.2, 0.9, 0.4]], log_probs=[[-0.5, -2.0, -1.2]])
        >>> bt.pools.kl_curve(pool, n=3).mean.round(4)
        array([0.4307])
        >>> bt.pools.kl_curve(bt.pools.Pool.from_lists([[0.2, 0.9, 0.4]]), n=3).label
        'upper bound log n - (n - 1)/n'
        >>> bt.pools.kl_curve(pool, n=3, temperature=0.5).mean.round(4)
        array([0.0682])

    [B] equation 12, §4; that the estimate's mean is at least the divergence is proved on the page
    of bounds. Derived here: the ratio of soft best-of-n. The pool's
    law is below it by a share of order 1/N: with normal scores at one half of their deviation, by
    1.5 % for n = 4 and 4 % for n = 16 of 64 answers, and by a quarter of that of 256.
    """
    numbers = checked_numbers(pool, n)
    if temperature is not None:
        return _soft(pool, numbers, temperature)
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


def _soft(pool: Pool, numbers: NDArray[np.int64], temperature: float) -> Curve:
    size = max(1, _CELLS // (numbers.size * pool.scores.shape[1]))
    parts = []
    for at in range(0, pool.num_prompts, size):
        part = pool.take(np.arange(at, min(at + size, pool.num_prompts)))
        law = soft_best_of_n_law(part, n=numbers, temperature=temperature)
        ratio = np.where(law > 0, law * part.counts[:, None, None], 1)
        parts.append(np.sum(law * np.log(ratio), axis=-1))
    heat = np.full(numbers.size, float(temperature))
    return Curve(numbers, np.concatenate(parts), pool.weights, heat, OF_THE_POOL)


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
