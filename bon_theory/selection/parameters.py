"""What the selections share: checked parameters aligned with the reference, and its weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory.arguments import Numbers, require_batches, scalar
from bon_theory.policy import Policy, aligned

__all__ = [
    "Real",
    "aligned_parameters",
    "float_limits",
    "log_weights_below_top",
    "rewards_below_top",
]


class Real(NamedTuple):
    """A scalar parameter as given, and its range."""

    value: Numbers
    at_least: float
    at_most: float = math.inf
    finite: bool = True


def float_limits(reference: Policy) -> np.finfo[Any]:
    """What the reference's floating-point type can represent."""
    if not isinstance(reference, Policy):
        raise ValueError(
            f"reference must be a Policy, got {type(reference).__name__}: "
            "make one with Policy.from_probs, from_logits, from_samples or from_quantile."
        )
    return jnp.finfo(reference.dtype)


def aligned_parameters(reference: Policy, **parameters: Real) -> tuple[Any, ...]:
    """The reference and the checked parameters, all of one rank; outcomes are the last axis."""
    dtype = float_limits(reference).dtype
    batches, checked = reference.batch_shape, []
    for name, real in parameters.items():
        limits = real._asdict()
        array = scalar(name, limits.pop("value"), dtype, **limits)
        require_batches(name, array.shape, batches)
        batches = jnp.broadcast_shapes(array.shape, batches)
        checked.append(array[..., None])
    (reference,) = aligned(reference, ndim=max(array.ndim for array in checked))
    ndim = reference.log_probs.ndim
    return reference, *(a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in checked)


def log_weights_below_top(reference: Policy, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weights (r - max r) / temperature, and where the temperature counts as zero."""
    below_top = rewards_below_top(reference)
    extent = -jnp.min(below_top, axis=-1, keepdims=True)
    # Beyond this range r/temperature is rounded by more than a tenth and orders no more than ranks
    # do.
    is_hard = temperature <= jax.lax.stop_gradient(extent) * 16 * jnp.finfo(reference.dtype).eps
    is_hard |= temperature == 0
    return jnp.where(is_hard, 0, below_top / jnp.where(is_hard, 1, temperature)), is_hard


def rewards_below_top(reference: Policy) -> jax.Array:
    """The rewards less the highest possible one; 0 for outcomes of probability zero."""
    possible = reference.log_probs > -jnp.inf
    supported = jnp.where(possible, reference.rewards, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(supported, axis=-1, keepdims=True))
    return jnp.where(possible, reference.rewards - top, 0)
