r"""Where along a knob the mean true reward is highest.

One search serves all selections: where the slope changes from rising to falling between neighbours
of a grid there is a maximum, a root of the slope, and the highest is the answer. Best-of-n is
:math:`r^*` as a function of :math:`y = -\log(-\log u)`, smoothed by the Gumbel density
:math:`e^{-(y - x) - e^{-(y - x)}}`: steps of 0.2 in :math:`\log n` pass over nothing but ripples.
The cubic through values and slopes of neighbours says how high a maximum between them is, and only
those near the highest are refined.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory.tuning import knobs
from bon_theory.tuning.earned import WARM, HedgingProblem, Look, Seen, earned, look_along
from bon_theory.tuning.knobs import Knob, Track, average
from bon_theory.tuning.root import Evaluation, bracketed_root

__all__ = ["Highest", "highest_setting"]

_STEP = 0.2  # of a grid in log n
_TEMPERATURES = 64  # points of a grid
_TILTS = 128
_LANES, _NUMBERS = 512, 2**18  # so many laws, and numbers of one kind, are worked on at once
_PROMPTS = 64  # in a block
_MOST_STEPS = 20  # to a root of the slope: four to eight, but for slopes that are all rounding
_MAXIMA = 8  # so many of the highest are compared
_EQUAL = 4096  # roundings by which equal values may differ
_COARSE = 1e-9  # error of a coarse scan, of the deviation of the true reward
_HIDDEN = 0.05  # of the deviation: what temperatures that nodes do not resolve may earn more
_TINY = 1e-30


class Highest(NamedTuple):
    """The setting under which the mean true reward is highest, that reward, and its slope there."""

    parameter: jax.Array
    value: jax.Array
    slope: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 2))
def highest_setting(
    knob: Knob, problem: HedgingProblem, last: float | None
) -> tuple[Highest, jax.Array]:
    """The best setting; only what it earns has derivatives."""
    find = functools.partial(_find, knob, last)
    found, resolved = _by_blocks(find, jax.lax.stop_gradient(problem))
    value = earned(knob, found.value, found.parameter, problem)
    return found._replace(value=value), resolved


def _by_blocks(function: Callable[[HedgingProblem], Any], problem: HedgingProblem) -> Any:
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


def _find(knob: Knob, last: float | None, still: HedgingProblem) -> tuple[Highest, jax.Array]:
    """The highest of the ends and of the slope's roots between the points of a grid."""
    track = knob.track(still.reference, still.weights, still.fixed.shape)
    if last is not None:
        end = jnp.full_like(track.end, last)
        track = track._replace(end=knob.coordinate(end, track.scale), last=end)
    grid, at_once = _grid(track, still, last)
    chunks = grid.reshape(-1, at_once, *grid.shape[1:])
    seen = jax.tree.map(
        lambda table: table.reshape(grid.shape),
        jax.lax.map(look_along(track, still, is_scan=True), chunks),
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
        grid, seen, visible, ends[None] + jnp.where(grid[1:] > WARM, _COARSE * spread[None], 0)
    )
    rounding = 4 * float(jnp.finfo(grid.dtype).eps) * size if knob.attained else 0 * size
    look = look_along(track, still, is_scan=False)
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
    return Highest(parameter, value, slope), resolved & ~jnp.isnan(first)


def _hidden(track: Track, problem: HedgingProblem, x: jax.Array) -> jax.Array:
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


def _grid(track: Track, problem: HedgingProblem, last: float | None) -> tuple[jax.Array, int]:
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


def _brackets(
    grid: jax.Array, seen: Seen, visible: jax.Array, ends: jax.Array
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
    look: Look, low: Evaluation, high: Evaluation, tolerance: jax.Array, rounding: jax.Array
) -> tuple[jax.Array, Seen]:
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
    return x, Seen(value, slope, jnp.isfinite(value))
