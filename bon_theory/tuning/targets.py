r"""The number of draws, or the temperature, for a KL divergence, a win rate or an expected reward.

Each function inverts an increasing function within a bracket whose ends are known in closed form
(:mod:`bon_theory.tuning.knobs` says why it increases): the answer is exact to rounding, and what
cannot be reached is refused with the range that can. Targets and fixed parameters may be arrays
that broadcast against the reference's batch axes, one per prompt. Traced, an inadmissible target
gives NaN. Differentiable in all real arguments (implicit function theorem).

All take ``across_prompts``. What is deployed is one number of draws, or one temperature, for every
prompt there will be; with ``across_prompts=True`` the last batch axis holds a sample of prompts and
the answer is the one setting at which the *mean* over them takes the target, weighted if weights
are given. That is not the mean of the prompts' own answers: a prompt with few distinct rewards has
no more divergence to give, however many draws are made, and others make up for it.

A single target that cannot be reached raises. Among many, one per prompt, it is NaN in its place,
because a prompt whose answers are all right or all wrong says nothing about the others;
``unattainable="raise"`` raises for them too, and names the first, ``"nan"`` never does.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, scalar, shown
from bon_theory._laws import require_policy
from bon_theory.performance import Ties
from bon_theory.policy import Policy
from bon_theory.tuning import knobs
from bon_theory.tuning.knobs import Quantity
from bon_theory.tuning.solve import Options, Rounding, Unattainable, parameter_at

__all__ = [
    "n_for_kl",
    "n_for_reward",
    "n_for_win_rate",
    "temperature_for_kl",
    "temperature_for_reward",
    "temperature_for_win_rate",
]


def n_for_kl(
    reference: Policy,
    kl: Numbers,
    *,
    temperature: Numbers = 0.0,
    rounding: Rounding = None,
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> jax.Array:
    r"""The :math:`n` with :math:`\mathrm{KL}(P_{n,\lambda}\|\pi) = \mathtt{kl}`, real.

    Args:
        reference: the law of one draw.
        kl: the KL budget in nats, at least 0 and below :math:`\mathrm{KL}(P^*\|\pi)` of the tilt,
            which at temperature 0 is :math:`-\log` of the probability of the highest reward.
        temperature: :math:`\lambda`; 0 is best-of-n.
        rounding: ``None`` for the real :math:`n`; ``"down"`` for the largest integer within the
            budget, ``"up"`` for the smallest that reaches it.
        across_prompts: one answer for all prompts along the last batch axis, at which the mean over
            them is the target; ``True``, or weights at least 0.
        unattainable: what becomes of a target that cannot be reached: ``"raise"`` an error,
            ``"nan"`` in its place, or, by default, the error for a single number and NaN among
            many.

    Raises:
        ValueError: no :math:`n` has this divergence (the message names the range), ``temperature``
            is negative, or a continuous reference has too few nodes.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.n_for_kl(uniform, kl=1.204442)), 4)  # log 8 - 7/8
        8.0
        >>> float(bt.n_for_kl(uniform, kl=1.0, rounding="down"))
        6.0

    Without ties the root of :math:`\log n - (n-1)/n` ([B] Thm 1); with ties, and soft, derived
    here.
    """
    options = Options(across_prompts, unattainable, rounding)
    return _number(knobs.kl, reference, "kl", kl, temperature, options)


def n_for_win_rate(
    reference: Policy,
    win_rate: Numbers,
    *,
    temperature: Numbers = 0.0,
    ties: Ties = "half",
    rounding: Rounding = None,
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> jax.Array:
    r"""The :math:`n` at which :math:`P_{n,\lambda}` wins against :math:`\pi` this often, real.

    Args:
        reference: the law of one draw, and the opponent.
        win_rate: at least that of the reference against itself, below that of the tilt.
        temperature: :math:`\lambda`; 0 is best-of-n.
        ties: as in :func:`win_rate`.
        rounding: ``"down"`` for the largest integer that does not exceed the win rate, ``"up"`` for
            the smallest that reaches it.
        across_prompts: as in :func:`n_for_kl`.
        unattainable: as in :func:`n_for_kl`.

    Raises:
        ValueError: as :func:`n_for_kl`.

    Example:
        >>> import bon_theory as bt
        >>> round(float(bt.n_for_win_rate(bt.Policy.uniform_reward(), 0.9)), 6)
        9.0

    Without ties :math:`w/(1-w)`, from :math:`n/(n+1)` ([G] §2); with ties, and soft, derived here.
    """
    options = Options(across_prompts, unattainable, rounding)
    return _number(_wins(ties), reference, "win_rate", win_rate, temperature, options)


def n_for_reward(
    reference: Policy,
    reward: Numbers,
    *,
    temperature: Numbers = 0.0,
    rounding: Rounding = None,
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> jax.Array:
    r"""The :math:`n` with :math:`E_{P_{n,\lambda}} r = \mathtt{reward}`, real.

    Args:
        reference: the law of one draw.
        reward: at least :math:`E_\pi r`, below that of the tilt.
        temperature: :math:`\lambda`; 0 is best-of-n.
        rounding: ``"down"`` for the largest integer that does not exceed the reward, ``"up"`` for
            the smallest that reaches it.
        across_prompts: as in :func:`n_for_kl`.
        unattainable: as in :func:`n_for_kl`.

    Raises:
        ValueError: as :func:`n_for_kl`.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bt.n_for_reward(reference, 0.6815)), 6)
        3.0
        >>> float(bt.n_for_reward(reference, 0.7, rounding="up"))
        4.0

    Derived here: the order in :math:`n` makes the expected reward increase.
    """
    options = Options(across_prompts, unattainable, rounding)
    return _number(knobs.reward, reference, "reward", reward, temperature, options)


def temperature_for_kl(
    reference: Policy,
    kl: Numbers,
    *,
    n: Numbers,
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> jax.Array:
    r"""The :math:`\lambda` with :math:`\mathrm{KL}(P_{n,\lambda}\|\pi) = \mathtt{kl}`.

    Args:
        reference: the law of one draw.
        kl: the KL budget in nats, from 0 (:math:`\lambda = \infty`) to that of best-of-n
            (:math:`\lambda = 0`).
        n: number of candidates, real; ``math.inf`` is the exponential tilt, the Pareto frontier.
        across_prompts: as in :func:`n_for_kl`.
        unattainable: as in :func:`n_for_kl`.

    Raises:
        ValueError: no temperature has this divergence (the message names the range), ``n < 1``, or
            a continuous reference has too few nodes to resolve the temperature.

    Example:
        >>> import math
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> round(float(bt.temperature_for_kl(reference, 0.1489266696, n=4)), 6)
        0.5
        >>> round(float(bt.temperature_for_kl(reference, 0.2498427, n=math.inf)), 6)
        0.5

    Derived here: the divergence decreases in the temperature (docs/bounds.md).
    """
    options = Options(across_prompts, unattainable)
    return _temperature(knobs.kl, reference, "kl", kl, n, options)


def temperature_for_win_rate(
    reference: Policy,
    win_rate: Numbers,
    *,
    n: Numbers,
    ties: Ties = "half",
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> jax.Array:
    r"""The :math:`\lambda` at which :math:`P_{n,\lambda}` wins against :math:`\pi` this often.

    Args:
        reference: the law of one draw, and the opponent.
        win_rate: from that of the reference against itself to that of best-of-n.
        n: number of candidates, real; ``math.inf`` is the exponential tilt.
        ties: as in :func:`win_rate`.
        across_prompts: as in :func:`n_for_kl`.
        unattainable: as in :func:`n_for_kl`.

    Raises:
        ValueError: as :func:`temperature_for_kl`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.temperature_for_win_rate(uniform, 0.6371698129, n=8)), 6)
        0.5

    Derived here: soft best-of-n is stochastically ordered in the temperature (docs/bounds.md).
    """
    options = Options(across_prompts, unattainable)
    return _temperature(_wins(ties), reference, "win_rate", win_rate, n, options)


def temperature_for_reward(
    reference: Policy,
    reward: Numbers,
    *,
    n: Numbers,
    across_prompts: bool | Numbers = False,
    unattainable: Unattainable = None,
) -> jax.Array:
    r"""The :math:`\lambda` with :math:`E_{P_{n,\lambda}} r = \mathtt{reward}`.

    Args:
        reference: the law of one draw.
        reward: from :math:`E_\pi r` to that of best-of-n.
        n: number of candidates, real; ``math.inf`` is the exponential tilt.
        across_prompts: as in :func:`n_for_kl`.
        unattainable: as in :func:`n_for_kl`.

    Raises:
        ValueError: as :func:`temperature_for_kl`.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> round(float(bt.temperature_for_reward(uniform, 0.6371698129, n=8)), 6)
        0.5

    Derived here: soft best-of-n is stochastically ordered in the temperature (docs/bounds.md).
    """
    options = Options(across_prompts, unattainable)
    return _temperature(knobs.reward, reference, "reward", reward, n, options)


def _number(
    quantity: Quantity,
    reference: Policy,
    name: str,
    target: Numbers,
    temperature: Numbers,
    options: Options,
) -> jax.Array:
    require_policy("reference", reference)
    # A temperature known to be 0 needs no race, which costs a hundred times as much as ranks.
    is_hard = is_concrete(temperature) and np.all(np.asarray(temperature) == 0)
    knob = knobs.HARD_N if is_hard else knobs.SOFT_N
    fixed = scalar("temperature", temperature, reference.dtype, at_least=0, finite=False)
    return parameter_at(knob, quantity, reference, name, target, fixed, options)


def _temperature(
    quantity: Quantity,
    reference: Policy,
    name: str,
    target: Numbers,
    n: Numbers,
    options: Options,
) -> jax.Array:
    require_policy("reference", reference)
    fixed = scalar("n", n, reference.dtype, at_least=1, finite=False)
    knob = knobs.temperature_at(n)
    return parameter_at(knob, quantity, reference, name, target, fixed, options)


def _wins(ties: Any) -> Quantity:
    if ties not in ["half", "win", "loss"]:
        raise ValueError(
            f"ties must be 'half', 'win' or 'loss', got {shown(ties)}: choose how a tie counts."
        )
    return knobs.wins(ties)
