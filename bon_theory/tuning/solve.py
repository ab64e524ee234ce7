"""The parameter at which a quantity takes a value, with the attainable range when it takes none."""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, real_array, require, require_batches, scalar, shown
from bon_theory.policy import Policy, aligned
from bon_theory.tuning.knobs import Knob, Quantity
from bon_theory.tuning.root import increasing_root

__all__ = [
    "RESOLVED",
    "Found",
    "Rounding",
    "outcome_values",
    "parameter_at",
    "search",
    "unresolved",
]

Rounding = Literal["down", "up"] | None

RESOLVED = 1e-6  # greatest error that the nodes of a continuous law may make


def parameter_at(
    knob: Knob,
    quantity: Quantity,
    reference: Policy,
    name: str,
    target: Numbers,
    fixed: jax.Array,
    rounding: Rounding = None,
) -> jax.Array:
    """The parameter of ``knob`` at which ``quantity`` is ``target``; NaN where there is none.

    Raises:
        ValueError: there is none, the nodes of a continuous reference are too coarse to tell, or
            floating point does not hold it.
    """
    if rounding not in (None, "down", "up"):
        raise ValueError(
            f"rounding must be None, 'down' or 'up', got {shown(rounding)}: 'down' is the largest "
            "integer within the target, 'up' the smallest that reaches it."
        )
    wanted = scalar(name, target, reference.dtype, finite=False)
    batches = reference.batch_shape
    for argument, array in ((name, wanted), (knob.fixed, fixed)):
        require_batches(argument, array.shape, batches)
        batches = jnp.broadcast_shapes(array.shape, batches)
    wanted = jnp.broadcast_to(wanted, batches)
    found = search(knob, quantity, reference, wanted, jnp.broadcast_to(fixed, batches), rounding)

    def attainable() -> str:
        bad = int(np.argmin(np.asarray(found.reached).ravel()))
        low, high = (np.asarray(end).ravel()[bad] for end in (found.low, found.high))
        digits, where = 6, f"at the only attainable value, {low:g},"
        if high > low:
            # Six digits of the range: rewards may be large and close to each other.
            digits += int(max(0, math.log10(max(abs(low), abs(high)) / (high - low))))
            close = "]" if knob.attained else ")"
            where = f"in the attainable range [{low:.{digits}g}, {high:.{digits}g}{close}"
        held = np.broadcast_to(np.asarray(fixed), batches).ravel()[bad]
        outcomes = "the nodes of this reference" if reference.continuous else "this reference"
        return (
            f"{name} must be {where} of {knob.selection.format(held)} over {outcomes}, got "
            f"{np.asarray(wanted).ravel()[bad]:.{digits}g}: choose {name} there."
        )

    require(lambda: found.reached, attainable, found, target)
    require(
        lambda: found.resolved,
        lambda: unresolved(knob.name, reference),
        found,
        target,
    )
    return jnp.where(found.reached & found.resolved, found.parameter, jnp.nan)


def unresolved(parameter: str, reference: Policy) -> str:
    """What to say of an answer that nodes, or floating point, cannot represent."""
    if reference.continuous:
        return (
            f"reference has too few nodes for the {parameter} that was asked for: build the "
            "continuous law with a larger num_nodes, or ask for less."
        )
    return (
        f"reference needs a {parameter} beyond the range of {reference.dtype}: use float64, scale "
        "down what is extreme in its rewards or probabilities, or ask for less."
    )


class Found(NamedTuple):
    """The parameter, what can be attained, and whether the answer is one."""

    parameter: jax.Array
    low: jax.Array
    high: jax.Array
    reached: jax.Array
    resolved: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def search(
    knob: Knob,
    quantity: Quantity,
    reference: Policy,
    target: jax.Array,
    fixed: jax.Array,
    rounding: Rounding = None,
) -> Found:
    """Find the parameter, with the range that can be attained; arrays of one shape."""
    eps = float(jnp.finfo(reference.dtype).eps)
    low = jnp.broadcast_to(quantity(reference, reference), target.shape)
    high = jnp.broadcast_to(quantity(knob.strongest(reference, fixed), reference), target.shape)
    slack = jax.lax.stop_gradient(8 * eps * (jnp.abs(low) + jnp.abs(high)))  # rounding of the ends
    reached = (target >= low - slack) & (target <= high + slack if knob.attained else target < high)
    reached |= jnp.abs(target - low) <= slack
    # Where nothing is to be found, look for something that can be: a NaN would never converge.
    wanted = jnp.where(reached, jnp.minimum(target, high), low)

    def shortfall(x: jax.Array) -> jax.Array:
        policy, _ = knob.law(reference, knob.parameter(reference, x), fixed)
        return quantity(policy, reference) - wanted

    start, end = (jnp.broadcast_to(edge, target.shape) for edge in knob.bracket(reference))
    below, above = jnp.minimum(low - wanted, 0), jnp.maximum(high - wanted, 0)
    x = increasing_root(shortfall, start, end, below, above)
    parameter = exact = knob.parameter(reference, x)
    if rounding:
        whole = jnp.round(parameter)
        policy, _ = knob.law(reference, whole, fixed)
        excess = quantity(policy, reference) - wanted
        # At an integer, rounding errors must not decide: it is within and it reaches.
        if rounding == "down":
            parameter = jnp.where(excess <= slack, whole, whole - 1)
        else:
            parameter = jnp.where(excess >= -slack, whole, whole + 1)
    # What was found may be the end of what nodes resolve or numbers represent, and no solution.
    policy, error = knob.law(reference, exact, fixed)
    miss = jnp.abs(quantity(policy, reference) - wanted)
    resolved = miss <= math.sqrt(eps) * (high - low) + 8 * slack + 64 * eps
    if reference.continuous:
        resolved &= error <= RESOLVED
    return Found(parameter, low, high, reached, resolved)


def outcome_values(name: str, values: Numbers, reference: Policy) -> jax.Array:
    """A function of outcomes as an array of at least the reference's shape, checked.

    Impossible outcomes get 0: a placeholder there must not set the scale of the others.
    """
    array = real_array(name, values).astype(reference.dtype)
    if array.shape[-1] != reference.num_outcomes:
        raise ValueError(
            f"{name} must have one value per outcome, got shape {array.shape} for "
            f"{reference.num_outcomes} outcomes: outcomes are the last axis."
        )
    require(
        lambda: np.isfinite(np.asarray(array)),
        lambda: f"{name} must be finite: every outcome needs a number, even at probability zero.",
        array,
    )
    require_batches(name, array.shape[:-1], reference.batch_shape)
    (reference,) = aligned(reference, ndim=array.ndim)
    array = array.reshape((1,) * (reference.log_probs.ndim - array.ndim) + array.shape)
    return jnp.where(reference.log_probs > -jnp.inf, array, 0)
