"""The laws candidates are drawn from: a random 32-bit word becomes an outcome and its reward.

A word w stands for the uniform U = (w + ½)·2⁻³², and the candidate is the quantile function at U,
outcomes ordered by reward. The largest word of a trial therefore has the highest reward, and a
winner is remembered by its word alone.

Among tied outcomes the word's position within their common reward level is the candidate's lot: the
highest word of the level wins the tie, which is uniform among the tied candidates. Which of the
tied outcomes a candidate is then has to be decided by something else: a second word
(:meth:`DiscreteReference.spread_ties`), needed for winners only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from simulations.draws.alias import AliasTable, alias_table
from simulations.draws.outcomes import Counted, Outcomes
from simulations.draws.variates import exponential_quantile, gaussian_quantile, unit_interval
from simulations.draws.words import high_product
from simulations.statistics.estimate import Estimate
from simulations.tools.arguments import integer_within
from simulations.tools.pytree import pytree

_WORDS = 2**32
_MOST_BINS, _BINS = 2**20, "bins of the rank are leading bits of a word"
_COMPARE_ALL = 32  # up to here K comparisons fuse into the draw and beat any table


class Reference(Outcomes, Protocol):
    """What processes draw candidates from, a word each; a frozen pytree dataclass.

    A block of a sequence (:mod:`simulations.draws.chains`) is drawn from like this, and has no
    outcomes of its own.
    """

    @property
    def reads_tables(self) -> bool:
        """Whether a reward is looked up in memory."""
        ...

    @property
    def max_reward(self) -> Array | float:
        """Largest reward that can be drawn, ``inf`` where there is none."""
        ...

    def spread_ties(self, words: Array, lots: Array, /) -> Array:
        """Words of the same reward levels, uniform within each, by independent words."""
        ...

    def unordered(self) -> Reference:
        """The same law, with words in the order that is fastest to look up one by one."""
        ...

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and their probabilities, for rules that have a threshold."""
        ...


@pytree(
    data_fields=["thresholds", "rewards", "level_thresholds", "outcomes"],
    meta_fields=["num_outcomes"],
)
@dataclass(frozen=True)
class DiscreteReference(Counted):
    """K outcomes with rewards, ties allowed; made by :func:`discrete_reference`.

    Attributes:
        thresholds: ``[M - 1]`` uint32, first word of each drawable outcome but the first.
        rewards: ``[M]`` float32, ascending.
        level_thresholds: ``[L - 1]`` uint32, first word of each reward level but the lowest.
        outcomes: ``[M]`` int32, position of each drawable outcome in the caller's arrays.
        num_outcomes: K.
    """

    thresholds: Array
    rewards: Array
    level_thresholds: Array
    outcomes: Array
    num_outcomes: int

    @property
    def reads_tables(self) -> bool:
        """Whether a reward is looked up in memory rather than found by comparisons."""
        return self.thresholds.size > _COMPARE_ALL

    def reward(self, words: Array) -> Array:
        """The candidates' rewards, float32."""
        return _lookup(self.thresholds, self.rewards, words)

    def outcome(self, words: Array) -> Array:
        """Position of each outcome in the caller's arrays, int32."""
        return self.outcomes[_interval(self.thresholds, words)]

    def spread_ties(self, words: Array, lots: Array) -> Array:
        """Words of the same reward levels, uniform within each, by the independent words ``lots``.

        To be applied to winners by rank, whose words sit high (or low) within their level.
        """
        if self.level_thresholds.size == self.thresholds.size:  # no ties: nothing to decide
            return words
        starts = jnp.concatenate([jnp.zeros(1, jnp.uint32), self.level_thresholds])
        lasts = jnp.concatenate([self.level_thresholds, jnp.zeros(1, jnp.uint32)]) - jnp.uint32(1)
        level = _interval(self.level_thresholds, words)
        return starts[level] + high_product(lots, lasts[level] - starts[level])

    def reward_and_rank(self, words: Array) -> Array:
        """Rewards and (F⁻ + F)/2 there, the chance to beat a fresh draw, ``[2, S]`` float32."""
        edges = unit_interval(self.level_thresholds)
        upto = jnp.concatenate([edges, jnp.ones(1, jnp.float32)])
        below = jnp.concatenate([jnp.zeros(1, jnp.float32), edges])
        rank = _lookup(self.level_thresholds, (below + upto) / 2, words)
        return jnp.stack([self.reward(words), rank])

    def unordered(self) -> DiscreteReference | AliasTable:
        """The same law, with words in the order that is fastest to look up one by one."""
        if self.thresholds.size <= _COMPARE_ALL:
            return self
        _, middle = self._levels
        return alias_table(self._masses(), self.rewards, middle, self.outcomes, self)

    def summarise(
        self, counts: NDArray[np.int64], averages: tuple[Estimate, ...]
    ) -> tuple[Estimate, Estimate]:
        """Mean reward and mean (F⁻ + F)/2 of the winners, from exact counts."""
        del averages
        rewards, middle = self._levels
        drawn = counts[np.asarray(self.outcomes)]
        return Estimate.from_counts(drawn, rewards), Estimate.from_counts(drawn, middle)

    @property
    def max_reward(self) -> Array:
        """Largest reward that can be drawn, float32."""
        return self.rewards[-1]

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and their probabilities, ``[M]``."""
        return np.asarray(self.rewards, np.float64), self._masses() / _WORDS

    def drawn_probs(self) -> NDArray[np.float64]:
        """The probabilities really drawn, ``[K]``: the caller's, rounded to multiples of 2⁻³².

        Rounding moves n candidates by at most n·TV(drawn, asked) ≤ n·K·2⁻³³ in total variation.
        """
        probs = np.zeros(self.num_outcomes)
        probs[np.asarray(self.outcomes)] = self.reward_grid()[1]
        return probs

    @cached_property
    def _levels(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and (F⁻ + F)/2 there, ``[M]``."""
        rewards, probs = self.reward_grid()
        levels, level = np.unique(rewards, return_inverse=True)
        masses = np.bincount(level, probs, minlength=levels.size)
        return rewards, (np.cumsum(masses) - masses / 2)[level]

    def _masses(self) -> NDArray[np.int64]:
        """Number of words of each drawable outcome, ``[M]``."""
        return np.diff(np.asarray(self.thresholds, np.int64), prepend=0, append=_WORDS)


def discrete_reference(probs: ArrayLike, rewards: ArrayLike) -> DiscreteReference:
    """A reference over K outcomes, in any order, ties and zero probabilities allowed.

    Args:
        probs: ``[K]``, nonnegative, summing to one within 1e-6 (then normalised).
        rewards: ``[K]``, finite; those that agree in float32 are tied.

    Raises:
        ValueError: for shapes that differ or are not ``[K]``, and inadmissible values.

    Example:
        >>> discrete_reference([0.5, 0.25, 0.25], [0.0, 1.0, 1.0]).drawn_probs()
        array([0.5 , 0.25, 0.25])
    """
    p, r = np.asarray(probs, np.float64), np.asarray(rewards, np.float64)
    if p.ndim != 1 or p.shape != r.shape or p.size == 0:
        raise ValueError(f"probs and rewards must both be [K], got {p.shape} and {r.shape}")
    if not (np.all(p >= 0) and abs(p.sum() - 1) <= 1e-6):
        raise ValueError(f"probs must be nonnegative and sum to 1, got {p}: normalise them first")
    if not np.all(np.abs(r) <= np.finfo(np.float32).max):
        raise ValueError(f"rewards must be finite, in float32, got {r}: scale them down")

    r = r.astype(np.float32)  # as the scores have them, so that ties are the same to all selections
    # Whole numbers of words per outcome; what rounds to none of the 2³² words cannot be drawn.
    order = np.argsort(r, kind="stable")
    edges = np.rint(np.cumsum(p[order]) / p.sum() * _WORDS)
    order = order[np.diff(edges, prepend=0) > 0]
    edges = np.unique(edges[edges > 0])
    level_edges = edges[np.flatnonzero(np.diff(r[order]) > 0)]
    return DiscreteReference(
        thresholds=jnp.asarray(edges[:-1].astype(np.uint32)),
        rewards=jnp.asarray(r[order]),
        level_thresholds=jnp.asarray(level_edges.astype(np.uint32)),
        outcomes=jnp.asarray(order.astype(np.int32)),
        num_outcomes=p.size,
    )


@pytree(
    data_fields=[],
    meta_fields=["quantile", "max_reward", "num_outcomes"],
)
@dataclass(frozen=True)
class ContinuousReference:
    """A tie-free reward given by its quantile function; outcomes are equal-probability rank bins.

    Attributes:
        quantile: ``(rank, survival) -> reward`` in float32, increasing in ``rank``;
            ``survival`` is 1 − rank to full relative accuracy.
        max_reward: essential supremum of the reward, ``inf`` where there is none.
        num_outcomes: number of bins of the reward's rank U; a power of two.
    """

    quantile: Callable[[Array, Array], Array]
    max_reward: float
    num_outcomes: int = 32

    def __post_init__(self) -> None:
        """Check that the bins are a power of two."""
        size = integer_within(
            "num_outcomes", self.num_outcomes, at_least=2, at_most=_MOST_BINS, remedy=_BINS
        )
        if size & (size - 1):
            raise ValueError(f"num_outcomes must be a power of two, got {size}: {_BINS}")

    def description(self) -> dict[str, object]:
        """What tells checkpoints apart: the quantile function by its values, whatever its name.

        Sixteen values to four digits, the lowest and the highest included: what differs by less is
        taken for the same, as it is on another machine.
        """
        words = np.linspace(0, _WORDS - 1, 16).astype(np.uint32)
        values = np.asarray(self.reward(jnp.asarray(words)), np.float64)
        return {
            "quantile": [f"{value:.3e}" for value in values],
            "max_reward": self.max_reward,
            "num_outcomes": self.num_outcomes,
        }

    @property
    def reads_tables(self) -> bool:
        """Whether a reward is looked up in memory: no."""
        return False

    def reward(self, words: Array) -> Array:
        """The candidates' rewards, float32."""
        return self.quantile(unit_interval(words), unit_interval(~words))

    def outcome(self, words: Array) -> Array:
        """Bin ⌊U·num_outcomes⌋, int32."""
        bits = self.num_outcomes.bit_length() - 1
        return (words >> jnp.uint32(32 - bits)).astype(jnp.int32)

    def spread_ties(self, words: Array, lots: Array) -> Array:
        """The words themselves: there are no ties."""
        del lots
        return words

    def unordered(self) -> ContinuousReference:
        """Itself: there is nothing to look up."""
        return self

    def reward_and_rank(self, words: Array) -> Array:
        """Rewards and ranks U = F(r), the chance to beat a fresh draw, ``[2, S]`` float32."""
        return jnp.stack([self.reward(words), unit_interval(words)])

    num_observables = 2

    def observables(self, words: Array) -> Array:
        """What is to be averaged beyond the counts, ``[V, S]``: reward and rank."""
        return self.reward_and_rank(words)

    def summarise(
        self, counts: NDArray[np.int64], averages: tuple[Estimate, ...]
    ) -> tuple[Estimate, Estimate]:
        """Mean reward and mean rank of the winners."""
        del counts
        reward, rank = averages
        return reward, rank

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards at 2²⁰ midpoints in rank, with equal weights."""
        size = 2**20
        ranks = ((np.arange(size) + 0.5) / size).astype(np.float32)
        rewards = self.quantile(jnp.asarray(ranks), jnp.asarray(ranks[::-1]))
        return np.asarray(rewards, np.float64), np.full(size, 1 / size)


def uniform_reward(num_bins: int = 32) -> ContinuousReference:
    """Reward U ~ Uniform(0, 1): the calibrated reward."""
    return ContinuousReference(_uniform_quantile, 1.0, num_bins)


def gaussian_reward(num_bins: int = 32) -> ContinuousReference:
    """Standard Gaussian reward."""
    return ContinuousReference(gaussian_quantile, np.inf, num_bins)


def exponential_reward(num_bins: int = 32) -> ContinuousReference:
    """Exp(1) reward."""
    return ContinuousReference(exponential_quantile, np.inf, num_bins)


def _uniform_quantile(rank: Array, survival: Array) -> Array:
    del survival
    return rank


def _interval(thresholds: Array, words: Array) -> Array:
    """Number of thresholds at or below each word, uint32."""
    if thresholds.size > _COMPARE_ALL:
        return jnp.searchsorted(thresholds, words, side="right").astype(jnp.uint32)
    index = jnp.zeros(words.shape, jnp.uint32)
    for k in range(thresholds.size):
        index = index + (words >= thresholds[k]).astype(jnp.uint32)
    return index


def _lookup(thresholds: Array, table: Array, words: Array) -> Array:
    """``table[_interval(thresholds, words)]``, as a chain of selects where the table is short."""
    if thresholds.size > _COMPARE_ALL:
        return table[_interval(thresholds, words)]
    value = jnp.broadcast_to(table[0], words.shape)
    for k in range(thresholds.size):
        value = jnp.where(words >= thresholds[k], table[k + 1], value)
    return value
