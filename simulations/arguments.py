"""Checks of plain numbers: what was got, and what to do about it."""

from __future__ import annotations

import math
import operator
from typing import Any


def whole_number(name: str, value: Any, *, at_least: int = 1, at_most: int, remedy: str) -> int:
    """``value`` as an int in [at_least, at_most].

    Raises:
        ValueError: for anything else; a float is not whole even where it has no fraction.

    Example:
        >>> whole_number("n", 2.5, at_most=9, remedy="candidates are counted")
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


def positive(name: str, value: Any) -> float:
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
