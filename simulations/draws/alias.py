"""The alias method on whole words: one outcome per word in two look-ups, whatever K.

2ᶜ ≥ K columns hold 2³²⁻ᶜ words each and at most two outcomes: their owner, for the words below the
column's split, and its alias. A word's top c bits name the column, the others the place in it.
Outcomes have the whole numbers of words that they were given, so the law drawn is exactly theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from simulations.draws.outcomes import Counted
from simulations.statistics.estimate import Estimate
from simulations.tools.pytree import pytree

if TYPE_CHECKING:  # which makes tables of itself
    from simulations.draws.references import DiscreteReference

_BITS = 32


@pytree(
    data_fields=["splits", "rewards", "ranks", "outcomes", "source"],
    meta_fields=[],
)
@dataclass(frozen=True)
class AliasTable(Counted):
    """A discrete law whose words are in no order; made by :func:`alias_table`.

    Attributes:
        splits: ``[C]`` uint32, words of the column that are its owner's, shifted to the top bits.
        rewards: ``[2 C]`` float32, of owner and alias in turn.
        ranks: ``[2 C]`` float32, the same for (F⁻ + F)/2.
        outcomes: ``[2 C]`` int32, the same for their positions in the caller's arrays.
        source: the ordered reference.
    """

    splits: Array
    rewards: Array
    ranks: Array
    outcomes: Array
    source: DiscreteReference

    @property
    def reads_tables(self) -> bool:
        """Whether a reward is looked up in memory: yes."""
        return True

    def reward(self, words: Array) -> Array:
        """The candidates' rewards, float32."""
        return self.rewards.at[self._cell(words)].get(mode="promise_in_bounds")

    def unordered(self) -> AliasTable:
        """Itself: words are in no order."""
        return self

    def outcome(self, words: Array) -> Array:
        """Position of each outcome in the caller's arrays, int32."""
        return self.outcomes.at[self._cell(words)].get(mode="promise_in_bounds")

    def spread_ties(self, words: Array, lots: Array) -> Array:
        """The words themselves, which bear no trace of an order."""
        del lots
        return words

    def reward_and_rank(self, words: Array) -> Array:
        """Rewards and (F⁻ + F)/2 there, ``[2, S]`` float32."""
        cell = self._cell(words)
        return jnp.stack(
            [table.at[cell].get(mode="promise_in_bounds") for table in (self.rewards, self.ranks)]
        )

    def summarise(
        self, counts: NDArray[np.int64], averages: tuple[Estimate, ...]
    ) -> tuple[Estimate, Estimate]:
        """Mean reward and mean (F⁻ + F)/2 of the winners, from exact counts."""
        return self.source.summarise(counts, averages)

    @property
    def num_outcomes(self) -> int:
        """K."""
        return self.source.num_outcomes

    @property
    def max_reward(self) -> Array:
        """Largest reward that can be drawn, float32."""
        return self.source.max_reward

    def reward_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rewards and their probabilities."""
        return self.source.reward_grid()

    def _cell(self, words: Array) -> Array:
        """Twice the column, plus one for its alias; uint32."""
        bits = self.splits.size.bit_length() - 1
        column, place = words >> jnp.uint32(_BITS - bits), words << jnp.uint32(bits)
        split = self.splits.at[column].get(mode="promise_in_bounds")
        return jnp.uint32(2) * column + (place >= split).astype(jnp.uint32)


def alias_table(
    masses: NDArray[np.int64],
    rewards: ArrayLike,
    ranks: ArrayLike,
    outcomes: ArrayLike,
    source: DiscreteReference,
) -> AliasTable:
    """Distribute outcomes over columns.

    Args:
        masses: ``[M]`` words of each outcome, at least 2 outcomes; their sum is 2³².
        rewards: ``[M]``.
        ranks: ``[M]``, (F⁻ + F)/2 there.
        outcomes: ``[M]``, positions in the caller's arrays.
        source: the ordered reference.

    Source:
        Walker, An efficient method for generating discrete random variables with general
        distributions (1977); Vose, A linear algorithm for generating random numbers with a given
        distribution (1991), here in integers, so that nothing is rounded.
    """
    bits = max(1, (len(masses) - 1).bit_length())
    capacity = 2 ** (_BITS - bits)
    rest = [int(mass) for mass in masses] + [0] * (2**bits - len(masses))
    splits, aliases = [capacity] * len(rest), list(range(len(rest)))
    small = [k for k, mass in enumerate(rest) if mass < capacity]
    large = [k for k, mass in enumerate(rest) if mass > capacity]
    while small:  # every deficit has a surplus, since both add up to 2³² words
        k, donor = small.pop(), large[-1]
        splits[k], aliases[k] = rest[k], donor
        rest[donor] -= capacity - rest[k]
        if rest[donor] <= capacity:
            large.pop()
            if rest[donor] < capacity:
                small.append(donor)
    # A full column is its owner's whichever side of the split, so the split may wrap to 0.
    owners = np.stack([np.arange(len(rest)), np.array(aliases)], axis=1).ravel() % len(masses)
    return AliasTable(
        splits=jnp.asarray((np.array(splits, np.uint64) << np.uint64(bits)).astype(np.uint32)),
        rewards=jnp.asarray(np.asarray(rewards, np.float32)[owners]),
        ranks=jnp.asarray(np.asarray(ranks, np.float32)[owners]),
        outcomes=jnp.asarray(np.asarray(outcomes, np.int32)[owners]),
        source=source,
    )
