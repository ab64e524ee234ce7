r"""One parameter at a time, from the reference to the strongest selection it allows.

Every search here is for :math:`x` in a fixed bracket along which the KL divergence from the
reference, the expected reward and the win rate all increase:

* in :math:`x = \sinh^{-1}\log n`, because :math:`P_n` increases with real :math:`n` in
  likelihood-ratio order at any temperature (docs/theory.md, derived here);
* in :math:`x = \sinh^{-1}\log(R/5\lambda)`, :math:`R` the range of the reward, because soft
  best-of-n is stochastically ordered in :math:`\lambda` at fixed :math:`n` (docs/bounds.md, derived
  here; likelihood ratios are *not* ordered), and the tilt even in likelihood ratio.

The ends of both brackets are laws in closed form, so what can be reached is known before searching.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bon_theory._numerics import one_program
from bon_theory.certificate import certificate
from bon_theory.divergences import kl_divergence
from bon_theory.performance import expected_reward, win_rate
from bon_theory.policy import Policy, aligned
from bon_theory.selection import best_of_n, exponential_tilt, soft_best_of_n

__all__ = [
    "HARD_N",
    "KL",
    "REWARD",
    "SOFT_N",
    "SOFT_TEMPERATURE",
    "TILT_TEMPERATURE",
    "WIN_RATE",
    "Knob",
    "Quantity",
    "coldest",
    "reward_range",
]

Quantity = Callable[[Policy, Policy], jax.Array]
"""A functional of (policy, reference)."""

Bracket = Callable[[Policy], tuple[jax.Array, jax.Array]]

KL: Quantity = kl_divergence


def REWARD(policy: Policy, reference: Policy) -> jax.Array:
    """The expected reward; the reference does not matter."""
    return expected_reward(policy)


def _wins(ties: str) -> Quantity:
    def against_reference(policy: Policy, reference: Policy) -> jax.Array:
        return win_rate(policy, reference, ties=ties)  # pyright: ignore[reportArgumentType]

    return against_reference


WIN_RATE: dict[str, Quantity] = {ties: _wins(ties) for ties in ("half", "win", "loss")}


@dataclasses.dataclass(frozen=True)
class Knob:
    """A parameter, as a function of x in a bracket.

    Attributes:
        name: of the parameter.
        fixed: name of the parameter that is held fixed.
        selection: in words, with the fixed parameter in braces.
        bracket: ``reference`` to the least and the greatest x.
        parameter: ``(reference, x)`` to the parameter; increases the selection with x.
        law: ``(reference, parameter, fixed)`` to the policy and an error estimate that matters for
            continuous laws.
        strongest: ``(reference, fixed)`` to the law at the upper end.
        attained: whether the upper end is a finite parameter, rather than a limit.
    """

    name: str
    fixed: str
    selection: str
    bracket: Bracket
    parameter: Callable[[Policy, jax.Array], jax.Array]
    law: Callable[[Policy, jax.Array, jax.Array], tuple[Policy, jax.Array]]
    strongest: Callable[[Policy, jax.Array], Policy]
    attained: bool


@one_program
def reward_range(reference: Policy) -> jax.Array:
    """The range R of the rewards that have probability, a scale for temperatures."""
    possible = reference.log_probs > -jnp.inf
    top = jnp.max(jnp.where(possible, reference.rewards, -jnp.inf), axis=-1)
    return top - jnp.min(jnp.where(possible, reference.rewards, jnp.inf), axis=-1)


@one_program
def coldest(reference: Policy) -> jax.Array:
    r"""A temperature below which nothing changes, or nothing is resolved.

    The smallest gap between rewards, at this temperature, decides against the rarest outcome to
    rounding. Of a continuous law the largest gap between neighbouring nodes with any mass counts: a
    temperature of that size is integrated with an error of about :math:`e^{-\pi^2}`.
    """
    if reference.continuous:
        log_mass = jnp.minimum(reference.log_probs[..., 1:], reference.log_probs[..., :-1])
        matters = log_mass > jnp.log(jnp.finfo(reference.dtype).eps)
        return jnp.max(jnp.where(matters, jnp.diff(reference.rewards, axis=-1), 0), axis=-1)
    possible = reference.log_probs > -jnp.inf
    likeliest = jnp.argmax(reference.log_probs, axis=-1, keepdims=True)
    usual = jnp.take_along_axis(reference.rewards, likeliest, axis=-1)
    gaps = jnp.diff(jnp.sort(jnp.where(possible, reference.rewards, usual), axis=-1), axis=-1)
    smallest = jnp.min(jnp.where(gaps > 0, gaps, jnp.inf), axis=-1, initial=jnp.inf)
    rarest = -jnp.min(jnp.where(possible, reference.log_probs, 0), axis=-1)
    return smallest / (rarest - math.log(jnp.finfo(reference.dtype).eps))


def _numbers(reference: Policy) -> tuple[jax.Array, jax.Array]:
    """Up to e^80 times what meets the highest reward, within what soft best-of-n admits."""
    possible = jnp.where(reference.log_probs > -jnp.inf, reference.rewards, -jnp.inf)
    top = jnp.argmax(possible, axis=-1, keepdims=True)
    log_top = jnp.take_along_axis(reference.log_probs, top, axis=-1)[..., 0]
    largest = jnp.minimum(80 - log_top, -0.89 * math.log(jnp.finfo(reference.dtype).tiny))
    return jnp.zeros_like(largest), jnp.arcsinh(largest)


def _number(reference: Policy, x: jax.Array) -> jax.Array:
    return jnp.exp(jnp.sinh(x))  # a bisection first halves among n that one can pay for


def _tilts(reference: Policy) -> tuple[jax.Array, jax.Array]:
    """From 5λ/R so large that nothing is selected, to so small that it counts as 0.

    The hyperbolic sine lets a bisection start near R/5 and reach either end in few steps, the
    costly cold one last.
    """
    log_eps = math.log(jnp.finfo(reference.dtype).eps)
    ends = (jnp.full(reference.batch_shape, end, reference.dtype) for end in (1, -2))
    warm, cold = (jnp.arcsinh(end * log_eps) for end in ends)
    return warm, cold


def _temperatures(reference: Policy) -> tuple[jax.Array, jax.Array]:
    """As far as the coldest temperature that matters: colder ones cost the most."""
    warm, cold = _tilts(reference)
    matters = jnp.log(reward_range(reference) / (5 * coldest(reference)))
    return warm, jnp.minimum(cold, jnp.arcsinh(jnp.maximum(matters, 0)))


def _temperature(bracket: Bracket, reference: Policy, x: jax.Array) -> jax.Array:
    warm, cold = bracket(reference)
    inside = jnp.where(x == warm, jnp.inf, reward_range(reference) / 5 * jnp.exp(-jnp.sinh(x)))
    return jnp.where(x == cold, 0, inside)


def _hard(reference: Policy, n: jax.Array, fixed: jax.Array) -> tuple[Policy, jax.Array]:
    policy = best_of_n(reference, n)
    return policy, certificate(policy)


def _soft(reference: Policy, n: jax.Array, temperature: jax.Array) -> tuple[Policy, jax.Array]:
    policy = soft_best_of_n(reference, n, temperature)
    return policy, jnp.maximum(certificate(policy), _node_error(reference, policy, temperature))


def _node_error(reference: Policy, policy: Policy, temperature: jax.Array) -> jax.Array:
    """Error of integrating exp(-t w) over the nodes of a continuous law; 0 for a discrete one."""
    if not reference.continuous:
        return jnp.zeros((), reference.dtype)
    mass = jnp.maximum(
        policy.log_probs, aligned(reference, ndim=policy.log_probs.ndim)[0].log_probs
    )
    matters = jnp.minimum(mass[..., 1:], mass[..., :-1]) > jnp.log(jnp.finfo(mass.dtype).eps)
    gaps = jnp.where(matters, jnp.diff(policy.rewards, axis=-1), 0)
    spacing = jnp.max(gaps, axis=-1) / jnp.where(temperature > 0, temperature, jnp.inf)
    return jnp.where(spacing > 0, jnp.exp(-(jnp.pi**2) / jnp.where(spacing > 0, spacing, 1)), 0)


def _tilted(
    reference: Policy, temperature: jax.Array, fixed: jax.Array
) -> tuple[Policy, jax.Array]:
    """The tilt; the error of its nodes is what half of them make, squared, or lies at an end."""
    policy = exponential_tilt(reference, temperature)
    halves = jnp.sum(policy.probs[..., ::2], axis=-1) - jnp.sum(policy.probs[..., 1::2], axis=-1)
    return policy, jnp.maximum(halves**2, policy.probs[..., 0] + policy.probs[..., -1])


HARD_N = Knob(
    name="n",
    fixed="temperature",
    selection="best-of-n",
    bracket=_numbers,
    parameter=_number,
    law=_hard,
    strongest=lambda reference, _: exponential_tilt(reference, 0.0),
    attained=False,
)
SOFT_N = Knob(
    name="n",
    fixed="temperature",
    selection="soft best-of-n at temperature {:g}",
    bracket=_numbers,
    parameter=_number,
    law=_soft,
    strongest=exponential_tilt,
    attained=False,
)
SOFT_TEMPERATURE = Knob(
    name="temperature",
    fixed="n",
    selection="soft best-of-{:g}",
    bracket=_temperatures,
    parameter=functools.partial(_temperature, _temperatures),
    law=lambda reference, temperature, n: _soft(reference, n, temperature),
    strongest=best_of_n,
    attained=True,
)
TILT_TEMPERATURE = Knob(
    name="temperature",
    fixed="n",
    selection="the exponential tilt",
    bracket=_tilts,
    parameter=functools.partial(_temperature, _tilts),
    law=_tilted,
    strongest=lambda reference, _: exponential_tilt(reference, 0.0),
    attained=True,
)
