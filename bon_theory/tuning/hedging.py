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
one search serves all, along the :math:`x` of a knob (:mod:`bon_theory.tuning.knobs`): where the
slope changes from rising to falling between neighbours of a grid there is a maximum, a root of the
slope, and the highest is the answer. Best-of-n is :math:`r^*` as a function of
:math:`y = -\log(-\log u)`, smoothed by the Gumbel density :math:`e^{-(y - x) - e^{-(y - x)}}`:
steps of 0.2 in :math:`\log n` pass over nothing but ripples. The cubic through values and slopes of
neighbours says how high a maximum between them is, and only those near the highest are refined.

The true reward enters through its mean at each outcome. A curve :math:`r^*(u)` over the rank is
``curve(jnp.exp(reference.log_cdf))`` on ``Policy.uniform_reward()``; samples of both rewards are
``Policy.from_samples(proxy)`` and the array of true ones.

With ``across_prompts`` the answer is the one setting, for all prompts along the last batch axis,
under which the *mean* of their true rewards is highest, weighted if weights are given: that is what
is deployed, while each prompt's own best setting asks for its true rewards to be known.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

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
from bon_theory._ragged import completed
from bon_theory.performance import expected_value
from bon_theory.policy import Policy, aligned, require_policy
from bon_theory.race import race_mean
from bon_theory.tuning import knobs
from bon_theory.tuning.knobs import Knob, Track, average, prompt_weights
from bon_theory.tuning.root import Evaluation, bracketed_root
from bon_theory.tuning.solve import RESOLVED, outcome_values, unresolved

__all__ = ["Hedge", "hedge_mean_extra_draws", "hedge_n", "hedge_temperature"]

_STEP = 0.2  # of a grid in log n
_TEMPERATURES = 64  # points of a grid
_TILTS = 128
_LANES, _NUMBERS = 512, 2**18  # so many laws, and numbers of one kind, are worked on at once
_PROMPTS = 64  # in a block
_MOST_STEPS = 20  # to a root of the slope: four to eight, but for slopes that are all rounding
_MAXIMA = 8  # so many of the highest are compared
_EQUAL = 4096  # roundings by which equal values may differ
_WARM = 4.0  # x beyond which a scan of temperatures is coarse: five nats between the rewards
_COARSE = 1e-9  # error of a coarse scan, of the deviation of the true reward
_HIDDEN = 0.05  # of the deviation: what temperatures that nodes do not resolve may earn more
_TINY = 1e-30


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


# --- the search ------------------------------------------------------------------------


class _Problem(NamedTuple):
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


class _Seen(NamedTuple):
    """The mean true reward at some x, its slope, and whether the nodes of the law resolve it."""

    value: jax.Array
    slope: jax.Array
    resolved: jax.Array


_Look = Callable[[jax.Array], _Seen]
"""What there is to see at values of x ``[*batch]`` or ``[G, *batch]``."""


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
    problem = _Problem(reference, values, weights, jnp.broadcast_to(fixed, batch))
    found, resolved = _search(knob, problem, last)
    require(lambda: resolved, lambda: unresolved(knob.name, reference), resolved)
    return Hedge(*(jnp.where(resolved, field, jnp.nan) for field in found))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _search(knob: Knob, problem: _Problem, last: float | None) -> tuple[Hedge, jax.Array]:
    """The best setting; only what it earns has derivatives."""
    find = functools.partial(_find, knob, last)
    found, resolved = _by_blocks(find, jax.lax.stop_gradient(problem))
    earned = _earned(knob, found.true_reward, found.parameter, problem)
    return found._replace(true_reward=earned), resolved


def _by_blocks(function: Callable[[_Problem], Any], problem: _Problem) -> Any:
    """A function of a batch, block by block: memory is bounded, and none waits for the slowest."""
    batch = problem.fixed.shape
    size = math.prod(batch)
    if problem.weights is not None or size <= _PROMPTS:
        return function(problem)
    blocks = -(-size // _PROMPTS)
    # The last block is filled with copies of the last problem.
    index = np.minimum(np.arange(blocks * _PROMPTS), size - 1).reshape(blocks, _PROMPTS)
    dealt = jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[len(batch) :])[index], problem)
    results = jax.lax.map(function, dealt)
    return jax.tree.map(lambda leaf: leaf.reshape(-1)[:size].reshape(batch), results)


def _find(knob: Knob, last: float | None, still: _Problem) -> tuple[Hedge, jax.Array]:
    """The highest of the ends and of the slope's roots between the points of a grid."""
    track = knob.track(still.reference, still.weights, still.fixed.shape)
    if last is not None:
        end = jnp.full_like(track.end, last)
        track = track._replace(end=knob.coordinate(end, track.scale), last=end)
    grid, at_once = _grid(track, still, last)
    chunks = grid.reshape(-1, at_once, *grid.shape[1:])
    seen = jax.tree.map(
        lambda table: table.reshape(grid.shape),
        jax.lax.map(_look(track, still, is_scan=True), chunks),
    )
    visible = jax.lax.cummin(seen.resolved.astype(jnp.int32), axis=0) > 0  # from x = 0 on

    # The ends, in closed form where there is one.
    first, strongest = still.mean(still.reference), jnp.where(visible[-1], seen.value[-1], -jnp.inf)
    spread = jnp.zeros_like(first)
    if knob.attained:
        if still.reference.continuous:  # from the last temperature to 0 is beyond its nodes
            visible = visible.at[-1].set(False)
        law = knob.strongest(still.reference, still.per_prompt(still.fixed))
        strongest = still.mean(law)
        spread = jnp.maximum(still.deviation(still.reference), still.deviation(law))
    size = jnp.max(jnp.abs(still.values), axis=-1)
    size = size if still.weights is None else jnp.max(size, axis=-1)
    tolerance = _EQUAL * float(jnp.finfo(grid.dtype).eps) * size
    ends = jnp.maximum(first, strongest)
    brackets = _brackets(
        grid, seen, visible, ends[None] + jnp.where(grid[1:] > _WARM, _COARSE * spread[None], 0)
    )
    rounding = 4 * float(jnp.finfo(grid.dtype).eps) * size if knob.attained else 0 * size
    look = _look(track, still, is_scan=False)
    inside, peak = _highest(look, *brackets, tolerance, rounding)

    # Of equal values the mildest end, then the other, then a maximum between them.
    is_first = first >= jnp.maximum(strongest, peak.value) - tolerance
    is_last = strongest >= peak.value - tolerance

    def chosen(at_first: jax.Array, at_last: jax.Array, between: jax.Array) -> jax.Array:
        return jnp.where(is_first, at_first, jnp.where(is_last, at_last, between))

    mildest = knob.parameter(jnp.zeros_like(inside), track.scale)
    parameter = chosen(mildest, track.last, track.parameter(inside))
    value = chosen(first, strongest, peak.value)
    at_last = jnp.zeros_like(inside) if knob.attained else seen.slope[-1]
    slope = chosen(seen.slope[0], at_last, peak.slope)
    resolved = jnp.all(visible, axis=0)
    if still.reference.continuous:
        edge = jnp.maximum(jnp.sum(visible, axis=0) - 1, 0)[None]
        x, at_edge = (jnp.take_along_axis(y, edge, axis=0)[0] for y in (grid, seen.value))
        # Highest where nodes cease to resolve it, and rising: the best lies where they do not see.
        fits = at_edge <= value + tolerance
        if knob.attained:
            fits &= ~is_last | (_hidden(track, still, x) <= _HIDDEN * spread)
        resolved |= fits
    return Hedge(parameter, value, slope), resolved & ~jnp.isnan(first)


def _hidden(track: Track, problem: _Problem, x: jax.Array) -> jax.Array:
    r"""By how much some colder temperature than that at x may earn more than temperature 0.

    Soft best-of-n is stochastically ordered in the temperature: in between, every
    :math:`P(r > t)` lies between those at the ends. So where the true reward rises with the proxy
    by :math:`\Delta` it can earn no more than at temperature 0, and where it falls no more than
    :math:`|\Delta|` times the difference of these probabilities.
    """
    fixed = problem.per_prompt(problem.fixed)
    mild, _ = track.knob.law(problem.reference, problem.per_prompt(track.parameter(x)), fixed)
    strong = track.knob.strongest(problem.reference, fixed)
    falls = jnp.maximum(-jnp.diff(problem.values, axis=-1), 0)
    order = jnp.cumsum(mild.probs - strong.probs, axis=-1)[..., :-1]
    return average(jnp.sum(falls * jnp.maximum(order, 0), axis=-1), problem.weights)


def _grid(track: Track, problem: _Problem, last: float | None) -> tuple[jax.Array, int]:
    """Values of x ``[G, *batch]``, and how many of them to look at in one go."""
    if last is None:
        points = _TEMPERATURES if track.knob is knobs.SOFT_TEMPERATURE else _TILTS
    else:
        points = 2 + math.ceil(math.log1p(last) / _STEP)
    size, outcomes = problem.values.size, problem.values.shape[-1]
    at_once = max(1, min(points, _LANES * outcomes // size, _NUMBERS // size))
    points = at_once * -(-points // at_once)
    # The first is the reference to rounding, but with a slope.
    low = jnp.full_like(track.end, jnp.finfo(track.end.dtype).eps) if last is None else 0
    high = jnp.maximum(track.end, 2 * low)
    return jnp.linspace(jnp.broadcast_to(low, high.shape), high, points, dtype=high.dtype), at_once


def _look(track: Track, problem: _Problem, *, is_scan: bool) -> _Look:
    """How to see the mean true reward along a track; a scan may be coarse, and judges the nodes."""
    is_race = track.knob in (knobs.SOFT_N, knobs.SOFT_TEMPERATURE)
    return (_look_at_race if is_race else _look_at_law)(track, problem, is_scan)


def _look_at_law(track: Track, problem: _Problem, is_scan: bool) -> _Look:
    def earned(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        parameter = problem.per_prompt(track.parameter(x))
        fixed = problem.per_prompt(problem.fixed)
        policy, error = track.knob.law(problem.reference, parameter, fixed)
        error = error if problem.weights is None else jnp.max(error, axis=-1)
        return problem.mean(policy), jnp.broadcast_to(error, x.shape)

    def look(x: jax.Array) -> _Seen:
        value, slope, error = jax.jvp(earned, (x,), (jnp.ones_like(x),), has_aux=True)
        return _Seen(value, slope, (error <= RESOLVED) | (not problem.reference.continuous))

    return look


def _look_at_race(track: Track, problem: _Problem, is_scan: bool) -> _Look:
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
            (x > _WARM) & (is_scan and track.knob.attained),
        )
        return race.value, race.by_weights if track.knob.attained else race.by_log_n

    def look(x: jax.Array) -> _Seen:
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
        return _Seen(value, slope, resolved)

    return look


def _brackets(
    grid: jax.Array, seen: _Seen, visible: jax.Array, ends: jax.Array
) -> tuple[Evaluation, Evaluation]:
    """Where the slope changes from rising to falling, the highest of such pairs of points.

    How high the maximum between them is, a cubic says. Left out are those so much lower than the
    highest, or so little above the ``ends``, that its error does not matter.
    """
    width = jnp.diff(grid, axis=0)
    low, high = seen.value[:-1], seen.value[1:]
    rise, fall = seen.slope[:-1] * width, seen.slope[1:] * width

    def cubic(t: float) -> jax.Array:
        bend = t * (1 - t)
        return low + t * (high - low) + bend * (
            (1 - t) * (rise - (high - low)) - t * (fall - (high - low))
        )  # fmt: skip

    estimate = functools.reduce(jnp.maximum, map(cubic, np.linspace(0, 1, 9).tolist()))
    error = 0.1 * (estimate - jnp.minimum(low, high))
    turns = (rise > 0) & (fall <= 0) & visible[1:]
    turns &= estimate + error > ends
    highest = jnp.max(jnp.where(turns, estimate - error, -jnp.inf), axis=0)
    turns &= estimate + error >= highest[None]
    promise = jnp.where(turns, estimate, -jnp.inf)
    best = jnp.argsort(promise, axis=0)[-_MAXIMA:]

    def taken(part: slice, sign: float) -> Evaluation:
        # A slope of 0 counts as just beyond the maximum; no turn, as a root already.
        falling = jnp.where(sign * seen.slope[part] < 0, -seen.slope[part], sign * _TINY)
        value = jnp.where(turns, seen.value[part], -jnp.inf)
        rows = jnp.stack([grid[part], jnp.where(turns, falling, 0), value, seen.slope[part]])
        x, falling, value, slope = jnp.take_along_axis(rows, best[None], axis=1)
        return Evaluation(x, falling, (value, slope))

    return taken(slice(None, -1), -1.0), taken(slice(1, None), 1.0)


def _highest(
    look: _Look, low: Evaluation, high: Evaluation, tolerance: jax.Array, rounding: jax.Array
) -> tuple[jax.Array, _Seen]:
    """The mildest of the highest maxima in brackets ``[M, *batch]``, one after another."""

    def falling(x: jax.Array) -> tuple[jax.Array, Any]:
        seen = look(x)
        # A slope that is rounding is none, and would be halved in vain. It grows with r/λ.
        least = rounding * (1 + jnp.minimum(jnp.expm1(x), 1e4) / 10)
        return jnp.where(jnp.abs(seen.slope) <= least, 0, -seen.slope), (seen.value, seen.slope)

    def top(ends: tuple[Evaluation, Evaluation]) -> Evaluation:
        return bracketed_root(falling, *ends, most_steps=_MOST_STEPS)

    tops = jax.lax.map(top, (low, high))
    value, slope = tops.seen
    is_highest = value >= jnp.max(value, axis=0, keepdims=True) - tolerance[None]
    best = jnp.argmin(jnp.where(is_highest, tops.x, jnp.inf), axis=0)[None]
    x, value, slope = (jnp.take_along_axis(row, best, axis=0)[0] for row in (tops.x, value, slope))
    return x, _Seen(value, slope, jnp.isfinite(value))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _earned(knob: Knob, value: jax.Array, parameter: jax.Array, problem: _Problem) -> jax.Array:
    """The mean true reward, known already, as a function of the problem at a held parameter."""
    return value


@_earned.defjvp
def _earned_jvp(knob: Knob, primals: Any, tangents: Any) -> Any:
    value, parameter, problem = primals

    def mean(problem: _Problem) -> jax.Array:
        at = problem.per_prompt(parameter), problem.per_prompt(problem.fixed)
        return problem.mean(knob.law(problem.reference, *at)[0])

    return value, jax.jvp(mean, (problem,), (tangents[2],))[1]


def _checked_end(name: str, value: float, least: float) -> float:
    end = static_number(name, value)
    if not least <= end < math.inf:
        raise ValueError(
            f"{name} must be a finite number of at least {least:g}, got {shown(value)}: the "
            "end of the range."
        )
    return end
