r"""What a setting of a selection earns in true reward, and how that changes along a knob.

The derivative is taken of the exact law with its ties, whatever the selection, along the :math:`x`
of a knob (:mod:`bon_theory.tuning.knobs`). Soft best-of-n is the exception: its mean and slope come
without its law, by one sum over a race (:mod:`bon_theory.race.mean`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.race import race_mean
from bon_theory.tuning import knobs
from bon_theory.tuning.knobs import Knob, Track, average
from bon_theory.tuning.solve import RESOLVED

__all__ = ["WARM", "Look", "HedgingProblem", "Seen", "earned", "look_along"]

WARM = 4.0  # x beyond which a scan of temperatures is coarse: five nats between the rewards


class HedgingProblem(NamedTuple):
    """Laws and true rewards of one shape ``[*batch, P, K]``, or ``[*batch, K]`` without prompts."""

    reference: Policy
    values: jax.Array
    weights: jax.Array | None  # [*batch, P]
    fixed: jax.Array  # [*batch]

    def per_prompt(self, x: jax.Array) -> jax.Array:
        """A parameter ``[..., *batch]`` at each prompt."""
        if self.weights is None:
            return x
        return jnp.broadcast_to(x[..., None], (*x.shape, self.weights.shape[-1]))

    def mean(self, policy: Policy) -> jax.Array:
        """The true reward that a policy earns, on average over prompts."""
        return average(expected_value(policy, self.values), self.weights)

    @property
    def centre(self) -> jax.Array:
        """The mean true reward of each prompt's reference."""
        return expected_value(self.reference, self.values)

    def deviation(self, policy: Policy) -> jax.Array:
        """The mean distance of a policy's true reward from the centre."""
        distance = jnp.abs(self.values - self.centre[..., None])
        return average(expected_value(policy, distance), self.weights)


class Seen(NamedTuple):
    """The mean true reward at some x, its slope, and whether the nodes of the law resolve it."""

    value: jax.Array
    slope: jax.Array
    resolved: jax.Array


Look = Callable[[jax.Array], Seen]
"""What there is to see at values of x ``[*batch]`` or ``[G, *batch]``."""


def look_along(track: Track, problem: HedgingProblem, *, is_scan: bool) -> Look:
    """How to see the mean true reward along a track; a scan may be coarse, and judges the nodes."""
    is_race = track.knob in (knobs.SOFT_N, knobs.SOFT_TEMPERATURE)
    return (_look_at_race if is_race else _look_at_law)(track, problem, is_scan)


def _look_at_law(track: Track, problem: HedgingProblem, is_scan: bool) -> Look:
    def mean(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        parameter = problem.per_prompt(track.parameter(x))
        fixed = problem.per_prompt(problem.fixed)
        policy, error = track.knob.law(problem.reference, parameter, fixed)
        error = error if problem.weights is None else jnp.max(error, axis=-1)
        return problem.mean(policy), jnp.broadcast_to(error, x.shape)

    def look(x: jax.Array) -> Seen:
        value, slope, error = jax.jvp(mean, (x,), (jnp.ones_like(x),), has_aux=True)
        return Seen(value, slope, (error <= RESOLVED) | (not problem.reference.continuous))

    return look


def _look_at_race(track: Track, problem: HedgingProblem, is_scan: bool) -> Look:
    """Soft best-of-n, without its law: see :mod:`bon_theory.race.mean`."""
    reference, is_continuous = problem.reference, problem.reference.continuous
    possible = reference.log_probs > -jnp.inf
    least = jnp.min(jnp.where(possible, reference.rewards, jnp.inf), axis=-1, keepdims=True)
    rewards = jnp.where(possible, reference.rewards, least)
    order = jnp.argsort(-rewards, axis=-1)
    rewards, log_probs, values = (
        jnp.take_along_axis(row, order, axis=-1)
        for row in (rewards, reference.log_probs, problem.values)
    )
    values -= problem.centre[..., None]  # what is common to all outcomes makes no errors
    deviation = expected_value(reference, jnp.abs(problem.values - problem.centre[..., None]))

    def mean(x: jax.Array, every: int) -> tuple[jax.Array, jax.Array]:
        """From every outcome or, of a continuous law, from every other node."""
        x = problem.per_prompt(x)
        fixed, scale = (
            jnp.broadcast_to(problem.per_prompt(y), x.shape).ravel()
            for y in (problem.fixed, track.scale)
        )
        x = x.ravel()

        def lanes(row: jax.Array) -> jax.Array:
            shape = (x.size // (row.size // row.shape[-1]), *row.shape)
            return jnp.broadcast_to(row, shape).reshape(-1, row.shape[-1])

        gaps = -jnp.diff(lanes(rewards[..., ::every]), axis=-1)
        if track.knob.attained:
            n, inverse, by_x = fixed, jnp.expm1(x) / scale, jnp.exp(x) / scale
        else:
            n, inverse, by_x = track.knob.parameter(x, scale), 1 / fixed, jnp.zeros_like(x)
        falls = jnp.where(gaps == 0, 0, gaps * inverse[:, None])
        log_mass = lanes(log_probs[..., ::every]) + math.log(every)
        race = race_mean(
            log_mass,
            falls,
            gaps * by_x[:, None],
            lanes(values[..., ::every]),
            n,
            (x > WARM) & (is_scan and track.knob.attained),
        )
        return race.value, race.by_weights if track.knob.attained else race.by_log_n

    def look(x: jax.Array) -> Seen:
        shape = problem.per_prompt(x).shape
        value, slope = (y.reshape(shape) for y in mean(x, every=1))
        resolved = jnp.ones(shape, bool)
        if is_scan and is_continuous:
            # Twice the spacing makes the square root of the error, relative to the spread.
            miss = jnp.abs(mean(x, every=2)[0].reshape(shape) - value)
            resolved = miss <= math.sqrt(RESOLVED) * jnp.broadcast_to(deviation, shape)
        if problem.weights is not None:
            resolved = jnp.all(resolved, axis=-1)
        value += jnp.broadcast_to(problem.centre, shape)
        value, slope = (average(y, problem.weights) for y in (value, slope))
        return Seen(value, slope, resolved)

    return look


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def earned(
    knob: Knob, value: jax.Array, parameter: jax.Array, problem: HedgingProblem
) -> jax.Array:
    """The mean true reward, known already, as a function of the problem at a held parameter."""
    return value


@earned.defjvp
def _earned_jvp(knob: Knob, primals: Any, tangents: Any) -> Any:
    value, parameter, problem = primals

    def mean(problem: HedgingProblem) -> jax.Array:
        at = problem.per_prompt(parameter), problem.per_prompt(problem.fixed)
        return problem.mean(knob.law(problem.reference, *at)[0])

    return value, jax.jvp(mean, (problem,), (tangents[2],))[1]
