r"""One parameter at a time, from the reference to the strongest selection it allows.

A knob turns from :math:`x = 0`, the reference, upwards: the number of draws is :math:`n = e^x`, the
mean number of further draws :math:`\mu = e^x - 1`, the temperature
:math:`\lambda = 10 R / (e^x - 1)`, :math:`R` the range of the reward. Along all of them the KL
divergence from the reference, the expected reward and the win rate increase:

* with real :math:`n` because :math:`P_n` increases in likelihood-ratio order at any temperature
  (docs/theory.md, derived here);
* with falling :math:`\lambda` because soft best-of-n is stochastically ordered in it at fixed
  :math:`n` (docs/bounds.md, derived here; likelihood ratios are *not* ordered), and the tilt even
  in likelihood ratio.

Where a knob can be turned to its end, the law there is in closed form.

**One setting for all prompts** is a single x for the laws along the last batch axis; what counts is
then the mean over them. Every summand increases with x, and so does the mean.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, require, require_batches, scalar
from bon_theory._laws import aligned
from bon_theory._numerics import one_program
from bon_theory.certificate import certificate
from bon_theory.divergences import kl_divergence, log_ratio
from bon_theory.performance import expected_reward, reward_extremes, win_rate
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, best_of_poisson, exponential_tilt, soft_best_of_n

__all__ = [
    "HARD_N",
    "MEAN_EXTRA_DRAWS",
    "SOFT_N",
    "SOFT_OR_TILT_TEMPERATURE",
    "SOFT_TEMPERATURE",
    "TILT_TEMPERATURE",
    "Knob",
    "Quantity",
    "Track",
    "average",
    "coldest",
    "kl",
    "own_batches",
    "prompt_weights",
    "reward",
    "reward_range",
    "temperature_at",
    "wins",
]

# --- what increases --------------------------------------------------------------------

Quantity = Callable[[Policy, Policy], jax.Array]
"""A functional of (policy, reference)."""

kl: Quantity = kl_divergence


def reward(policy: Policy, reference: Policy) -> jax.Array:
    """The expected reward; the reference does not matter."""
    return expected_reward(policy)


@functools.cache  # one function per convention, for programs compiled for it to be found again
def wins(ties: str) -> Quantity:
    """The win rate against the reference."""
    return functools.partial(_wins, ties)


def _wins(ties: Any, policy: Policy, reference: Policy) -> jax.Array:
    return win_rate(policy, reference, ties=ties)


# --- knobs -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Knob:
    """A parameter that strengthens a selection as x rises from 0.

    Attributes:
        name: of the parameter.
        fixed: name of the parameter that is held fixed.
        selection: in words, with the fixed parameter in braces.
        parameter: ``(x, scale)`` to the parameter.
        coordinate: ``(parameter, scale)`` to x.
        scale: ``reference`` to the unit of the parameter.
        extreme: ``reference`` to the strongest parameter worth trying.
        law: ``(reference, parameter, fixed)`` to the policy and the mass that it lost, or that lies
            where the nodes of a continuous law end.
        strongest: ``(reference, fixed)`` to the law that the selection tends to.
        attained: whether that law belongs to a parameter, 0, rather than to a limit.
    """

    name: str
    fixed: str
    selection: str
    parameter: Callable[[jax.Array, jax.Array], jax.Array]
    coordinate: Callable[[jax.Array, jax.Array], jax.Array]
    scale: Callable[[Policy], jax.Array]
    extreme: Callable[[Policy], jax.Array]
    law: Callable[[Policy, jax.Array, jax.Array], tuple[Policy, jax.Array]]
    strongest: Callable[[Policy, jax.Array], Policy]
    attained: bool

    def track(self, reference: Policy, weights: jax.Array | None, shape: tuple[int, ...]) -> Track:
        """How far to turn, for parameters of a shape: one track per law, or for all prompts."""
        scale, extreme = jax.lax.stop_gradient((self.scale(reference), self.extreme(reference)))
        if weights is not None:  # in a common unit, as far as any prompt takes
            scale = jnp.max(scale, axis=-1)
            end = jnp.max(self.coordinate(extreme, scale[..., None]), axis=-1)
        else:
            end = self.coordinate(extreme, scale)
        scale, end = jnp.broadcast_to(scale, shape), jnp.broadcast_to(end, shape)
        last = jnp.zeros_like(end) if self.attained else self.parameter(end, scale)
        return Track(self, scale, end, last)


class Track(NamedTuple):
    """A knob's way from x = 0 to ``end``, where its parameter is ``last``."""

    knob: Knob
    scale: jax.Array
    end: jax.Array
    last: jax.Array

    def parameter(self, x: jax.Array) -> jax.Array:
        """The parameter at x, exact at both ends; the mildest where they are one."""
        scale, end, last = (jnp.broadcast_to(y, x.shape) for y in self[1:])
        return jnp.where((x == end) & (x > 0), last, self.knob.parameter(x, scale))


def _draws(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.exp(x)


def _log_draws(n: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.log(n)


def _temperature(x: jax.Array, scale: jax.Array) -> jax.Array:
    is_reference = x == 0
    return jnp.where(is_reference, jnp.inf, scale / jnp.expm1(jnp.where(is_reference, 1, x)))


def _coldness(temperature: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.log1p(scale / temperature)


def _one(reference: Policy) -> jax.Array:
    return jnp.ones(reference.batch_shape, reference.dtype)


@one_program
def _ten_ranges(reference: Policy) -> jax.Array:
    """10 R, or 1 where all rewards are equal."""
    scale = 10 * reward_range(reference)
    return jnp.where(scale > 0, scale, 1)


@one_program
def _most_draws(reference: Policy) -> jax.Array:
    """Up to e^80 times what meets the highest reward, within what soft best-of-n admits."""
    possible = jnp.where(reference.log_probs > -jnp.inf, reference.rewards, -jnp.inf)
    top = jnp.argmax(possible, axis=-1, keepdims=True)
    log_top = jnp.take_along_axis(reference.log_probs, top, axis=-1)[..., 0]
    return jnp.exp(jnp.minimum(80 - log_top, -0.89 * math.log(jnp.finfo(reference.dtype).tiny)))


@one_program
def _counts_as_zero(reference: Policy) -> jax.Array:
    """A temperature so small that the tilt is that of temperature 0."""
    return _ten_ranges(reference) * float(jnp.finfo(reference.dtype).eps) ** 2


@one_program
def reward_range(reference: Policy) -> jax.Array:
    """The range R of the rewards that have probability.

    Of a continuous law, whose tails may reach anywhere, four mean absolute deviations: the range of
    a uniform one.
    """
    if reference.continuous:
        mean = jnp.sum(reference.probs * reference.rewards, axis=-1, keepdims=True)
        return 4 * jnp.sum(reference.probs * jnp.abs(reference.rewards - mean), axis=-1)
    lowest, highest = reward_extremes(reference)
    return highest - lowest


@one_program
def coldest(reference: Policy) -> jax.Array:
    r"""A temperature below which nothing changes, or nothing is resolved; infinite if none is.

    The smallest gap between rewards, at this temperature, decides against the rarest outcome to
    rounding. Of a continuous law the largest gap between neighbouring nodes counts where the mass
    is: a temperature of that size is integrated with an error of about :math:`e^{-\pi^2}`.
    """
    if reference.continuous:
        log_mass = jnp.minimum(reference.log_probs[..., 1:], reference.log_probs[..., :-1])
        matters = log_mass > jnp.max(log_mass, axis=-1, keepdims=True) - 3
        return jnp.max(jnp.where(matters, jnp.diff(reference.rewards, axis=-1), 0), axis=-1)
    possible = reference.log_probs > -jnp.inf
    likeliest = jnp.argmax(reference.log_probs, axis=-1, keepdims=True)
    usual = jnp.take_along_axis(reference.rewards, likeliest, axis=-1)
    gaps = jnp.diff(jnp.sort(jnp.where(possible, reference.rewards, usual), axis=-1), axis=-1)
    smallest = jnp.min(jnp.where(gaps > 0, gaps, jnp.inf), axis=-1, initial=jnp.inf)
    rarest = -jnp.min(jnp.where(possible, reference.log_probs, 0), axis=-1)
    return smallest / (rarest - math.log(jnp.finfo(reference.dtype).eps))


def _hard(reference: Policy, n: jax.Array, fixed: jax.Array) -> tuple[Policy, jax.Array]:
    policy = best_of_n(reference, n)
    return policy, certificate(policy)


def _poisson(reference: Policy, mean: jax.Array, fixed: jax.Array) -> tuple[Policy, jax.Array]:
    policy = best_of_poisson(reference, mean)
    return policy, certificate(policy)


def _soft(reference: Policy, n: jax.Array, temperature: jax.Array) -> tuple[Policy, jax.Array]:
    policy = soft_best_of_n(reference, n, temperature)
    return policy, certificate(policy)


def _tilted(
    reference: Policy, temperature: jax.Array, fixed: jax.Array
) -> tuple[Policy, jax.Array]:
    """The tilt; the error of its nodes is what half of them make, squared, or lies at an end."""
    policy = exponential_tilt(reference, temperature)
    halves = jnp.sum(policy.probs[..., ::2], axis=-1) - jnp.sum(policy.probs[..., 1::2], axis=-1)
    return policy, jnp.maximum(halves**2, policy.probs[..., 0] + policy.probs[..., -1])


def _soft_or_tilted(
    reference: Policy, temperature: jax.Array, n: jax.Array
) -> tuple[Policy, jax.Array]:
    """Soft best-of-n where n is finite, the tilt where it is infinite."""
    soft, soft_error = _soft(reference, jnp.where(jnp.isinf(n), 1, n), temperature)
    tilt, tilt_error = _tilted(reference, temperature, n)
    return _where(jnp.isinf(n), tilt, soft, reference), jnp.where(
        jnp.isinf(n), tilt_error, soft_error
    )


def _best_or_top(reference: Policy, n: jax.Array) -> Policy:
    best = best_of_n(reference, jnp.where(jnp.isinf(n), 1, n))
    return _where(jnp.isinf(n), _top(reference, n), best, reference)


def _top(reference: Policy, fixed: jax.Array) -> Policy:
    return exponential_tilt(reference, jnp.zeros_like(fixed))


def _where(condition: jax.Array, first: Policy, second: Policy, reference: Policy) -> Policy:
    """The first law where the condition holds, the second elsewhere."""
    ratios = log_ratio(first, reference), log_ratio(second, reference)
    (reference,) = aligned(reference, ndim=ratios[0].ndim)
    return reference.with_log_ratio(jnp.where(condition[..., None], *ratios))


HARD_N = Knob(
    name="n",
    fixed="temperature",
    selection="best-of-n",
    parameter=_draws,
    coordinate=_log_draws,
    scale=_one,
    extreme=_most_draws,
    law=_hard,
    strongest=_top,
    attained=False,
)
SOFT_N = dataclasses.replace(
    HARD_N,
    selection="soft best-of-n at temperature {:g}",
    law=_soft,
    strongest=exponential_tilt,
)
MEAN_EXTRA_DRAWS = dataclasses.replace(
    HARD_N,
    name="mean_extra_draws",
    fixed="",
    selection="best-of-Poisson",
    parameter=lambda x, _: jnp.expm1(x),
    coordinate=lambda mean, _: jnp.log1p(mean),
    law=_poisson,
)
SOFT_TEMPERATURE = Knob(
    name="temperature",
    fixed="n",
    selection="soft best-of-{:g}",
    parameter=_temperature,
    coordinate=_coldness,
    scale=_ten_ranges,
    extreme=coldest,
    law=lambda reference, temperature, n: _soft(reference, n, temperature),
    strongest=best_of_n,
    attained=True,
)
TILT_TEMPERATURE = dataclasses.replace(
    SOFT_TEMPERATURE,
    selection="the exponential tilt",
    extreme=_counts_as_zero,
    law=_tilted,
    strongest=_top,
)
SOFT_OR_TILT_TEMPERATURE = dataclasses.replace(
    SOFT_TEMPERATURE,
    selection="soft best-of-{:g} (the exponential tilt at inf)",
    extreme=lambda reference: jnp.minimum(coldest(reference), _counts_as_zero(reference)),
    law=_soft_or_tilted,
    strongest=_best_or_top,
)


def temperature_at(n: Numbers) -> Knob:
    """The temperature of soft best-of-n, of the tilt if n is known to be infinite, or of both."""
    if not is_concrete(n):
        return SOFT_OR_TILT_TEMPERATURE
    infinite = np.isposinf(np.asarray(n, float))
    if np.all(infinite):
        return TILT_TEMPERATURE
    return SOFT_OR_TILT_TEMPERATURE if np.any(infinite) else SOFT_TEMPERATURE


# --- one setting for all prompts -------------------------------------------------------


def prompt_weights(across_prompts: bool | Numbers, reference: Policy) -> jax.Array | None:
    """The shares of the prompts along the last batch axis, or None where each has its own."""
    if across_prompts is False:
        return None
    if not reference.batch_shape:
        raise ValueError(
            "reference must have a batch axis of prompts for across_prompts, got a single law: "
            "stack the prompts' laws along an axis, or leave across_prompts out."
        )
    if across_prompts is True:
        return jnp.full(reference.batch_shape, 1 / reference.batch_shape[-1], reference.dtype)
    weights = scalar("across_prompts", across_prompts, reference.dtype, at_least=0)
    require_batches("across_prompts", weights.shape, reference.batch_shape)
    weights = jnp.broadcast_to(weights, reference.batch_shape)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    require(
        lambda: total > 0,
        lambda: "across_prompts must have a positive weight, got none: weigh at least one prompt.",
        total,
    )
    return weights / total


def average(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """The mean over prompts, or each prompt's own value."""
    if weights is None:
        return values
    return jnp.sum(jnp.broadcast_to(weights, values.shape) * values, axis=-1)


def own_batches(reference: Policy, weights: jax.Array | None) -> tuple[int, ...]:
    """The batch axes that keep their own parameter."""
    return reference.batch_shape if weights is None else reference.batch_shape[:-1]
