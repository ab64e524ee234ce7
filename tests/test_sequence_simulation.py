"""The process on sequences follows the exact laws, and other laws are rejected."""

import jax
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import sequence
from simulations.checks import check_histogram
from simulations.sequences import Process, reward_counts, word_counts
from tests.oracles import sequences as oracle

INITIAL = [0.25, 0.5, 0.25]
ROWS = [[0.5, 0.375, 0.125], [0.25, 0.625, 0.125], [0.125, 0.0, 0.875]]
LEVELS = [0, 3, 1]
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
    process = Process.soft(INITIAL, ROWS, LEVELS, length=4, block_length=3, n=3, temperature=1.5)
    counts = word_counts(jax.random.key(1), process, num_trials=TRIALS)
    assert counts.sum() == TRIALS
    assert check_histogram("kept", counts, words(3, 3)).p_value > FALSE_ALARM
    # Power: one candidate more, and blocks of another length.
    assert check_histogram("n = 4", counts, words(4, 3)).p_value < FALSE_ALARM
    assert check_histogram("b = 2", counts, words(3, 2)).p_value < FALSE_ALARM


def test_long_independent_blocks_follow_the_exact_reward():
    process = Process.hard(INITIAL, [INITIAL] * 3, LEVELS, length=12, block_length=5, n=6)
    counts = reward_counts(jax.random.key(2), process, num_trials=TRIALS)
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
        ({"n": 0}, "n must be"),
        ({"length": 0}, "length must be"),
        ({"block_length": 9}, "block_length must be"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"initial": [0.5, 0.9, -0.4]}, "non-negative and sum to one"),
        ({"transition": [[0.5, 0.5, 0.5]] * 3}, "non-negative and sum to one"),
        ({"transition": [[np.nan] * 3] * 3}, "non-negative and sum to one"),
        ({"transition": [0.5, 0.5]}, "must agree"),
        ({"initial": [0.5, 0.5]}, "must agree"),
    ],
)
def test_bad_input_is_refused(change: dict, message: str):
    arguments = {
        "initial": INITIAL,
        "transition": ROWS,
        "levels": LEVELS,
        "length": 4,
        "block_length": 2,
        "n": 3,
        "temperature": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        Process.soft(**(arguments | change))


def test_counts_do_not_depend_on_the_chunks():
    process = Process.soft(INITIAL, ROWS, LEVELS, length=5, block_length=2, n=3, temperature=1.5)
    few, many = (
        word_counts(jax.random.key(3), process, num_trials=1000, chunk_size=size)
        for size in (128, 700)
    )
    np.testing.assert_array_equal(few, many)


def test_too_many_sequences_are_not_counted_one_by_one():
    process = Process.hard(INITIAL, ROWS, LEVELS, length=100, block_length=10, n=2)
    with pytest.raises(ValueError, match="reward_counts"):
        word_counts(jax.random.key(0), process, num_trials=10)
    with pytest.raises(ValueError, match="num_trials"):
        reward_counts(jax.random.key(0), process, num_trials=0)
