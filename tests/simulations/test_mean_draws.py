"""The rule nearest to the tilt in a mean number of draws makes that many, and no more."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from simulations.draws.references import discrete_reference, gaussian_reward
from simulations.draws.words import key_words
from simulations.engine.simulate import simulate
from simulations.selection.rejection import Rejection
from simulations.selection.samplers import nearest_in_mean_draws, top_fraction
from simulations.statistics.checks import check_histogram, check_mean
from simulations.statistics.estimate import Estimate

PROBS, REWARDS = [0.3, 0.1, 0.25, 0.15, 0.2], [0.2, 1.0, 0.0, 0.7, 0.5]
REFERENCE = discrete_reference(PROBS, REWARDS)
TRIALS, FALSE_ALARM = 2**19, 1e-6


def numbers(sampler: Rejection, seed: int) -> np.ndarray:
    trials = jnp.arange(TRIALS, dtype=jnp.uint32)
    return np.asarray(jax.jit(sampler.num_draws)(key_words(jax.random.key(seed)), trials))


def geometric(mean: float) -> np.ndarray:
    """P(τ = 1), …, P(τ = 39), P(τ ≥ 40) of mean c."""
    missed = (1 - 1 / mean) ** np.arange(41)
    return np.append(-np.diff(missed[:40]), missed[39])


@pytest.mark.parametrize("mean", [1.25, 2.0, 3.0])
def test_it_draws_as_often_as_it_may(mean: float) -> None:
    """At λ = ¼ the tilt itself takes 3.5 draws; below, all c are used, and geometrically so."""
    found = numbers(nearest_in_mean_draws(REFERENCE, mean, 0.25), 1)
    counts = np.bincount(np.minimum(found, 40), minlength=41)[1:]
    assert check_histogram("c", counts, geometric(mean)).p_value > FALSE_ALARM
    estimate = Estimate.from_values(found)
    assert check_mean("c", estimate, mean).p_value > FALSE_ALARM
    # Power: 2 % more, and the mean of the rule that keeps the top 1/c.
    assert check_histogram("1.02 c", counts, geometric(1.02 * mean)).p_value < FALSE_ALARM
    assert check_mean("1.02 c", estimate, 1.02 * mean).p_value < FALSE_ALARM


def test_more_draws_than_the_tilt_takes_are_not_made() -> None:
    law = bt.Policy.from_probs(PROBS, REWARDS)
    tilt = bt.exponential_tilt(law, 0.25)
    enough = float(jnp.max(tilt.probs / law.probs))
    assert 3 < enough < 8
    sampler = nearest_in_mean_draws(REFERENCE, 8.0, 0.25)
    assert check_mean("c", Estimate.from_values(numbers(sampler, 2)), enough).p_value > FALSE_ALARM
    counts = simulate(jax.random.key(3), sampler, num_trials=TRIALS).counts
    assert check_histogram("tilt", counts, np.asarray(tilt.probs)).p_value > FALSE_ALARM


def test_one_draw_is_the_reference() -> None:
    sampler = nearest_in_mean_draws(REFERENCE, 1.0, 0.25)
    assert np.all(numbers(sampler, 4) == 1)
    counts = simulate(jax.random.key(4), sampler, num_trials=TRIALS).counts
    assert check_histogram("π", counts, PROBS).p_value > FALSE_ALARM


def test_other_rules_of_rejection_are_counted_as_well() -> None:
    found = Estimate.from_values(numbers(top_fraction(REFERENCE, 0.2), 5))
    assert check_mean("1/q", found, 5.0).p_value > FALSE_ALARM


def test_a_reward_without_end_is_capped() -> None:
    found = Estimate.from_values(numbers(nearest_in_mean_draws(gaussian_reward(), 2.5, 0.5), 6))
    assert check_mean("c", found, 2.5).p_value > FALSE_ALARM


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((0.5, 1.0), "mean_draws must be at least 1"),
        ((float("nan"), 1.0), "mean_draws must be at least 1"),
        ((2.0, 0.0), "temperature must be"),
        ((1e6, 0.01), "accepts a fraction"),
    ],
)
def test_bad_input_is_refused(parameters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_in_mean_draws(gaussian_reward(), *parameters)
