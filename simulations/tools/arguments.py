"""Checks of plain numbers: what was got, and what to do about it."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-9  # of a sum of probabilities in float64


def integer_within(name: str, value: Any, *, at_least: int = 1, at_most: int, remedy: str) -> int:
    """``value`` as an int in [at_least, at_most].

    Raises:
        ValueError: for anything else; a float is not whole even where it has no fraction.

    Example:
        >>> integer_within("n", 2.5, at_most=9, remedy="candidates are counted")
        Traceback (most recent call last):
        ...
        ValueError: n must be a whole number in [1, 9], got 2.5: candidates are counted
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not at_least <= number <= at_most:
        raise ValueError(
            f"{name} must be a whole number in [{at_least}, {at_most}], got {value!r}: {remedy}"
        )
    return number


def positive_float(name: str, value: Any) -> float:
    """``value`` as a positive, finite float.

    Raises:
        ValueError: for anything else.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}: choose {name} > 0")
    return number


def probabilities(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """``value`` as an array ``[K]`` that sums to one, exactly so if nearly.

    Raises:
        ValueError: for other shapes, negative numbers, or a sum that is off by more than 1e-9.
    """
    law = np.asarray(value, np.float64)
    if law.ndim != 1 or not (np.all(law >= 0) and abs(law.sum() - 1) <= _ROUNDING):
        raise ValueError(
            f"{name} must be [K] nonnegative numbers that sum to one within 1e-9, got shape "
            f"{law.shape} with sum {law.sum()} and smallest {law.min(initial=0)}: divide by the sum"
        )
    return law / law.sum()


def counts_of(value: ArrayLike, law: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Counts ``[K]`` as floats, one per outcome of the ``law``, which has that ``name``.

    Raises:
        ValueError: for another shape, fractions, negative numbers, or no trials at all.
    """
    counts = np.asarray(value, np.float64)
    if counts.shape != law.shape:
        raise ValueError(f"counts must have the {name}'s shape {law.shape}, got {counts.shape}")
    if not (np.all(counts >= 0) and np.all(counts % 1 == 0) and counts.sum() >= 1):
        raise ValueError(f"counts must be whole, nonnegative and not all 0, got {counts}")
    return counts
