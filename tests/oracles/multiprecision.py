"""The one door to mpmath, whose context is built at run time and so has no usable types."""

from typing import Any, TypeAlias

import mpmath

mp: Any = mpmath.mp
Real: TypeAlias = Any  # a multiprecision number
Law: TypeAlias = list[Real]  # probabilities of the outcomes
