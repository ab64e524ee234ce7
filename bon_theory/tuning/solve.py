"""The parameter at which a quantity takes a value, with the attainable range when it takes none."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import (
    Numbers,
    is_concrete,
    on_device,
    real_array,
    require,
    require_batches,
    scalar,
    shown,
    untraced,
)
from bon_theory._laws import aligned
from bon_theory._numerics import namespace, numpy_or_program
from bon_theory._ragged import completed
from bon_theory.certificate import error_of_known
from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.tuning.knobs import Knob, Quantity, average, own_batches, prompt_weights
from bon_theory.tuning.root import Evaluation, implicit_root

__all__ = [
    "RESOLVED",
    "Found",
    "Options",
    "Rounding",
    "Unattainable",
    "outcome_values",
    "parameter_at",
    "search",
    "unresolved",
]

Rounding = Literal["down", "up"] | None
Unattainable = Literal["raise", "nan"] | None

RESOLVED = 1e-6  # greatest error that the nodes of a continuous law may make
_WHOLE = 256  # roundings by which the quantity at an integer may miss the target


@dataclasses.dataclass(frozen=True)
class Options:
    """How a target is meant, checked; see :mod:`bon_theory.tuning.targets`."""

    across_prompts: bool | Numbers = False
    unattainable: Unattainable = None
    rounding: Rounding = None

    def __post_init__(self) -> None:
        """Refuse what is no option."""
        if self.rounding not in (None, "down", "up"):
            raise ValueError(
                f"rounding must be None, 'down' or 'up', got {shown(self.rounding)}: 'down' is the "
                "largest integer within the target, 'up' the smallest that reaches it."
            )
        if self.unattainable not in (None, "raise", "nan"):
            raise ValueError(
                f"unattainable must be None, 'raise' or 'nan', got {shown(self.unattainable)}: say "
                "whether a target that cannot be reached is an error or NaN."
            )


def parameter_at(
    knob: Knob,
    quantity: Quantity,
    reference: Policy,
    name: str,
    target: Numbers,
    fixed: jax.Array,
    options: Options,
) -> jax.Array:
    """The parameter of ``knob`` at which ``quantity`` is ``target``; NaN where there is none.

    Raises:
        ValueError: there is none, the nodes of a continuous reference are too coarse to tell, or
            floating point does not hold it, and this is not to be NaN.
    """
    (reference,) = completed(reference, beside=(target, fixed, options.across_prompts))
    weights = prompt_weights(options.across_prompts, reference)
    wanted = scalar(name, target, reference.dtype, finite=False)
    batches = own_batches(reference, weights)
    for argument, array in ((name, wanted), (knob.fixed, fixed)):
        require_batches(argument, array.shape, batches)
        batches = jnp.broadcast_shapes(array.shape, batches)
    wanted, fixed = (jnp.broadcast_to(array, batches) for array in (wanted, fixed))
    problem = reference, wanted, fixed, weights
    find = _outermost_search if is_concrete(problem) else search
    found = find(knob, quantity, *problem, rounding=options.rounding)

    def out_of_range() -> str:
        return _out_of_range(name, knob, reference, wanted, fixed, found, weights)

    if options.unattainable == "raise" or (options.unattainable is None and not batches):
        require(lambda: found.reached, out_of_range, found, target)
        require(lambda: found.resolved, lambda: unresolved(knob.name, reference), found, target)
    return jnp.where(found.reached & found.resolved, found.parameter, jnp.nan)


def _out_of_range(
    name: str,
    knob: Knob,
    reference: Policy,
    wanted: jax.Array,
    fixed: jax.Array,
    found: Found,
    weights: jax.Array | None,
) -> str:
    """What to say of the first entry that cannot be reached."""
    bad = np.argwhere(~np.asarray(found.reached))
    first = tuple(int(i) for i in bad[0])
    low, high, value, held = (
        float(np.asarray(array)[first]) for array in (found.low, found.high, wanted, fixed)
    )
    digits, where = 6, f"at the only attainable value, {low:g},"
    if high > low:
        # Six digits of the range: rewards may be large and close to each other.
        digits += int(max(0, math.log10(max(abs(low), abs(high)) / (high - low))))
        close = "]" if knob.attained else ")"
        where = f"in the attainable range [{low:.{digits}g}, {high:.{digits}g}{close}"
    outcomes = "the nodes of this reference" if reference.continuous else "this reference"
    if weights is not None:
        outcomes = f"{outcomes}, on average over prompts"
    place = f" at index {first}" if first else ""
    more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
    remedy = ", or pass unattainable='nan'" if first else ""
    return (
        f"{name} must be {where} of {knob.selection.format(held)} over {outcomes}, got "
        f"{value:.{digits}g}{place}{more}: choose {name} there{remedy}."
    )


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
    """The parameter, what can be attained, and whether the answer is one.

    What the quantity is there, and the mean of other ``values``, come without derivatives.
    """

    parameter: jax.Array
    low: jax.Array
    high: jax.Array
    reached: jax.Array
    resolved: jax.Array
    quantity: jax.Array
    value: jax.Array


def _search(
    knob: Knob,
    quantity: Quantity,
    reference: Policy,
    target: jax.Array,
    fixed: jax.Array,
    weights: jax.Array | None = None,
    values: jax.Array | None = None,
    *,
    rounding: Rounding = None,
) -> Found:
    """Find the parameter, with the range that can be attained; arrays of one shape."""
    eps = float(jnp.finfo(reference.dtype).eps)
    track = knob.track(reference, weights, target.shape)

    def of(policy: Policy) -> tuple[jax.Array, jax.Array]:
        """The quantity, and the mean of the values."""
        amount = average(quantity(policy, reference), weights)
        value = amount if values is None else average(expected_value(policy, values), weights)
        return jnp.broadcast_to(amount, target.shape), jnp.broadcast_to(value, target.shape)

    def per_prompt(parameter: jax.Array) -> jax.Array:
        return parameter if weights is None else parameter[..., None]

    (low, at_low), (high, at_high) = (
        of(law) for law in (reference, knob.strongest(reference, per_prompt(fixed)))
    )
    ends = jax.lax.stop_gradient(jnp.abs(low) + jnp.abs(high))
    slack = 8 * eps * ends  # rounding of the ends
    reached = (target >= low - slack) & (target <= high + slack if knob.attained else target < high)
    reached |= jnp.abs(target - low) <= slack
    # Where nothing is to be found, look for something that can be: a NaN would never converge.
    wanted = jnp.where(reached, jnp.minimum(target, high), low)

    def excess(parameter: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        policy, error = knob.law(reference, per_prompt(parameter), per_prompt(fixed))
        error = error if weights is None else jnp.max(error, axis=-1)
        amount, value = of(policy)
        return amount - wanted, (jnp.broadcast_to(error, target.shape), value)

    # The search halves log(1 + x) first: among n that one can pay for, and temperatures near R.
    last, exact = jnp.log1p(track.end), jnp.zeros_like(track.end)

    def parameter_of(z: jax.Array) -> jax.Array:
        return track.parameter(jnp.where(z == last, track.end, jnp.expm1(z)))

    root = implicit_root(
        lambda z: excess(parameter_of(z)),
        Evaluation(exact, jnp.minimum(low - wanted, 0), (exact, at_low)),
        Evaluation(last, jnp.maximum(high - wanted, 0), (exact, at_high)),
    )
    parameter = parameter_of(root.x)
    if rounding:
        # At an integer, rounding errors must not decide: it is within and it reaches.
        whole = jnp.round(parameter)
        beyond, _ = excess(whole)
        if rounding == "down":
            parameter = jnp.where(beyond > _WHOLE * eps * ends, whole - 1, whole)
        else:
            parameter = jnp.where(beyond < -_WHOLE * eps * ends, whole + 1, whole)
    error, value = root.seen
    # What was found may be the end of what nodes resolve or numbers represent, and no solution.
    resolved = jnp.abs(root.value) <= math.sqrt(eps) * (high - low) + 8 * slack + 64 * eps
    if reference.continuous:
        at = jax.lax.stop_gradient(per_prompt(parameter_of(root.x)))

        def amount(reference: Policy) -> jax.Array:
            policy, _ = knob.law(reference, at, per_prompt(fixed))
            return jnp.broadcast_to(average(quantity(policy, reference), weights), target.shape)

        missed = error_of_known(root.value + wanted, amount, jax.lax.stop_gradient(reference))
        resolved &= missed <= RESOLVED * jnp.abs(wanted - low) + 8 * slack + 64 * eps
        resolved &= error <= RESOLVED
    return Found(parameter, low, high, reached, resolved, root.value + wanted, value)


_program = functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="rounding")
search = _program(_search)
# With the former emitters of fused loops jaxlib 0.10 compiles in half the time what runs as fast.
# It takes the choice of an outermost program only, and later versions know none.
_SOONER = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else None
_outermost_search = _program(_search, compiler_options=_SOONER)


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
    return on_device(_of_possible(untraced(array), untraced(reference.log_probs)))


@numpy_or_program
def _of_possible(values: jax.Array, log_probs: jax.Array) -> jax.Array:
    xp = namespace(values)
    return xp.where(log_probs > -xp.inf, values, 0)
