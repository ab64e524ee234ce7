r"""The sum behind a Gumbel race, over the plane of times and outcomes.

What is computed is this double loop, over nodes :math:`s` of spacing :math:`h` and outcomes
:math:`k`, in logarithms::

    for s in h * integers:                        # times t = e^s
        X = exp(s) * w                            # [K] rate of outcome k times t
        M = sum(pi * exp(-X))                     # one candidate has not rung until t
        height = h * exp(s) * g(M)                # the first ring of all is at t ...
        for k in range(K):
            ratio[k] += height * w[k] * exp(-X[k])    # ... and it is that of k

An outcome *waits* while :math:`e^{-X} = 1 - X` to rounding, and *has rung* once :math:`e^{-X}` is
nothing beside :math:`M`. Nodes come in blocks and outcomes, by falling weight, in chunks, which
stop waiting one after another and have rung one after another::

                      times s →
    chunk 0  (large w)  | w  w  #  #  r  r  r  r  r |      w  all wait: known beforehand
    chunk 1             | w  w  w  #  #  r  r  r  r |      #  in between: evaluated
    chunk 2             | w  w  w  w  w  #  #  r  r |      r  all have rung: nothing left
    chunk 3  (small w)  | w  w  w  w  w  w  w  #  # |

Only tiles in between are evaluated. While an outcome waits, every kernel is a function of :math:`s`
times one of :math:`k`: so waiting chunks enter a sum over outcomes through running totals made
once, and a sum over nodes is a running total that a chunk takes over when it stops waiting. Laws of
few outcomes are a single chunk, all of whose tiles are evaluated.

The work is thus the number of outcomes times the nodes at which one of them is in between, some 40
units of :math:`s`, and what all outcomes share. Stretches in which none is are jumped over: there
the integrand is a pure exponential, whose sum is a geometric series that the next node carries.

Shapes: ``J`` chunks of ``C`` outcomes; a block has ``R`` strips of ``S`` nodes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._numerics import NOTHING, cumulative_log_sum, cumulative_sum, log_sum_exp

__all__ = ["NumberOfCandidates", "TimeBlock", "TimeGrid", "by_race", "by_size", "in_chunks"]


@dataclasses.dataclass(frozen=True)
class NumberOfCandidates:
    r"""How many candidates race: :math:`\log g` as a function of ``(log_m, parameter)``.

    Attributes:
        log_slope: :math:`\log g`, increasing and convex in ``log_m``.
        derivatives: of ``log_slope``, by ``log_m`` and by ``parameter``.
        is_power: whether :math:`g` is the power :math:`n z^{n-1}`, which for fractional :math:`n`
            (or differentiated in :math:`n`) has a branch point wherever :math:`M` vanishes in the
            complex plane; the grid is then refined.
    """

    log_slope: Callable[[jax.Array, jax.Array], jax.Array]
    derivatives: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    is_power: bool


_STRIP = 16  # nodes that share a scale
_WHOLE = 256  # up to so many outcomes are one chunk, and a block one strip
_CHUNK, _STRIPS = 32, 8  # outcomes in a chunk and strips in a block, if there are more
_LEAST_LOG_M = -1e18  # stands for log 0, so that 0 · log 0 = 0 at n = 1


def in_chunks(log_probs: jax.Array, log_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outcomes of falling weight in chunks, ``[K] -> [J, C]``."""
    size = log_probs.shape[0]
    if size <= _WHOLE:
        return log_probs[None], log_weights[None]
    padding = (0, -size % _CHUNK)  # impossible outcomes fill the last chunk
    log_probs = jnp.pad(log_probs, padding, constant_values=-jnp.inf)
    log_weights = jnp.pad(log_weights, padding, mode="edge")
    return log_probs.reshape(-1, _CHUNK), log_weights.reshape(-1, _CHUNK)


def by_size(function: Callable[..., Any], chunks: jax.Array) -> Callable[..., Any]:
    """``function``, which ``vmap`` takes one law at a time if there are several chunks.

    Laws in one loop would wait for each other, chunk by chunk.
    """
    return jax.custom_batching.sequential_vmap(function) if chunks.shape[0] > 1 else function


def by_race(function: Callable[..., Any], chunks: jax.Array) -> Callable[..., Any]:
    """:func:`by_size` for a ``function`` of a vector and a race: a race's vectors share its loop.

    Several cotangents of one law are thus pulled back by one evaluation of its nodes.
    """
    if chunks.shape[0] == 1:
        return function
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def rule(size: int, is_batched: Any, vector: jax.Array, *race: jax.Array) -> tuple[Any, bool]:
        axes = [0 if batched else None for batched in is_batched]
        if any(is_batched[1:]):
            one_by_one = jax.custom_batching.sequential_vmap(function)
            return jax.vmap(one_by_one, axes, axis_size=size)(vector, *race), True
        return by_race(jax.vmap(function, axes), chunks)(vector, *race), True

    return mapped


class TimeBlock(NamedTuple):
    """One block of nodes, and what every use of them needs."""

    start: jax.Array  # [R] s at the first node of each strip
    s: jax.Array  # [R, S] s at the nodes
    first_ringing: Any  # chunks before it have rung
    first_waiting: Any  # chunks from here on wait
    first_waiting_before: Any  # chunks from here on have waited until this block
    log_waited: jax.Array  # log Σ e^{s - start} g over earlier nodes
    log_m: jax.Array  # [R, S] log M
    height: jax.Array  # [R, S] log(g(M) e^{s - start}) + log of the node's quadrature weight

    @property
    def near_one(self) -> jax.Array:
        """Where M is had from its complement, ``[R, S]``."""
        return self.log_m > -math.log(2)

    @property
    def log_height(self) -> jax.Array:
        """Log of the node's share of the integral of e^s g(M) ds, ``[R, S]``."""
        return self.height + self.start[:, None]

    def resume(self, chunk: Any, total: jax.Array, waited: jax.Array) -> jax.Array:
        """A chunk's total over earlier nodes, ``[C]``: if it waited until now, ``waited``."""
        if len(total) == 1:
            return total[0]
        return jnp.where(chunk >= self.first_waiting_before, waited, total[chunk])


class End(NamedTuple):
    """Where the nodes end."""

    s: jax.Array  # s at the next node
    waits: jax.Array  # [J, 1] whether a chunk waits to the end
    log_waited: jax.Array  # log Σ e^{s - end} g over all nodes


class Tile(NamedTuple):
    """Where a block of nodes and a chunk of outcomes meet."""

    log_first: jax.Array  # [R, C] log of X at the first node of each strip
    first: jax.Array  # [R, C] its exponential, capped to stay finite
    growth: jax.Array  # [S] e^{s - start}

    @property
    def x(self) -> jax.Array:
        """X, ``[R, S, C]``."""
        return self.first[:, None, :] * self.growth[None, :, None]


class _March(NamedTuple):
    """The state of the loop over blocks."""

    end: jax.Array  # the node after the last one visited, in steps
    is_alive: jax.Array  # whether more nodes matter
    log_waited: jax.Array  # log Σ e^{s - end} g over the nodes visited
    first_waiting: Any  # chunks from here on have waited until now
    top: jax.Array  # the highest log of a node's e^s g
    carry: Any  # of the fold


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """Nodes and outcomes of one race, and the running totals over outcomes."""

    candidates: NumberOfCandidates
    log_probs: jax.Array  # [J, C], chunks of falling weight
    log_weights: jax.Array  # [J, C]
    parameter: jax.Array
    step: jax.Array
    log_highest: jax.Array  # [J] largest log w of each chunk
    log_lowest: jax.Array  # [J] smallest
    log_sensitivity: jax.Array  # log(1 + d log g / d log M) at M = 1, where it is greatest
    log_rarest: jax.Array  # log of the smallest probability that is not zero
    log_mass_from: jax.Array  # [J + 1] log Σ π over chunks from j on
    log_mean_from: jax.Array  # [J + 1] log Σ π w over chunks from j on
    mass_before: jax.Array  # [J + 1] Σ π over chunks before j

    @staticmethod
    def of(
        candidates: NumberOfCandidates,
        log_probs: jax.Array,
        log_weights: jax.Array,
        parameter: jax.Array,
        *,
        differentiated: bool = False,
    ) -> TimeGrid:
        """The grid whose step suits the integrand.

        The trapezoidal error is exp(-π²/step). Where an atom of mass e^{-L} remains, M is close to
        zero: the branch point of a power adds exp(-2π²/(step L) - (n - 1) L), relative to that
        atom, which is to be e^{-D}, D = 30 in float64 and 13 in float32 (docs/theory.md). The step
        is a short binary fraction, so that nodes far out are exact.

        Args:
            candidates: the law of their number.
            log_probs: as :func:`in_chunks` returns them.
            log_weights: likewise.
            parameter: of ``candidates``.
            differentiated: whether in the parameter, which brings in log M.
        """
        dtype = log_weights.dtype
        step = jnp.asarray(0.25 if dtype == jnp.float64 else 0.5, dtype)
        log_rarest = jnp.min(jnp.where(log_probs > -jnp.inf, log_probs, 0))
        if candidates.is_power:
            branched = differentiated | (parameter != jnp.round(parameter))
            rounding = -math.log(jnp.finfo(dtype).eps)
            wanted = rounding * 5 / 6
            inverse = jnp.maximum(
                4 * (parameter - 1) / wanted, 1 / jnp.clip(-log_rarest, 1, rounding)
            )
            fine = jnp.floor(64 / step * (2 * math.pi**2 / wanted) * inverse) * (step / 64)
            step = jnp.where(branched, jnp.minimum(step, fine), step)
        sensitivity, _ = candidates.derivatives(jnp.zeros_like(step), parameter)
        nothing = jnp.full(1, NOTHING, dtype)
        if log_weights.shape[0] == 1:  # nobody asks for totals over other chunks
            log_mass_from = log_mean_from = mass_before = nothing
        else:
            sums = log_sum_exp(jnp.stack([log_probs, log_probs + log_weights]), 2)
            from_each_on = jnp.maximum(cumulative_log_sum(sums, reverse=True), NOTHING)
            log_mass_from, log_mean_from = jnp.pad(
                from_each_on, ((0, 0), (0, 1)), constant_values=NOTHING
            )
            mass_before = jnp.pad(cumulative_sum(jnp.sum(jnp.exp(log_probs), axis=1)), (1, 0))
        return TimeGrid(
            candidates, log_probs, log_weights, parameter, step,
            jnp.max(log_weights, axis=1),
            jnp.min(log_weights, axis=1),
            jnp.log1p(sensitivity), log_rarest,
            log_mass_from, log_mean_from, mass_before,
        )  # fmt: skip

    @property
    def is_whole(self) -> bool:
        """Whether all outcomes are one chunk."""
        return self.log_weights.shape[0] == 1

    @property
    def cut(self) -> float:
        """An exponent c such that e^{-c} is nothing."""
        return 44.0 if self.log_weights.dtype == jnp.float64 else 22.0

    @property
    def offsets(self) -> jax.Array:
        """Where the nodes of a strip lie from its first, ``[S]``."""
        return self.step * jnp.arange(_STRIP, dtype=self.log_weights.dtype)

    def log_g(self, log_m: jax.Array) -> jax.Array:
        """Log g(M), finite."""
        return jnp.maximum(self.candidates.log_slope(log_m, self.parameter), _LEAST_LOG_M)

    def slopes(self, block: TimeBlock) -> tuple[jax.Array, jax.Array]:
        """The partial derivatives of log g at the nodes, by log M and the parameter, ``[R, S]``."""
        return self.candidates.derivatives(block.log_m, self.parameter)

    def fold(self, visit: Callable[[Any, TimeBlock], Any], initial: Any) -> tuple[Any, End]:
        """Fold ``visit`` over the blocks of nodes, skipping idle stretches."""
        nodes = _STRIP * (1 if self.is_whole else _STRIPS)

        def over_block(march: _March) -> _March:
            position = self.next_position(march.end)
            block = self.block_at(position, nodes, march)
            top = jnp.maximum(march.top, jnp.max(block.log_height))
            end = position + nodes
            # Nothing is left of any outcome once that of least weight has rung; g only falls.
            log_rest = self.log_g(block.log_m[-1, -1]) - self.log_lowest[-1] + math.log(self.cut)
            is_alive = log_rest >= top - self.cut
            is_alive &= end * self.step + self.log_lowest[-1] < math.log(self.cut)
            log_waited = march.log_waited
            if not self.is_whole:
                heights = block.height + (block.start - block.start[0])[:, None]
                log_waited = jnp.logaddexp(block.log_waited, log_sum_exp(heights.ravel(), 0))
                log_waited -= nodes * self.step
            carry = visit(march.carry, block)
            return _March(end, is_alive, log_waited, block.first_waiting, top, carry)

        never = jnp.full_like(self.step, -jnp.inf)
        start = _March(never, jnp.asarray(True), never, 0, never, initial)
        march = jax.lax.while_loop(lambda march: march.is_alive, over_block, start)
        waits = jnp.arange(self.log_weights.shape[0])[:, None] >= march.first_waiting
        return march.carry, End(march.end * self.step, waits, march.log_waited)

    def over_chunks(self, block: TimeBlock, add: Callable[[Any, Any], Any], initial: Any) -> Any:
        """Fold ``add(chunk, carry)`` over the chunks that neither wait nor have rung."""
        if self.is_whole:
            return add(0, initial)
        return jax.lax.fori_loop(block.first_ringing, block.first_waiting, add, initial)

    def set_chunk(self, totals: jax.Array, chunk: Any, row: jax.Array) -> jax.Array:
        """The totals ``[J, C]`` with a chunk's row replaced."""
        return row[None] if self.is_whole else totals.at[chunk].set(row)

    def block_at(self, position: jax.Array, nodes: int, march: _March) -> TimeBlock:
        """Evaluate the nodes from ``position`` on; the first stands for what is skipped as well."""
        skipped = position - march.end
        strips = np.arange(0, nodes, _STRIP)
        start = (position + jnp.asarray(strips, position.dtype)) * self.step  # [R]
        s = (position + jnp.arange(nodes, dtype=position.dtype)).reshape(-1, _STRIP) * self.step
        first_ringing, first_waiting, log_m = self.survival(start, s)
        height = self.log_g(log_m) + (s - start[:, None]) + jnp.log(self.step)
        # Below an idle stretch's end the integrand is e^s: Σ_{k=0}^{skipped} e^{-k step}.
        series = jnp.expm1(-(skipped + 1) * self.step) / jnp.expm1(-self.step)
        is_first = np.arange(nodes).reshape(len(strips), _STRIP) == 0
        height += jnp.where(is_first, jnp.log(series), 0)
        log_waited = march.log_waited - skipped * self.step
        return TimeBlock(
            start, s, first_ringing, first_waiting, march.first_waiting, log_waited, log_m, height
        )

    def survival(self, start: jax.Array, s: jax.Array) -> tuple[Any, Any, jax.Array]:
        """The first chunk that has not rung, the first that waits, and log M at the nodes.

        M near one is had from its complement, elsewhere from terms that cannot all underflow.
        """
        if self.is_whole:
            first_ringing, first_waiting = 0, 1
            complement, log_total = self.of_chunk(start, 0)
        else:
            nothing = jnp.log(jnp.finfo(s.dtype).eps / 2)
            negligible = self.cut + self.log_sensitivity
            first_waiting = jnp.sum(self.log_highest + s[-1, -1] > nothing)

            def matters(state: Any) -> jax.Array:
                chunk, _, log_total = state
                x = jnp.exp(s + self.log_lowest[chunk - 1])
                return (chunk > 0) & jnp.any(x < negligible - log_total)

            def add(state: Any) -> Any:
                chunk, complement, log_total = state
                lost, log_kept = self.of_chunk(start, chunk - 1)
                return chunk - 1, complement + lost, jnp.logaddexp(log_total, log_kept)

            waiting = (
                jnp.exp(s + self.log_mean_from[first_waiting]),
                self.log_mass_from[first_waiting] + jnp.zeros_like(s),
            )
            first_ringing, complement, log_total = jax.lax.while_loop(
                matters, add, (first_waiting, *waiting)
            )
            complement += self.mass_before[first_ringing]
        near_one = complement < 0.5
        log_m = jnp.where(near_one, jnp.log1p(-jnp.where(near_one, complement, 0)), log_total)
        return first_ringing, first_waiting, jnp.maximum(log_m, _LEAST_LOG_M)

    def of_chunk(self, start: jax.Array, chunk: Any) -> tuple[jax.Array, jax.Array]:
        """A chunk's part of 1 - M, and the log of its part of M, ``[R, S]`` each."""
        x, log_probs = self.tile(start, chunk).x, self.log_probs[chunk][None, None, :]
        lost = jnp.sum(-jnp.expm1(-x) * jnp.exp(log_probs), axis=2)
        return lost, log_sum_exp(log_probs - x, axis=2)

    def tile(self, start: jax.Array, chunk: Any) -> Tile:
        """X over the nodes of strips and one chunk."""
        log_first = start[:, None] + self.log_weights[chunk][None, :]
        first = jnp.minimum(jnp.exp(log_first), jnp.finfo(log_first.dtype).max ** 0.5)
        return Tile(log_first, first, jnp.exp(self.offsets))

    def next_position(self, end: jax.Array) -> jax.Array:
        """The next node worth a visit, from ``end`` on: beyond an idle stretch, if there is one."""
        s = end * self.step
        chunk, log_rung = 0, jnp.inf
        if not self.is_whole:
            begun = jnp.sum(s + self.log_lowest >= 0)  # chunks all of which have begun to ring
            chunk = jnp.minimum(begun, self.log_lowest.shape[0] - 1)
            log_rung = jnp.where(chunk > 0, s + self.log_lowest[chunk - 1], jnp.inf)
        log_x = s + self.log_weights[chunk]  # [C]
        waiting = log_x < 0
        # Idle: all that have begun to ring have rung, and what they leave is nothing to M, were it
        # but the rarest outcome that waits.
        log_least = jnp.minimum(log_rung, jnp.min(jnp.where(waiting, jnp.inf, log_x)))
        is_idle = jnp.exp(log_least) + self.log_rarest - self.cut > self.log_sensitivity
        # Up to where e^s w_max (1 + d log g/d log M) is so small that the series' relative error,
        # its square, is below rounding.
        small = 1e-8 if s.dtype == jnp.float64 else 1e-4
        highest = jnp.max(jnp.where(waiting, self.log_weights[chunk], -jnp.inf))
        effect = jnp.floor((math.log(small) - highest - self.log_sensitivity) / self.step)
        return jnp.where(is_idle, jnp.maximum(end, effect), end)
