"""Expected rewards of continuous laws by composite Gauss–Legendre rules in the rank's log-odds.

The best of n needs one integral. Of two candidates the soft choice keeps, at temperature λ,
    (x e^{x/λ} + y e^{y/λ}) / (e^{x/λ} + e^{y/λ}) = (x + y)/2 + |x − y|/2 · tanh(|x − y|/2λ)
on average: a double integral, cut at the jumps and kinks of the quantile function and graded
geometrically towards the diagonal, where a small temperature makes it steep.
"""

from collections.abc import Callable

import numpy as np

Reward = Callable[[np.ndarray], np.ndarray]
"""The reward at an array of log-odds of ranks."""

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def composite(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds and weights of 16 nodes on every piece between ``edges [..., E]``."""
    middle, half = (edges[..., 1:] + edges[..., :-1]) / 2, (edges[..., 1:] - edges[..., :-1]) / 2
    x = middle[..., None] + half[..., None] * NODES
    weights = half[..., None] * WEIGHTS
    return x.reshape(*edges.shape[:-1], -1), weights.reshape(*edges.shape[:-1], -1)


def _log_density(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, x) - np.logaddexp(0, -x)


def best_of_n(
    reward: Reward, n: float, breaks: tuple[float, ...] = (), end: float = 300.0
) -> float:
    """E of the best of n: ∫ r(x) n u^{n−1} u (1 − u) dx over |x| ≤ ``end``."""
    near = np.arange(-40.0, 40.0, 1 / 16)
    edges = np.unique(np.concatenate([np.arange(-end, end + 1, 0.5), near, breaks]))
    x, weights = composite(edges)
    density = n * np.exp(_log_density(x) - (n - 1) * np.logaddexp(0, -x))
    return float(np.sum(weights * density * reward(x)))


def soft_of_two(
    reward: Reward, temperatures: list[float], breaks: tuple[float, ...] = ()
) -> list[float]:
    """E of the soft choice of two at every temperature, from |x| ≤ 100."""
    far = np.arange(36.0, 101.0, 4.0)
    x, weights = composite(np.unique(np.concatenate([-far, np.arange(-36, 36, 0.5), far, breaks])))
    steps = np.concatenate(
        [np.arange(200, 72, -8), np.arange(72, 1, -2), 0.5 ** np.arange(36), [0]]
    )
    cuts = np.broadcast_to(np.array(breaks), (x.size, len(breaks)))
    total = np.zeros(len(temperatures))
    # The pair in order: y below x, and twice that.
    edges = np.concatenate([x[:, None] - steps, np.minimum(cuts, x[:, None])], axis=1)
    y, inner = composite(np.sort(np.maximum(edges, -100.0), axis=1))
    mass = 2 * (weights * np.exp(_log_density(x)))[:, None] * inner * np.exp(_log_density(y))
    apart = inner > 0  # pieces beyond the end are cut to nothing
    first, second = reward(x)[:, None], np.zeros_like(y)
    second[apart] = reward(y[apart])
    for i, temperature in enumerate(temperatures):
        gain = (first - second) / 2 * np.tanh((first - second) / (2 * temperature))
        total[i] = np.sum(mass * ((first + second) / 2 + gain))
    return total.tolist()
