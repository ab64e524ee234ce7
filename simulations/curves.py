"""Whole curves from one stream of candidates: all n at once, and selections compared in pairs.

The running winner after n candidates is the winner among n, so one pass gives the curve in n.
Neighbouring n share their candidates, and so do samplers that are given the same key: errors of a
curve move together, and differences are known far better than from separate runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from simulations.accumulate import Schedule, accumulate, moments
from simulations.estimate import Estimate
from simulations.processes import RankRace, Running, Sampler, ScoredRace, materialised


@dataclass(frozen=True)
class Curve:
    """Means over trials after 1, …, N candidates.

    Attributes:
        reward: N estimates of the expected reward.
        win_rate: N estimates of the chance to beat a fresh draw, ties counting half.
    """

    reward: tuple[Estimate, ...]
    win_rate: tuple[Estimate, ...]


def all_n(
    key: Array,
    sampler: RankRace | ScoredRace,
    *,
    num_trials: int,
    schedule: Schedule | None = None,
) -> Curve:
    """Expected reward and win rate for every number of candidates up to the sampler's n.

    Args:
        key: typed threefry key; consumed.
        sampler: ``best_of_n``, ``soft_best_of_n``, … with the largest n; its number of candidates
            must be fixed, and a race by rank one for the highest.
        num_trials: S.
        schedule: chunks, devices, checkpoint, progress.

    Raises:
        ValueError: for a random number of candidates or worst-of-n, besides what ``accumulate``
            raises.

    Example:
        >>> import jax
        >>> from simulations.references import uniform_reward
        >>> from simulations.samplers import best_of_n
        >>> curve = all_n(jax.random.key(0), best_of_n(uniform_reward(), 4), num_trials=10_000)
        >>> [round(each.mean, 2) for each in curve.reward]  # n/(n + 1)
        [0.5, 0.66, 0.75, 0.8]
    """
    if sampler.count.thresholds.size or getattr(sampler, "lowest", False):
        raise ValueError(
            f"sampler must keep the best of a fixed number of candidates, got {sampler}: "
            "for others simulate one n after another, with one key"
        )
    largest = int(sampler.count.minimum)
    totals = accumulate(key, _AllN(sampler, largest), num_trials=num_trials, schedule=schedule)
    averages = totals.averages
    return Curve(averages[:largest], averages[largest:])


@dataclass(frozen=True)
class Comparison:
    """Selections on common candidates.

    Attributes:
        rewards: mean reward under each of M selections.
        differences: of each but the first, minus the first's, trial by trial.
        variance_ratios: variance of the same difference between independent runs over that.
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
        samplers: M ≥ 2 of :mod:`simulations.samplers`; differences are from the first.
        num_trials: S ≥ 2.
        schedule: chunks, devices, checkpoint, progress.

    Raises:
        ValueError: for fewer than two samplers, besides what ``accumulate`` raises.

    Example:
        >>> import jax
        >>> from simulations.references import uniform_reward
        >>> from simulations.samplers import soft_best_of_n
        >>> pair = tuple(soft_best_of_n(uniform_reward(), 8, t) for t in (0.2, 0.204))
        >>> compare(jax.random.key(0), pair, num_trials=10_000).variance_ratios[0] > 20
        True
    """
    if len(samplers) < 2:
        raise ValueError(f"samplers must be at least two to compare, got {len(samplers)}")
    totals = accumulate(key, _Pairs(tuple(samplers)), num_trials=num_trials, schedule=schedule)
    rewards, differences = totals.averages[: len(samplers)], totals.averages[len(samplers) :]
    ratios = (
        (rewards[0].variance + other.variance) / difference.variance
        if difference.variance > 0
        else float("inf")
        for other, difference in zip(rewards[1:], differences, strict=True)
    )
    return Comparison(rewards, differences, tuple(ratios))


@partial(jax.tree_util.register_dataclass, data_fields=["sampler"], meta_fields=["largest"])
@dataclass(frozen=True)
class _AllN:
    """The tally of reward and rank of the running winner after every draw."""

    sampler: RankRace | ScoredRace
    largest: int
    num_counts = 0

    @property
    def typical_draws(self) -> int:
        return self.largest

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        number = jnp.sum(valid.astype(jnp.float32))

        def record(best: Running, pair: Array) -> Array:
            """Number, means and Σ(x − mean)², ``[3, 2]``, from sums of distances to one value."""
            read = partial(self.sampler.reference.reward_and_rank, best[1])
            values = materialised(read, pair)
            gaps = jnp.where(valid, values - values[:, :1], jnp.float32(0))
            mean = jnp.sum(gaps, axis=1) / jnp.maximum(number, 1)
            squares = jnp.sum(jnp.square(gaps), axis=1) - number * jnp.square(mean)
            size = jnp.broadcast_to(number, mean.shape)
            return jnp.stack([size, values[:, 0] + mean, jnp.maximum(squares, 0)])

        def step(pair: Array, state: tuple[Running, Array]) -> tuple[Running, Array]:
            after, later = self.sampler.two_draws(key, trials, state[0], pair)
            rows = jnp.stack([record(after, pair), record(later, pair)])
            return later, state[1].at[pair].set(rows)

        pairs = (self.largest + 1) // 2
        start = self.sampler.nothing(trials), jnp.zeros((pairs, 2, 3, 2), jnp.float32)
        rows = lax.fori_loop(jnp.uint32(0), jnp.uint32(pairs), step, start)[1]
        table = rows.reshape(2 * pairs, 3, 2)[: self.largest]  # [N, moment, quantity]
        by_quantity = table.transpose(1, 2, 0).reshape(3, 2 * self.largest, 1)
        return jnp.zeros(0, jnp.int32), by_quantity


@partial(jax.tree_util.register_dataclass, data_fields=["samplers"], meta_fields=[])
@dataclass(frozen=True)
class _Pairs:
    """The tally of each sampler's reward, and of its distance from the first's."""

    samplers: tuple[Sampler, ...]
    num_counts = 0

    @property
    def typical_draws(self) -> int:
        return sum(sampler.typical_draws for sampler in self.samplers)

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        first, *others = (s.reference.reward(s(key, trials)) for s in self.samplers)
        values = jnp.stack([first, *others, *(other - first for other in others)])
        return jnp.zeros(0, jnp.int32), moments(values, valid)
