"""Simulate a selection: how often each outcome is picked, and the mean reward and win rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from simulations.engine.accumulate import Schedule, accumulate, counted, moments, shape_in_tiles
from simulations.selection.races import Sampler
from simulations.statistics.estimate import Estimate
from simulations.tools.pytree import pytree


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


@pytree(data_fields=["sampler"], meta_fields=[])
@dataclass(frozen=True)
class Picks:
    """The tally of picked outcomes, and of what their reference wants averaged."""

    sampler: Sampler

    @property
    def num_counts(self) -> int:
        """K."""
        return self.sampler.reference.num_outcomes

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return self.sampler.typical_draws

    @property
    def numbers_per_trial(self) -> int:
        """As many as the sampler keeps."""
        return self.sampler.numbers_per_trial

    def moments_shape(self, num_trials: int) -> tuple[int, int, int]:
        """See :class:`simulations.engine.accumulate.Tally`."""
        return shape_in_tiles(self.sampler.reference.num_observables, num_trials)

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        """See :class:`simulations.engine.accumulate.Tally`."""
        winners = self.sampler(key, trials)
        reference = self.sampler.reference
        counts = counted(reference.outcome(winners), valid, self.num_counts)
        return counts, moments(reference.observables(winners), valid)


def simulate(
    key: Array,
    sampler: Sampler,
    *,
    num_trials: int,
    schedule: Schedule | None = None,
) -> Simulation:
    """Run the real process ``num_trials`` times.

    The counts are the same on every ``schedule``, the two means of a continuous reward up to
    float32 rounding, and the first S trials of a longer run are the shorter run. Memory is
    proportional to its ``chunk_size``, whatever the number of candidates. With several
    processes (``jax.distributed``), all of them make the same call and get the same result.

    Samplers that are given the same key draw the same candidates (see
    :mod:`simulations.engine.curves`).

    Args:
        key: typed threefry key; consumed.
        sampler: from :mod:`simulations.selection.samplers`.
        num_trials: S, in [1, 2³²).
        schedule: chunks, devices, checkpoint, progress, see
            :class:`simulations.engine.accumulate.Schedule`.

    Raises:
        ValueError: for a key of another kind, numbers outside these ranges, or a checkpoint that is
            damaged, of another sampler or key, or of more trials.
        OSError: when a checkpoint cannot be written; the previous one is intact.

    Example:
        >>> import jax
        >>> from simulations.draws.references import discrete_reference
        >>> from simulations.selection.samplers import best_of_n
        >>> coin = discrete_reference([0.5, 0.5], [0.0, 1.0])
        >>> simulate(jax.random.key(0), best_of_n(coin, n=20), num_trials=1000).counts
        array([   0, 1000])
    """
    totals = accumulate(key, Picks(sampler), num_trials=num_trials, schedule=schedule)
    summary = sampler.reference.summarise(totals.counts, totals.averages)
    return Simulation(totals.counts, *summary)
