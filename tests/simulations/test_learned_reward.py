"""Settings are chosen on some prompts and judged on others, by the same exact law."""

import jax
import numpy as np
import pytest
from flax import nnx

from simulations.experiments.learned_reward import (
    LearnedRewardConfig,
    LearnedRewardResults,
    run,
)
from simulations.language_model.rewards.bradley_terry import RewardTrainingConfig
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary.plain(8)
CONFIG = LearnedRewardConfig(
    num_pairs=256,
    noise=1.0,
    training=RewardTrainingConfig(num_steps=60, batch_size=32, learning_rate=1e-2),
    num_candidates=32,
    max_new_tokens=5,
    numbers=(1, 4, 16),
    hedged_n=16,
)


def true_reward(responses: np.ndarray) -> np.ndarray:
    """Token 2 is good, and a second one spoils it."""
    count = (responses == 2).sum(axis=-1)
    return np.where(count == 1, 1.0, -0.5 * count) + 0.1 * (responses == 3).sum(axis=-1)


@pytest.fixture(scope="module")
def results() -> LearnedRewardResults:
    config = TransformerConfig(VOCABULARY, width=16, num_layers=1)
    model = Transformer(config, rngs=nnx.Rngs(0))
    prompts = np.full((12, 1), VOCABULARY.bos_id)
    return run(CONFIG, jax.random.key(0), model, prompts, true_reward)


def test_the_proxy_learns_something_of_the_truth(results: LearnedRewardResults) -> None:
    assert results.losses[0] == pytest.approx(np.log(2), abs=1e-6)
    assert results.losses[-10:].mean() < 0.67
    assert 0.2 < results.correlation < 0.999
    assert 0.55 < results.accuracy < 1


def test_best_of_n_raises_the_proxy(results: LearnedRewardResults) -> None:
    assert np.all(np.diff(results.proxy) > 0.1)
    assert results.true.shape == results.true_std_error.shape == (3,)
    assert np.all(results.true_std_error > 0)


def test_hedging_promises_no_less_than_the_largest_n(results: LearnedRewardResults) -> None:
    """On the prompts that it was chosen on; the largest n is among what it chose from."""
    largest = results.choices["largest n"]
    assert largest.n == 16
    assert largest.temperature == 0
    for name in ("hedged n", "hedged temperature"):
        assert results.choices[name].expected >= largest.expected - 1e-9
    curve = results.true[results.numbers == 16]
    assert largest.achieved == pytest.approx(float(curve[0]), rel=1e-9)
