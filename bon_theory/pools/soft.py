r"""The reward of soft best-of-n from a pool: all subsets, or the pool drawn from again.

A subset :math:`S` of :math:`n` answers returns its :math:`i`-th with probability
:math:`w_i / \sum_{j \in S} w_j`, :math:`w = e^{r/\lambda}`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown
from bon_theory.pools.curves import Curve, checked_numbers, checked_values, is_answer
from bon_theory.pools.pool import Pool
from bon_theory.pools.quotients import integral, log_weights

__all__ = ["soft_best_of_n_curve", "soft_best_of_n_law"]

Estimate = Literal["subsets", "resampled", "jackknife"]
_ESTIMATES = ("subsets", "resampled", "jackknife")


def soft_best_of_n_curve(
    pool: Pool,
    *,
    n: ArrayLike,
    temperature: ArrayLike,
    of: ArrayLike | None = None,
    estimate: Estimate = "subsets",
) -> Curve:
    r"""Mean score of soft best-of-n, at every pair of an n and a temperature.

    .. math:: \binom Nn^{-1} \sum_{|S| = n} \sum_{i \in S}
              \frac{e^{r_i/\lambda}}{\sum_{j \in S} e^{r_j/\lambda}}\; g_i

    Args:
        pool: the answers.
        n: whole numbers of candidates, at most the answers that every prompt has.
        temperature: :math:`\lambda > 0`, one or several. The work grows with the range of the
            scores over the least of them; at 0 it is :func:`best_of_n_curve`.
        of: as in :func:`best_of_n_curve`.
        estimate: "subsets", all of them exactly, which is unbiased (default); "resampled", n draws
            from the pool with replacement, which is exact for the pool and biased for the model;
            "jackknife", that with its bias of order 1/N taken off.

    Returns:
        The curve at all pairs, those of the first temperature first; rounding leaves some 1e-13 of
        the values' spread.

    Raises:
        ValueError: ``n`` or ``of`` as in :func:`best_of_n_curve`, for one answer less with
            "jackknife"; a temperature is not positive and finite; ``estimate`` is unknown.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.0, 0.5, 1.0]])
        >>> bt.pools.soft_best_of_n_curve(pool, n=[1, 2, 3], temperature=0.5).mean.round(6)
        array([0.5     , 0.703952, 0.787605])

    Derived here; the law with replacement is that of [V] Lemma 1.
    """
    if estimate not in _ESTIMATES:
        raise ValueError(f"estimate must be one of {', '.join(_ESTIMATES)}, got {shown(estimate)}.")
    temperatures = checked_temperatures(temperature)
    left_out = int(estimate == "jackknife")
    numbers = checked_numbers(pool, n, lambda counts: counts - left_out)
    values = checked_values(pool, of)
    parts = [_curve(pool, numbers, scale, values, estimate) for scale in temperatures.tolist()]
    return Curve(
        np.tile(numbers, temperatures.size),
        np.concatenate(parts, axis=1),
        pool.weights,
        np.repeat(temperatures, numbers.size),
    )


def _curve(
    pool: Pool,
    numbers: NDArray[np.int64],
    temperature: float,
    values: NDArray[np.float64],
    estimate: Estimate,
) -> NDArray[np.float64]:
    """``[B, G]`` at one temperature."""
    real, counts = is_answer(pool), pool.counts[:, None]
    g = np.where(real, values, 0)
    centre = np.sum(g / counts, axis=1, keepdims=True)
    g = np.where(real, g - centre, 0)  # what is common to all answers makes no errors
    weights = log_weights(pool, temperature)
    start = numbers * np.sum(g * np.exp(weights) / counts, axis=1, keepdims=True)
    return centre + integral(pool, numbers, weights, g, start, estimate)


def soft_best_of_n_law(pool: Pool, *, n: ArrayLike, temperature: float) -> NDArray[np.float64]:
    r"""The law of soft best-of-n that draws from the pool, with replacement.

    .. math:: P_i = \frac{n}{N}\, E\, \frac{w_i}{w_i + w_{J_2} + \dots + w_{J_n}}, \qquad
              w = e^{r/\lambda}, \quad J_k \text{ uniform on the answers}.

    Args:
        pool: the answers.
        n: ``[G]`` whole numbers of candidates, at most the answers that every prompt has.
        temperature: :math:`\lambda > 0`.

    Returns:
        ``[B, G, N]`` in the pool's order, 0 beyond a prompt's count.

    Raises:
        ValueError: as :func:`soft_best_of_n_curve`.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.0, 0.5, 1.0]])
        >>> bt.pools.soft_best_of_n_law(pool, n=2, temperature=0.5).round(4)
        array([[[0.1974, 0.3333, 0.4693]]])

    [V] Lemma 1 for the empirical law; the integral is derived here.
    """
    (heat,) = checked_temperatures(temperature).tolist()
    numbers = checked_numbers(pool, n)
    weights = log_weights(pool, heat)
    start = numbers[:, None] * (np.exp(weights) / pool.counts[:, None])[:, None]
    return integral(pool, numbers, weights, np.zeros_like(weights), start, "law")


def checked_temperatures(temperature: ArrayLike) -> NDArray[np.float64]:
    """One or several, as a list."""
    temperatures = np.atleast_1d(np.asarray(temperature, np.float64))
    if temperatures.ndim != 1 or not np.all((temperatures > 0) & np.isfinite(temperatures)):
        raise ValueError(
            f"temperature must be positive and finite, got {shown(temperature)}: "
            "at 0 take best_of_n_curve."
        )
    return temperatures
