"""Drafts one by one: every draw of n of them, and of what replaces them, in NumPy."""

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def corrected(reference: Array, proposal: Array, rewards: Array, temperature: float) -> Array:
    """r + λ log π/q; -inf where π = 0, and nothing where q = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(proposal > 0, rewards + temperature * np.log(reference / proposal), np.nan)


def kept(law: Array, scores: Array, n: int) -> Array:
    """Law of one of n draws, candidate i with probability ∝ e^{s_i}; of all -inf, any of them."""
    found = np.zeros(len(law))
    for draws in itertools.product(np.flatnonzero(law > 0).tolist(), repeat=n):
        values = scores[list(draws)]
        best = values.max()
        weights = np.ones(n) if best == -np.inf else np.exp(values - best)
        chance = np.prod(law[list(draws)])
        for draw, weight in zip(draws, weights / weights.sum(), strict=True):
            found[draw] += chance * weight
    return found


def soft_best_of_drafts(
    reference: Array, proposal: Array, rewards: Array, n: int, temperature: float
) -> Array:
    """Soft best-of-n of drafts, weighed by e^{r/λ} π/q."""
    scores = corrected(reference, proposal, rewards, temperature) / temperature
    return kept(proposal, scores, n)


def guided_draft(
    reference: Array,
    proposal: Array,
    rewards: Array,
    n: int,
    temperature: float,
    threshold: float,
) -> tuple[Array, float]:
    """What is kept in two stages, and the probability that it is a draft."""
    drafts = soft_best_of_drafts(reference, proposal, rewards, n, temperature)
    own = kept(reference, rewards / temperature, n)
    scores = corrected(reference, proposal, rewards, temperature)
    law, accepted = np.zeros(len(reference)), 0.0
    for outcome in np.flatnonzero(drafts > 0):
        if scores[outcome] >= threshold:
            law[outcome] += drafts[outcome]
            accepted += drafts[outcome]
        else:
            law += drafts[outcome] * own
    return law, accepted
