"""The laws candidates are drawn from: a random 32-bit word becomes an outcome and its reward.

A word w stands for the uniform U = (w + ½)·2⁻³², and the candidate is the quantile function at U,
outcomes ordered by reward. A winner is therefore remembered by its word alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from simulations.random_bits import unit_interval

_WORDS = 2**32
_COMPARE_ALL = 32  # up to here K comparisons fuse into the draw and beat a binary search


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["thresholds", "rewards", "level_thresholds", "level_cdf", "outcomes"],
    meta_fields=["num_outcomes"],
)
@dataclass(frozen=True)
class DiscreteReference:
    """K outcomes with rewards, ties allowed; made by :func:`discrete_reference`.

    Attributes:
        thresholds: ``[M - 1]`` uint32, first word of each drawable outcome but the first.
        rewards: ``[M]`` float32, ascending.
        level_thresholds: ``[L - 1]`` uint32, first word of each reward level but the lowest.
        level_cdf: ``[L + 1]`` float32, probability of a reward below each level, then 1.
        outcomes: ``[M]`` int32, position of each drawable outcome in the caller's arrays.
        num_outcomes: K.
    """

    thresholds: Array
    rewards: Array
    level_thresholds: Array
    level_cdf: Array
    outcomes: Array
    num_outcomes: int

    def level(self, words: Array) -> Array:
        """Rank of the reward among the distinct rewards, uint32: equal for tied outcomes."""
        return _interval(self.level_thresholds, words)

    def reward(self, words: Array) -> Array:
        """The candidates' rewards, float32."""
        return _lookup(self.thresholds, self.rewards, words)

    def randomised_rank(self, words: Array, noise: Array) -> Array:
        """F⁻ + V·(F − F⁻) at the reward, V uniform: Uniform(0, 1) whatever the ties."""
        below = _lookup(self.level_thresholds, self.level_cdf[:-1], words)
        upto = _lookup(self.level_thresholds, self.level_cdf[1:], words)
        # The sum may round to more than the upper end.
        return jnp.minimum(below + unit_interval(noise) * (upto - below), upto)

    def middle_rank(self, words: Array) -> Array:
        """(F⁻ + F)/2 at the reward: chance to beat a fresh draw, ties counting half."""
        middles = (self.level_cdf[:-1] + self.level_cdf[1:]) / 2
        return _lookup(self.level_thresholds, middles, words)

    def outcome(self, words: Array) -> Array:
        """Position of each outcome in the caller's arrays, int32."""
        return self.outcomes[_interval(self.thresholds, words)]

    @property
    def max_reward(self) -> Array:
        """Largest reward that can be drawn, float32."""
        return self.rewards[-1]

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and their probabilities."""
        starts = np.asarray(self.thresholds, np.float64)
        return np.asarray(self.rewards, np.float64), np.diff(
            starts, prepend=0, append=_WORDS
        ) / _WORDS

    def drawn_probs(self) -> NDArray[np.float64]:
        """The probabilities really drawn, ``[K]``: the caller's, rounded to multiples of 2⁻³².

        Rounding moves n candidates by at most n·TV(drawn, asked) ≤ n·K·2⁻³³ in total variation.
        """
        probs = np.zeros(self.num_outcomes)
        probs[np.asarray(self.outcomes)] = self.reward_grid()[1]
        return probs


def discrete_reference(probs: ArrayLike, rewards: ArrayLike) -> DiscreteReference:
    """A reference over K outcomes, in any order, ties and zero probabilities allowed.

    Args:
        probs: ``[K]``, nonnegative, summing to one within 1e-6 (then normalised).
        rewards: ``[K]``, finite.

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
    if not np.all(np.isfinite(r)):
        raise ValueError(f"rewards must be finite, got {r}")

    # Whole numbers of words per outcome; what rounds to none of the 2³² words cannot be drawn.
    order = np.argsort(r, kind="stable")
    edges = np.rint(np.cumsum(p[order]) / p.sum() * _WORDS)
    order = order[np.diff(edges, prepend=0) > 0]
    edges = np.unique(edges[edges > 0])

    new_level = np.flatnonzero(np.diff(r[order]) > 0)
    level_edges = edges[new_level]
    return DiscreteReference(
        thresholds=jnp.asarray(edges[:-1].astype(np.uint32)),
        rewards=jnp.asarray(r[order].astype(np.float32)),
        level_thresholds=jnp.asarray(level_edges.astype(np.uint32)),
        level_cdf=jnp.asarray((np.array([0.0, *level_edges, _WORDS]) / _WORDS).astype(np.float32)),
        outcomes=jnp.asarray(order.astype(np.int32)),
        num_outcomes=p.size,
    )


@partial(
    jax.tree_util.register_dataclass,
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
        if self.num_outcomes < 2 or self.num_outcomes & (self.num_outcomes - 1):
            raise ValueError(f"num_outcomes must be a power of two ≥ 2, got {self.num_outcomes}")

    def level(self, words: Array) -> Array:
        """The word itself: it orders the rewards."""
        return words

    def reward(self, words: Array) -> Array:
        """The candidates' rewards, float32."""
        return self.quantile(unit_interval(words), unit_interval(~words))

    def randomised_rank(self, words: Array, noise: Array) -> Array:
        """The rank U = F(r); no ties, so ``noise`` is not needed."""
        del noise
        return unit_interval(words)

    def middle_rank(self, words: Array) -> Array:
        """The rank U = F(r): chance to beat a fresh draw."""
        return unit_interval(words)

    def outcome(self, words: Array) -> Array:
        """Bin ⌊U·num_outcomes⌋, int32."""
        bits = self.num_outcomes.bit_length() - 1
        return (words >> jnp.uint32(32 - bits)).astype(jnp.int32)

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards at 2²⁰ midpoints in rank, with equal weights."""
        size = 2**20
        ranks = ((np.arange(size) + 0.5) / size).astype(np.float32)
        rewards = np.asarray(
            self.quantile(jnp.asarray(ranks), jnp.asarray(ranks[::-1])), np.float64
        )
        return rewards, np.full(size, 1 / size)


def uniform_reward(num_bins: int = 32) -> ContinuousReference:
    """Reward U ~ Uniform(0, 1): the calibrated reward."""
    return ContinuousReference(_uniform_quantile, 1.0, num_bins)


def gaussian_reward(num_bins: int = 32) -> ContinuousReference:
    """Standard Gaussian reward."""
    return ContinuousReference(_gaussian_quantile, np.inf, num_bins)


def exponential_reward(num_bins: int = 32) -> ContinuousReference:
    """Exp(1) reward."""
    return ContinuousReference(_exponential_quantile, np.inf, num_bins)


Reference = DiscreteReference | ContinuousReference


def _uniform_quantile(rank: Array, survival: Array) -> Array:
    del survival
    return rank


def _gaussian_quantile(rank: Array, survival: Array) -> Array:
    # ndtri below the median only: there its argument has full relative accuracy.
    size = jax.scipy.special.ndtri(jnp.minimum(rank, survival))
    return jnp.where(rank < survival, size, -size)


def _exponential_quantile(rank: Array, survival: Array) -> Array:
    # −log1p(−U) where the reward is small, −log(1−U) where it is large: both accurate.
    return jnp.where(rank < survival, -jnp.log1p(-rank), -jnp.log(survival))


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
