"""Win rates, divergences and what else changes, against the enumerated laws."""

from functools import cache

import jax
import numpy as np
import pytest
from flax import nnx

import bon_theory as bt
from simulations.alignment.candidates import draw_candidates
from simulations.alignment.evaluation import (
    HeldOutPrompts,
    PolicyEvaluation,
    kl_from_ranks,
    repetition,
)
from simulations.language_model.enumerate import enumerate_sequences
from simulations.language_model.transformer import Transformer, TransformerConfig
from tests.simulations.alignment.tiny import (
    CONFIG,
    LENGTH,
    PROMPTS,
    VOCABULARY,
    key,
    reward,
    tiny_model,
)


@cache
def policy() -> Transformer:
    return Transformer(CONFIG, rngs=nnx.Rngs(5))


@cache
def held_out() -> HeldOutPrompts:
    table = draw_candidates(
        key(), tiny_model(), PROMPTS, reward, num_candidates=256, max_new_tokens=LENGTH
    )
    return HeldOutPrompts(jax.random.key(11), tiny_model(), table, reward, num_responses=512)


def exact(prompt: np.ndarray) -> dict[str, float]:
    laws = [
        enumerate_sequences(m, prompt[prompt != VOCABULARY.pad_id], max_new_tokens=LENGTH)
        for m in (policy(), tiny_model())
    ]
    rewards = reward(laws[0].tokens, laws[0].tokens)
    selected, reference = (law.policy(rewards) for law in laws)
    lengths = np.sum(laws[0].tokens != VOCABULARY.pad_id, axis=1)
    return {
        "kl": float(bt.kl_divergence(selected, reference)),
        "win_rate": float(bt.win_rate(selected, reference)),
        "wins_or_ties": float(bt.win_rate(selected, reference, ties="win")),
        "wins": float(bt.win_rate(selected, reference, ties="loss")),
        "mean_reward": float(bt.expected_reward(selected)),
        "mean_length": float(np.exp(laws[0].log_probs) @ lengths),
        "reference_length": float(np.exp(laws[1].log_probs) @ lengths),
    }


@pytest.fixture(scope="module")
def found() -> PolicyEvaluation:
    return held_out().evaluate(policy())


@pytest.mark.parametrize(
    "name", ["win_rate", "wins_or_ties", "wins", "mean_reward", "mean_length", "reference_length"]
)
def test_estimates_are_the_enumerated_values(found: PolicyEvaluation, name: str):
    """Within five standard errors of a mean of 256 responses or more to each prompt."""
    expected = np.mean([exact(prompt)[name] for prompt in PROMPTS])
    spread = 1.0 if "win" in name else 0.8
    assert abs(getattr(found, name).mean - expected) < 5 * spread / np.sqrt(2 * 256)


def test_the_divergence_is_the_enumerated_one(found: PolicyEvaluation):
    expected = np.mean([exact(prompt)["kl"] for prompt in PROMPTS])
    assert found.kl.mean == pytest.approx(expected, rel=0.05)
    assert expected > 0.3


def test_ranks_tell_less_than_the_divergence(found: PolicyEvaluation):
    assert 0 < found.kl_from_ranks.mean < found.kl.mean


def test_ranks_of_best_of_n_tell_its_divergence():
    """A policy that is a function of the rank, many ranks: log n − (n−1)/n to a few percent."""
    rng = np.random.default_rng(0)
    best, reference = rng.random((200, 64, 4)).max(axis=-1), rng.random((200, 31))
    found = kl_from_ranks(best, reference)
    expected = np.log(4) - 3 / 4
    assert found.mean == pytest.approx(expected, rel=0.06)
    assert abs(found.mean - expected) < 6 * found.std_error


def test_ranks_of_the_reference_itself_tell_nothing():
    rng = np.random.default_rng(1)
    found = kl_from_ranks(*(np.floor(3 * rng.random((300, k))) for k in (8, 7)))
    assert found.mean < 4 * found.std_error
    assert found.mean < 0.01


def test_the_reference_against_itself_wins_half_and_goes_nowhere():
    found = held_out().evaluate(tiny_model())
    assert found.win_rate.mean == pytest.approx(0.5, abs=0.05)
    assert found.kl.mean == pytest.approx(0.0, abs=1e-6)


def test_evaluations_survive_json(found: PolicyEvaluation):
    assert PolicyEvaluation.from_json({**found.to_json(), "step": 3}) == found


def test_repetition_counts_pairs_that_were_there_before():
    tokens = np.array([[5, 5, 5, 5, 9], [1, 2, 3, 4, 9], [1, 9, 9, 9, 9]])
    np.testing.assert_allclose(repetition(tokens, 9), [2 / 3, 0.0, 0.0])


def test_another_vocabulary_is_refused():
    other = Transformer(TransformerConfig(width=8, num_layers=1), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"policy has Vocabulary.* but the reference Vocabulary"):
        held_out().evaluate(other)
