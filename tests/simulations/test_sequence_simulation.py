"""The process on sequences follows the exact laws, and other laws are rejected."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import sequence
from simulations.draws import chains
from simulations.draws.chains import blockwise, markov_chain
from simulations.engine.accumulate import Schedule
from simulations.engine.simulate import simulate
from simulations.selection import samplers
from simulations.statistics.checks import check_histogram, check_mean
from tests.oracles import sequences as oracle

INITIAL = [0.25, 0.5, 0.25]
ROWS = [[0.5, 0.375, 0.125], [0.25, 0.625, 0.125], [0.125, 0.0, 0.875]]
LEVELS = [0, 3, 1]
CHAIN = markov_chain(INITIAL, ROWS, LEVELS)
TRIALS = 200_000
FALSE_ALARM = 1e-6  # of each check


def words(n: int, block_length: int) -> np.ndarray:
    """The law of all 81 sequences under soft best-of-n in blocks, by enumeration."""
    return oracle.blockwise(
        np.array(INITIAL),
        np.array(ROWS),
        np.array(LEVELS, float),
        length=4,
        block_length=block_length,
        select=oracle.soft_best_of_n(n, 1.5),
    )


def test_blocks_of_a_markov_chain_follow_their_law_and_no_other():
    sampler = blockwise(CHAIN, 4, samplers.soft_best_of_n, 3, 1.5, block_length=3, by="words")
    out = simulate(jax.random.key(1), sampler, num_trials=TRIALS)
    assert out.num_trials == TRIALS
    assert check_histogram("kept", out.counts, words(3, 3)).p_value > FALSE_ALARM
    # Power: one candidate more, and blocks of another length.
    assert check_histogram("n = 4", out.counts, words(4, 3)).p_value < FALSE_ALARM
    assert check_histogram("b = 2", out.counts, words(3, 2)).p_value < FALSE_ALARM
    # The chance to beat a fresh sequence, ties counting half, against every pair of sequences.
    rewards = oracle.total_rewards(np.array(LEVELS), 4)
    fresh = oracle.markov_law(np.array(INITIAL), np.array(ROWS), 4)
    beats = (np.sign(rewards[:, None] - rewards[None, :]) + 1) / 2
    for estimate, exact in (
        (out.win_rate, words(3, 3) @ beats @ fresh),
        (out.reward, words(3, 3) @ rewards),
    ):
        assert check_mean("mean", estimate, float(exact)).p_value > FALSE_ALARM


def test_long_independent_blocks_follow_the_exact_reward():
    coin = markov_chain(INITIAL, [INITIAL] * 3, LEVELS)
    sampler = blockwise(coin, 12, samplers.best_of_n, 6, block_length=5)
    counts = simulate(jax.random.key(2), sampler, num_trials=TRIALS).counts
    symbol = bt.Policy.from_probs(INITIAL, LEVELS)
    law = sequence.SequenceLaw.independent(symbol, 12, block_length=5)

    @jax.jit
    def total(n: float) -> jax.Array:
        return sequence.total_reward(law.select(bt.best_of_n, n=n)).probs

    assert check_histogram("n = 6", counts, total(6.0)).p_value > FALSE_ALARM
    assert check_histogram("n = 6.2", counts, total(6.2)).p_value < FALSE_ALARM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": [0.5, 1, 2]}, "whole numbers"),
        ({"levels": [0, np.inf, 2]}, "whole numbers"),
        ({"initial": [0.5, 0.9, -0.4]}, "nonnegative and sum to 1"),
        ({"transition": [[0.5, 0.5, 0.5]] * 3}, "nonnegative and sum to 1"),
        ({"transition": [[np.nan] * 3] * 3}, "nonnegative and sum to 1"),
        ({"transition": [0.5, 0.5]}, "must agree"),
        ({"initial": [0.5, 0.5]}, "must agree"),
    ],
)
def test_a_chain_that_is_none_is_refused(change: dict, message: str):
    arguments = {"initial": INITIAL, "transition": ROWS, "levels": LEVELS}
    with pytest.raises(ValueError, match=message):
        markov_chain(**(arguments | change))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((4, samplers.best_of_n, 0), {}, "n must be"),
        ((0, samplers.best_of_n, 3), {}, "length must be .*, got 0: symbols are counted"),
        ((4, samplers.best_of_n, 3), {"block_length": 9}, r"block_length must be .* \[1, 4\]"),
        ((4, samplers.soft_best_of_n, 3, 0.0), {}, "temperature must be"),
        ((4, samplers.best_of_n, 3), {"by": "letters"}, "by must be 'words' or 'rewards'"),
        ((100, samplers.best_of_n, 3), {"by": "words"}, "at most 1048576 .*: count by='rew"),
        ((2**20, samplers.best_of_n, 3), {}, "must have at most 1048576 .*: choose a larger unit"),
        ((4, samplers.exponential_clocks, 3, 1.0), {}, "got blocks: use soft_best_of_n"),
        ((4, samplers.chi_squared_tilt, 1.0), {"block_length": 2}, "block_length=None, or a race"),
    ],
)
def test_bad_input_is_refused(arguments: Any, options: Any, message: str):
    with pytest.raises(ValueError, match=message):
        blockwise(CHAIN, *arguments, **options)


def test_counts_do_not_depend_on_the_chunks_and_resume(tmp_path):
    sampler = blockwise(CHAIN, 4, samplers.best_of_n, 3, block_length=2)

    def counts(num_trials: int, **options: Any) -> np.ndarray:
        return simulate(
            jax.random.key(3), sampler, num_trials=num_trials, schedule=Schedule(**options)
        ).counts

    whole = counts(1000)
    np.testing.assert_array_equal(counts(1000, chunk_size=256), whole)
    counts(700, checkpoint=tmp_path / "run.npz")
    np.testing.assert_array_equal(counts(1000, checkpoint=tmp_path / "run.npz"), whole)


def test_a_symbol_of_probability_zero_is_not_drawn_by_the_highest_word(monkeypatch):
    """The uniform number may be 1, once in 3e7 draws: as large as the running sum before it."""
    monkeypatch.setattr(chains, "unit_interval", lambda word: jnp.ones(word.shape, jnp.float32))
    never = markov_chain([0.5, 0.5, 0.0], [[0.25, 0.75, 0.0]] * 3, [0, 1, 5])
    sampler = blockwise(never, 2, samplers.best_of_n, 1, by="words")
    trials = jnp.arange(256, dtype=jnp.uint32)
    codes = sampler(jnp.zeros(2, jnp.uint32), trials)
    assert np.unique(np.asarray(codes)).tolist() == [1 * 3 + 1]


def test_words_and_rewards_are_counted_of_the_same_sequences():
    first, second = (
        simulate(
            jax.random.key(4),
            blockwise(CHAIN, 3, samplers.best_of_n, 4, by=by),
            num_trials=1000,
        )
        for by in ("words", "rewards")
    )
    totals = oracle.total_rewards(np.array(LEVELS), 3)
    summed = np.bincount(np.asarray(totals, int), np.asarray(first.counts), minlength=10)
    np.testing.assert_array_equal(summed, second.counts)
    assert first.reward == second.reward
    assert first.win_rate.mean == pytest.approx(second.win_rate.mean, rel=1e-12)
