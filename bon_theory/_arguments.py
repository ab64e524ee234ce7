"""Argument checks: what was got, and what to do about it.

Shapes and Python numbers are always checked. Array *values* can only be looked at while they are
concrete; inside ``jit``, ``vmap`` or ``grad`` they are tracers, and an inadmissible scalar then
turns into NaN, which every formula downstream passes on.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Numbers: TypeAlias = "ArrayLike | Sequence[Numbers]"
"""An array, a number, or nested lists of numbers."""

__all__ = [
    "Numbers",
    "first_bad",
    "float_array",
    "is_concrete",
    "on_device",
    "positive",
    "real_array",
    "require",
    "require_batches",
    "reward_array",
    "scalar",
    "shown",
    "static_number",
    "untraced",
    "whole_number",
]


def is_concrete(*values: Any) -> bool:
    """Whether every leaf of ``values`` can be looked at now (none of them is being traced)."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def untraced(array: jax.Array) -> Any:
    """For NumPy, unless it is being traced."""
    return np.asarray(array) if is_concrete(array) else array


def on_device(array: jax.Array | np.ndarray) -> jax.Array:
    """What NumPy holds, for JAX: ``jnp.asarray`` would compile a program for each shape."""
    return jax.device_put(array) if isinstance(array, np.ndarray) else array


def require(condition: Callable[[], Any], message: Callable[[], str], *values: Any) -> None:
    """Raise ``ValueError(message())`` unless ``condition()``; skipped while tracing ``values``."""
    if is_concrete(*values) and not bool(np.all(condition())):
        raise ValueError(message())


def shown(value: Any) -> str:
    """What was got, on one line of a message: at most 80 characters of it."""
    text = str(value) if isinstance(value, np.ndarray | jax.Array) else repr(value)
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."


def float_array(name: str, value: Numbers) -> jax.Array:
    """Probabilities and their like: floating point that can carry them, one axis at least."""
    array = _array(name, value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floating point, got dtype {array.dtype}: "
            f"write the numbers with a decimal point or pass jnp.asarray({name}, float)."
        )
    if jnp.finfo(array.dtype).bits < 32:
        raise ValueError(
            f"{name} must be float32 or float64, got {array.dtype}, which cannot carry "
            f"probabilities: pass {name}.astype(jnp.float32)."
        )
    return _with_outcomes(name, on_device(array))


def real_array(name: str, value: Numbers) -> jax.Array:
    """Scores and their like: any real numbers, such as 0 and 1, booleans or half precision."""
    return _with_outcomes(name, _real(name, value))


def _with_outcomes(name: str, array: jax.Array) -> jax.Array:
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"{name} must hold at least one number along its last axis, got shape {array.shape}."
        )
    return array


def _real(name: str, value: Numbers) -> jax.Array:
    """``value`` in floating point of at least 32 bits, whatever numbers it holds."""
    array = _array(name, value)
    if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == np.bool_:
        # Through float64 while NumPy has it: without x64, JAX would wrap integers at 32 bits.
        wide = np.float64 if isinstance(array, np.ndarray) else jnp.zeros(()).dtype
        return on_device(array.astype(wide))
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}: score outcomes.")
    return on_device(array.astype(np.float32) if jnp.finfo(array.dtype).bits < 32 else array)


def _array(name: str, value: Numbers) -> jax.Array | np.ndarray:
    """``value`` as an array in the type it was given; what JAX has not seen stays with NumPy."""
    if isinstance(value, jax.Array):
        return value
    try:
        array = np.asarray(value)
    except jax.errors.TracerArrayConversionError:  # a list with traced entries
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be an array of numbers, got {shown(value)}: nested lists must be regular."
        ) from None
    if array.dtype == object and all(isinstance(entry, numbers.Real) for entry in array.flat):
        try:
            return array.astype(np.float64)  # fractions, and integers beyond 64 bits
        except OverflowError:
            raise ValueError(
                f"{name} must be within the range of float64, got {shown(value)}: scale them down."
            ) from None
    if array.dtype == np.longdouble:  # JAX has none
        return array.astype(np.float64)
    if array.dtype.kind in "OSUMm":
        raise ValueError(
            f"{name} must be numbers, got {shown(value)}: convert what is there to float first."
        )
    return array


def require_batches(name: str, got: tuple[int, ...], batches: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless shapes ``got`` and ``batches`` broadcast against each other."""
    try:
        np.broadcast_shapes(got, batches)
    except ValueError:
        raise ValueError(
            f"{name} of shape {got} does not broadcast against the batch axes {batches}: "
            "batch axes lead and align from the right; insert axes of length one where needed."
        ) from None


def scalar(
    name: str,
    value: Numbers,
    dtype: Any,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    finite: bool = True,
) -> jax.Array:
    """A parameter such as ``n`` or ``temperature``, one per batch element, as ``dtype``.

    Values outside ``[at_least, at_most]``, NaN, and infinities where ``finite``, raise
    ``ValueError``; while tracing they become NaN instead.
    """
    if not is_concrete(value):
        array = jnp.asarray(value).astype(dtype)
        valid = (array >= at_least) & (array <= at_most) & (jnp.isfinite(array) | (not finite))
        return jnp.where(valid, array, jnp.nan)
    # NumPy, because inside a trace even an operation on concrete arrays is traced.
    given = _numbers(name, value)
    if not np.all((given >= at_least) & (given <= at_most) & (np.isfinite(given) | (not finite))):
        bound = _bound(at_least, at_most, dtype)
        what = f"{'a finite number' if finite else 'a number'} {bound}".rstrip()
        remedy = f"choose {name} {bound}" if bound else "compute it from finite numbers"
        raise ValueError(f"{name} must be {what}, got {shown(given)}: {remedy}.")
    with np.errstate(over="ignore"):
        cast = given.astype(dtype)
    if finite and not np.all(np.isfinite(cast)):
        raise ValueError(
            f"{name} must be representable in {np.dtype(dtype)}, got {shown(given)}: "
            "choose a smaller one."
        )
    return on_device(cast)


def _numbers(name: str, value: Numbers) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float64)
        if np.asarray(value).dtype.kind not in "US" and value is not None:  # NumPy converts both
            return numbers
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} must be a real number or an array, got {shown(value)}.")


def _bound(at_least: float, at_most: float, dtype: Any) -> str:
    """The admissible range in words; nothing for all numbers."""
    if at_most < math.inf:
        return f"in [{at_least:g}, {at_most:g}]"
    if at_least == np.finfo(dtype).tiny:
        return "above 0"
    return f"at least {at_least:g}" if at_least > -math.inf else ""


def static_number(name: str, value: Any) -> float:
    """A Python number on which shapes or closures depend, so that it cannot be traced."""
    try:
        if np.ndim(value) == 0:
            return float(value)
    except (TypeError, ValueError, OverflowError):  # a tracer's is a TypeError
        pass
    raise ValueError(
        f"{name} must be a number known before tracing, got {shown(value)}: pass a float."
    )


def positive(name: str, value: Numbers, dtype: Any) -> jax.Array:
    """A positive, finite parameter: :func:`scalar` from the smallest normal number."""
    return scalar(name, value, dtype, at_least=float(np.finfo(dtype).tiny))


def whole_number(name: str, value: Any, at_least: int = 1) -> int:
    """A static number of things."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < at_least:
        raise ValueError(
            f"{name} must be a whole number of at least {at_least}, got {shown(value)}."
        )
    return int(value)


def first_bad(array: jax.Array, good: Callable[[np.ndarray], np.ndarray]) -> str:
    """The first entry that is not ``good``, and where, for a message."""
    values = np.asarray(array)
    where = np.argwhere(~good(values))
    return (
        f"{values[tuple(where[0])]} at index {tuple(int(i) for i in where[0])}"
        if is_concrete(array)
        else ""
    )


def reward_array(rewards: Numbers, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """The rewards in the type of the probabilities, finite there, one per outcome."""
    array = _real("rewards", rewards)
    if array.ndim == 0 or array.shape[-1] != shape[-1]:
        raise ValueError(
            f"rewards must have one value per outcome, got shape {array.shape} "
            f"for {shape[-1]} outcomes: "
            "the last axes must agree."
        )
    try:
        jnp.broadcast_shapes(array.shape, shape)
    except ValueError:
        raise ValueError(
            f"rewards of shape {array.shape} do not broadcast against shape {shape}: "
            "batch axes lead, outcomes are last."
        ) from None
    array = array.astype(dtype)
    require(
        lambda: np.isfinite(np.asarray(array)),
        lambda: (
            f"rewards must be finite, got {first_bad(array, np.isfinite)}: "
            "drop such outcomes or give them probability zero and a finite reward."
        ),
        array,
    )
    require(
        lambda: (
            array.size == 0  # a batch of no laws
            or np.asarray(array).max() / 2 - np.asarray(array).min() / 2 < np.finfo(dtype).max / 2
        ),
        lambda: "rewards must have a finite range, got one that overflows: scale rewards down.",
        array,
    )
    return array
