"""What is measured block by block is what the exact laws say, and the theory is that of tokens."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import bon_theory as bt
from simulations.experiments.block_selection import (
    BlockSelectionConfig,
    BlockSelectionResults,
    run,
)
from simulations.language_model.enumerate import (
    at_ends,
    enumerate_sequences,
    partial_rewards,
    select_blocks,
)
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary.plain(4)
TOKEN_REWARDS = np.array([0.5, -1.0, 2.0, 0.0])
CONFIG = BlockSelectionConfig(
    numbers=(2, 3), block_lengths=(1, 3), max_new_tokens=3, num_sequences=400, num_reference=400
)


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = TransformerConfig(VOCABULARY, width=8, num_layers=1)
    return Transformer(config, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def results(model: Transformer) -> BlockSelectionResults:
    prompts = np.array([[VOCABULARY.bos_id]])
    return run(CONFIG, jax.random.key(0), model, prompts, TOKEN_REWARDS)


def test_measured_means_are_those_of_the_exact_laws(
    model: Transformer, results: BlockSelectionResults
) -> None:
    """Within five standard errors; the estimated divergence has a bias of order (n/M)² as well."""
    law = enumerate_sequences(model, [VOCABULARY.bos_id], max_new_tokens=3)
    tree = partial_rewards(law, TOKEN_REWARDS)
    reference = law.policy(at_ends(tree))
    assert results.reference_reward == pytest.approx(float(bt.expected_reward(reference)), abs=0.3)
    for i, n in enumerate(CONFIG.numbers):
        for j, block_length in enumerate(CONFIG.block_lengths):
            selected = select_blocks(
                law, tree, lambda policy, n=n: bt.best_of_n(policy, n), block_length=block_length
            ).policy(at_ends(tree))
            reward, error = results.reward.value[i, j], results.reward.std_error[i, j]
            assert abs(reward - float(bt.expected_reward(selected))) < 5 * error
            assert error < 0.15
            kl, error = results.kl_divergence.value[i, j], results.kl_divergence.std_error[i, j]
            assert abs(kl - float(bt.kl_divergence(selected, reference))) < 5 * error + 0.03


def test_the_prediction_is_that_of_independent_tokens(results: BlockSelectionResults) -> None:
    """A block of one token: the reward of all tokens is their number times best-of-n's of one."""
    length = round(results.mean_length)
    per_token = results.predicted_reward[:, 0] / length
    assert np.all(np.diff(per_token) > 0)
    assert np.all(per_token < TOKEN_REWARDS.max())
    assert np.all(results.predicted_kl[:, 0] > results.predicted_kl[:, 1])
    # Best-of-n's divergence of a tie-free reward bounds that of each token.
    bound = [np.log(n) - (n - 1) / n for n in CONFIG.numbers]
    assert np.all(results.predicted_kl[:, 0] <= length * np.array(bound))


def test_what_was_interrupted_goes_on_the_same(model: Transformer, tmp_path: Path) -> None:
    """At sizes of ``CONFIG``, for which the programs are compiled."""
    prompts = np.array([[VOCABULARY.bos_id]])
    config = replace(CONFIG, numbers=(2,))
    whole = run(config, jax.random.key(1), model, prompts, TOKEN_REWARDS)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    again = (jax.random.key(1), model, prompts, TOKEN_REWARDS)
    with pytest.raises(KeyboardInterrupt):
        run(config, *again, checkpoint=tmp_path, progress=stop)
    assert len(list(tmp_path.glob("blocks-*.npz"))) == 1
    resumed = run(config, *again, checkpoint=tmp_path)
    assert resumed.to_json() == whole.to_json()
    found = BlockSelectionResults.from_json(whole.to_json())
    assert found.config == config
    assert found.to_json() == whole.to_json()
    other = run(config, jax.random.key(2), model, prompts, TOKEN_REWARDS, checkpoint=tmp_path)
    assert np.all(other.reward.value != whole.reward.value)
