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
the tilt. Here the derivative is taken of the exact law with its ties, whatever the selection, so
one search serves all: a grid finds the highest stretch, and the derivative's root the top of it.

The true reward enters through its mean at each outcome. A curve :math:`r^*(u)` over the rank is
``curve(jnp.exp(reference.log_cdf))`` on ``Policy.uniform_reward()``; samples of both rewards are
``Policy.from_samples(proxy)`` and the array of true ones.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from bon_theory.arguments import Numbers, is_concrete, require, require_batches, scalar
from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.selection import best_of_poisson
from bon_theory.tuning import knobs
from bon_theory.tuning.root import Point, bracketed_root
from bon_theory.tuning.solve import RESOLVED, coarse, outcome_values

__all__ = ["Hedge", "hedge_mean_extra_draws", "hedge_n", "hedge_temperature"]

_GRID = 33  # points at which a maximum is looked for


class Hedge(NamedTuple):
    """The parameter under which the true reward is highest.

    Attributes:
        parameter: the maximiser; an end of the range if there is no maximum inside. Carries no
            derivative.
        true_reward: the expected true reward there. Differentiable: at a maximum only the explicit
            dependence on rewards and probabilities counts (envelope theorem).
        slope: the derivative of the expected true reward in the search's logarithmic parameter, as
            evidence: 0 to rounding at a maximum inside the range.
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
) -> Hedge:
    r"""The :math:`n \in [1, N]` under which the expected true reward is highest, real.

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        temperature: :math:`\lambda`; 0 is best-of-n.
        max_n: :math:`N`, the end of the range.

    Raises:
        ValueError: ``true_reward`` does not fit the outcomes, ``temperature`` is negative,
            ``max_n < 1``, or a continuous reference has too few nodes for the temperature.

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
    is_hard = is_concrete(temperature) and np.all(np.asarray(temperature) == 0)
    fixed = scalar("temperature", temperature, reference.dtype, at_least=0, finite=False)
    end = math.log(_checked_end("max_n", max_n, 1.0))
    return _hedge(_HARD_N if is_hard else _SOFT_N, reference, true_reward, fixed, (0.0, end))


def hedge_mean_extra_draws(
    reference: Policy, true_reward: Numbers, *, max_mean: float = 1024.0
) -> Hedge:
    r"""The :math:`\mu \in [0, M]` of best-of-Poisson with the highest expected true reward.

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        max_mean: :math:`M`, the end of the range.

    Raises:
        ValueError: ``true_reward`` does not fit the outcomes, or ``max_mean`` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> u = jnp.exp(uniform.log_cdf)
        >>> round(float(bt.hedge_mean_extra_draws(uniform, u**12 * (1 - u)).parameter), 4)
        12.3998

    [K], HedgeTune for best-of-Poisson; with ties derived here.
    """
    end = math.log1p(_checked_end("max_mean", max_mean, 0.0))
    fixed = jnp.zeros((), reference.dtype)
    return _hedge(_POISSON, reference, true_reward, fixed, (0.0, end))


def hedge_temperature(reference: Policy, true_reward: Numbers, *, n: Numbers) -> Hedge:
    r"""The :math:`\lambda \in [0, \infty]` under which the expected true reward is highest.

    Searched between 100 and 1/1000 of the proxy's mean absolute deviation, and at both ends: the
    reference (:math:`\lambda = \infty`) and best-of-n (0).

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        n: number of candidates, real; ``math.inf`` is the exponential tilt.

    Raises:
        ValueError: ``true_reward`` does not fit the outcomes, ``n < 1``, or a continuous reference
            has too few nodes for temperatures near the best.

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
    local maxima; hence the grid.
    """
    is_limit = is_concrete(n) and np.all(np.isposinf(np.asarray(n, float)))
    fixed = scalar("n", n, reference.dtype, at_least=1, finite=not is_limit)
    dial = _TILT if is_limit else _SOFT_TEMPERATURE
    ends = -math.log(100.0), jnp.asarray(math.log(1000.0), reference.dtype)
    if reference.continuous:  # colder ones are not resolved, and slow
        resolved = jnp.log(_deviation(reference) / knobs.node_spacing(reference))
        ends = ends[0], jnp.minimum(ends[1], jnp.min(resolved))
    return _hedge(dial, reference, true_reward, fixed, ends)


@dataclasses.dataclass(frozen=True)
class _Dial:
    """A selection along x: its parameter, the law there, and an error for continuous laws."""

    name: str
    fixed: str
    parameter: Callable[[Policy, jax.Array, jax.Array], jax.Array]
    law: Callable[[Policy, jax.Array, jax.Array], tuple[Policy, jax.Array]]


def _cooled(reference: Policy, x: jax.Array, grid: jax.Array) -> jax.Array:
    """The temperature, infinite at the first point of the grid and 0 at the last."""
    inside = jnp.where(x == grid[0], jnp.inf, _deviation(reference) * jnp.exp(-x))
    return jnp.where(x == grid[-1], 0, inside)


def _deviation(reference: Policy) -> jax.Array:
    """The mean absolute deviation of the reward, a scale that heavy tails leave finite."""
    mean = jnp.sum(reference.probs * reference.rewards, axis=-1, keepdims=True)
    return jnp.sum(reference.probs * jnp.abs(reference.rewards - mean), axis=-1)


def _poisson(reference: Policy, mean: jax.Array, fixed: jax.Array) -> tuple[Policy, jax.Array]:
    policy = best_of_poisson(reference, mean)
    return policy, jnp.abs(jnp.sum(policy.probs, axis=-1) - 1)


_HARD_N = _Dial("n", "temperature", lambda _, x, grid: jnp.exp(x), knobs.HARD_N.law)
_SOFT_N = _Dial("n", "temperature", lambda _, x, grid: jnp.exp(x), knobs.SOFT_N.law)
_POISSON = _Dial("mean_extra_draws", "", lambda _, x, grid: jnp.expm1(x), _poisson)
_SOFT_TEMPERATURE = _Dial("temperature", "n", _cooled, knobs.SOFT_TEMPERATURE.law)
_TILT = _Dial("temperature", "n", _cooled, knobs.TILT_TEMPERATURE.law)


def _hedge(
    dial: _Dial,
    reference: Policy,
    true_reward: Numbers,
    fixed: jax.Array,
    ends: tuple[float, ArrayLike],
) -> Hedge:
    values = outcome_values("true_reward", true_reward, reference)
    require_batches(dial.fixed, fixed.shape, values.shape[:-1])
    fixed = jnp.broadcast_to(fixed, jnp.broadcast_shapes(fixed.shape, values.shape[:-1]))
    grid = jnp.linspace(*ends, _GRID, dtype=reference.dtype)
    found, resolved = _search(dial, reference, values, fixed, grid)
    require(lambda: resolved, lambda: coarse(dial.name), resolved)
    return Hedge(*(jnp.where(resolved, field, jnp.nan) for field in found))


@functools.partial(jax.jit, static_argnums=0)
def _search(
    dial: _Dial, reference: Policy, values: jax.Array, fixed: jax.Array, grid: jax.Array
) -> tuple[Hedge, jax.Array]:
    """The best of the grid, then the root of the slope between its neighbours."""

    def earned(reference: Policy, values: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        policy, error = dial.law(reference, dial.parameter(reference, x, grid), fixed)
        return expected_value(policy, values), error

    still, still_values = jax.lax.stop_gradient((reference, values))

    def with_slope(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        function = functools.partial(earned, still, still_values)
        value, slope, error = jax.jvp(function, (x,), (jnp.ones_like(x),), has_aux=True)
        return value, slope, error if reference.continuous else jnp.zeros_like(value)

    def everywhere(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return with_slope(jnp.broadcast_to(x, fixed.shape))

    tried, slopes, errors = jax.lax.map(everywhere, grid, batch_size=8)
    best = jnp.argmax(jnp.where(errors <= RESOLVED, tried, -jnp.inf), axis=0)
    before, after = jnp.maximum(best - 1, 0), jnp.minimum(best + 1, _GRID - 1)

    def at(index: jax.Array, table: jax.Array) -> jax.Array:
        return jnp.take_along_axis(table, index[None], axis=0)[0]

    slope = at(best, slopes)
    low = jnp.where(slope < 0, grid[before], grid[best])
    high = jnp.where(slope > 0, grid[after], grid[best])
    # One end has the slope that is known, the other the sign that it must have.
    at_low = jnp.where(low == high, -slope, -jnp.abs(slope))
    found = bracketed_root(
        lambda x: -with_slope(x)[1], Point(low, at_low), Point(high, jnp.abs(slope))
    )
    resolved = jnp.maximum(at(before, errors), at(after, errors)) <= RESOLVED
    value, _ = earned(reference, values, found.x)
    return Hedge(dial.parameter(still, found.x, grid), value, -found.value), resolved


def _checked_end(name: str, value: float, least: float) -> float:
    if not (np.ndim(value) == 0 and is_concrete(value) and least < float(value) < math.inf):
        raise ValueError(
            f"{name} must be a finite number above {least:g}, got {value!r}: the end of the range."
        )
    return float(value)
