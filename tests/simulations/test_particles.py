"""The process with particles follows the exact law of a path, and other laws are rejected."""

from typing import Any

import jax
import numpy as np
import pytest

from bon_theory import sequence
from simulations.draws.chains import markov_chain
from simulations.engine.simulate import simulate
from simulations.selection.particles import particles
from simulations.statistics.checks import check_histogram, check_mean

INITIAL = [0.25, 0.5, 0.25]
ROWS = [[0.5, 0.375, 0.125], [0.25, 0.625, 0.125], [0.125, 0.0, 0.875]]
LEVELS = [0, 3, 1]
CHAIN = markov_chain(INITIAL, ROWS, LEVELS)
TEMPERATURE, LENGTH, FALSE_ALARM = 1.5, 4, 1e-6


def path_law(n: int, *, block_length: int = 1, twisted: bool = False) -> np.ndarray:
    chain = sequence.MarkovChain.from_probs(INITIAL, ROWS, np.array(LEVELS, float))
    reference = sequence.SequenceLaw.markov(chain, LENGTH, block_length=block_length)
    values = sequence.look_ahead(reference, TEMPERATURE) if twisted else None
    law = sequence.particle_law(reference, n, TEMPERATURE, look_ahead=values)
    return np.asarray(law.probs)


@pytest.mark.parametrize(("block_length", "twisted"), [(1, False), (1, True), (3, False)])
def test_the_process_follows_the_law_of_its_path_and_no_other(
    block_length: int, twisted: bool
) -> None:
    how: Any = {"block_length": block_length, "twisted": twisted}
    sampler = particles(CHAIN, LENGTH, 3, TEMPERATURE, **how, by="words")
    out = simulate(jax.random.key(1), sampler, num_trials=400_000)
    law = path_law(3, **how)
    assert check_histogram("n = 3", out.counts, law).p_value > FALSE_ALARM
    rewards = np.asarray(sampler.reference.rewards())
    assert check_mean("reward", out.reward, float(law @ rewards)).p_value > FALSE_ALARM
    # Power: another number of particles, another place to draw ancestors, another look-ahead.
    assert check_histogram("n = 4", out.counts, path_law(4, **how)).p_value < FALSE_ALARM
    for other in ({"block_length": 2}, {"twisted": not twisted}):
        wrong = path_law(3, **(how | other))
        assert check_histogram(str(other), out.counts, wrong).p_value < FALSE_ALARM


def test_words_and_rewards_are_counted_of_the_same_paths() -> None:
    words, rewards = (
        simulate(
            jax.random.key(2),
            particles(CHAIN, LENGTH, 5, TEMPERATURE, block_length=None, by=by),
            num_trials=1000,
        )
        for by in ("words", "rewards")
    )
    assert words.reward == rewards.reward


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((4, 0, 1.0), {}, "n must be"),
        ((4, 2**11, 1.0), {}, "n must be .*: all are kept in memory"),
        ((4, 3, 0.0), {}, "temperature must be"),
        ((0, 3, 1.0), {}, "length must be"),
        ((4, 3, 1.0), {"block_length": 5}, "block_length must be"),
        ((100, 3, 1.0), {"by": "words"}, "at most 1048576 .*: count by='rew"),
    ],
)
def test_bad_input_is_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        particles(CHAIN, *arguments, **options)
