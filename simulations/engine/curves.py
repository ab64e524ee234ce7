"""Whole curves from one stream of candidates: all n at once, and selections compared in pairs.

The running winner after n candidates is the winner among n, so one pass gives the curve in n.
Neighbouring n share their candidates, and so do samplers that are given the same key: errors of a
curve move together, and differences are known far better than from separate runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from simulations.engine.accumulate import Schedule, accumulate, moments, shape_in_tiles
from simulations.engine.simulate import Simulation
from simulations.selection.every_n import EveryN
from simulations.selection.races import Race, Sampler
from simulations.statistics.estimate import Estimate
from simulations.tools.pytree import pytree


def all_n(
    key: Array,
    sampler: Race,
    *,
    num_trials: int,
    schedule: Schedule | None = None,
) -> tuple[Simulation, ...]:
    """The simulations of n = 1, …, N candidates in one pass: item n − 1 is that of n.

    Each is what ``simulate`` would give for its n with the same key, counts bit for bit; all of
    them together cost two to three times the last alone, see :mod:`simulations.selection.every_n`.

    Args:
        key: typed threefry key; consumed.
        sampler: ``best_of_n``, ``soft_best_of_n``, … with the largest number of candidates, N,
            which must be fixed. There are N·K counters, whatever the number of trials.
        num_trials: S.
        schedule: chunks, devices, checkpoint, progress.

    Raises:
        ValueError: for a random number of candidates, besides what ``accumulate`` raises.

    Example:
        >>> import jax
        >>> from simulations.draws.references import uniform_reward
        >>> from simulations.selection.samplers import best_of_n
        >>> curve = all_n(jax.random.key(0), best_of_n(uniform_reward(), 4), num_trials=10_000)
        >>> [round(each.reward.mean, 2) for each in curve]  # n/(n + 1)
        [0.5, 0.66, 0.75, 0.8]
    """
    if not isinstance(sampler, Race) or sampler.count.thresholds.size:
        raise ValueError(
            f"sampler must be a race among a fixed number of candidates, got {sampler}: "
            "for others simulate one parameter after another, with one key"
        )
    largest, reference = int(sampler.count.minimum), sampler.reference
    totals = accumulate(key, EveryN.of(sampler), num_trials=num_trials, schedule=schedule)
    counts, averages = totals.counts.reshape(largest, -1), totals.averages
    size = len(averages) // largest
    return tuple(
        Simulation(each, *reference.summarise(each, averages[k * size : (k + 1) * size]))
        for k, each in enumerate(counts)
    )


@dataclass(frozen=True)
class Comparison:
    """Selections on common candidates.

    Attributes:
        rewards: mean reward under each of M selections.
        differences: of each but the first, minus the first's, trial by trial.
        variance_ratios: variance of the same difference between independent runs over that;
            ``nan`` for a single trial, which has none.
    """

    rewards: tuple[Estimate, ...]
    differences: tuple[Estimate, ...]
    variance_ratios: tuple[float, ...]


def compare(
    key: Array,
    samplers: tuple[Sampler, ...],
    *,
    num_trials: int,
    schedule: Schedule | None = None,
) -> Comparison:
    """Mean rewards of several selections from the same candidates and noise, and differences.

    Across λ, n and races of noisy scores the candidates are common as they are; for best-of-n take
    ``best_of_n(..., shared=True)``.

    Args:
        key: typed threefry key; consumed.
        samplers: M ≥ 2 of :mod:`simulations.selection.samplers`; differences are from the first.
        num_trials: S.
        schedule: chunks, devices, checkpoint, progress.

    Raises:
        ValueError: for fewer than two samplers, besides what ``accumulate`` raises.

    Example:
        >>> import jax
        >>> from simulations.draws.references import uniform_reward
        >>> from simulations.selection.samplers import soft_best_of_n
        >>> pair = tuple(soft_best_of_n(uniform_reward(), 8, t) for t in (0.2, 0.204))
        >>> compare(jax.random.key(0), pair, num_trials=10_000).variance_ratios[0] > 20
        True
    """
    if len(samplers) < 2:
        raise ValueError(f"samplers must be at least two to compare, got {len(samplers)}")
    totals = accumulate(key, _Pairs(tuple(samplers)), num_trials=num_trials, schedule=schedule)
    rewards, differences = totals.averages[: len(samplers)], totals.averages[len(samplers) :]
    ratios = (
        float("inf")
        if difference.variance == 0
        else (rewards[0].variance + other.variance) / difference.variance
        for other, difference in zip(rewards[1:], differences, strict=True)
    )
    return Comparison(rewards, differences, tuple(ratios))


@pytree(data_fields=["samplers"], meta_fields=[])
@dataclass(frozen=True)
class _Pairs:
    """The tally of each sampler's reward, and of its distance from the first's."""

    samplers: tuple[Sampler, ...]
    num_counts = 0

    @property
    def typical_draws(self) -> int:
        return sum(sampler.typical_draws for sampler in self.samplers)

    @property
    def numbers_per_trial(self) -> int:
        return max(sampler.numbers_per_trial for sampler in self.samplers)

    def moments_shape(self, num_trials: int) -> tuple[int, int, int]:
        return shape_in_tiles(2 * len(self.samplers) - 1, num_trials)

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        first, *others = (s.reference.reward(s(key, trials)) for s in self.samplers)
        values = jnp.stack([first, *others, *(other - first for other in others)])
        return jnp.zeros(0, jnp.int32), moments(values, valid)
