"""Roots and maxima of a function of one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from scipy.optimize import brentq, minimize_scalar


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where ``function``, of opposite signs at ``low`` and ``high``, is zero; to 1e-12.

    Example:
        >>> round(root(lambda x: x * x - 2, 0.0, 2.0), 10)
        1.4142135624
    """
    return cast(float, brentq(function, low, high, xtol=1e-12))


def maximum(
    function: Callable[[float], float], low: float, high: float, *, accuracy: float
) -> tuple[float, float]:
    """The largest value of a unimodal ``function``, and where it is, to ``accuracy``.

    Example:
        >>> value, where = maximum(lambda x: x * (2 - x), 0.0, 3.0, accuracy=1e-6)
        >>> round(value, 6), round(where, 4)
        (1.0, 1.0)
    """
    options = {"xatol": accuracy}
    found: Any = minimize_scalar(
        lambda x: -function(x), bounds=(low, high), method="bounded", options=options
    )
    return -float(found.fun), float(found.x)
