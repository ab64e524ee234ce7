"""What the selections share: checked parameters aligned with the reference, and its weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, require_batches, scalar
from bon_theory._numerics import one_program
from bon_theory.policy import Policy, aligned, require_policy

__all__ = [
    "Real",
    "aligned_parameters",
    "counts_as_zero",
    "float_limits",
    "race_log_weights",
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
    require_policy("reference", reference)
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
        # Concrete ones stay with NumPy up to the program that uses them.
        checked.append((np.asarray(array) if is_concrete(array) else array)[..., None])
    (reference,) = aligned(reference, ndim=max(array.ndim for array in checked))
    ndim = reference.log_probs.ndim
    return reference, *(a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in checked)


def race_log_weights(reference: Policy, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""What a race needs of :math:`r/\lambda`, and where the temperature counts as zero.

    Only differences matter, and between neighbouring rewards only up to a gap that no number of
    candidates bridges. So the highest reward that is not negligible is put at 0, where it is told
    apart from its neighbours exactly, and longer gaps are cut: a placeholder reward such as -1e9
    for a failed answer costs no accuracy. The temperature counts as zero where even so the range is
    beyond what a lattice in floating point can resolve.
    """
    dtype = reference.dtype
    longest = 1e6 if dtype == jnp.float64 else 1e3
    is_zero = counts_as_zero(reference, temperature)
    positive = jnp.where(is_zero, 1, temperature)
    possible = reference.log_probs > -jnp.inf
    least = jnp.max(reference.log_probs, axis=-1, keepdims=True) + jnp.log(jnp.finfo(dtype).eps)
    common = jnp.where(reference.log_probs >= least, reference.rewards, -jnp.inf)
    centre = jax.lax.stop_gradient(jnp.max(common, axis=-1, keepdims=True))
    rewards = jnp.where(possible, reference.rewards, centre)

    order = jnp.argsort(rewards, axis=-1)
    ascending = jnp.take_along_axis(rewards, order, axis=-1)
    gaps = jnp.minimum(jnp.diff(ascending, axis=-1) / positive, longest)
    above, tied = ascending[..., 1:] > centre, ascending[..., 1:] == ascending[..., :-1]
    # Beyond a gap that was cut a position is the sum of gaps on the way from the centre, which is
    # shorter; elsewhere it is told more exactly at once.
    direct = (ascending - centre) / positive
    bridged = _equal_where(tied, _from_centre(gaps, above))
    rounding = jnp.finfo(dtype).eps * ascending.shape[-1]
    is_cut = jnp.abs(direct) > (1 + rounding) * jnp.abs(bridged)
    log_weights = jnp.where(is_cut, bridged, direct)
    place = jnp.broadcast_to(jnp.argsort(order, axis=-1), log_weights.shape)
    log_weights = jnp.take_along_axis(log_weights, place, axis=-1)
    extent = jax.lax.stop_gradient(jnp.sum(gaps, axis=-1, keepdims=True))
    is_hard = is_zero | (extent * 16 * jnp.finfo(dtype).eps >= 1)
    return jnp.where(is_hard, 0, log_weights), is_hard


def _from_centre(gaps: jax.Array, above: jax.Array) -> jax.Array:
    """Signed sums ``[..., K]`` of the ``gaps [..., K - 1]`` between the centre and each reward."""
    # Both directions in one running sum, [2, ..., K - 1].
    steps = jnp.stack([jnp.where(above, gaps, 0), jnp.where(above, 0, gaps)[..., ::-1]])
    upwards, downwards = jnp.cumsum(steps, axis=-1)
    nothing = jnp.zeros((*gaps.shape[:-1], 1), gaps.dtype)
    return jnp.concatenate([nothing, upwards], axis=-1) - jnp.concatenate(
        [downwards[..., ::-1], nothing], axis=-1
    )


def _equal_where(tied: jax.Array, x: jax.Array) -> jax.Array:
    """``x [..., K]``, rounded alike where an entry is ``tied [..., K - 1]`` with the one before."""
    tied = jnp.pad(tied, [(0, 0)] * (tied.ndim - 1) + [(1, 0)])
    index = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    first = jax.lax.cummax(jnp.where(tied, 0, index), axis=x.ndim - 1)
    # The difference of such near numbers is exact; each keeps its own derivative.
    return x + jax.lax.stop_gradient(jnp.take_along_axis(x, first, axis=-1) - x)


@one_program
def counts_as_zero(reference: Policy, temperature: jax.Array) -> jax.Array:
    """Whether the temperature is 0, or so small that derivatives in it could overflow."""
    extent = -jnp.min(rewards_below_top(reference), axis=-1, keepdims=True)
    return temperature <= jax.lax.stop_gradient(extent) * jnp.finfo(reference.dtype).eps ** 2


@one_program
def rewards_below_top(reference: Policy) -> jax.Array:
    """The rewards less the highest possible one; 0 for outcomes of probability zero."""
    possible = reference.log_probs > -jnp.inf
    supported = jnp.where(possible, reference.rewards, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(supported, axis=-1, keepdims=True))
    return jnp.where(possible, reference.rewards - top, 0)
