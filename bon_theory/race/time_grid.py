r"""The plane of times and outcomes over which a Gumbel race is summed, tile by tile.

At the time :math:`t = e^s` outcome :math:`k` has not rung with probability :math:`e^{-X}`,
:math:`X = e^s w_k`. It *waits* while :math:`e^{-X} = 1 - X` to rounding, and *has rung* once
:math:`e^{-X}` is nothing beside :math:`M`. Nodes :math:`s` come in blocks and outcomes, by falling
weight, in chunks, which stop waiting one after another and have rung one after another. Only
tiles in between are evaluated. While an outcome waits, every kernel is a function of :math:`s`
times one of :math:`k`: so waiting chunks enter a sum over outcomes through running totals made
once, and a sum over nodes is a running total that a chunk takes over when it stops waiting.

The work is thus the number of outcomes times the nodes at which one of them is in between, some 40
units of :math:`s`, and what all outcomes share. Stretches in which none is are jumped over: there
the integrand is a pure exponential, whose sum is a geometric series that the next node carries.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory._numerics import safe_log

__all__ = ["Block", "Candidates", "Lattice", "by_size", "in_chunks"]


@dataclasses.dataclass(frozen=True)
class Candidates:
    r"""How many candidates race: :math:`\log g` as a function of ``(log_m, parameter)``.

    ``log_slope`` increases in ``log_m`` and is convex. ``is_power`` says that :math:`g` is the
    power :math:`n z^{n-1}`, which for fractional :math:`n` (or differentiated in :math:`n`) has a
    branch point wherever :math:`M` vanishes in the complex plane; the lattice is then refined.
    """

    log_slope: Callable[[jax.Array, jax.Array], jax.Array]
    is_power: bool


_STRIP = 16  # nodes that share a scale
_WHOLE = 256  # up to so many outcomes are one chunk, and a block one strip
_CHUNK, _STRIPS = 32, 8  # outcomes in a chunk and strips in a block, if there are more
_LEAST_LOG_M = -1e18  # stands for log 0, so that 0 · log 0 = 0 at n = 1


def in_chunks(log_probs: jax.Array, log_weights: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """Chunks of falling weight, ``[K] -> [J, C]``, and where in them each outcome went."""
    size = log_probs.shape[0]
    if size <= _WHOLE:
        return log_probs[None], log_weights[None], slice(None)
    order = jnp.argsort(-jax.lax.stop_gradient(log_weights))
    padding = (0, -size % _CHUNK)  # impossible outcomes fill the last chunk
    log_probs = jnp.pad(log_probs[order], padding, constant_values=-jnp.inf)
    log_weights = jnp.pad(log_weights[order], padding, mode="edge")
    place = jnp.argsort(order)
    return log_probs.reshape(-1, _CHUNK), log_weights.reshape(-1, _CHUNK), place


def by_size(function: Callable[..., Any], chunks: jax.Array) -> Callable[..., Any]:
    """``function``, which ``vmap`` takes one law at a time if there are several chunks.

    Laws in one loop would wait for each other, chunk by chunk.
    """
    return jax.custom_batching.sequential_vmap(function) if chunks.shape[0] > 1 else function


class Block(NamedTuple):
    """One block of nodes, and what every use of them needs."""

    start: jax.Array  # [R] s at the first node of each strip
    s: jax.Array  # [R, S] s at the nodes
    first: Any  # chunks before it have rung
    past: Any  # chunks from here on wait
    opened: Any  # chunks from here on have waited until this block
    log_waited: jax.Array  # log Σ e^{s - start} g over earlier nodes
    log_m: jax.Array  # [R, S] log M
    height: jax.Array  # [R, S] log(g(M) e^{s - start}) + log of the node's quadrature weight

    @property
    def near_one(self) -> jax.Array:
        """Where M is had from its complement, ``[R, S]``."""
        return self.log_m > -math.log(2)

    def resume(self, chunk: Any, total: jax.Array, waited: jax.Array) -> jax.Array:
        """A chunk's total over earlier nodes, ``[C]``: if it waited until now, ``waited``."""
        return jnp.where(chunk >= self.opened, waited, total[chunk])


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

    @property
    def decay(self) -> jax.Array:
        """e^{-(X - X_first)}, ``[R, S, C]``."""
        return jnp.exp(-self.first[:, None, :] * (self.growth - 1)[None, :, None])


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Nodes and outcomes of one race, and the running totals over outcomes."""

    candidates: Candidates
    log_probs: jax.Array  # [J, C], chunks of falling weight
    log_weights: jax.Array  # [J, C]
    parameter: jax.Array
    step: jax.Array
    log_highest: jax.Array  # [J] largest log w of each chunk
    log_lowest: jax.Array  # [J] smallest
    log_mass_from: jax.Array  # [J + 1] log Σ π over chunks from j on
    log_mean_from: jax.Array  # [J + 1] log Σ π w over chunks from j on
    mass_before: jax.Array  # [J + 1] Σ π over chunks before j

    @staticmethod
    def of(
        candidates: Candidates,
        log_probs: jax.Array,
        log_weights: jax.Array,
        parameter: jax.Array,
        *,
        differentiated: bool = False,
    ) -> Lattice:
        """The lattice whose step suits the integrand.

        The trapezoidal error is exp(-π²/step). Where an atom of mass e^{-L} remains, M is close to
        zero: the branch point of a power adds exp(-2π²/(step L) - (n - 1) L), relative to that
        atom, which is to be e^{-D}, D = 30 in float64 and 13 in float32 (docs/theory.md). The step
        is a short binary fraction, so that nodes far out are exact.
        """
        dtype = log_weights.dtype
        step = jnp.asarray(0.25 if dtype == jnp.float64 else 0.5, dtype)
        if candidates.is_power:
            branched = differentiated | (parameter != jnp.round(parameter))
            rounding = -math.log(jnp.finfo(dtype).eps)
            wanted = rounding * 5 / 6
            rarest = -jnp.min(jnp.where(log_probs > -jnp.inf, log_probs, 0))
            inverse = jnp.maximum(4 * (parameter - 1) / wanted, 1 / jnp.clip(rarest, 1, rounding))
            fine = jnp.floor(64 / step * (2 * math.pi**2 / wanted) * inverse) * (step / 64)
            step = jnp.where(branched, jnp.minimum(step, fine), step)
        nothing = jnp.full(1, -jnp.inf, dtype)
        log_mass, log_mean = (
            jax.lax.cumlogsumexp(jax.nn.logsumexp(terms, axis=1), reverse=True)
            for terms in (log_probs, log_probs + log_weights)
        )
        before = jnp.cumsum(jnp.sum(jnp.exp(log_probs), axis=1))
        return Lattice(
            candidates, log_probs, log_weights, parameter, step,
            jnp.max(log_weights, axis=1),
            jnp.min(log_weights, axis=1),
            jnp.concatenate([log_mass, nothing]),
            jnp.concatenate([log_mean, nothing]),
            jnp.concatenate([jnp.zeros_like(nothing), before]),
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

    def sensitivity(self, log_m: jax.Array) -> jax.Array:
        """How much log g changes with log M; greatest at M = 1."""
        return jax.grad(self.candidates.log_slope)(log_m, self.parameter)

    def fold(self, visit: Callable[[Any, Block], Any], initial: Any) -> tuple[Any, End]:
        """Fold ``visit`` over the blocks of nodes, skipping idle stretches."""
        nodes = _STRIP * (1 if self.is_whole else _STRIPS)

        def body(state: Any) -> Any:
            end, _, log_waited, opened, top, carry = state
            position = self.next_position(end)
            skipped = position - end
            block = self.block_at(position, skipped, nodes, log_waited, opened)
            carry = visit(carry, block)
            top = jnp.maximum(top, jnp.max(block.height + block.start[:, None]))
            heights = block.height + (block.start - block.start[0])[:, None]
            log_waited = jnp.logaddexp(block.log_waited, jax.nn.logsumexp(heights))
            end = position + nodes
            # g only falls, and nothing is left of any outcome once that of least weight has rung.
            rest = jnp.log(self.cut) - self.log_lowest[-1]
            alive = rest + self.log_g(block.log_m[-1, -1]) >= top - self.cut
            alive &= end * self.step < rest
            return end, alive, log_waited - nodes * self.step, block.past, top, carry

        never = jnp.full_like(self.step, -jnp.inf)
        state = (never, jnp.isfinite(self.step), never, 0, never, initial)
        state = jax.lax.while_loop(lambda state: state[1], body, state)
        end, _, log_waited, opened, _, carry = state
        waits = jnp.arange(self.log_weights.shape[0])[:, None] >= opened
        return carry, End(end * self.step, waits, log_waited)

    def over_chunks(self, block: Block, add: Callable[[Any, Any], Any], initial: Any) -> Any:
        """Fold ``add(chunk, carry)`` over the chunks that neither wait nor have rung."""
        if self.is_whole:
            return add(0, initial)
        return jax.lax.fori_loop(block.first, block.past, add, initial)

    def block_at(
        self, position: jax.Array, skipped: jax.Array, nodes: int, log_waited: Any, opened: Any
    ) -> Block:
        """Evaluate the nodes from ``position`` on; the first stands for ``skipped`` more."""
        strips = jnp.arange(0, nodes, _STRIP).astype(position.dtype)
        start = (position + strips) * self.step
        s = start[:, None] + self.offsets[None, :]
        first, past, log_m = self.survival(start, s)
        height = self.offsets[None, :] + jnp.log(self.step) + self.log_g(log_m)
        # Below an idle stretch's end the integrand is e^s: Σ_{k=0}^{skipped} e^{-k step}.
        series = jnp.expm1(-(skipped + 1) * self.step) / jnp.expm1(-self.step)
        height = height.at[0, 0].add(jnp.log(series))
        log_waited -= skipped * self.step
        return Block(start, s, first, past, opened, log_waited, log_m, height)

    def survival(self, start: jax.Array, s: jax.Array) -> tuple[Any, Any, jax.Array]:
        """The first chunk that has not rung, the first that waits, and log M at the nodes.

        M near one is had from its complement, elsewhere from terms that cannot all underflow.
        """
        if self.is_whole:
            first, past = 0, 1
            complement, total = self.with_chunk(start, 0, jnp.zeros_like(s), s - jnp.inf)
        else:
            nothing = jnp.log(jnp.finfo(s.dtype).eps / 2)
            negligible = self.cut + jnp.log1p(self.sensitivity(jnp.zeros_like(self.step)))
            past = jnp.sum(self.log_highest + s[-1, -1] > nothing)

            def matters(state: Any) -> jax.Array:
                chunk, _, total = state
                x = jnp.exp(s + self.log_lowest[chunk - 1])
                return (chunk > 0) & jnp.any(x < negligible - total)

            def add(state: Any) -> Any:
                return state[0] - 1, *self.with_chunk(start, state[0] - 1, *state[1:])

            waiting = jnp.exp(s + self.log_mean_from[past]), self.log_mass_from[past] + 0 * s
            first, complement, total = jax.lax.while_loop(matters, add, (past, *waiting))
            complement += self.mass_before[first]
        near_one = complement < 0.5
        log_m = jnp.where(near_one, jnp.log1p(-jnp.where(near_one, complement, 0)), total)
        return first, past, jnp.maximum(log_m, _LEAST_LOG_M)

    def with_chunk(
        self, start: jax.Array, chunk: Any, complement: jax.Array, total: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """1 - M and log M with the terms of one more chunk."""
        tile, log_probs = self.tile(start, chunk), self.log_probs[chunk]
        complement += jnp.sum(-jnp.expm1(-tile.x) * jnp.exp(log_probs)[None, None, :], axis=2)
        scaled = log_probs[None, :] - tile.first
        shift = jnp.maximum(jnp.max(scaled, axis=1, keepdims=True), _LEAST_LOG_M)  # finite
        terms = tile.decay * jnp.exp(scaled - shift)[:, None, :]
        return complement, jnp.logaddexp(total, shift + jnp.log(jnp.sum(terms, axis=2)))

    def tile(self, start: jax.Array, chunk: Any) -> Tile:
        """X over the nodes of strips and one chunk."""
        log_first = start[:, None] + self.log_weights[chunk][None, :]
        first = jnp.minimum(jnp.exp(log_first), jnp.finfo(log_first.dtype).max ** 0.5)
        return Tile(log_first, first, jnp.exp(self.offsets))

    def next_position(self, end: jax.Array) -> jax.Array:
        """The next node worth a visit, from ``end`` on: beyond an idle stretch, if there is one."""
        s = end * self.step
        begun = jnp.sum(s + self.log_lowest >= 0)  # chunks all of which have begun to ring
        chunk = jnp.minimum(begun, self.log_lowest.shape[0] - 1)
        log_probs, log_weights = self.log_probs[chunk], self.log_weights[chunk]
        waiting = s + log_weights < 0

        def over_waiting(log_terms: jax.Array, log_later: jax.Array) -> jax.Array:
            here = jax.nn.logsumexp(jnp.where(waiting, log_terms, -jnp.inf))
            return jnp.logaddexp(here, log_later[chunk + 1])

        log_mass = jnp.clip(over_waiting(log_probs, self.log_mass_from), _LEAST_LOG_M, 0)
        log_mean = over_waiting(log_probs + log_weights, self.log_mean_from) - log_mass
        sensitivity = self.sensitivity(log_mass)
        # Idle: all that have begun to ring have rung, and of what they leave M feels nothing.
        before = jnp.where(chunk > 0, s + self.log_lowest[chunk - 1], jnp.inf)
        log_least = jnp.minimum(before, jnp.min(jnp.where(waiting, jnp.inf, s + log_weights)))
        idle = jnp.exp(log_least) > self.cut + jnp.log1p(sensitivity) - log_mass
        # Up to where e^s (w_max + E[w] d log g/d log M) is so small that the series' relative
        # error, its square, is below rounding.
        small = 1e-8 if s.dtype == jnp.float64 else 1e-4
        highest = jnp.max(jnp.where(waiting, log_weights, -jnp.inf))
        log_rate = jnp.logaddexp(highest, safe_log(sensitivity) + log_mean)
        effect = jnp.floor((jnp.log(small) - log_rate) / self.step)
        return jnp.where(idle, jnp.maximum(end, effect), end)
