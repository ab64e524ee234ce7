"""Laws of sequences against all K^m sequences, one by one."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import sequence
from tests.oracles import sequences as oracle

INITIAL = np.array([0.2, 0.5, 0.3])
TRANSITION = np.array([[0.6, 0.3, 0.1], [0.25, 0.7, 0.05], [0.1, 0.0, 0.9]])
REWARDS = np.array([0.0, 1.5, 0.5])
N, TEMPERATURE = 3, 0.7

# Whether the reference has a memory, m, b.
CASES = {
    "independent, 2 + 2 + 1": (False, 5, 2),
    "Markov, symbolwise": (True, 4, 1),
    "Markov, 3 + 2": (True, 5, 3),
    "Markov, whole": (True, 4, 4),
}

by_case = pytest.mark.parametrize(
    "case", [pytest.param(x, marks=pytest.mark.slow) if x == "Markov, 3 + 2" else x for x in CASES]
)

SOFT, AHEAD, HARD, TILT = "soft", "soft, looking ahead", "hard", "tilt"
SELECTIONS: dict[str, tuple[Callable[..., bt.Policy], tuple[float, ...], oracle.Select]] = {
    SOFT: (bt.soft_best_of_n, (N, TEMPERATURE), oracle.soft_best_of_n(N, TEMPERATURE)),
    AHEAD: (bt.soft_best_of_n, (N, TEMPERATURE), oracle.soft_best_of_n(N, TEMPERATURE)),
    HARD: (bt.best_of_n, (N,), oracle.best_of_n(N)),
    TILT: (bt.exponential_tilt, (TEMPERATURE,), oracle.tilt(TEMPERATURE)),
}


def reference(case: str) -> sequence.SequenceLaw:
    has_memory, length, block_length = CASES[case]
    if has_memory:
        chain = sequence.MarkovChain.from_probs(INITIAL, TRANSITION, REWARDS)
        return sequence.SequenceLaw.markov(chain, length, block_length=block_length)
    symbol = bt.Policy.from_probs(INITIAL, REWARDS)
    return sequence.SequenceLaw.independent(symbol, length, block_length=block_length)


@jax.jit
def answers(law: sequence.SequenceLaw) -> Any:
    """Everything that is asked below, in one compiled call."""
    values = sequence.look_ahead(law, TEMPERATURE)
    optimum = sequence.optimum(law, TEMPERATURE)
    found: dict[str, Any] = {
        "optimum": sequence.expected_reward(optimum)
        - TEMPERATURE * sequence.kl_divergence(optimum, law),
        "many, looking ahead": sequence.kl_divergence(
            optimum, law.select(bt.soft_best_of_n, 1e9, TEMPERATURE, look_ahead=values)
        ),
    }
    for name, (selection, parameters, _) in SELECTIONS.items():
        policy = law.select(selection, *parameters, look_ahead=values if name == AHEAD else None)
        found[name] = {
            "kl": sequence.kl_divergence(policy, law),
            "kl_from_optimum": sequence.kl_divergence(optimum, policy),
            "kl_to_optimum": sequence.kl_divergence(policy, optimum),
            "reward": sequence.expected_reward(policy),
        }
    return found


@cache
def computed(case: str) -> Any:
    return jax.tree.map(float, answers(reference(case)))


def words(case: str, name: str) -> np.ndarray:
    """The law of every sequence, block after block."""
    has_memory, length, block_length = CASES[case]
    return oracle.blockwise(
        INITIAL,
        TRANSITION if has_memory else np.broadcast_to(INITIAL, (3, 3)),
        REWARDS,
        length=length,
        block_length=block_length,
        select=SELECTIONS[name][2],
        value=oracle.log_mean_exp(TEMPERATURE) if name == AHEAD else None,
    )


@cache
def enumerated(case: str, name: str) -> dict[str, float]:
    """The same as the answers, over all sequences and all draws of three."""
    has_memory, length, _ = CASES[case]
    rows = TRANSITION if has_memory else np.broadcast_to(INITIAL, (3, 3))
    law, totals = oracle.markov_law(INITIAL, rows, length), oracle.total_rewards(REWARDS, length)
    policy, optimum = words(case, name), oracle.tilt(TEMPERATURE)(law, totals)
    return {
        "kl": oracle.kl(policy, law),
        "kl_from_optimum": oracle.kl(optimum, policy),
        "kl_to_optimum": oracle.kl(policy, optimum),
        "reward": float(policy @ totals),
    }


# The oracle's sums of up to 81³ rounded terms are good to 1e-12.
@pytest.mark.parametrize("name", SELECTIONS)
@by_case
def test_blocks_agree_with_all_sequences(case: str, name: str):
    assert computed(case)[name] == pytest.approx(enumerated(case, name), rel=1e-12, abs=1e-13)


@by_case
def test_looking_ahead_tends_to_the_optimum(case: str):
    assert computed(case)["many, looking ahead"] < 1e-15


def test_the_myopic_rule_misses_the_optimum_of_a_markov_reference():
    assert computed("Markov, symbolwise")[TILT]["kl_from_optimum"] > 0.05
    assert computed("Markov, 3 + 2")[TILT]["kl_from_optimum"] > 0.01
    assert computed("Markov, whole")[TILT]["kl_from_optimum"] < 1e-14
    assert computed("independent, 2 + 2 + 1")[TILT]["kl_from_optimum"] < 1e-14


@pytest.mark.parametrize("case", CASES)
def test_the_divergence_to_the_optimum_is_the_loss(case: str):
    # E R − λ KL(P‖π) falls short of its maximum by λ KL(P‖P*).
    for name in SELECTIONS:
        answer = computed(case)[name]
        loss = computed(case)["optimum"] - answer["reward"] + TEMPERATURE * answer["kl"]
        assert loss == pytest.approx(TEMPERATURE * answer["kl_to_optimum"], rel=1e-11, abs=1e-14)


def test_the_total_reward_of_independent_blocks():
    case = "independent, 2 + 2 + 1"
    law = jax.jit(lambda law: sequence.total_reward(law.select(bt.best_of_n, n=N)))(reference(case))
    levels = np.round(2 * oracle.total_rewards(REWARDS, 5)).astype(int)
    np.testing.assert_allclose(law.probs, np.bincount(levels, words(case, HARD)), rtol=1e-12)
    np.testing.assert_allclose(law.rewards, np.arange(16) / 2)
