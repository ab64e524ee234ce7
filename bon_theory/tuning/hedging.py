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
one search serves all, along :math:`x = \log n`, :math:`\log(1 + \mu)` or
:math:`\log(1 + 10R/\lambda)`, :math:`R` the range of the proxy: where the slope changes from rising
to falling between neighbours of a grid there is a maximum, a root of the slope, and the highest is
the answer. Best-of-n is :math:`r^*` as a function of :math:`y = -\log(-\log u)`, smoothed by the
Gumbel density :math:`e^{-(y - x) - e^{-(y - x)}}`: steps of 0.2 in :math:`\log n` pass over nothing
but ripples.

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

from bon_theory._arguments import (
    Numbers,
    is_concrete,
    require,
    require_batches,
    scalar,
    shown,
    static_number,
)
from bon_theory._numerics import one_program
from bon_theory.certificate import certificate
from bon_theory.performance import expected_value
from bon_theory.policy import Policy, require_policy
from bon_theory.selection import best_of_poisson
from bon_theory.tuning import knobs
from bon_theory.tuning.root import Point, bracketed_root
from bon_theory.tuning.solve import RESOLVED, outcome_values, unresolved

__all__ = ["Hedge", "hedge_mean_extra_draws", "hedge_n", "hedge_temperature"]

_STEP = 0.2  # in log n
_TEMPERATURES = 136
_AT_ONCE = 8  # points of a grid; it has a multiple of them, so that none is left over
_MAXIMA = 8  # so many of the highest are compared


class Hedge(NamedTuple):
    r"""The parameter under which the true reward is highest.

    Attributes:
        parameter: the maximiser; an end of the range if there is no maximum inside. Carries no
            derivative.
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
) -> Hedge:
    r"""The :math:`n \in [1, N]` under which the expected true reward is highest, real.

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        temperature: :math:`\lambda`; 0 is best-of-n.
        max_n: :math:`N`, the end of the range.

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
    end = math.log(_checked_end("max_n", max_n, 1.0))
    return _hedge(_HARD_N if is_hard else _SOFT_N, reference, true_reward, fixed, _steps(end))


def hedge_mean_extra_draws(
    reference: Policy, true_reward: Numbers, *, max_mean: float = 1024.0
) -> Hedge:
    r"""The :math:`\mu \in [0, M]` of best-of-Poisson with the highest expected true reward.

    Args:
        reference: the law of one draw; its rewards are the proxy.
        true_reward: mean true reward of each outcome, ``[..., K]``.
        max_mean: :math:`M`, the end of the range.

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
    end = math.log1p(_checked_end("max_mean", max_mean, 0.0))
    fixed = jnp.zeros((), reference.dtype)
    return _hedge(_POISSON, reference, true_reward, fixed, _steps(end))


def hedge_temperature(reference: Policy, true_reward: Numbers, *, n: Numbers) -> Hedge:
    r"""The :math:`\lambda \in [0, \infty]` under which the expected true reward is highest.

    Searched on a grid from the reference (:math:`\lambda = \infty`), even in :math:`1/\lambda` and
    then in its logarithm, to where the smallest gap between rewards decides, and best-of-n (0).

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
    local maxima. One that is narrower than a step of the grid, a 135th of it, can be missed: that
    takes probabilities or gaps between rewards that differ by many powers of ten.
    """
    require_policy("reference", reference)
    is_limit = is_concrete(n) and np.all(np.isposinf(np.asarray(n, float)))
    fixed = scalar("n", n, reference.dtype, at_least=1, finite=not is_limit)
    dial = _TILT if is_limit else _SOFT_TEMPERATURE
    range_ = jax.lax.stop_gradient(_scale(reference))
    coldest = jax.lax.stop_gradient(knobs.coldest(reference))
    if reference.continuous:  # with tails so heavy, do not search in vain
        require(
            lambda: coldest < _deviation(reference),
            lambda: unresolved("temperature", reference),
            reference,
        )
    eps = jnp.finfo(reference.dtype).eps
    ends = jnp.full_like(range_, eps), jnp.maximum(jnp.log1p(10 * range_ / coldest), 2 * eps)
    grid = jnp.linspace(*ends, _TEMPERATURES, dtype=reference.dtype)
    found = _hedge(dial, reference, true_reward, fixed, grid)
    # The first temperature of the grid is the reference to rounding.
    is_first = found.parameter > range_ / eps
    return found._replace(parameter=jnp.where(is_first, jnp.inf, found.parameter))


@dataclasses.dataclass(frozen=True)
class _Dial:
    """A selection along x: its parameter, the law there, and an error for continuous laws."""

    name: str
    fixed: str
    parameter: Callable[[Policy, jax.Array, jax.Array], jax.Array]
    law: Callable[[Policy, jax.Array, jax.Array], tuple[Policy, jax.Array]]


def _cooled(reference: Policy, x: jax.Array, end: jax.Array) -> jax.Array:
    return jnp.where(x == end, 0, 10 * _scale(reference) / jnp.expm1(x))


@one_program
def _deviation(reference: Policy) -> jax.Array:
    """The mean absolute deviation of the reward, a scale that heavy tails leave finite."""
    mean = jnp.sum(reference.probs * reference.rewards, axis=-1, keepdims=True)
    return jnp.sum(reference.probs * jnp.abs(reference.rewards - mean), axis=-1)


@one_program
def _scale(reference: Policy) -> jax.Array:
    """The range R of the proxy, or 1 where all its rewards are equal."""
    range_ = knobs.reward_range(reference)
    return jnp.where(range_ > 0, range_, 1)


def _poisson(reference: Policy, mean: jax.Array, fixed: jax.Array) -> tuple[Policy, jax.Array]:
    policy = best_of_poisson(reference, mean)
    return policy, certificate(policy)


_HARD_N = _Dial("n", "temperature", lambda _, x, end: jnp.exp(x), knobs.HARD_N.law)
_SOFT_N = _Dial("n", "temperature", lambda _, x, end: jnp.exp(x), knobs.SOFT_N.law)
_POISSON = _Dial("mean_extra_draws", "", lambda _, x, end: jnp.expm1(x), _poisson)
_SOFT_TEMPERATURE = _Dial("temperature", "n", _cooled, knobs.SOFT_TEMPERATURE.law)
_TILT = _Dial("temperature", "n", _cooled, knobs.TILT_TEMPERATURE.law)


def _steps(end: float) -> np.ndarray:
    blocks = math.ceil((2 + end / _STEP) / _AT_ONCE)
    return np.linspace(0.0, end, _AT_ONCE * blocks)


def _hedge(
    dial: _Dial, reference: Policy, true_reward: Numbers, fixed: jax.Array, grid: ArrayLike
) -> Hedge:
    values = outcome_values("true_reward", true_reward, reference)
    require_batches(dial.fixed, fixed.shape, values.shape[:-1])
    fixed = jnp.broadcast_to(fixed, jnp.broadcast_shapes(fixed.shape, values.shape[:-1]))
    points = jnp.asarray(grid, reference.dtype)
    points = points.reshape(len(points), *(1,) * (fixed.ndim - points.ndim + 1), *points.shape[1:])
    points = jnp.broadcast_to(points, (len(points), *fixed.shape))
    found, resolved = _search(dial, reference, values, fixed, points)
    require(lambda: resolved, lambda: unresolved(dial.name, reference), resolved)
    return Hedge(*(jnp.where(resolved, field, jnp.nan) for field in found))


@functools.partial(jax.jit, static_argnums=0)
def _search(
    dial: _Dial, reference: Policy, values: jax.Array, fixed: jax.Array, grid: jax.Array
) -> tuple[Hedge, jax.Array]:
    """The highest of the grid's ends and of the slope's roots between its points."""
    still = jax.lax.stop_gradient((reference, values, fixed))

    def earned(
        x: jax.Array, reference: Policy, values: jax.Array, fixed: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        policy, error = dial.law(reference, dial.parameter(still[0], x, grid[-1]), fixed)
        return expected_value(policy, values), error

    def with_slope(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def function(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return earned(x, *still)

        value, slope, error = jax.jvp(function, (x,), (jnp.ones_like(x),), has_aux=True)
        return value, slope, error if reference.continuous else jnp.zeros_like(value)

    def top(ends: tuple[Point, Point]) -> tuple[jax.Array, ...]:
        x = bracketed_root(lambda x: -with_slope(x)[1], *ends).x
        return x, *with_slope(x)

    tried, slopes, errors = jax.lax.map(with_slope, grid, batch_size=_AT_ONCE)
    x, value, slope, error = jax.lax.map(top, _brackets(grid, tried, slopes))
    # What is colder than an unresolved temperature is not resolved either.
    ends = (table[np.array([0, -1])] for table in (grid, tried, slopes, jax.lax.cummax(errors)))
    pairs = zip(ends, (x, value, slope, error), strict=True)
    x, value, slope, error = (jnp.concatenate(pair) for pair in pairs)
    rounding = 16 * jnp.finfo(value.dtype).eps * jnp.max(jnp.abs(still[1]), axis=-1)
    best = jnp.argmax(value.at[:2].add(rounding), axis=0)[None]  # an end, if it is as high
    x, slope, error = (jnp.take_along_axis(y, best, axis=0)[0] for y in (x, slope, error))
    value, _ = earned(x, reference, values, fixed)
    return Hedge(dial.parameter(still[0], x, grid[-1]), value, slope), error <= RESOLVED


def _brackets(grid: jax.Array, tried: jax.Array, slopes: jax.Array) -> tuple[Point, Point]:
    """Where the slope changes from rising to falling, the highest of such pairs of points."""
    turns = (slopes[:-1] > 0) & (slopes[1:] <= 0)
    promise = jnp.where(turns, jnp.maximum(tried[:-1], tried[1:]), -jnp.inf)
    highest = jnp.argsort(promise, axis=0)[-_MAXIMA:]

    def taken(x: jax.Array, slope: jax.Array) -> Point:
        slope = jnp.where(turns, -slope, 0)  # a root already, where there is no turn
        return Point(*(jnp.take_along_axis(y, highest, axis=0) for y in (x, slope)))

    return taken(grid[:-1], slopes[:-1]), taken(grid[1:], slopes[1:])


def _checked_end(name: str, value: float, least: float) -> float:
    end = static_number(name, value)
    if not least <= end < math.inf:
        raise ValueError(
            f"{name} must be a finite number of at least {least:g}, got {shown(value)}: the "
            "end of the range."
        )
    return end
