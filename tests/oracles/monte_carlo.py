"""The real process in plain NumPy: draw n candidates, score, select one, count outcomes."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator
Rewards = NDArray[np.float64]
Rule = Callable[[Generator, Rewards], NDArray[np.intp]]


def best(rng: Generator, rewards: Rewards) -> NDArray[np.intp]:
    """Pick the candidate with the highest reward, uniformly among ties."""
    # A random order decides ties: of the tied candidates any is equally likely to come first.
    tie_break = rng.random(rewards.shape)
    tied = rewards == rewards.max(axis=1, keepdims=True)
    return np.argmax(np.where(tied, tie_break, -1.0), axis=1)


def worst(rng: Generator, rewards: Rewards) -> NDArray[np.intp]:
    """Pick the candidate with the lowest reward, uniformly among ties."""
    return best(rng, -rewards)


def soft(temperature: float) -> Rule:
    """Pick with probability proportional to e^{r/λ}, as argmax of r/λ + Gumbel noise."""
    return lambda rng, rewards: np.argmax(rewards / temperature + rng.gumbel(size=rewards.shape), 1)


def race(temperature: float) -> Rule:
    """Pick argmax of r/λ + Exp(1) noise."""
    return lambda rng, rewards: np.argmax(
        rewards / temperature + rng.exponential(size=rewards.shape), 1
    )


def count_picks(
    rng: Generator,
    probs: Sequence[float],
    rewards: Sequence[float],
    n: int,
    rule: Rule,
    *,
    num_trials: int,
    chunk: int = 100_000,
) -> NDArray[np.int64]:
    """Return how often each outcome is selected in ``num_trials`` trials of n draws each."""
    counts = np.zeros(len(probs), dtype=np.int64)
    cdf = np.cumsum(probs) / np.sum(probs)
    for start in range(0, num_trials, chunk):
        size = min(chunk, num_trials - start)
        draws = np.searchsorted(cdf, rng.random((size, n)), side="right")
        draws = np.minimum(draws, len(probs) - 1)
        winners = rule(rng, np.asarray(rewards, dtype=np.float64)[draws])
        counts += np.bincount(draws[np.arange(size), winners], minlength=len(probs))
    return counts
