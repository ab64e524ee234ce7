r"""The best that a KL budget buys: over all policies, and over soft best-of-n with so many draws.

Among all policies with :math:`\mathrm{KL}(P\|\pi) \le d` the largest :math:`E_P g` is had by the
exponential tilt of :math:`g` that spends :math:`d`: with :math:`P^* \propto \pi e^{g/\lambda}`,

.. math:: \lambda\,\mathrm{KL}(P\|P^*) = (E_{P^*} g - E_P g) - \lambda\,[\mathrm{KL}(P^*\|\pi)
          - \mathrm{KL}(P\|\pi)] \ge 0 .

The reward is one such :math:`g`; the mid-rank :math:`(F(r) + F(r-))/2` is the other, whose mean is
the win rate against the reference, ties counting one half.

Of a budget for the *mean* divergence over prompts, the largest mean objective is had by one
temperature for all of them: the inequality holds prompt by prompt with the same :math:`\lambda`,
and so on average. Prompts with much to gain spend more.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, require, require_batches, scalar, shown, whole_number
from bon_theory._laws import aligned, require_policy
from bon_theory._ragged import completed, law_program
from bon_theory.divergences import log_ratio
from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, exponential_tilt
from bon_theory.tuning import knobs
from bon_theory.tuning.knobs import (
    SOFT_TEMPERATURE,
    TILT_TEMPERATURE,
    average,
    own_batches,
    prompt_weights,
)
from bon_theory.tuning.solve import (
    Found,
    Options,
    Unattainable,
    outcome_values,
    parameter_at,
    search,
    unresolved,
)

__all__ = ["Frontier", "SoftChoice", "choose_n_and_temperature", "frontier"]

Objective = Literal["reward", "win_rate"]

_NUMBERS = 2**16  # so many numbers of one kind are worked on at once


class Frontier(NamedTuple):
    """A point of the Pareto frontier.

    Attributes:
        policy: the law that is best at its KL divergence, one per prompt.
        value: the objective under it, on average over prompts if they share a budget.
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
        value: the objective, on average over prompts if they share a budget.
        kl: the KL divergence that is spent, likewise.
    """

    n: jax.Array
    temperature: jax.Array
    value: jax.Array
    kl: jax.Array


def frontier(
    reference: Policy,
    kl: Numbers,
    *,
    objective: Objective | Numbers = "reward",
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> Frontier:
    r"""The policy with the largest objective among all with :math:`\mathrm{KL}(P\|\pi) \le d`.

    .. math:: P^*(y) \propto \pi(y) e^{g(y)/\lambda}, \qquad \mathrm{KL}(P^*\|\pi) = d

    Args:
        reference: :math:`\pi`.
        kl: :math:`d` in nats, from 0 to :math:`-\log` of the probability of the highest
            :math:`g`; broadcasts against the batch axes.
        objective: ``"reward"``; ``"win_rate"`` against the reference, ties counting one half; or
            values ``[..., K]`` of any :math:`g`, such as a true reward.
        across_prompts: the budget is for the mean over prompts along the last batch axis, and they
            share a temperature; ``True``, or weights at least 0.
        unattainable: as in :func:`n_for_kl`.

    Raises:
        ValueError: ``kl`` is out of range (the message names it), ``objective`` is neither, or the
            nodes of a continuous reference are too coarse; NaN while traced. Ranks closer to 1 than
            rounding are equal, so of a tie-free reference the win rate's frontier ends at 28 nats
            (12 in float32).

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
    options = Options(across_prompts, unattainable)
    temperature = parameter_at(TILT_TEMPERATURE, knobs.kl, scored, "kl", kl, limit, options)
    weights = prompt_weights(across_prompts, scored)
    policy, value = _bought(reference, scored, temperature, weights)
    return Frontier(policy, value, temperature)


@law_program
def _bought(
    reference: Policy, scored: Policy, temperature: jax.Array, weights: jax.Array | None
) -> tuple[Policy, jax.Array]:
    """The tilt of what is ``scored`` by the objective, with the reference's rewards; its value."""
    of_prompts = temperature if weights is None else temperature[..., None]
    none = jnp.isnan(of_prompts)
    tilt = exponential_tilt(scored, jnp.where(none, jnp.inf, of_prompts))
    ratio = jnp.where(none[..., None], jnp.nan, log_ratio(tilt, scored))
    (reference,) = aligned(reference, ndim=ratio.ndim)
    policy = reference.with_log_ratio(ratio)
    value = jnp.where(none, jnp.nan, expected_value(policy, scored.rewards))
    return policy, average(value, weights)


def choose_n_and_temperature(
    reference: Policy,
    kl: Numbers,
    *,
    max_n: int,
    objective: Objective = "reward",
    across_prompts: bool | Numbers = False,
) -> SoftChoice:
    r"""The :math:`(n, \lambda)` of soft best-of-n with the largest objective within both budgets.

    .. math:: \max_{n \le N,\ \lambda \ge 0} E_{P_{n,\lambda}} g
              \quad\text{subject to}\quad \mathrm{KL}(P_{n,\lambda}\|\pi) \le d

    At each :math:`n` the coldest temperature within the KL budget is best, since objective and
    divergence both fall with :math:`\lambda`; every :math:`n \le N` is tried. Along equal KL more
    draws need not be better: a few more than hard best-of-n needs are worse. Of equally good
    numbers the smallest is chosen.

    Args:
        reference: :math:`\pi`.
        kl: :math:`d \ge 0` in nats, one per batch element.
        max_n: :math:`N`, the budget of draws (static).
        objective: ``"reward"``, or ``"win_rate"`` against the reference.
        across_prompts: one choice for all prompts along the last batch axis, within a budget for
            their mean divergence; ``True``, or weights at least 0.

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
    require_policy("reference", reference)
    (reference,) = completed(reference, beside=(kl, across_prompts))
    values = _values(reference, objective)
    weights = prompt_weights(across_prompts, reference)
    own = own_batches(reference, weights)
    budget = scalar("kl", kl, reference.dtype, at_least=0)
    require_batches("kl", budget.shape, own)
    budget = jnp.broadcast_to(budget, jnp.broadcast_shapes(budget.shape, own))
    choice, resolved = _choose(max_n, reference, budget, values, weights)
    require(lambda: resolved, lambda: unresolved("temperature", reference), resolved)
    return SoftChoice(*(jnp.where(resolved, field, jnp.nan) for field in choice))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
@functools.partial(jax.jit, static_argnums=0)
def _choose(
    max_n: int, reference: Policy, budget: jax.Array, values: jax.Array, weights: jax.Array | None
) -> tuple[SoftChoice, jax.Array]:
    """The best of all numbers of draws, so many at once as memory should hold."""
    at_once = max(1, min(max_n, _NUMBERS // (max(budget.size, 1) * reference.num_outcomes)))
    numbers = np.minimum(np.arange(1, at_once * -(-max_n // at_once) + 1), max_n)

    def trial(n: jax.Array) -> tuple[SoftChoice, jax.Array]:
        draws = jnp.broadcast_to(n.reshape(-1, *(1,) * budget.ndim), (at_once, *budget.shape))
        budgets = jnp.broadcast_to(budget, draws.shape)
        found = _coldest_within(budgets, draws, reference, values, weights)
        return SoftChoice(draws, found.parameter, found.value, found.quantity), found.resolved

    chunks = jnp.asarray(numbers.reshape(-1, at_once), budget.dtype)
    tried, resolved = jax.tree.map(
        lambda x: x.reshape(len(numbers), *budget.shape), jax.lax.map(trial, chunks)
    )
    highest = jnp.max(tried.value, axis=0, keepdims=True)
    equal = 64 * float(jnp.finfo(budget.dtype).eps) * jnp.max(jnp.abs(values), initial=0)
    best = jnp.argmax(tried.value >= highest - equal, axis=0)[None]
    choice = jax.tree.map(lambda x: jnp.take_along_axis(x, best, axis=0)[0], tried)
    return choice, jnp.all(resolved, axis=0)


@_choose.defjvp
def _choose_jvp(max_n: int, primals: Any, tangents: Any) -> Any:
    """With the number of draws held; the temperature is a root, and what it buys follows."""
    choice, resolved = _choose(max_n, *primals)
    draws = choice.n

    def chosen(
        reference: Policy, budget: jax.Array, values: jax.Array, weights: jax.Array | None
    ) -> SoftChoice:
        found = _coldest_within(budget, draws, reference, values, weights)
        each = (x if weights is None else x[..., None] for x in (found.parameter, draws))
        policy, _ = SOFT_TEMPERATURE.law(reference, *each)
        value, spent = expected_value(policy, values), knobs.kl(policy, reference)
        return SoftChoice(draws, found.parameter, average(value, weights), average(spent, weights))

    _, moved = jax.jvp(chosen, primals, tangents)
    return (choice, resolved), (moved, np.zeros(resolved.shape, jax.dtypes.float0))


def _coldest_within(
    budget: jax.Array,
    draws: jax.Array,
    reference: Policy,
    values: jax.Array,
    weights: jax.Array | None,
) -> Found:
    """The temperature that spends the budget, or 0 where best-of-n leaves some of it."""
    best = best_of_n(reference, draws if weights is None else draws[..., None])
    most = average(knobs.kl(best, reference), weights)
    target = jnp.minimum(budget, most)
    return search(SOFT_TEMPERATURE, knobs.kl, reference, target, draws, weights, values)


def _values(reference: Policy, objective: Objective | Numbers) -> jax.Array:
    """The function of outcomes whose mean is to be large, ``[..., K]``."""
    require_policy("reference", reference)
    if isinstance(objective, str):
        if objective == "reward":
            return reference.rewards
        if objective == "win_rate":
            return _mid_ranks(reference)
        raise ValueError(
            f"objective must be 'reward', 'win_rate' or values, got {shown(objective)}: choose one."
        )
    return outcome_values("objective", objective, reference)


@functools.partial(law_program, ranks=True, per_outcome=True)
def _mid_ranks(reference: Policy) -> jax.Array:
    return (jnp.exp(reference.log_cdf_below) + jnp.exp(reference.log_cdf)) / 2
