"""The processes that pick one candidate: draw them, score them, keep the winner; no formula.

A process maps (key words, trial indices) to the winners' words, one per trial. Candidates stream in
blocks; a trial remembers its running winner only, whatever its number of candidates:

* :class:`RankRace` — the candidate with the highest rank wins. Ranks are words, so the running
  winner is the running maximum of raw words, and both outputs of a call are candidates.
* :class:`ScoredRace` — the candidate with the highest noisy score wins. Candidate and noise are the
  two outputs of one call, and the running winner is remembered by its draw alone.
* :class:`OrderRace` — a trial draws an order of the rewards, and the first candidate in it wins.
* :class:`SwapRace` — candidates swap ranks by a rule, each by its own coin; the highest rank wins.
The process without an end to the candidates is in :mod:`simulations.selection.rejection`.

What decides about speed on a CPU: one fusion from counter to running winner; a loop that carries
one array; scores that leave a rolled loop, so that nothing computes them twice; no argmax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bon_theory import SwappedRanks
from simulations.draws.outcomes import Outcomes
from simulations.draws.references import Reference
from simulations.draws.variates import exponential, unit_interval
from simulations.draws.words import derived_key, threefry_words
from simulations.tools.pytree import pytree

BLOCK = 16  # candidates per step of a loop; more only lengthen compilation
NO_DRAW = 2**32 - 1  # no candidate has this counter; it decides how many there are

Score = Callable[[Reference, Array, Array, Array], Array]
"""``(reference, words, noise, parameter) -> score`` (or whether to accept), elementwise."""


@pytree(
    data_fields=["minimum", "thresholds"],
    meta_fields=["block"],
)
@dataclass(frozen=True)
class CandidateCount:
    """The number of candidates of a trial: ``minimum`` plus the number of thresholds ≤ a word.

    Attributes:
        minimum: int32; all there is where the number is fixed. Less than 1 where the first
            thresholds are 0.
        thresholds: ``[T]`` uint32, ascending.
        block: candidates per step of the loop, a power of two.
    """

    minimum: Array
    thresholds: Array
    block: int = BLOCK

    @property
    def typical(self) -> int:
        """The median number of candidates."""
        thresholds = np.asarray(self.thresholds)
        return int(self.minimum) + int(np.count_nonzero(thresholds <= 2**31))

    def draw(self, key: Array, trials: Array) -> Array:
        """Counts, uint32, one per trial.

        Fixed ones are stored trial by trial as well: a number that is common to all would become a
        branch in the middle of the vector code, which then waits for one generator call after the
        other (two thirds of the speed on AVX2).
        """
        if self.thresholds.size == 0:
            fixed = self.minimum.astype(jnp.uint32)
            return materialised(lambda: jnp.broadcast_to(fixed, trials.shape), trials[0])
        word, _ = threefry_words(key, trials, jnp.full_like(trials, NO_DRAW))
        extra = jnp.searchsorted(self.thresholds, word, side="right")
        return self.minimum.astype(jnp.uint32) + extra.astype(jnp.uint32)

    def steps(self, counts: Array) -> Array:
        """Steps of the loop that reach the last candidate of the longest trial."""
        return (jnp.max(counts) + jnp.uint32(self.block - 1)) // jnp.uint32(self.block)


@pytree(
    data_fields=["reference", "count"],
    meta_fields=["lowest"],
)
@dataclass(frozen=True)
class RankRace:
    """The highest word wins: the highest reward, ties broken uniformly by position in the level.

    The maximum over words commutes with the monotone map from words to rewards, so rewards need be
    looked up for winners only. Draws 2j and 2j + 1 are the two outputs of counter (trial, j).

    Attributes:
        reference: what candidates are drawn from.
        count: how many there are, the same or random.
        lowest: whether the lowest word wins instead.
    """

    reference: Reference
    count: CandidateCount
    lowest: bool = False
    numbers_per_trial = 4  # its candidates and the running winner, before and after a block

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return self.count.typical

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""
        return _finish(self, key, trials)

    def after_each(
        self, key: Array, trials: Array, counts: Array, block: Array, best: Array
    ) -> list[Array]:
        """The highest word after each draw of a block, from the highest before; 0 at the start."""
        pairs, states = max(1, self.count.block // 2), [best]
        for offset in range(pairs):
            pair = block * jnp.uint32(pairs) + jnp.uint32(offset)
            words = threefry_words(key, trials, jnp.broadcast_to(pair, trials.shape))
            for parity, word in enumerate(words):
                drawn = _before(jnp.uint32(2) * pair + jnp.uint32(parity), counts)
                word = ~word if self.lowest else word
                states.append(jnp.maximum(states[-1], jnp.where(drawn, word, jnp.uint32(0))))
        return states[1:]

    def words(self, key: Array, trials: Array, best: Array) -> Array:
        """The winners' words, from the highest ones."""
        best = ~best if self.lowest else best
        # Which of the tied outcomes a candidate is: a function of (trial, word) under another key.
        lots, _ = threefry_words(derived_key(key), jnp.broadcast_to(trials, best.shape), best)
        return self.reference.spread_ties(best, lots)


@pytree(
    data_fields=["reference", "count", "parameter"],
    meta_fields=["score"],
)
@dataclass(frozen=True)
class ScoredRace:
    """The highest score wins; the earlier of two equal ones.

    Attributes:
        reference: what candidates are drawn from.
        count: how many there are, the same or random.
        parameter: what the score depends on, float32.
        score: see :data:`Score`.
    """

    reference: Reference
    count: CandidateCount
    parameter: Array
    score: Score
    numbers_per_trial = 2 * BLOCK  # two of each candidate of a block

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return self.count.typical

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""
        return _finish(self, key, trials)

    def after_each(
        self, key: Array, trials: Array, counts: Array, block: Array, winner: Array
    ) -> list[Array]:
        """The winning draw after each draw of a block, from the one before; 0 at the start."""
        draws, states = draws_of_block(block, self.count.block), []
        best = self._scores(key, trials, winner)
        for draw, rival in zip(draws, self._block_scores(key, trials, draws, block), strict=True):
            better = (rival > best) & _before(draw, counts)
            best = jnp.where(better, rival, best)
            winner = jnp.where(better, draw, winner)
            states.append(winner)
        return states

    def words(self, key: Array, trials: Array, winner: Array) -> Array:
        """The winners' words, from their draws."""
        return draw_words(key, trials, winner)[0]

    def _scores(self, key: Array, trials: Array, draws: Array) -> Array:
        words, noise = draw_words(key, trials, draws)
        return self.score(self.reference, words, noise, self.parameter)

    def _block_scores(self, key: Array, trials: Array, draws: Array, block: Array) -> list[Array]:
        """Scores of a block's draws ``[B]``, B arrays ``[S]``, each computed once."""
        rows = draws[:, None]
        if self.reference.reads_tables:  # on its own, as AVX2 has no fast vector look-up
            drawn = jax.ShapeDtypeStruct((len(rows), trials.size), jnp.uint32)
            words, noise = materialised_pair(lambda: draw_words(key, trials, rows), block, drawn)
            score = partial(self.score, self.reference, words, noise, self.parameter)
            return list(materialised(score, block, drawn.update(dtype=jnp.float32)))
        half = len(rows) // 2
        both = materialised_pair(
            lambda: (
                self._scores(key, trials, rows[:half]),
                self._scores(key, trials, rows[half:]),
            ),
            block,
            jax.ShapeDtypeStruct((half, trials.size), jnp.float32),
        )
        return [score for scores in both for score in scores]


@pytree(
    data_fields=["reference", "count", "thresholds", "levels", "places"],
    meta_fields=[],
)
@dataclass(frozen=True)
class OrderRace:
    """A trial draws an order of the rewards; the candidate that is first in it wins.

    Attributes:
        reference: what candidates are drawn from.
        count: how many there are, the same or random.
        thresholds: ``[J - 1]`` uint32, first word of each order but the first.
        levels: ``[L]`` float32, the rewards, ascending.
        places: ``[J, L]`` float32, where each reward stands in each order, from 0.
    """

    reference: Reference
    count: CandidateCount
    thresholds: Array
    levels: Array
    places: Array
    numbers_per_trial = ScoredRace.numbers_per_trial

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return self.count.typical

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""
        lots, _ = threefry_words(derived_key(key), trials, jnp.zeros_like(trials))
        order = jnp.searchsorted(self.thresholds, lots, side="right")

        def score(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
            del noise, parameter
            level = jnp.searchsorted(self.levels, reference.reward(words))
            return -self.places[jnp.broadcast_to(order, level.shape), level]

        # The score depends on the trial, so it is made inside the program.
        return ScoredRace(self.reference, self.count, jnp.float32(0), score)(key, trials)


@pytree(
    data_fields=["reference", "n", "rule"],
    meta_fields=[],
)
@dataclass(frozen=True)
class SwapRace:
    """A candidate keeps its rank or takes its partner's, by a coin; the highest rank wins.

    Partners are found by bisection, which takes so long that a loop may well carry two arrays, and
    compiles so long that it should occur once in it.

    Attributes:
        reference: what candidates are drawn from, words in the order of rewards.
        n: int32, how many there are.
        rule: partners and chances, float32.
    """

    reference: Reference
    n: Array
    rule: SwappedRanks
    numbers_per_trial = 2 * BLOCK  # the running winner, and what looks partners up

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return int(self.n)

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""

        def step(draw: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            """The highest rank and the word of its candidate, after one more draw."""
            held, holder = best
            words, coins = draw_words(key, trials, jnp.broadcast_to(draw, trials.shape))
            own = -exponential(words)  # logarithms, accurate where the highest ranks are
            partner, chance = self.rule.swap(own)
            rank = jnp.where(unit_interval(coins) <= chance, partner, own)
            better = rank > held
            return jnp.where(better, rank, held), jnp.where(better, words, holder)

        nothing = jnp.full(trials.shape, -jnp.inf, jnp.float32), jnp.zeros_like(trials)
        _, winner = lax.fori_loop(jnp.uint32(0), self.n.astype(jnp.uint32), step, nothing)
        return winner


Race = RankRace | ScoredRace


def _finish(race: Race, key: Array, trials: Array) -> Array:
    """The winners' words, uint32, one per trial index."""
    counts = race.count.draw(key, trials)

    def step(block: Array, state: Array) -> Array:
        return race.after_each(key, trials, counts, block, state)[-1]

    steps = race.count.steps(counts)
    return race.words(
        key, trials, lax.fori_loop(jnp.uint32(0), steps, step, jnp.zeros_like(trials))
    )


class Sampler(Protocol):
    """A process: key words and trial indices to the winners' words; a frozen pytree dataclass."""

    @property
    def reference(self) -> Outcomes: ...

    @property
    def typical_draws(self) -> int: ...

    @property
    def numbers_per_trial(self) -> int: ...

    def __call__(self, key: Array, trials: Array) -> Array: ...


def draws_of_block(block: Array, size: int) -> Array:
    """Indices of the draws of a block."""
    return block * jnp.uint32(size) + jnp.arange(size, dtype=jnp.uint32)


def draw_words(key: Array, trials: Array, draws: Array) -> tuple[Array, Array]:
    """Word and noise of counter (trial, draw): ``draws`` of one row per draw, or one per trial."""
    shape = jnp.broadcast_shapes(draws.shape, trials.shape)
    rows = jnp.broadcast_to(trials.reshape((1,) * (len(shape) - 1) + (-1,)), shape)
    return threefry_words(key, rows, jnp.broadcast_to(draws, shape))


def _before(draw: Array, counts: Array) -> Array:
    """Whether a draw is among the ``counts``: signed, which AVX2 compares in one instruction."""
    return draw.astype(jnp.int32) < counts.astype(jnp.int32)


def materialised(
    make: Callable[[], Array], index: Array, like: jax.ShapeDtypeStruct | None = None
) -> Array:
    """``make()``, computed once and stored, whatever reads it; ``index`` is any traced uint32.

    Where ``like`` tells its shape and dtype, ``make`` is traced once and not twice.

    XLA's CPU fusions compute a value anew for each reader and drop optimization barriers, but fuse
    nothing across a loop: this one runs once, which the compiler cannot know. Without it soft
    best-of-16 among 256 outcomes draws 26 million candidates per processor second instead of 88
    million (AVX2, JAX 0.10.2).
    """
    once = jnp.minimum(index, jnp.uint32(0)) + jnp.uint32(1)
    kind = like or jax.eval_shape(make)
    return lax.fori_loop(
        jnp.uint32(0), once, lambda _, __: make(), jnp.zeros(kind.shape, kind.dtype)
    )


def materialised_pair(
    make: Callable[[], tuple[Array, Array]], index: Array, like: jax.ShapeDtypeStruct
) -> tuple[Array, Array]:
    """:func:`materialised` for two arrays of one shape and a dtype of 32 bits, in one pass.

    A fusion has one output and a loop that carries two arrays runs twice, so the two travel as the
    parts of one complex64. Two results at a time also give the processor two chains of dependent
    instructions to work on instead of one.
    """

    def packed() -> Array:
        real, imaginary = (lax.bitcast_convert_type(each, jnp.float32) for each in make())
        return lax.complex(real, imaginary)

    both = materialised(packed, index, jax.ShapeDtypeStruct(like.shape, jnp.complex64))
    first, second = (
        lax.bitcast_convert_type(part, like.dtype) for part in (lax.real(both), lax.imag(both))
    )
    return first, second
