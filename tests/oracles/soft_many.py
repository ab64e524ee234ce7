"""Soft best-of-n on hundreds of outcomes, every one at every node: O(K²) and plain, in NumPy.

The arrival race as in ``soft_real_n``, in float64. Weights are to be multiples of the step in
logarithms, so that the logarithm of each t·w is exact.
"""

import numpy as np


def log_law(
    log_probs: np.ndarray, log_weights: np.ndarray, n: float, *, step: float = 1 / 16
) -> np.ndarray:
    """Return log P, by the trapezoidal rule in s = log t over all of the line that matters."""
    first = np.floor((-50 - np.log(n) - log_weights.max()) / step)
    last = np.ceil((5 - log_weights.min()) / step)
    law = np.full(len(log_probs), -np.inf)
    for start in np.arange(first, last, 256):
        s = (start + np.arange(256.0)) * step
        arrivals = np.exp(np.minimum(s[:, None] + log_weights, 600))
        arrived = -np.expm1(-arrivals) @ np.exp(log_probs)
        survive = np.logaddexp.reduce(log_probs - arrivals, axis=1)
        near_one = arrived < 0.5
        log_m = np.where(near_one, np.log1p(-np.where(near_one, arrived, 0)), survive)
        others = s + np.log(step * n) + (n - 1) * log_m
        terms = others[:, None] + (log_probs + log_weights) - arrivals
        law = np.logaddexp(law, np.logaddexp.reduce(terms, axis=0))
    return law


def log_law_of_duels(log_probs: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Return log P at n = 2: P(x) = 2 π(x) E w(x)/(w(x) + w(X'))."""
    gaps = log_weights[None, :] - log_weights[:, None]
    wins = log_probs[None, :] - np.logaddexp(0, gaps)
    return np.log(2) + log_probs + np.logaddexp.reduce(wins, axis=1)
