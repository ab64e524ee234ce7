r"""Best-of-n by a judge who errs: how many scores to select on, and what the winner is worth.

Each candidate gets :math:`J` scores, its reward with independent Gaussian errors of deviation
:math:`\tau`, and the highest mean wins: best-of-n under Gaussian noise of scale
:math:`\sigma = \tau/\sqrt J` (:func:`~bon_theory.noisy_best_of_n`). With :math:`Y` the winner and
:math:`P` its law, the mean that it won with is too high:

.. math:: E[\bar s_Y] = E_P\,r + \sigma\,E[\varepsilon_Y], \qquad
          \sigma\,E[\varepsilon_Y] = \sigma^2\,E_{y \sim \pi}\bigl[\rho'(r(y))\bigr], \quad
          \rho(r) = \int n\,H(r + \sigma e)^{n-1} f(e)\,de,

the slope of :math:`\rho = P/\pi` in the reward, by parts since :math:`f' = -ef`. Scores that were
held out have no such bias, and cost selection its accuracy. Derived here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, scalar, shown, static_number, whole_number
from bon_theory._laws import aligned, require_policy
from bon_theory._ragged import law_program
from bon_theory.noise import Noise
from bon_theory.performance import expected_reward, expected_value
from bon_theory.policy import Policy
from bon_theory.race import noisy_race_winning_noise
from bon_theory.selection import noisy_best_of_n

__all__ = ["Judged", "ScoresChoice", "judged_value", "scores_for_budget", "scores_to_select_on"]


class Judged(NamedTuple):
    """What the winner is worth, and what two estimates say of it.

    Attributes:
        value: its expected reward.
        plug_in: the expected mean of the scores that it won with, which is higher.
        held_out_deviation: standard deviation of the mean of its held-out scores, whose expectation
            is ``value``; infinite if none is held out.
    """

    value: jax.Array
    plug_in: jax.Array
    held_out_deviation: jax.Array


class ScoresChoice(NamedTuple):
    """How many scores each candidate gets for selection.

    Attributes:
        scores: J.
        n: the number of candidates.
        value: expected reward of the winner.
    """

    scores: jax.Array
    n: jax.Array
    value: jax.Array


def judged_value(
    reference: Policy,
    n: Numbers,
    deviation: Numbers,
    *,
    scores: Numbers = 1.0,
    held_out: Numbers = 0.0,
) -> Judged:
    r"""The best of :math:`n` by the mean of :math:`J` scores: its value, and estimates of it.

    Args:
        reference: the law of one draw with its true reward.
        n: number of candidates, real, from 1 to 1e15.
        deviation: :math:`\tau \ge 0`, of one score's error.
        scores: :math:`J \ge 1`, real, on whose mean is selected.
        held_out: :math:`K - J \ge 0`, further scores of the winner.

    The parameters broadcast against the reference's batch axes.

    Raises:
        ValueError: a parameter is outside its range.

    Example:
        >>> import bon_theory as bt
        >>> judged = bt.judged_value(bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0]), 8, 2.0, scores=4)
        >>> round(float(judged.value), 6), round(float(judged.plug_in), 6)
        (0.811488, 2.089961)

    The variance of the held-out mean is :math:`\mathrm{Var}_P(r) + \tau^2/(K - J)`. The mean of all
    :math:`K` scores of the winner is too high by :math:`J/K` of what ``plug_in`` is. Derived here.
    """
    require_policy("reference", reference)
    dtype = reference.dtype
    tau = scalar("deviation", deviation, dtype, at_least=0)
    count = scalar("scores", scores, dtype, at_least=1)
    rest = scalar("held_out", held_out, dtype, at_least=0)
    scale = tau / jnp.sqrt(count)
    law = noisy_best_of_n(reference, n, scale)
    value = expected_reward(law)
    spread = expected_value(law, (law.rewards - value[..., None]) ** 2)
    noise = jnp.where(rest > 0, tau**2 / jnp.where(rest > 0, rest, 1), jnp.inf)
    bias = scale * _winning_noise(reference, scalar("n", n, dtype, at_least=1), scale)
    return Judged(value, value + bias, jnp.sqrt(spread + noise))


@law_program
def _winning_noise(reference: Policy, n: jax.Array, scale: jax.Array) -> jax.Array:
    """Mean noise of the winner, standard normal before selection; of best-of-n's winner 0."""
    (reference,) = aligned(reference, ndim=max(n.ndim, scale.ndim) + 1)
    precision = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), jnp.nan)
    race = functools.partial(noisy_race_winning_noise, noise=Noise.gaussian())
    mean = jnp.vectorize(race, signature="(k),(k),(),()->()")(
        reference.log_probs, reference.rewards, n, precision
    )
    return jnp.where(scale > 0, mean, 0)


def scores_for_budget(
    reference: Policy,
    deviation: Numbers,
    *,
    budget: float,
    draw_cost: float = 1.0,
    score_cost: float = 1.0,
    max_scores: int = 64,
) -> ScoresChoice:
    r"""Many candidates judged in haste, or few with care: the best :math:`J` that a budget buys.

    .. math:: \max_J E_{P_J}\,r, \qquad n = \Bigl\lfloor\frac{B}{c + J c'}\Bigr\rfloor

    Args:
        reference: the law of one draw with its true reward.
        deviation: :math:`\tau \ge 0`, of one score's error.
        budget: :math:`B` (static).
        draw_cost: :math:`c \ge 0` of a candidate (static).
        score_cost: :math:`c' > 0` of one of its scores (static).
        max_scores: the largest :math:`J` that is tried (static).

    Raises:
        ValueError: a cost is negative or infinite, the budget does not buy one draw and its score,
            or ``deviation`` is negative.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.9, 0.1], [0.0, 1.0])
        >>> choice = bt.scores_for_budget(coin, 1.0, budget=100.0)
        >>> int(choice.scores), int(choice.n), round(float(choice.value), 4)
        (4, 20, 0.6631)

    Derived here.
    """
    least = {"draw_cost": (draw_cost, 0.0), "score_cost": (score_cost, np.finfo(float).tiny)}
    for name, (cost, lowest) in least.items():
        if not lowest <= static_number(name, cost) < math.inf:
            what = "positive" if lowest else "at least 0"
            raise ValueError(
                f"{name} must be {what} and finite, got {shown(cost)}: what one costs."
            )
    counts = np.arange(1, whole_number("max_scores", max_scores) + 1)
    bought = np.floor(static_number("budget", budget) / (draw_cost + counts * score_cost) + 1e-9)
    if not 1 <= bought[0] < math.inf:
        raise ValueError(
            f"budget must be finite and buy a candidate with one score, got {shown(budget)}: "
            f"give at least {draw_cost + score_cost:g}."
        )
    counts, bought = counts[bought >= 1], bought[bought >= 1]
    require_policy("reference", reference)
    return _best_of(reference, bought, deviation, counts, lambda judged: judged.value, 0 * counts)


def scores_to_select_on(
    reference: Policy,
    n: float,
    deviation: Numbers,
    *,
    scores: int,
    prompts: float,
    errors: float = 2.0,
) -> ScoresChoice:
    r"""Of :math:`K` scores each candidate has, how many to select on and how many to hold out.

    The highest value that held-out scores of :math:`m` winners, one a prompt, can vouch for:

    .. math:: \max_{J < K}\; E_{P_J}\,r
              - z\,\sqrt{\frac{\mathrm{Var}_{P_J}(r) + \tau^2/(K - J)}{m}}

    Args:
        reference: the law of one draw with its true reward, the same for every prompt.
        n: number of candidates, real (static).
        deviation: :math:`\tau \ge 0`, of one score's error.
        scores: :math:`K \ge 2` (static).
        prompts: :math:`m > 0`, over which the held-out means are averaged (static).
        errors: :math:`z \ge 0`, standard errors (static).

    Raises:
        ValueError: ``scores`` is no whole number of at least 2, ``prompts`` or ``errors`` is out of
            range, or as :func:`judged_value`.

    Example:
        >>> import bon_theory as bt
        >>> coin = bt.Policy.from_probs([0.9, 0.1], [0.0, 1.0])
        >>> int(bt.scores_to_select_on(coin, 16, 1.0, scores=8, prompts=100).scores)
        6

    Derived here.
    """
    for name, given, lowest in (("prompts", prompts, 1.0), ("errors", errors, 0.0)):
        if not lowest <= static_number(name, given) < math.inf:
            raise ValueError(
                f"{name} must be at least {lowest:g} and finite, got {shown(given)}: choose such a "
                "number."
            )
    counts = np.arange(1, whole_number("scores", scores, at_least=2))
    require_policy("reference", reference)
    number = static_number("n", n)

    def vouched(judged: Judged) -> jax.Array:
        return judged.value - errors * judged.held_out_deviation / math.sqrt(prompts)

    return _best_of(reference, number, deviation, counts, vouched, scores - counts)


def _best_of(
    reference: Policy,
    n: Numbers | np.ndarray,
    deviation: Numbers,
    counts: np.ndarray,
    criterion: Callable[[Judged], jax.Array],
    held_out: np.ndarray,
) -> ScoresChoice:
    """The number of scores, one of ``counts [S]``, under which the criterion is highest.

    ``n`` is one number, or one for each of ``counts``.
    """

    def along_choices(array: np.ndarray) -> np.ndarray:
        return np.asarray(array).reshape(-1, *[1] * len(reference.batch_shape))

    counts, numbers = along_choices(counts), along_choices(np.asarray(n, float))
    judged = judged_value(
        reference, numbers, deviation, scores=counts, held_out=along_choices(held_out)
    )
    best = jnp.argmax(criterion(judged), axis=0)

    def chosen(array: jax.Array | np.ndarray) -> jax.Array:
        array = jnp.broadcast_to(jnp.asarray(array, reference.dtype), judged.value.shape)
        return jnp.take_along_axis(array, best[None], axis=0)[0]

    return ScoresChoice(*map(chosen, (counts, numbers, judged.value)))
