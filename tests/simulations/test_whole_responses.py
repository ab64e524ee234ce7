"""Candidates that whole responses need: by enumeration, and exponentially many."""

import itertools

import numpy as np
import pytest

from simulations.experiments.whole_responses import candidates_needed

# Two prompts, four responses of three tokens.
REWARDS = np.array(
    [
        [[0, 0, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]],
        [[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]],
    ],
    float,
)
GAIN = 0.2


def best_of(n: float, levels: np.ndarray, masses: np.ndarray) -> float:
    """Expected best of n, by the distribution function."""
    order = np.argsort(levels)
    cdf = np.concatenate([[0.0], np.cumsum(masses[order])])
    return float(np.sum(levels[order] * np.diff(np.minimum(cdf, 1.0) ** n)))


def test_the_candidates_earn_the_gain() -> None:
    needed = candidates_needed(REWARDS, (1, 3), gain=GAIN)
    totals = REWARDS.sum(axis=-1)
    by_prompt = [best_of(needed.model[1], row, np.full(4, 0.25)) for row in totals]
    assert np.mean(by_prompt) == pytest.approx(totals.mean() + 3 * GAIN, rel=1e-9)

    share = REWARDS.mean()
    words = np.array(list(itertools.product((0, 1), repeat=3)))
    masses = np.prod(np.where(words == 1, share, 1 - share), axis=1)
    earned = best_of(needed.independent[1], words.sum(axis=1).astype(float), masses)
    assert earned == pytest.approx(3 * (share + GAIN), rel=1e-9)
    assert np.all(needed.any_rule <= needed.independent)


def test_what_no_number_earns_is_infinite() -> None:
    needed = candidates_needed(REWARDS, (1,), gain=0.7)
    assert needed.model.tolist() == needed.independent.tolist() == [np.inf]
