"""Settings are chosen on some prompts and judged on others, by the same exact law."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from simulations.experiments.learned_reward import (
    LearnedRewardConfig,
    LearnedRewardResults,
    _judge,
    run,
)
from simulations.language_model.generate import generate
from simulations.language_model.rewards.bradley_terry import RewardTrainingConfig
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary.plain(8)
CONFIG = LearnedRewardConfig(
    num_pairs=256,
    noise=1.0,
    training=RewardTrainingConfig(num_steps=60, batch_size=32, learning_rate=1e-2),
    num_candidates=32,
    numbers=(1, 4, 16),
    hedged_n=16,
    num_seeds=2,
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
    drawn = generate(jax.random.key(1), model, prompts, num_candidates=64, max_new_tokens=5)
    judged = (drawn.tokens == 2).sum(axis=-1) <= 1
    return run(CONFIG, jax.random.key(0), model, prompts, drawn.tokens, true_reward, judged=judged)


def test_the_proxy_learns_something_of_the_truth(results: LearnedRewardResults) -> None:
    np.testing.assert_allclose(results.losses[:, 0], np.log(2), atol=1e-6)
    assert np.all(results.losses[:, -10:].mean(axis=1) < 0.67)
    assert np.all((results.correlation > 0.2) & (results.correlation < 0.999))
    assert np.all((results.accuracy > 0.55) & (results.accuracy < 1))


def test_best_of_n_raises_the_proxy(results: LearnedRewardResults) -> None:
    assert np.all(np.diff(results.proxy) > 0.1)
    assert results.true.shape == results.true_std_error.shape == (2, 3)
    assert np.all(results.true_std_error > 0)


def test_hedging_promises_no_less_than_the_largest_n(results: LearnedRewardResults) -> None:
    """On the prompts that it was chosen on; the largest n is among what it chose from."""
    largest = results.choices["largest n"]
    assert np.all(largest.n == 16)
    assert np.all(largest.temperature == 0)
    assert np.all(largest.gain == 0)
    for name in ("hedged n", "hedged temperature"):
        choice = results.choices[name]
        assert np.all(choice.expected >= largest.expected - 1e-9)
        np.testing.assert_allclose(choice.gain, choice.achieved - largest.achieved, atol=1e-12)
    curve = results.true[:, results.numbers == 16]
    np.testing.assert_allclose(largest.achieved, curve[:, 0], rtol=1e-9)


def test_seeds_state_other_preferences(results: LearnedRewardResults) -> None:
    assert results.correlation[0] != results.correlation[1]


def test_results_survive_the_disk(results: LearnedRewardResults, tmp_path: Path) -> None:
    results.save(tmp_path / "results.npz")
    loaded = LearnedRewardResults.load(tmp_path / "results.npz")
    np.testing.assert_array_equal(loaded.true, results.true)
    assert loaded.choices["hedged n"].n.tolist() == results.choices["hedged n"].n.tolist()


@pytest.mark.parametrize("shape", [(3, 34), (4, 33)])
def test_pools_that_are_too_small_are_refused(shape: tuple[int, int]) -> None:
    model = Transformer(TransformerConfig(VOCABULARY, width=8, num_layers=1), rngs=nnx.Rngs(0))
    prompts, responses = np.zeros((shape[0], 1), np.int32), np.zeros((*shape, 5), np.int32)
    with pytest.raises(ValueError, match="an even number of prompts, and at least 34 responses"):
        run(CONFIG, jax.random.key(0), model, prompts, responses, true_reward)


def test_preferences_need_two_responses_that_were_judged() -> None:
    model = Transformer(TransformerConfig(VOCABULARY, width=8, num_layers=1), rngs=nnx.Rngs(0))
    prompts, responses = np.zeros((2, 1), np.int32), np.arange(2 * 40 * 5).reshape(2, 40, 5) % 8
    judged = np.arange(40) < [[33], [40]]
    with pytest.raises(ValueError, match="judged leaves 1 responses"):
        run(
            CONFIG,
            jax.random.key(0),
            model,
            prompts,
            responses.astype(np.int32),
            true_reward,
            judged=judged,
        )


def test_the_true_reward_falls_again() -> None:
    """A truth that peaks below the top of the proxy; by summing over the 32 ranks, at every n."""
    rank = np.arange(1, 33) / 32
    truth = rank**3 * (1 - rank)
    shuffled = np.random.default_rng(0).permuted(np.tile(np.arange(32), (12, 1)), axis=1)
    found = _judge(CONFIG, np.zeros(3, np.float32), shuffled.astype(float), truth[shuffled])

    def mean(n: float) -> float:
        return float(np.sum(truth * (rank**n - (rank - 1 / 32) ** n)))

    np.testing.assert_allclose(found["true"], [mean(n) for n in CONFIG.numbers], rtol=1e-9)
    assert found["true"][1] > max(found["true"][0], found["true"][2])
    choice = found["choices"]["hedged n"]
    best = max(mean(n) for n in np.linspace(1, 16, 1501))
    assert choice["achieved"] == pytest.approx(best, rel=1e-5)
    assert choice["gain"] == pytest.approx(best - mean(16), rel=1e-4)
