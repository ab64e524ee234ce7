"""Average what a selection would do with its candidates, instead of what it did once.

Given the candidates, soft best-of-n picks outcome k with probability c_k w_k / Σ_j c_j w_j, where
c_k of the n candidates are k and w_k = e^{r_k/λ}; best-of-n with ties picks k in the highest level
present with probability c_k / Σ c_j over that level. The mean of these over trials estimates the
same law as the share of picks, with smaller variance (Rao, 1945; Blackwell, 1947).

Given only the other n − 1 candidates, with total weight W, soft best-of-n picks the first candidate
as outcome k with probability π_k w_k / (w_k + W), and by symmetry the pick is k with n times that
mean. One sum per trial then serves all outcomes. The values are not probabilities and a smaller
variance is no theorem; it is smaller by orders of magnitude where no single candidate dominates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from simulations.draws.references import DiscreteReference, Reference
from simulations.engine.accumulate import Schedule, accumulate, moments, shape_in_tiles
from simulations.selection.races import draw_words, materialised
from simulations.selection.samplers import best_of_n, soft_best_of_n
from simulations.statistics.estimate import Estimate
from simulations.tools.pytree import pytree

_LARGEST_LAW = 256  # counting candidates costs K comparisons per draw
_BLOCK = 16
_LARGEST_LOG_WEIGHT = 80.0  # e⁻⁸⁰ still is a normal float32


@dataclass(frozen=True)
class ConditionalLaw:
    """The law of the pick, by averaged conditional probabilities.

    Attributes:
        law: ``[K]``, one estimate per outcome.
        reward: mean reward of the pick.
        variance_ratios: ``[K]``, variance p(1 − p) of a single pick over that of its conditional
            probability: how many times fewer trials are needed; ``inf`` where it never varied,
            ``nan`` for a single trial.
    """

    law: tuple[Estimate, ...]
    reward: Estimate
    variance_ratios: NDArray[np.float64]

    @property
    def probs(self) -> NDArray[np.float64]:
        """Means of :attr:`law`."""
        return np.array([each.mean for each in self.law])


def conditional_law(
    key: Array,
    reference: DiscreteReference,
    n: int,
    temperature: float,
    *,
    num_trials: int,
    given: Literal["candidates", "others"] = "candidates",
    schedule: Schedule | None = None,
) -> ConditionalLaw:
    """Law of soft best-of-n, or of best-of-n at temperature 0, from conditional probabilities.

    Args:
        key: typed threefry key; consumed. The candidates are those of ``soft_best_of_n``.
        reference: K ≤ 256 outcomes, ties allowed.
        n: number of candidates.
        temperature: λ ≥ 0.
        num_trials: S.
        given: all candidates, or all but one (soft selection only).
        schedule: chunks, devices, checkpoint, progress.

    Raises:
        ValueError: for a continuous reference, more than 256 outcomes, inadmissible n or λ, and as
            ``accumulate`` does.

    Example:
        >>> import jax
        >>> from simulations.draws.references import discrete_reference
        >>> coin = discrete_reference([0.5, 0.5], [0.0, 1.0])
        >>> result = conditional_law(jax.random.key(0), coin, 8, 1.0, num_trials=10_000)
        >>> round(result.law[1].mean, 2), bool(result.variance_ratios[1] > 8)
        (0.71, True)
    """
    if not isinstance(reference, DiscreteReference):
        raise ValueError(
            f"reference must be discrete, got {type(reference).__name__}: conditional "
            "probabilities are of outcomes"
        )
    if reference.num_outcomes > _LARGEST_LAW:
        raise ValueError(
            f"reference must have at most {_LARGEST_LAW} outcomes, got {reference.num_outcomes}: "
            "use soft_best_of_n, whose cost per draw does not grow with them"
        )
    if given not in ("candidates", "others"):
        raise ValueError(f"given must be 'candidates' or 'others', got {given!r}")
    if given == "others" and temperature == 0:
        raise ValueError("given must be 'candidates' at temperature 0, got 'others': ties need all")
    make_tally = _candidates_tally if given == "candidates" else _others_tally
    tally = make_tally(reference, n, temperature)
    totals = accumulate(key, tally, num_trials=num_trials, schedule=schedule)
    reward, *law = totals.averages
    return ConditionalLaw(tuple(law), reward, np.array([_variance_ratio(each) for each in law]))


def _candidates_tally(reference: DiscreteReference, n: int, temperature: float) -> _Conditional:
    """The tally given all candidates, of soft selection or, at temperature 0, of the best."""
    scores, rewards = _by_outcome(reference, 1 / temperature if temperature else 1.0)
    if temperature == 0:
        race, candidates = best_of_n(reference, n), reference.unordered()
    else:
        race = soft_best_of_n(reference, n, temperature)
        candidates = race.reference
    return _Conditional(candidates, race.count.minimum, scores, rewards, temperature == 0)


def _others_tally(reference: DiscreteReference, n: int, temperature: float) -> _Others:
    """The tally given all candidates but one, whose weights must fit float32."""
    race = soft_best_of_n(reference, n, temperature)
    span = float(reference.rewards[-1] - reference.rewards[0])
    smallest = span / _LARGEST_LOG_WEIGHT
    if temperature < smallest:
        raise ValueError(
            f"temperature must be at least {smallest:.3g} for weights that fit float32, got "
            f"{temperature}: use given='candidates'"
        )
    probs = jnp.asarray(reference.drawn_probs(), jnp.float32)
    scores, rewards = _by_outcome(reference, 1 / temperature)
    inverse = jnp.float32(1 / temperature)
    return _Others(race.reference, race.count.minimum, scores, rewards, probs, inverse)


def _by_outcome(reference: DiscreteReference, scale: float) -> tuple[Array, Array]:
    """Scaled rewards, −∞ for what cannot be drawn, and rewards, ``[K]`` in the caller's order."""
    nothing = jnp.zeros(reference.num_outcomes, jnp.float32)
    rewards = nothing.at[reference.outcomes].set(reference.rewards)
    scores = (nothing - jnp.inf).at[reference.outcomes].set(reference.rewards * jnp.float32(scale))
    return scores, rewards


def _variance_ratio(conditional: Estimate) -> float:
    single = conditional.mean * (1 - conditional.mean)
    return float("inf") if conditional.variance == 0 else single / conditional.variance


@pytree(
    data_fields=["reference", "n", "scores", "rewards"],
    meta_fields=["hard"],
)
@dataclass(frozen=True)
class _Conditional:
    """The tally of E[reward | candidates] and of every Pr(k | candidates).

    Attributes:
        reference: what candidates are drawn from.
        n: int32.
        scores: ``[K]``, log w_k, or rewards for hard selection; −inf for what cannot be drawn.
        rewards: ``[K]``.
        hard: whether only the highest score present counts.
    """

    reference: Reference
    n: Array
    scores: Array
    rewards: Array
    hard: bool
    num_counts = 0

    @property
    def typical_draws(self) -> int:
        return int(self.n) * self.scores.size  # as long as that many draws alone

    @property
    def numbers_per_trial(self) -> int:
        return 4 * self.scores.size + _BLOCK

    def moments_shape(self, num_trials: int) -> tuple[int, int, int]:
        return shape_in_tiles(1 + self.scores.size, num_trials)

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        counts = self._candidate_counts(key, trials)
        # Weights relative to the highest score present cannot all vanish.
        highest = jnp.full(trials.shape, -jnp.inf, jnp.float32)
        for count, score in zip(counts, self.scores, strict=True):
            highest = jnp.maximum(highest, jnp.where(count > 0, score, -jnp.inf))
        highest = materialised(lambda: highest, trials[0])

        def share(count: Array, score: Array) -> Array:
            gap = score - highest[None]
            weight = (gap == 0).astype(jnp.float32) if self.hard else jnp.exp(gap)
            return jnp.where(count > 0, count * weight, jnp.float32(0))

        shares = materialised(lambda: share(counts, self.scores[:, None]), trials[0])
        total = materialised(lambda: _sum_rows(shares), trials[0])
        law = materialised(lambda: shares / total[None], trials[0])
        reward = materialised(lambda: _sum_rows(law * self.rewards[:, None]), trials[0])
        return jnp.zeros(0, jnp.int32), jnp.concatenate(
            [moments(reward[None], valid), moments(law, valid)], axis=1
        )

    def _candidate_counts(self, key: Array, trials: Array) -> Array:
        """How many of a trial's candidates are each outcome, ``[K, S]`` float32."""
        outcomes = jnp.arange(self.scores.size, dtype=jnp.int32)[:, None]
        n = self.n.astype(jnp.uint32)

        def step(block: Array, counts: Array) -> Array:
            draws = block * jnp.uint32(_BLOCK) + jnp.arange(_BLOCK, dtype=jnp.uint32)[:, None]

            def drawn() -> Array:
                words = draw_words(key, trials, draws)[0]
                return jnp.where(draws < n, self.reference.outcome(words), -1)

            for row in materialised(drawn, block):
                counts = counts + (row[None] == outcomes).astype(jnp.float32)
            return counts

        start = jnp.zeros((self.scores.size, trials.size), jnp.float32)
        steps = (n + jnp.uint32(_BLOCK - 1)) // jnp.uint32(_BLOCK)
        return lax.fori_loop(jnp.uint32(0), steps, step, start)


@pytree(
    data_fields=["reference", "n", "scores", "rewards", "probs", "inverse_temperature"],
    meta_fields=[],
)
@dataclass(frozen=True)
class _Others:
    """The tally of E[reward | others] and of n·π_k w_k/(w_k + W) for every k.

    Attributes:
        reference: what candidates are drawn from.
        n: int32.
        scores: ``[K]``, log w_k; −inf for what cannot be drawn.
        rewards: ``[K]``.
        probs: ``[K]``, π.
        inverse_temperature: 1/λ.
    """

    reference: Reference
    n: Array
    scores: Array
    rewards: Array
    probs: Array
    inverse_temperature: Array
    num_counts = 0

    @property
    def typical_draws(self) -> int:
        return int(self.n) + self.scores.size

    @property
    def numbers_per_trial(self) -> int:
        return self.scores.size + 2 * _BLOCK

    def moments_shape(self, num_trials: int) -> tuple[int, int, int]:
        return shape_in_tiles(1 + self.scores.size, num_trials)

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        n, highest = self.n.astype(jnp.uint32), jnp.max(self.scores)

        def step(block: Array, total: Array) -> Array:
            draws = block * jnp.uint32(_BLOCK) + jnp.arange(1, _BLOCK + 1, dtype=jnp.uint32)

            def weights() -> Array:
                rewards = self.reference.reward(draw_words(key, trials, draws[:, None])[0])
                drawn = jnp.exp(rewards * self.inverse_temperature - highest)
                return jnp.where((draws < n)[:, None], drawn, jnp.float32(0))

            return total + _sum_rows(materialised(weights, block))

        steps = (n + jnp.uint32(_BLOCK - 2)) // jnp.uint32(_BLOCK)
        start = jnp.zeros(trials.shape, jnp.float32)
        total = lax.fori_loop(jnp.uint32(0), steps, step, start)[None]
        own = jnp.exp(self.scores - highest)[:, None]
        share = self.n.astype(jnp.float32) * self.probs[:, None] * own
        # Both are 0 for n = 1 and an outcome that cannot be drawn: its share is its π, 0.
        law = materialised(
            lambda: jnp.where(own + total > 0, share / (own + total), self.probs[:, None]),
            trials[0],
        )
        reward = materialised(lambda: _sum_rows(law * self.rewards[:, None]), trials[0])
        return jnp.zeros(0, jnp.int32), jnp.concatenate(
            [moments(reward[None], valid), moments(law, valid)], axis=1
        )


def _sum_rows(rows: Array) -> Array:
    """Row by row, which XLA keeps in registers; its reductions over a leading axis are slow."""
    return reduce(jnp.add, list(rows))
