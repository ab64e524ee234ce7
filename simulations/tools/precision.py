"""Double precision where it is needed: asked for, or switched on around a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

P = ParamSpec("P")
T = TypeVar("T")


def require_float64(name: str) -> None:
    """Refuse to go on in single precision.

    Raises:
        ValueError: without float64; it names the function, and says how to switch it on.
    """
    if jnp.zeros(()).dtype != jnp.float64:
        raise ValueError(f"{name} needs float64, got float32: use jax.enable_x64(True)")


def float64(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function in double precision, whatever the caller's setting."""

    @functools.wraps(function)
    def in_double(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return in_double
