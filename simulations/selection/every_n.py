"""What every number of candidates gives, in one pass: read the running winner when it changes.

Among n candidates the running winner changes H_n ≈ log n times; each change is a record. A block of
draws is raced through at the full speed of the process. Only trials whose winner it has changed are
drawn again, candidate by candidate, to learn at which draws their records fell (a counter gives the
same words whenever it is asked), and nothing but records is looked up and added up.

Worked out for one block of n = 4 draws, one trial, outcomes a, b, c, and an outcome x before the
block. Suppose the running winner after draws 1, 2, 3, 4 is a, a, c, c. The trial has two records:

    draw          1      2      3      4
    winner        a      a      c      c
    comes         a             c             +1 for a in row 1, for c in row 3
    goes          x             a             −1 for x in row 1, for a in row 3
    moves [4, K]  a−x    0      c−a    0      a running sum down the rows, added to the histogram
    histogram     a      a      c      c      before the block, gives every draw's histogram

Sums of the winners' rewards move in the same rows by what comes and what goes, and so do sums of
squares; with many trials rows add up. A trial without a record is neither drawn again nor counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import jax.numpy as jnp
from jax import Array, lax

from simulations.selection.races import Race, materialised
from simulations.tools.pytree import pytree

_BLOCK = 32  # draws
_TILE = 256  # trials that are drawn again at a time
_RECORDS = 384  # that are looked up at a time: a little more than a tile has, later on
_FLAGS = 32  # in a word

Carry = tuple[Array, Array]
"""Running winners ``[S]``, and their histogram ``[K]``."""

Totals = tuple[Array, Array]
"""Histograms, ``[B, K]`` int32; Σ(x − c) and Σ(x − c)² about centres c, ``[B, 2, V]`` float32."""


@pytree(data_fields=["race"], meta_fields=["largest"])
@dataclass(frozen=True)
class EveryN:
    """The tally of outcomes, and of what the reference wants averaged, after every draw.

    Attributes:
        race: its number of candidates is fixed.
        largest: N, that number. There are N histograms, and V averages for every n in turn.
    """

    race: Race
    largest: int

    @staticmethod
    def of(race: Race) -> EveryN:
        """The tally of a race, in longer blocks: trials whose winner a block changes are few."""
        blocks = replace(race, count=replace(race.count, block=_BLOCK))
        return EveryN(blocks, int(race.count.minimum))

    @property
    def num_counts(self) -> int:
        """N·K."""
        return self.largest * self.race.reference.num_outcomes

    @property
    def typical_draws(self) -> int:
        """N."""
        return self.largest

    @property
    def numbers_per_trial(self) -> int:
        """Two of each candidate of a block."""
        return 2 * self.race.count.block

    def moments_shape(self, num_trials: int) -> tuple[int, int, int]:
        """See :class:`simulations.engine.accumulate.Tally`."""
        return 3, self.largest * self.race.reference.num_observables, 1

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        """See :class:`simulations.engine.accumulate.Tally`."""
        course, number = _Course(self.race, key, trials), jnp.sum(valid.astype(jnp.float32))

        def step(carry: Carry, block: Array) -> tuple[Carry, Totals]:
            before, histogram = carry
            after = materialised(lambda: course.after_each(block, before)[-1], block)
            values = course.values(after)  # [V, S]
            centre = jnp.mean(values, axis=1)  # of all trials: any centre near the values will do
            moves, shifts = _redrawn(course, block, before, valid & (after != before), centre)
            histograms = histogram[None] + jnp.cumsum(moves, axis=0)  # [B, K]
            # Back from the last draw: squares are small there, and no small sum is a difference.
            sums = jnp.sum(jnp.where(valid, _powers(values, centre), jnp.float32(0)), axis=-1)
            later = jnp.cumsum(shifts[:0:-1], axis=0)[::-1]  # [B - 1, 2, V], after each draw
            sums = jnp.concatenate([sums[None] - later, sums[None]])  # [B, 2, V]
            return (after, histograms[-1]), (histograms, _moments(number, centre, sums))

        first = course.in_pairs.after_each(jnp.uint32(0), jnp.zeros_like(trials))[0]
        histogram = jnp.zeros(self.race.reference.num_outcomes, jnp.int32)
        histogram = histogram.at[course.outcomes(first)].add(valid.astype(jnp.int32))
        blocks = jnp.arange(-(-self.largest // self.race.count.block), dtype=jnp.uint32)
        rows = lax.scan(step, (first, histogram), blocks)[1]
        histograms, moments = (
            each.reshape(each.shape[0] * each.shape[1], *each.shape[2:])[: self.largest]
            for each in rows
        )
        columns = self.largest * moments.shape[-1]
        return histograms.ravel(), jnp.moveaxis(moments, 1, 0).reshape(3, columns, 1)


@dataclass(frozen=True)
class _Course:
    """The course of a race: trials, of which any draws can be asked for again.

    Attributes:
        race: what they run.
        key: ``[2]`` uint32.
        indices: ``[S]`` uint32.
    """

    race: Race
    key: Array
    indices: Array

    def after_each(self, block: Array, winners: Array) -> list[Array]:
        """The running winners after each draw of a block, from those before it."""
        counts = self.race.count.draw(self.key, self.indices)
        return self.race.after_each(self.key, self.indices, counts, block, winners)

    @property
    def in_pairs(self) -> _Course:
        """The same race in blocks of two draws."""
        return replace(self, race=replace(self.race, count=replace(self.race.count, block=2)))

    def one_by_one(self, block: Array, winners: Array) -> Array:
        """The running winners after each draw of a block, ``[B, S]``, none computed twice."""
        pairs = self.race.count.block // 2

        def step(winners: Array, pair: Array) -> tuple[Array, list[Array]]:
            rows = self.in_pairs.after_each(block * jnp.uint32(pairs) + pair, winners)
            return rows[-1], rows

        rows = lax.scan(step, winners, jnp.arange(pairs, dtype=jnp.uint32))[1]
        return jnp.stack(rows, axis=1).reshape(2 * pairs, winners.size)

    def outcomes(self, winners: Array) -> Array:
        """Of running winners, int32."""
        return self.race.reference.outcome(self.race.words(self.key, self.indices, winners))

    def values(self, winners: Array) -> Array:
        """What is to be averaged of running winners, ``[V, ...]``."""
        return self.race.reference.observables(self.race.words(self.key, self.indices, winners))


def _redrawn(course: _Course, block: Array, before: Array, changed: Array, centre: Array) -> Totals:
    """Draw the trials whose winner has changed again, one draw at a time.

    Returns:
        What records bring to the histogram and take from it, in the row of the draw at which they
        fell, ``[B, K]``; what they bring to the powers of the winners' values, ``[B, 2, V]``.
    """
    tile, number = min(_TILE, changed.size), jnp.sum(changed, dtype=jnp.uint32)
    place_of = ordered(changed)

    def add(part: Array, totals: Totals) -> Totals:
        index = part * jnp.uint32(tile) + jnp.arange(tile, dtype=jnp.uint32)
        place = place_of(index)
        again = replace(course, indices=course.indices[place])
        winners = jnp.concatenate([before[place][None], again.one_by_one(block, before[place])])
        return _move(again, winners, index < number, centre, totals)

    size = course.race.count.block
    moves = jnp.zeros((size, course.race.reference.num_outcomes), jnp.int32)
    shifts = jnp.zeros((size, 2, centre.size), jnp.float32)
    return lax.fori_loop(jnp.uint32(0), _parts(number, tile), add, (moves, shifts))


def _move(course: _Course, winners: Array, exists: Array, centre: Array, totals: Totals) -> Totals:
    """Count what records bring and take, in the rows of their draws.

    Args:
        course: of S trials.
        winners: ``[1 + B, S]``, before the block and after each of its draws.
        exists: ``[S]``, whether a trial counts.
        centre: ``[V]``, about which values are powered.
        totals: to be added to.
    """
    trials = jnp.uint32(exists.size)
    records = exists[None] & (winners[1:] != winners[:-1])  # [B, S]
    number, place_of = jnp.sum(records, dtype=jnp.uint32), ordered(records)

    def add(part: Array, totals: Totals) -> Totals:
        index = part * jnp.uint32(_RECORDS) + jnp.arange(_RECORDS, dtype=jnp.uint32)
        place, one = place_of(index), (index < number).astype(jnp.int32)
        draw, trial = place // trials, place % trials  # [R] each
        holders = replace(course, indices=course.indices[trial])
        moves, shifts = totals
        for step, sign in ((jnp.uint32(1), one), (jnp.uint32(0), -one)):  # who comes and who goes
            winner = winners[draw + step, trial]
            powers = jnp.moveaxis(_powers(holders.values(winner), centre), -1, 0)
            powers *= sign.astype(jnp.float32)[:, None, None]
            moves = moves.at[draw, holders.outcomes(winner)].add(sign, mode="promise_in_bounds")
            shifts = shifts.at[draw].add(powers, mode="promise_in_bounds")
        return moves, shifts

    return lax.fori_loop(jnp.uint32(0), _parts(number, _RECORDS), add, totals)


def _parts(number: Array, size: int) -> Array:
    """How many parts of a size hold a number."""
    return (number + jnp.uint32(size - 1)) // jnp.uint32(size)


def _powers(values: Array, centre: Array) -> Array:
    """x − c and (x − c)², ``[2, V, S]``, of ``values [V, S]``."""
    gaps = values - centre[:, None]
    return jnp.stack([gaps, jnp.square(gaps)])


def _moments(number: Array, centre: Array, sums: Array) -> Array:
    """Number, means and Σ(x − mean)², ``[B, 3, V]``, from sums about a centre."""
    shift = sums[:, 0] / jnp.maximum(number, 1)
    squares = jnp.maximum(sums[:, 1] - number * jnp.square(shift), 0)
    return jnp.stack([jnp.full_like(shift, number), centre[None] + shift, squares], axis=1)


def _pack(flags: Array) -> Array:
    """Flags ``[B, S]`` as bits of words ``[S]``, the first row lowest."""
    bits = (row.astype(jnp.uint32) << jnp.uint32(b) for b, row in enumerate(flags))
    return reduce(jnp.bitwise_or, bits)


def ordered(flags: Array) -> Callable[[Array], Array]:
    """Where the set flags number ``index`` are, in an order of no importance."""
    words = _pack(flags.reshape(_FLAGS, -1))
    sizes = lax.population_count(words)
    upto = jnp.cumsum(sizes, dtype=jnp.uint32)

    def place_of(index: Array) -> Array:
        word = jnp.searchsorted(upto, index, side="right").astype(jnp.uint32)
        word = jnp.minimum(word, jnp.uint32(len(words) - 1))
        rank, bits, place = index - (upto - sizes)[word], words[word], jnp.zeros_like(index)
        for width in (16, 8, 4, 2, 1):  # bisection for the set bit number ``rank``
            low = lax.population_count(bits & jnp.uint32(2**width - 1))
            above = rank >= low
            rank = jnp.where(above, rank - low, rank)
            bits = jnp.where(above, bits >> jnp.uint32(width), bits)
            place = jnp.where(above, place + jnp.uint32(width), place)
        return place * jnp.uint32(len(words)) + word

    return place_of
