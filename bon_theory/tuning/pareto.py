r"""The best that a KL budget buys: over all policies, and over soft best-of-n with so many draws.

Among all policies with :math:`\mathrm{KL}(P\|\pi) \le d` the largest :math:`E_P g` is had by the
exponential tilt of :math:`g` that spends :math:`d`: with :math:`P^* \propto \pi e^{g/\lambda}`,

.. math:: \lambda\,\mathrm{KL}(P\|P^*) = (E_{P^*} g - E_P g) - \lambda\,[\mathrm{KL}(P^*\|\pi)
          - \mathrm{KL}(P\|\pi)] \ge 0 .

The reward is one such :math:`g`; the mid-rank :math:`(F(r) + F(r-))/2` is the other, whose mean is
the win rate against the reference, ties counting one half.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, require, require_batches, scalar, shown, whole_number
from bon_theory.divergences import kl_divergence, log_ratio
from bon_theory.performance import expected_value
from bon_theory.policy import Policy, aligned, require_policy
from bon_theory.selection import best_of_n, exponential_tilt
from bon_theory.tuning.knobs import KL, SOFT_TEMPERATURE, TILT_TEMPERATURE
from bon_theory.tuning.solve import outcome_values, parameter_at, search, unresolved

__all__ = ["Frontier", "SoftChoice", "choose_n_and_temperature", "frontier"]

Objective = Literal["reward", "win_rate"]


class Frontier(NamedTuple):
    """A point of the Pareto frontier.

    Attributes:
        policy: the law that is best at its KL divergence.
        value: the objective under it.
        temperature: of the tilt, in units of the objective: the slope of value against KL.
    """

    policy: Policy
    value: jax.Array
    temperature: jax.Array


class SoftChoice(NamedTuple):
    """Soft best-of-n with the best use of a KL budget and a budget of draws.

    Attributes:
        n: number of draws, whole.
        temperature: 0 is best-of-n.
        value: the objective.
        kl: the KL divergence that is spent.
    """

    n: jax.Array
    temperature: jax.Array
    value: jax.Array
    kl: jax.Array


def frontier(
    reference: Policy, kl: Numbers, *, objective: Objective | Numbers = "reward"
) -> Frontier:
    r"""The policy with the largest objective among all with :math:`\mathrm{KL}(P\|\pi) \le d`.

    .. math:: P^*(y) \propto \pi(y) e^{g(y)/\lambda}, \qquad \mathrm{KL}(P^*\|\pi) = d

    Args:
        reference: :math:`\pi`.
        kl: :math:`d` in nats, from 0 to :math:`-\log` of the probability of the highest
            :math:`g`; broadcasts against the batch axes.
        objective: ``"reward"``; ``"win_rate"`` against the reference, ties counting one half; or
            values ``[..., K]`` of any :math:`g`, such as a true reward.

    Raises:
        ValueError: ``kl`` is out of range (the message names it), ``objective`` is neither, or the
            nodes of a continuous reference are too coarse.

    Example:
        >>> import bon_theory as bt
        >>> best = bt.frontier(bt.Policy.uniform_reward(), 0.6501169364, objective="win_rate")
        >>> round(float(best.value), 6), round(float(1 / best.temperature), 6)
        (0.806784, 5.0)

    [V] Eq. (2) for the reward; [G] Theorem 1 for the win rate, with ties derived here.
    """
    values = _values(reference, objective)
    (reference,) = aligned(reference, ndim=values.ndim)
    log_probs = jnp.broadcast_to(reference.log_probs, values.shape)
    scored = dataclasses.replace(reference, log_probs=log_probs, rewards=values, ranks=None)
    limit = jnp.asarray(jnp.inf, reference.dtype)
    temperature = parameter_at(TILT_TEMPERATURE, KL, scored, "kl", kl, limit)
    ratio = log_ratio(exponential_tilt(scored, temperature), scored)
    (reference,) = aligned(reference, ndim=ratio.ndim)
    policy = reference.with_log_ratio(ratio)
    return Frontier(policy, expected_value(policy, values), temperature)


def choose_n_and_temperature(
    reference: Policy, kl: Numbers, *, max_n: int, objective: Objective = "reward"
) -> SoftChoice:
    r"""The :math:`(n, \lambda)` of soft best-of-n with the largest objective within both budgets.

    .. math:: \max_{n \le N,\ \lambda \ge 0} E_{P_{n,\lambda}} g
              \quad\text{subject to}\quad \mathrm{KL}(P_{n,\lambda}\|\pi) \le d

    At each :math:`n` the coldest temperature within the KL budget is best, since objective and
    divergence both fall with :math:`\lambda`; every :math:`n \le N` is tried. Along equal KL more
    draws need not be better: a few more than hard best-of-n needs are worse.

    Args:
        reference: :math:`\pi`.
        kl: :math:`d \ge 0` in nats, one per batch element.
        max_n: :math:`N`, the budget of draws (static).
        objective: ``"reward"``, or ``"win_rate"`` against the reference.

    Raises:
        ValueError: ``kl`` is negative, ``max_n`` is not a whole number of at least 1,
            ``objective`` is neither, or the nodes of a continuous reference are too coarse for a
            temperature tried.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> few = bt.choose_n_and_temperature(reference, kl=0.5, max_n=4)
        >>> many = bt.choose_n_and_temperature(reference, kl=0.5, max_n=32)
        >>> [int(few.n), int(many.n)], few.value < many.value
        ([4, 32], Array(True, dtype=bool))

    Derived here (docs/bounds.md for the order in the temperature).
    """
    max_n = whole_number("max_n", max_n)
    values = _values(reference, objective)
    budget = scalar("kl", kl, reference.dtype, at_least=0)
    require_batches("kl", budget.shape, reference.batch_shape)
    budget = jnp.broadcast_to(budget, jnp.broadcast_shapes(budget.shape, reference.batch_shape))
    choice, resolved = _choose(reference, budget, values, max_n)
    require(lambda: resolved, lambda: unresolved("temperature", reference), resolved)
    return SoftChoice(*(jnp.where(resolved, field, jnp.nan) for field in choice))


@functools.partial(jax.jit, static_argnums=3)
def _choose(
    reference: Policy, budget: jax.Array, values: jax.Array, max_n: int
) -> tuple[SoftChoice, jax.Array]:
    def at(
        draws: jax.Array, reference: Policy, budget: jax.Array, values: jax.Array
    ) -> tuple[SoftChoice, jax.Array]:
        hard = kl_divergence(best_of_n(reference, draws), reference)
        found = search(SOFT_TEMPERATURE, KL, reference, jnp.minimum(budget, hard), draws)
        policy, _ = SOFT_TEMPERATURE.law(reference, found.parameter, draws)
        spent = kl_divergence(policy, reference)
        value = expected_value(policy, values)
        return SoftChoice(draws, found.parameter, value, spent), found.resolved

    still = jax.lax.stop_gradient((reference, budget, values))

    def trial(n: jax.Array) -> tuple[jax.Array, jax.Array]:
        choice, resolved = at(jnp.broadcast_to(n, budget.shape), *still)
        return choice.value, resolved

    numbers = jnp.arange(1, max_n + 1).astype(budget.dtype)
    tried, resolved = jax.lax.map(trial, numbers, batch_size=min(max_n, 16))
    best = 1 + jnp.argmax(tried, axis=0).astype(budget.dtype)
    choice, _ = at(best, reference, budget, values)  # again, with derivatives of this n alone
    return choice, jnp.all(resolved, axis=0)


def _values(reference: Policy, objective: Objective | Numbers) -> jax.Array:
    """The function of outcomes whose mean is to be large, ``[..., K]``."""
    require_policy("reference", reference)
    if isinstance(objective, str):
        if objective == "reward":
            return reference.rewards
        if objective == "win_rate":
            return (jnp.exp(reference.log_cdf_below) + jnp.exp(reference.log_cdf)) / 2
        raise ValueError(
            f"objective must be 'reward', 'win_rate' or values, got {shown(objective)}: choose one."
        )
    return outcome_values("objective", objective, reference)
