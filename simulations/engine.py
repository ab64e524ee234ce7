"""Run a sampler over many trials in constant memory and keep exact counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from simulations.estimate import Estimate, combine
from simulations.random_bits import key_words
from simulations.samplers import Sampler

_MAX_TRIALS = 2**32 - 1  # a trial is one 32-bit counter word
_CHUNK = 2**16


@dataclass(frozen=True)
class Simulation:
    """What the trials gave.

    Attributes:
        counts: ``[K]`` int64, how often each outcome (or rank bin) was picked.
        reward: mean reward of the pick.
        win_rate: mean chance that the pick beats a fresh reference draw, ties counting half; for a
            continuous reward the mean rank.
    """

    counts: NDArray[np.int64]
    reward: Estimate
    win_rate: Estimate

    @property
    def num_trials(self) -> int:
        """S, the number of trials."""
        return int(self.counts.sum())

    def expected_value(self, values: ArrayLike) -> Estimate:
        """Mean of ``values[outcome]`` over the picks."""
        return Estimate.from_counts(self.counts, values)


def simulate(
    key: Array, sampler: Sampler, *, num_trials: int, chunk_size: int = _CHUNK
) -> Simulation:
    """Run the real process ``num_trials`` times.

    Trial s reads the random words (key, s, draw) and no others, so the counts are the same for
    every ``chunk_size``, the two means up to rounding, and the first S trials of a longer run are
    the shorter run. Memory is proportional to ``chunk_size``, whatever the number of candidates.

    Args:
        key: typed threefry key; consumed.
        sampler: from :mod:`simulations.samplers`.
        num_trials: S, in [1, 2³²).
        chunk_size: trials in flight at a time.

    Raises:
        ValueError: for a key of another kind, or numbers outside these ranges.

    Example:
        >>> import jax
        >>> from simulations.references import discrete_reference
        >>> from simulations.samplers import best_of_n
        >>> coin = discrete_reference([0.5, 0.5], [0.0, 1.0])
        >>> simulate(jax.random.key(0), best_of_n(coin, n=20), num_trials=1000).counts
        array([   0, 1000])
    """
    for name, value, upper in (
        ("num_trials", num_trials, _MAX_TRIALS),
        ("chunk_size", chunk_size, 2**30),
    ):
        if value != int(value) or not 1 <= value <= upper:
            raise ValueError(f"{name} must be a whole number in [1, {upper}], got {value}")
    words, size = key_words(key), min(chunk_size, num_trials)
    counts = np.zeros(sampler.reference.num_outcomes, np.int64)
    rewards, ranks = [], []
    for start in range(0, num_trials, size):
        outcomes, *moments = _run_chunk(words, sampler, jnp.uint32(start), size)
        valid = min(size, num_trials - start)
        counts += np.bincount(np.asarray(outcomes)[:valid], minlength=counts.size)
        for kept, values in zip((rewards, ranks), moments, strict=True):
            kept.append(Estimate.from_values(np.asarray(values)[:valid]))
    return Simulation(counts, combine(rewards), combine(ranks))


@partial(jax.jit, static_argnames="size")
def _run_chunk(
    words: Array, sampler: Sampler, start: Array, size: int
) -> tuple[Array, Array, Array]:
    """Outcome, reward and middle rank of the winners of ``size`` trials."""
    winners = sampler(words, start + jnp.arange(size, dtype=jnp.uint32))
    reference = sampler.reference
    return reference.outcome(winners), reference.reward(winners), reference.middle_rank(winners)
