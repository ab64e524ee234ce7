r"""How far to select by a proxy when another, true reward is what counts ([K]).

Selecting by the proxy :math:`r` first raises the expected true reward :math:`r^*` and may then
lower it. With :math:`h_\theta` the density ratio of the selection, an optimal parameter inside its
range satisfies

.. math:: E_\theta[r^* \psi_\theta] = 0, \qquad \psi_\theta = \partial_\theta \log h_\theta,

with :math:`\psi = 1/n + \log u` for best-of-n, :math:`u - 1 + u/(\mu u + 1)` for best-of-Poisson,
:math:`r - E_\theta r` for the tilt in :math:`1/\lambda`, all in the rank :math:`u` of a tie-free
proxy. For soft best-of-n the derivative is a mean over batches of draws,

.. math:: \frac{d}{d(1/\lambda)} E_{P_{n,\lambda}} r^* = E_{X_1, \dots, X_n}
          \bigl[\mathrm{Cov}_{\mathrm{softmax}(r(X)/\lambda)}(r^*, r)\bigr],

and *not* the covariance of :math:`r^*` and :math:`r` under :math:`P_{n,\lambda}`, which is that of
the tilt. Here the derivative is taken of the exact law with its ties, whatever the selection
(:mod:`bon_theory.tuning.earned`), so that one search serves all (:mod:`bon_theory.tuning.maximum`).

The true reward enters through its mean at each outcome. A curve :math:`r^*(u)` over the rank is
``curve(jnp.exp(reference.log_cdf))`` on ``Policy.uniform_reward()``; samples of both rewards are
``Policy.from_samples(proxy)`` and the array of true ones.

With ``across_prompts`` the answer is the one setting, for all prompts along the last batch axis,
under which the *mean* of their true rewards is highest, weighted if weights are given: that is what
is deployed, while each prompt's own best setting asks for its true rewards to be known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import (
    Numbers,
    is_concrete,
    require,
    require_batches,
    scalar,
    shown,
    static_number,
)
from bon_theory._laws import aligned, require_policy
from bon_theory._ragged import completed
from bon_theory.policy import Policy
from bon_theory.tuning import knobs
from bon_theory.tuning.earned import HedgingProblem
from bon_theory.tuning.knobs import Knob, prompt_weights
from bon_theory.tuning.maximum import highest_setting
from bon_theory.tuning.solve import outcome_values, unresolved

__all__ = ["Hedge", "hedge_mean_extra_draws", "hedge_n", "hedge_temperature"]


class Hedge(NamedTuple):
    r"""The parameter under which the true reward is highest.

    Attributes:
        parameter: the maximiser, of equally high ends of the range the mildest; an end of the range
            if there is no higher maximum inside. Carries no derivative.
        true_reward: the expected true reward there. Differentiable: at a maximum only the explicit
            dependence on rewards, probabilities and the fixed parameter
            counts (envelope theorem).
        slope: the derivative of the expected true reward in :math:`\log n`,
            :math:`\log(1 + \mu)` or :math:`\log(1 + 10R/\lambda)`, as evidence: 0 to rounding at a
            maximum inside the range, and at :math:`\lambda = 0`.
    """

    parameter: jax.Array
    true_reward: jax.Array
    slope: jax.Array


def hedge_n(
    reference: Policy,
    true_reward: Numbers,
    *,
    temperature: Numbers = 0.0,
    max_n: float = 1024.0,
    across_prompts: bool | Numbers = False,
) -> Hedge:
    r"""The :math:`n \in [1, N]` under which the expected true reward is highest, real.

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        temperature: :math:`\lambda`; 0 is best-of-n.
        max_n: :math:`N`, the end of the range.
        across_prompts: one answer for all prompts along the last batch axis, under which their mean
            true reward is highest; ``True``, or weights at least 0.

    Raises:
        ValueError: ``true_reward`` does not fit the outcomes, ``temperature`` is negative,
            ``max_n`` is not a number of at least 1, or a continuous reference has too few nodes for
            the temperature.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> u = jnp.exp(uniform.log_cdf)
        >>> best = bt.hedge_n(uniform, u**12 * (1 - u))
        >>> round(float(best.parameter), 6)  # the square root of 156
        12.489996

    [K], HedgeTune for best-of-n; with ties, and soft, derived here.
    """
    require_policy("reference", reference)
    is_hard = is_concrete(temperature) and np.all(np.asarray(temperature) == 0)
    fixed = scalar("temperature", temperature, reference.dtype, at_least=0, finite=False)
    last = _checked_end("max_n", max_n, 1.0)
    knob = knobs.HARD_N if is_hard else knobs.SOFT_N
    return _hedge(knob, reference, true_reward, fixed, across_prompts, last)


def hedge_mean_extra_draws(
    reference: Policy,
    true_reward: Numbers,
    *,
    max_mean: float = 1024.0,
    across_prompts: bool | Numbers = False,
) -> Hedge:
    r"""The :math:`\mu \in [0, M]` of best-of-Poisson with the highest expected true reward.

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        max_mean: :math:`M`, the end of the range.
        across_prompts: as in :func:`hedge_n`.

    Raises:
        ValueError: ``true_reward`` does not fit the outcomes, or ``max_mean`` is not a number of at
            least 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> u = jnp.exp(uniform.log_cdf)
        >>> round(float(bt.hedge_mean_extra_draws(uniform, u**12 * (1 - u)).parameter), 4)
        12.3998

    [K], HedgeTune for best-of-Poisson; with ties derived here.
    """
    require_policy("reference", reference)
    last = _checked_end("max_mean", max_mean, 0.0)
    fixed = jnp.zeros((), reference.dtype)
    return _hedge(knobs.MEAN_EXTRA_DRAWS, reference, true_reward, fixed, across_prompts, last)


def hedge_temperature(
    reference: Policy,
    true_reward: Numbers,
    *,
    n: Numbers,
    across_prompts: bool | Numbers = False,
) -> Hedge:
    r"""The :math:`\lambda \in [0, \infty]` under which the expected true reward is highest.

    Searched on a grid from the reference (:math:`\lambda = \infty`), even in :math:`1/\lambda` and
    then in its logarithm, to where the smallest gap between rewards decides, and best-of-n (0).

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        n: number of candidates, real; ``math.inf`` is the exponential tilt.
        across_prompts: as in :func:`hedge_n`.

    Raises:
        ValueError: ``true_reward`` does not fit the outcomes, ``n < 1``, or the true reward is
            highest among temperatures that the nodes of a continuous reference do not resolve.

    Example:
        >>> import math
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> u = jnp.exp(uniform.log_cdf)
        >>> tilt = bt.hedge_temperature(uniform, u**12 * (1 - u), n=math.inf)
        >>> round(float(1 / tilt.parameter), 4)
        13.5294

    [K], HedgeTune for soft best-of-n. Tuning :math:`\lambda` is not covered by its theorem: soft
    best-of-n is not ordered by likelihood ratio in :math:`\lambda`, so that there may be several
    local maxima. One that is narrower than a step of the grid, a 63rd of it, can be missed: that
    takes probabilities or gaps between rewards that differ by many powers of ten.
    """
    require_policy("reference", reference)
    # A traced n is taken as finite: what serves both is much slower.
    knob = knobs.temperature_at(n) if is_concrete(n) else knobs.SOFT_TEMPERATURE
    is_finite = knob is knobs.SOFT_TEMPERATURE
    fixed = scalar("n", n, reference.dtype, at_least=1, finite=is_finite)
    return _hedge(knob, reference, true_reward, fixed, across_prompts)


def _hedge(
    knob: Knob,
    reference: Policy,
    true_reward: Numbers,
    fixed: jax.Array,
    across_prompts: bool | Numbers,
    last: float | None = None,
) -> Hedge:
    """The best parameter of a knob, up to ``last`` if it is given."""
    values = outcome_values("true_reward", true_reward, reference)
    reference, values = completed(reference, values, beside=(fixed, across_prompts))
    (reference,) = aligned(reference, ndim=values.ndim)
    reference = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, values.shape), reference)
    weights = prompt_weights(across_prompts, reference)
    own = knobs.own_batches(reference, weights)
    require_batches(knob.fixed, fixed.shape, own)
    batch = jnp.broadcast_shapes(fixed.shape, own)
    if 0 in reference.batch_shape:  # nothing to search
        return Hedge(*(jnp.zeros(batch, reference.dtype),) * 3)

    def spread(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (*batch, *leaf.shape[len(own) :]))

    reference, values, weights = jax.tree.map(spread, (reference, values, weights))
    problem = HedgingProblem(reference, values, weights, jnp.broadcast_to(fixed, batch))
    found, resolved = highest_setting(knob, problem, last)
    require(lambda: resolved, lambda: unresolved(knob.name, reference), resolved)
    return Hedge(*(jnp.where(resolved, field, jnp.nan) for field in found))


def _checked_end(name: str, value: float, least: float) -> float:
    end = static_number(name, value)
    if not least <= end < math.inf:
        raise ValueError(
            f"{name} must be a finite number of at least {least:g}, got {shown(value)}: the "
            "end of the range."
        )
    return end
