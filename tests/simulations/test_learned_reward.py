"""Settings are chosen on some prompts and judged on others, by the same exact law."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from paper_repro.papers.claim import evaluate
from paper_repro.papers.inference_time_reward_hacking import learned
from simulations.experiments.learned_reward import (
    Choice,
    LearnedRewardConfig,
    LearnedRewardResults,
    _judge,
    run,
)
from simulations.language_model.generate import generate
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary.plain(8)
CONFIG = LearnedRewardConfig(
    num_pairs=1024,
    noise=1.0,
    num_candidates=32,
    num_judged=16,
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
    assert np.all((results.correlation > 0.2) & (results.correlation < 0.999))
    assert np.all((results.accuracy > 0.55) & (results.accuracy < 1))


def test_best_of_n_raises_the_proxy(results: LearnedRewardResults) -> None:
    assert results.true.shape == results.proxy.shape == (2, 3, 12)
    assert np.all(np.diff(results.proxy, axis=1) > 0.1)


def test_hedging_promises_no_less_than_the_largest_n(results: LearnedRewardResults) -> None:
    """On the half that it was chosen on; the largest n is among what it chose from."""
    largest = results.choices["largest n"]
    assert np.all(largest.n == 16)
    assert np.all(largest.temperature == 0)
    np.testing.assert_array_equal(largest.promised, largest.achieved)
    np.testing.assert_allclose(largest.achieved, results.true[:, 2], rtol=1e-9)
    for name in ("hedged n", "hedged temperature"):
        gain = results.choices[name].promised - largest.promised
        assert np.all(gain.reshape(2, 2, 6).mean(axis=-1) >= -1e-9)


def test_hindsight_is_no_worse(results: LearnedRewardResults) -> None:
    """On each half, what was chosen on it earns what was chosen on the other, and not less."""
    for choice in results.choices.values():
        regret = (choice.promised - choice.achieved).reshape(2, 2, 6).mean(axis=-1)
        assert np.all(regret >= -1e-6)


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
    # In the second half a lower rank is best: what is chosen on the first goes too far there.
    truths = np.array([[rank**3 * (1 - rank)], [rank * (1 - rank)]])

    def mean(truth: NDArray[np.float64], n: float) -> float:
        return float(np.sum(truth * (rank**n - (rank - 1 / 32) ** n)))

    shuffled = np.random.default_rng(0).permuted(np.tile(np.arange(32), (12, 1)), axis=1)
    truth = np.take_along_axis(np.repeat(truths[:, 0], 6, axis=0), shuffled, axis=1)
    found = _judge(CONFIG, shuffled.astype(float), truth)

    for half, worth in enumerate(truths[:, 0]):
        rows = slice(6 * half, 6 * half + 6)
        expected = [[mean(worth, n)] * 6 for n in CONFIG.numbers]
        np.testing.assert_allclose(found["true"][:, rows], expected, rtol=1e-9)
        grid = np.linspace(1, 16, 1501)
        best = max(mean(worth, n) for n in grid)
        choice = found["choices"]["hedged n"]
        np.testing.assert_allclose(choice["promised"][rows], best, rtol=1e-5)
        other = truths[1 - half, 0]
        chosen = max(grid, key=lambda n: mean(other, n))
        assert choice["n"][1 - half] == pytest.approx(chosen, abs=0.02)
        np.testing.assert_allclose(choice["achieved"][rows], mean(worth, chosen), rtol=1e-3)


def test_claims_are_read_off_the_results() -> None:
    """Made so that each number can be done in the head: two errors of ½ are taken off."""
    table = np.array([[1.0, 2.0], [1.0, 2.0]])  # a mean of 1½, of standard error ½ over prompts
    setting = np.ones((2, 2))
    made = LearnedRewardResults(
        identity={},
        correlation=np.ones(2),
        accuracy=np.ones(2),
        numbers=np.array([1, 2, 4]),
        proxy=np.zeros((2, 3, 2)),
        true=np.stack([0 * table, 2 * table, table], axis=1),
        choices={
            "largest n": Choice(setting, setting, table, table),
            "hedged n": Choice(setting, setting, 4 * table, 3 * table),
            "hedged temperature": Choice(setting, setting, 3 * table, 2 * table),
        },
    )
    rise_and_fall, gains, regrets = (evaluate(c, made).computed for c in learned.CLAIMS)
    np.testing.assert_allclose(rise_and_fall, [3 - 2, 1.5 - 1])
    np.testing.assert_allclose(gains, [3 - 2, 1.5 - 1])
    np.testing.assert_allclose(regrets, [1.5 + 1, 1.5 + 1])
