"""A true reward under selection by a proxy: enumeration of batches, closed forms, plain grids."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import cast

import numpy as np
import scipy.integrate
import scipy.optimize
from numpy.typing import NDArray

Array = NDArray[np.float64]


def batches(probs: Sequence[float], n: int) -> tuple[NDArray[np.intp], Array]:
    """Every batch of n outcomes, ``[K^n, n]``, and its probability."""
    index = np.array(list(product(range(len(probs)), repeat=n)))
    return index, np.prod(np.asarray(probs)[index], axis=1)


def softmax(rewards: Array, temperature: float) -> Array:
    """Probabilities proportional to e^{r/λ} along the last axis."""
    weights = np.exp((rewards - rewards.max(axis=-1, keepdims=True)) / temperature)
    return cast(Array, weights / weights.sum(axis=-1, keepdims=True))


def soft_value(
    probs: Sequence[float], rewards: Array, values: Array, n: int, temperature: float
) -> float:
    """Mean value of what soft best-of-n picks, batch by batch."""
    index, chance = batches(probs, n)
    picked = softmax(rewards[index], temperature)
    return float(chance @ np.sum(picked * values[index], axis=1))


def softmax_covariance(
    probs: Sequence[float], rewards: Array, values: Array, n: int, temperature: float
) -> float:
    """Mean over batches of the covariance of value and reward under the softmax."""
    index, chance = batches(probs, n)
    picked = softmax(rewards[index], temperature)
    f, r = values[index], rewards[index]
    mean_f, mean_r = ((picked * x).sum(axis=1, keepdims=True) for x in (f, r))
    return float(chance @ np.sum(picked * (f - mean_f) * (r - mean_r), axis=1))


def marginal_covariance(
    probs: Sequence[float], rewards: Array, values: Array, n: int, temperature: float
) -> float:
    """The covariance under the law of what is picked: a surrogate, not the derivative."""
    index, chance = batches(probs, n)
    mass = chance[:, None] * softmax(rewards[index], temperature)
    law = np.bincount(index.ravel(), weights=mass.ravel(), minlength=len(probs))
    return float(law @ (values * rewards) - (law @ values) * (law @ rewards))


def stationary(function: Callable[[float], float], low: float, high: float) -> float:
    """Where the derivative, given in closed form or as a quadrature, vanishes."""
    return cast(float, scipy.optimize.brentq(function, low, high, xtol=1e-13))


def integral(function: Callable[[float], float]) -> float:
    """Over the unit interval."""
    return scipy.integrate.quad(function, 0, 1, epsabs=1e-14, epsrel=1e-13, limit=400)[0]


def noisy_best_of_n(n: float, noise: object) -> float:
    """Mean standard normal t of the best of n proxies t + ε, ε a frozen law of scipy.stats.

    A sum over a fine grid of t within one over a grid of p that reaches far into the tails.
    """
    law = cast("scipy.stats.rv_continuous", noise)
    t = np.linspace(-9, 9, 361)
    mass = np.exp(-t * t / 2) / np.sqrt(2 * np.pi) * (t[1] - t[0])
    x = np.linspace(-14, 14, 2801)
    p, width = np.sinh(x), np.cosh(x) * (x[1] - x[0])
    gaps = p[:, None] - t[None, :]
    density = law.pdf(gaps)
    cdf = law.cdf(gaps) @ mass
    return float(np.sum(width * n * cdf ** (n - 1) * (density @ (mass * t))))
