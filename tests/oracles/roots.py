"""Inverse problems by scipy's brentq over laws written out in NumPy."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[np.float64]
Law: TypeAlias = tuple[Sequence[float], Sequence[float]]
"""Probabilities and rewards."""


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of opposite signs at the ends is zero."""
    return cast(float, brentq(function, low, high, xtol=1e-14, maxiter=500))


def levels(law: Law) -> tuple[Array, Array, Array]:
    """Distinct rewards ascending, their probabilities, and the distribution function."""
    values, mass = np.unique(np.asarray(law[1], float)), by_level(law, law[0])
    cdf = np.cumsum(mass)
    cdf[-1] = 1.0
    return values, mass, cdf


def by_level(law: Law, probs: Sequence[Any]) -> Array:
    """Probabilities of outcomes, added up by reward."""
    _, inverse = np.unique(np.asarray(law[1], float), return_inverse=True)
    return np.asarray(np.bincount(inverse, weights=np.array([float(p) for p in probs])), float)


def best_of_n(law: Law, n: float) -> Array:
    """F^n − F(−)^n per reward level."""
    _, _, cdf = levels(law)
    return np.diff(cdf**n, prepend=0.0)


def functional(name: str, law: Law, selected: Array) -> float:
    """One of "kl", "reward" and the three win rates, of what is selected, per reward level."""
    values, mass, cdf = levels(law)
    if name == "kl":
        safe = np.where(selected > 0, selected, 1.0)
        return float(np.sum(selected * np.log(safe / mass)))
    if name == "reward":
        return float(selected @ values)
    share = {"half": 0.5, "win": 1.0, "loss": 0.0}[name]
    return float(selected @ (cdf - (1 - share) * mass))
