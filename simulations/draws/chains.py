"""Sequences with additive reward: symbols drawn one by one from a Markov chain, kept in blocks.

A block is a candidate like any other: :class:`BlockReference` is to the processes of this package
what a reference is, so every selection of :mod:`simulations.selection.samplers` works on blocks,
and a :class:`BlockwiseSampler` runs in :func:`simulations.simulate` like any other. Each block is
drawn from where the one kept before it ended. One block is the whole sequence, blocks of one
symbol are symbolwise selection, equal rows are independent symbols.

What is not exact: probabilities are rounded to 2⁻²⁴, and a candidate's 32-bit word decides about
its symbols, so that two of n are the same by chance n²/2³³ of the time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike, NDArray

from simulations.draws.outcomes import Counted
from simulations.draws.variates import unit_interval
from simulations.draws.words import derived_key, threefry_words
from simulations.statistics.estimate import Estimate
from simulations.tools.arguments import integer_within
from simulations.tools.pytree import pytree

_MOST_OUTCOMES = 2**20
_LONGEST = 2**20
_LARGEST_TOTAL = 2**24  # up to here float32 knows whole numbers
_ROUNDING = 1e-6  # of sums of probabilities


@pytree(data_fields=["rows", "levels"], meta_fields=[])
@dataclass(frozen=True)
class Chain:
    """A Markov reference whose symbols earn whole numbers; made by :func:`markov_chain`.

    Attributes:
        rows: ``[K + 1, K]`` float32, running sums of the next symbol's probabilities after each
            symbol; the last row is the first symbol's.
        levels: ``[K]`` int32, rewards.
    """

    rows: Array
    levels: Array

    def following(self, before: Array, words: Array) -> Array:
        """The next symbols, int32, after those before, by random words."""
        uniform = unit_interval(words)
        symbol = jnp.zeros_like(before)
        for sums in self.rows.T[:-1]:
            symbol = symbol + (uniform > sums[before]).astype(jnp.int32)
        return symbol

    def reward_law(self, length: int) -> NDArray[np.float64]:
        """Probabilities of a sequence's total reward, in whole numbers above the lowest one."""
        rows = np.diff(np.asarray(self.rows, np.float64), prepend=0.0)
        gains = np.asarray(self.levels) - int(np.min(self.levels))
        law = np.zeros((length * int(gains.max()) + 1, len(rows)))
        law[0, -1] = 1.0  # level by state, before the first symbol
        for _ in range(length):
            moved = law @ rows
            law = np.zeros_like(law)
            for symbol, gain in enumerate(gains):
                law[gain:, symbol] = moved[: len(moved) - gain, symbol]
        return law.sum(axis=1)


def markov_chain(initial: ArrayLike, transition: ArrayLike, levels: ArrayLike) -> Chain:
    """A chain of K symbols.

    Args:
        initial: ``[K]``, probabilities of the first symbol.
        transition: ``[K, K]``, of the next one, given the one before (row); equal rows make
            independent symbols.
        levels: ``[K]`` whole numbers, the symbols' rewards in a unit of the caller's choice, so
            that totals and their ties are exact.

    Raises:
        ValueError: for shapes that differ, levels that are not whole, probabilities that are
            negative or do not sum to one within 1e-6.

    Example:
        >>> markov_chain([0.5, 0.5], [[0.5, 0.5]] * 2, [0, 1]).reward_law(3)
        array([0.125, 0.375, 0.375, 0.125])
    """
    whole = np.asarray(levels, float)
    first, rows = np.asarray(initial, float), np.asarray(transition, float)
    if whole.ndim != 1 or first.shape != whole.shape or rows.shape != whole.shape * 2:
        raise ValueError(
            "initial [K], transition [K, K] and levels [K] must agree, got shapes "
            f"{first.shape}, {rows.shape}, {whole.shape}"
        )
    if not (np.array_equal(whole, np.round(whole)) and np.all(np.abs(whole) <= _LARGEST_TOTAL)):
        raise ValueError(
            f"levels must be whole numbers, at most {_LARGEST_TOTAL} from 0, got {whole}: "
            "choose another unit"
        )
    laws = np.vstack([rows, first])
    sums = laws.sum(axis=1, keepdims=True)
    if not (np.all(laws >= 0) and np.all(np.abs(sums - 1) < _ROUNDING)):
        raise ValueError(
            "initial and the rows of transition must be nonnegative and sum to 1, got sums "
            f"{sums.ravel()} and least {laws.min()}: normalise them first"
        )
    sums = np.cumsum(laws / sums, axis=1)
    return Chain(jnp.asarray(sums, jnp.float32), jnp.asarray(whole, jnp.int32))


@pytree(
    data_fields=["chain", "keys", "trials", "starts", "same_start"],
    meta_fields=["size"],
)
@dataclass(frozen=True)
class BlockReference:
    """What a trial's candidates for one block are drawn from; a word decides about a candidate.

    Attributes:
        chain: the chain.
        keys: ``[size, 2]`` uint32, of each symbol of this block.
        trials: ``[S]`` uint32.
        starts: ``[S]`` int32, the last symbol before the block; K before the first.
        same_start: whether the block's law does not depend on where it starts, bool.
        size: number of symbols.
    """

    chain: Chain
    keys: Array
    trials: Array
    starts: Array
    same_start: Array
    size: int

    @property
    def reads_tables(self) -> bool:
        """Whether a reward is looked up in memory: yes, symbol by symbol."""
        return True

    def walk(self, words: Array) -> tuple[Array, Array]:
        """Total reward, int32 ``[..., S]``, and symbols, int32 ``[size, ..., S]``."""

        def along(values: Array) -> Array:
            return jnp.broadcast_to(values.reshape((1,) * (words.ndim - 1) + (-1,)), words.shape)

        trials = along(self.trials)

        def step(state: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
            before, total = state
            lot = threefry_words(key, trials, words)[0]
            symbol = self.chain.following(before, lot)
            return (symbol, total + self.chain.levels[symbol]), symbol

        start = along(self.starts), jnp.zeros(words.shape, jnp.int32)
        (_, total), symbols = lax.scan(step, start, self.keys)
        return total, symbols

    def reward(self, words: Array) -> Array:
        """The candidates' rewards, float32."""
        return self.walk(words)[0].astype(jnp.float32)

    def unordered(self) -> BlockReference:
        """Itself: words are in no order."""
        return self

    def spread_ties(self, words: Array, lots: Array) -> Array:
        """The words themselves, which bear no trace of an order."""
        del lots
        return words

    @property
    def max_reward(self) -> Array:
        """Largest reward that a block might have, float32."""
        return (self.size * jnp.max(self.chain.levels)).astype(jnp.float32)

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and their probabilities.

        Raises:
            ValueError: where these depend on the state in which the block before ended.
        """
        if not self.same_start:
            raise ValueError(
                "a rule with a threshold needs blocks of one law, got blocks of a chain that "
                "remembers: use block_length=None, or a race"
            )
        law = self.chain.reward_law(self.size)
        lowest = self.size * int(np.min(self.chain.levels))
        return np.arange(law.size, dtype=np.float64) + lowest, law


@pytree(
    data_fields=["chain"],
    meta_fields=["length", "by", "num_outcomes"],
)
@dataclass(frozen=True)
class SequenceOutcomes(Counted):
    """What is counted of sequences: each of them, or their total reward.

    Attributes:
        chain: the chain.
        length: m, number of symbols.
        by: ``"words"`` for the K^m sequences by their code Σ x_i K^{m−i}, ``"rewards"`` for total
            rewards above the lowest.
        num_outcomes: K^m, or the number of levels of the total reward.
    """

    chain: Chain
    length: int
    by: Literal["words", "rewards"]
    num_outcomes: int

    @property
    def digits(self) -> tuple[int, Array]:
        """Base b and digits d of the code: every symbol x makes it b·code + d[x], uint32."""
        gains = self.chain.levels - jnp.min(self.chain.levels)
        size = self.chain.levels.size
        base, digits = (size, jnp.arange(size)) if self.by == "words" else (1, gains)
        return base, digits.astype(jnp.uint32)

    def outcome(self, codes: Array) -> Array:
        """The codes as int32."""
        return codes.astype(jnp.int32)

    def reward(self, codes: Array) -> Array:
        """Total rewards, float32."""
        return jnp.asarray(self.rewards(), jnp.float32)[codes]

    def summarise(
        self, counts: NDArray[np.int64], averages: tuple[Estimate, ...]
    ) -> tuple[Estimate, Estimate]:
        """Mean total reward, and mean chance to beat a fresh sequence, from exact counts."""
        del averages
        rewards, law = self.rewards(), self.chain.reward_law(self.length)
        middle = np.cumsum(law) - law / 2
        levels = rewards - self.length * int(np.min(self.chain.levels))
        return Estimate.from_counts(counts, rewards), Estimate.from_counts(counts, middle[levels])

    def rewards(self) -> NDArray[np.int64]:
        """Total reward of each outcome, ``[C]``."""
        levels = np.asarray(self.chain.levels, np.int64)
        if self.by == "rewards":
            return np.arange(self.num_outcomes) + self.length * int(levels.min())
        totals = np.zeros(1, np.int64)
        for _ in range(self.length):
            totals = np.add.outer(totals, levels).ravel()
        return totals


@pytree(
    data_fields=["reference", "rules"],
    meta_fields=["block_length"],
)
@dataclass(frozen=True)
class BlockwiseSampler:
    """Keep one candidate of each block in turn; made by :func:`blockwise`.

    Attributes:
        reference: the chain, and what is counted.
        rules: samplers of one block: of the full ones, and of a shorter last one if there is one.
        block_length: symbols of a full block.
    """

    reference: SequenceOutcomes
    rules: tuple[Any, ...]
    block_length: int

    @property
    def typical_draws(self) -> int:
        """About how many symbols a trial draws."""
        return self.reference.length * max(rule.typical_draws for rule in self.rules)

    @property
    def numbers_per_trial(self) -> int:
        """As many as the rule of any block keeps."""
        return max(rule.numbers_per_trial for rule in self.rules)

    def __call__(self, key: Array, trials: Array) -> Array:
        """The codes of the kept sequences, uint32, one per trial index."""
        count, rest = divmod(self.reference.length, self.block_length)
        places = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(self.block_length)
        states = jnp.full(trials.shape, self.reference.chain.levels.size, jnp.int32)
        start = states, jnp.zeros_like(trials)
        keep = partial(self._keep, key, trials, self.rules[0])
        state, _ = lax.scan(lambda state, place: (keep(state, place), None), start, places)
        if rest:
            last = jnp.uint32(self.reference.length - rest)
            state = self._keep(key, trials, self.rules[1], state, last)
        return state[1]

    def _keep(
        self, key: Array, trials: Array, rule: Any, state: tuple[Array, Array], place: Array
    ) -> tuple[Array, Array]:
        """State and code after one more block, which starts at ``place``."""
        own = derived_key(key, place)
        # Made once: a block's symbols are walked wherever rewards are looked at, and at the end.
        keys = jax.vmap(partial(derived_key, own))(
            jnp.arange(rule.reference.size, dtype=jnp.uint32)
        )
        block = dataclasses.replace(rule.reference, keys=keys, trials=trials, starts=state[0])
        winners = dataclasses.replace(rule, reference=block)(own, trials)
        symbols, (base, digits) = block.walk(winners)[1], self.reference.digits
        code, _ = lax.scan(
            lambda code, symbol: (code * jnp.uint32(base) + digits[symbol], None), state[1], symbols
        )
        return symbols[-1], code


def blockwise(
    chain: Chain,
    length: int,
    select: Callable[..., Any],
    *parameters: float,
    block_length: int | None = None,
    by: Literal["words", "rewards"] = "rewards",
) -> BlockwiseSampler:
    """Select block after block, each drawn from where the one before ended.

    Args:
        chain: the reference.
        length: m, number of symbols.
        select: of :mod:`simulations.selection.samplers`; looks at the reward of a block.
        *parameters: handed on to it; temperatures in units of the levels.
        block_length: symbols per block: 1 is symbolwise, None the whole sequence. What is left over
            makes one last, shorter block.
        by: what is counted, see :class:`SequenceOutcomes`.

    Raises:
        ValueError: for lengths outside their range, more outcomes than can be counted, or what
            ``select`` refuses; a rule with a threshold (``top_fraction``, ``chi_squared_tilt``,
            ``exponential_tilt``) also where it would depend on the state before.

    Example:
        >>> import jax
        >>> from simulations.engine.simulate import simulate
        >>> from simulations.selection.samplers import best_of_n
        >>> coin = markov_chain([0.5, 0.5], [[0.5, 0.5]] * 2, [0, 1])
        >>> sampler = blockwise(coin, 3, best_of_n, 20, block_length=1, by="words")
        >>> simulate(jax.random.key(0), sampler, num_trials=100).counts
        array([  0,   0,   0,   0,   0,   0,   0, 100])
    """
    outcomes = sequence_outcomes(chain, length, by)
    length = outcomes.length
    size = length if block_length is None else block_length
    size = integer_within(
        "block_length", size, at_most=length, remedy="None takes the sequence as one block"
    )
    rows = np.asarray(chain.rows)
    same_start = jnp.array(size == length or np.all(rows == rows[0]))
    nothing = jnp.zeros(0, jnp.uint32), jnp.zeros(0, jnp.int32)
    sizes = [size] + ([length % size] if length % size else [])
    rules = (
        select(
            BlockReference(chain, jnp.zeros((each, 2), jnp.uint32), *nothing, same_start, each),
            *parameters,
        )
        for each in sizes
    )
    return BlockwiseSampler(outcomes, tuple(rules), size)


def sequence_outcomes(
    chain: Chain, length: int, by: Literal["words", "rewards"]
) -> SequenceOutcomes:
    """What is counted of sequences of so many symbols.

    Raises:
        ValueError: for a length outside its range, or more outcomes than can be counted.
    """
    length = integer_within("length", length, at_most=_LONGEST, remedy="symbols are counted")
    if by not in ("words", "rewards"):
        raise ValueError(f"by must be 'words' or 'rewards', got {by!r}")
    levels = np.asarray(chain.levels, np.int64)
    num_outcomes = length * int(np.ptp(levels)) + 1
    if by == "words":
        num_outcomes = min(levels.size**length, _MOST_OUTCOMES + 1)
    if num_outcomes > _MOST_OUTCOMES:
        raise ValueError(
            f"by={by!r} must have at most {_MOST_OUTCOMES} outcomes, got {length} symbols of "
            f"levels {levels}: "
            + ("count by='rewards'" if by == "words" else "choose a larger unit for the levels")
        )
    if length * int(np.abs(levels).max()) > _LARGEST_TOTAL:
        raise ValueError(
            f"total rewards must be at most {_LARGEST_TOTAL} from 0, got {length} symbols of "
            f"levels {levels}: choose a larger unit, or take the lowest level as 0"
        )
    return SequenceOutcomes(chain, length, by, num_outcomes)
