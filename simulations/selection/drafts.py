"""Drafts of a proposal, kept if good enough, else draws of the reference: the two stages as run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from simulations.draws.outcomes import Counted
from simulations.draws.references import DiscreteReference, discrete_reference
from simulations.draws.words import derived_key
from simulations.selection.races import ScoredRace
from simulations.selection.samplers import soft_best_of_n
from simulations.statistics.estimate import Estimate
from simulations.tools.arguments import positive_float
from simulations.tools.pytree import pytree

_LEAST = -1e30  # the score of what is impossible under the reference


@pytree(data_fields=["law"], meta_fields=[])
@dataclass(frozen=True)
class Positions(Counted):
    """Outcomes by their positions in the caller's arrays, which drafts and draws have in common.

    Attributes:
        law: the reference.
    """

    law: DiscreteReference

    @property
    def num_outcomes(self) -> int:
        """K."""
        return self.law.num_outcomes

    def outcome(self, positions: Array) -> Array:
        """The positions as int32."""
        return positions.astype(jnp.int32)

    def reward(self, positions: Array) -> Array:
        """Rewards of the reference's outcomes, float32; 0 elsewhere."""
        table = jnp.zeros(self.num_outcomes, jnp.float32)
        return table.at[self.law.outcomes].set(self.law.rewards)[positions]

    def summarise(
        self, counts: NDArray[np.int64], averages: tuple[Estimate, ...]
    ) -> tuple[Estimate, Estimate]:
        """Mean reward and mean chance to beat a draw of the reference, of what that can draw."""
        return self.law.summarise(counts, averages)


@pytree(data_fields=["reference", "drafts", "draws", "threshold"], meta_fields=[])
@dataclass(frozen=True)
class DraftSampler:
    """Soft best-of-n of drafts by the corrected reward, and of draws where none is good enough.

    Attributes:
        reference: what is counted.
        drafts: the race of the first stage; its rewards are corrected ones.
        draws: the race of the second.
        threshold: u, float32.
    """

    reference: Positions
    drafts: ScoredRace
    draws: ScoredRace
    threshold: Array

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        return self.drafts.typical_draws + self.draws.typical_draws

    @property
    def numbers_per_trial(self) -> int:
        """As many as the race of either stage keeps."""
        return max(self.drafts.numbers_per_trial, self.draws.numbers_per_trial)

    def __call__(self, key: Array, trials: Array) -> Array:
        """Positions of what is kept, uint32, one per trial index."""
        draft = self.drafts(key, trials)
        good = self.drafts.reference.reward(draft) >= self.threshold
        draw = self.draws(derived_key(key), trials)
        kept = jnp.where(
            good, self.drafts.reference.outcome(draft), self.draws.reference.outcome(draw)
        )
        return kept.astype(jnp.uint32)


def guided_draft(
    reference: ArrayLike,
    rewards: ArrayLike,
    n: int,
    temperature: float,
    threshold: float = -math.inf,
    *,
    proposal: ArrayLike,
) -> DraftSampler:
    """Draft n outcomes, keep one by r + λ log π/q if that is at least u, else one of n draws.

    Args:
        reference: π, ``[K]``.
        rewards: ``[K]``.
        n: number of drafts, and of draws where none is good enough.
        temperature: λ.
        threshold: u; ``-inf`` keeps every draft.
        proposal: q, ``[K]``.

    Raises:
        ValueError: for shapes that differ, and what is no law or no number.

    Example:
        >>> import jax
        >>> from simulations.engine.simulate import simulate
        >>> sampler = guided_draft([0.5, 0.5], [0.0, 1.0], 20, 0.1, proposal=[0.9, 0.1])
        >>> int(simulate(jax.random.key(0), sampler, num_trials=1000).counts[1]) > 800
        True
    """
    p, q, r = (np.asarray(x, np.float64) for x in (reference, proposal, rewards))
    lam = positive_float("temperature", temperature)
    if p.ndim != 1 or not p.shape == q.shape == r.shape:
        raise ValueError(
            "reference, rewards and proposal must all be [K], got "
            f"{p.shape}, {r.shape} and {q.shape}"
        )
    if math.isnan(threshold):
        raise ValueError("threshold is nan: choose the score from which on a draft is kept")
    both = (p > 0) & (q > 0)
    ratio = np.log(np.where(both, p, 1) / np.where(both, q, 1))
    scores = np.where(both, r + lam * ratio, _LEAST)
    law = discrete_reference(p, r)
    return DraftSampler(
        Positions(law),
        soft_best_of_n(discrete_reference(q, scores), n, lam),
        soft_best_of_n(law, n, lam),
        jnp.float32(threshold),
    )


def soft_best_of_drafts(
    reference: ArrayLike, rewards: ArrayLike, n: int, temperature: float, *, proposal: ArrayLike
) -> DraftSampler:
    """Draft n outcomes and keep one by r + λ log π/q: :func:`guided_draft` that keeps every draft.

    Example:
        >>> import jax
        >>> from simulations.engine.simulate import simulate
        >>> sampler = soft_best_of_drafts([0.5, 0.5], [0.0, 1.0], 20, 0.1, proposal=[0.9, 0.1])
        >>> int(simulate(jax.random.key(0), sampler, num_trials=1000).counts[1]) > 800
        True
    """
    return guided_draft(reference, rewards, n, temperature, proposal=proposal)
