"""What the selections share: checked parameters aligned with the reference, and its weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, require_batches, scalar
from bon_theory._laws import aligned, require_policy
from bon_theory._numerics import cumulative_sum, one_program
from bon_theory.policy import Policy

__all__ = [
    "Entrants",
    "Real",
    "aligned_parameters",
    "counts_as_zero",
    "entrants",
    "float_limits",
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


class Entrants(NamedTuple):
    """The outcomes of a law as a race meets them, by falling weight."""

    log_probs: jax.Array  # [..., K]
    log_weights: jax.Array  # [..., K]
    place: jax.Array | None  # [..., K] where in them each outcome is; None if just reversed
    is_hard: jax.Array  # [..., 1] whether the temperature counts as zero

    def by_outcome(self, x: jax.Array) -> jax.Array:
        """What belongs to the entrants, ``[..., K]``, in the order of the law's outcomes."""
        if self.place is None:
            return x[..., ::-1]
        place = jnp.broadcast_to(self.place, x.shape)
        return jnp.take_along_axis(x, place, axis=-1, mode="promise_in_bounds")


def entrants(reference: Policy, temperature: jax.Array) -> Entrants:
    r"""Who races at which :math:`r/\lambda`, and where the temperature counts as zero.

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

    falling, log_probs, place = _by_falling_reward(reference, possible, centre)
    gaps = jnp.minimum(-jnp.diff(falling, axis=-1) / positive, longest)
    extent = jax.lax.stop_gradient(jnp.sum(gaps, axis=-1, keepdims=True))
    # Beyond a gap that was cut a position is the sum of gaps on the way from the centre, which is
    # shorter; elsewhere it is told more exactly at once.
    direct = (falling - centre) / positive
    bridged = _from_centre(gaps, falling[..., :-1] > centre)
    if not reference.continuous:
        bridged = _equal_where(falling[..., 1:] == falling[..., :-1], bridged)
    rounding = jnp.finfo(dtype).eps * falling.shape[-1]
    is_cut = jnp.abs(direct) > (1 + rounding) * jnp.abs(bridged)
    is_hard = is_zero | (extent * 16 * jnp.finfo(dtype).eps >= 1)
    log_weights = jnp.where(is_hard, 0, jnp.where(is_cut, bridged, direct))
    return Entrants(log_probs, log_weights, place, is_hard)


def _by_falling_reward(
    reference: Policy, possible: jax.Array, centre: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Rewards and log-probabilities in order, and where each outcome went.

    Impossible outcomes stand at the ``centre`` or, as nodes rise, at the next that is possible.
    """
    rewards = reference.rewards
    if reference.continuous:
        lowest = jnp.min(jnp.where(possible, rewards, jnp.inf), axis=-1, keepdims=True)
        highest = jnp.max(jnp.where(possible, rewards, -jnp.inf), axis=-1, keepdims=True)
        falling = jnp.clip(rewards, lowest, highest)[..., ::-1]
        return falling, reference.log_probs[..., ::-1], None
    rewards = jnp.where(possible, rewards, centre)
    index = jax.lax.broadcasted_iota(jnp.int32, rewards.shape, rewards.ndim - 1)
    lowered, log_probs, order = jax.lax.sort((-rewards, reference.log_probs, index), num_keys=1)
    _, place = jax.lax.sort((order, index), num_keys=1)
    return -lowered, log_probs, place


def _from_centre(gaps: jax.Array, is_above: jax.Array) -> jax.Array:
    """Signed sums ``[..., K]`` of the ``gaps [..., K - 1]`` between the centre and each reward."""
    # Both directions in one running sum, [2, ..., K - 1].
    steps = jnp.stack([jnp.where(is_above, gaps, 0)[..., ::-1], jnp.where(is_above, 0, gaps)])
    upwards, downwards = cumulative_sum(steps)
    edge = [(0, 0)] * (gaps.ndim - 1)
    return jnp.pad(upwards[..., ::-1], [*edge, (0, 1)]) - jnp.pad(downwards, [*edge, (1, 0)])


def _equal_where(tied: jax.Array, falling: jax.Array) -> jax.Array:
    """``falling [..., K]``, rounded alike where an entry is ``tied [..., K - 1]`` to the last."""
    tied = jnp.pad(tied, [(0, 0)] * (tied.ndim - 1) + [(1, 0)])
    starts = jnp.where(tied, jnp.inf, falling)
    first = jax.lax.cummin(jax.lax.stop_gradient(starts), axis=falling.ndim - 1)
    # The difference of such near numbers is exact; each keeps its own derivative.
    return falling + jax.lax.stop_gradient(first - falling)


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
