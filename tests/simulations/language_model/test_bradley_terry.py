"""A reward model learns the reward behind preferences, as far as they tell it."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from flax import nnx
from scipy import stats
from scipy.special import expit

from simulations.language_model.rewards.bradley_terry import (
    Preferences,
    RewardModel,
    RewardTrainingConfig,
    draw_preferences,
    fit_linear_reward,
    preference_loss,
    response_features,
    rewards_of,
    train_reward_model,
)
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig

VOCABULARY = Vocabulary.plain(6)
PAD, BOS, EOS = VOCABULARY.pad_id, VOCABULARY.bos_id, VOCABULARY.eos_id


def reward_model() -> RewardModel:
    config = TransformerConfig(VOCABULARY, width=16, num_layers=1, num_heads=2)
    return RewardModel(Transformer(config, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def responses() -> np.ndarray:
    """Two prompts, 64 responses of four tokens, the last a token or EOS."""
    drawn = np.random.default_rng(0).integers(0, 5, size=(2, 64, 4))
    drawn[:, ::2, -1] = EOS
    return drawn


PROMPTS = np.array([[PAD, BOS], [BOS, 3]])


def true_rewards(responses: np.ndarray) -> np.ndarray:
    return (responses == 2).sum(axis=-1) - 1.0 * (responses == 4).sum(axis=-1)


def test_preferences_follow_bradley_and_terry(responses: np.ndarray) -> None:
    """Binomial tests at a false-alarm rate of 1e-6 each, for each difference of the reward."""
    truth = true_rewards(responses)
    drawn = draw_preferences(jax.random.key(0), truth, num_pairs=20_000, noise=2.0)
    np.testing.assert_array_equal(drawn.chosen // 64, drawn.rejected // 64)
    assert np.all(drawn.chosen != drawn.rejected)
    gaps = np.subtract(*drawn.of(truth.ravel()))
    for gap in (1, 2, 3):
        right, wrong = np.sum(gaps == gap), np.sum(gaps == -gap)
        test = stats.binomtest(int(right), int(right + wrong), expit(gap / 2.0))
        assert test.pvalue > 1e-6
        planted = stats.binomtest(int(right), int(right + wrong), expit(gap / 1.6))
        assert planted.pvalue < 1e-2


def test_padding_does_not_change_a_reward() -> None:
    model = reward_model()
    model.head[...] = jnp.arange(16.0, dtype=jnp.float32)
    row = np.array([[BOS, 1, 2, EOS]])
    padded = np.array([[PAD, BOS, 1, 2, EOS, PAD, PAD]])
    np.testing.assert_allclose(rewards_of(model, row), rewards_of(model, padded), rtol=1e-5)
    other = np.array([[BOS, 1, 2, 3]])
    assert abs(rewards_of(model, row) - rewards_of(model, other)) > 1e-3


def test_batches_do_not_change_rewards(responses: np.ndarray) -> None:
    model = reward_model()
    model.head[...] = jnp.arange(16.0, dtype=jnp.float32)
    rows = responses[0, :7]
    np.testing.assert_allclose(
        rewards_of(model, rows, batch_size=3), rewards_of(model, rows), rtol=1e-5
    )


def test_the_loss_is_that_of_a_coin_before_training_and_counts_pairs(
    responses: np.ndarray,
) -> None:
    pairs = Preferences(responses[0, :5], responses[1, :5])
    total, number = preference_loss(reward_model(), pairs)
    np.testing.assert_allclose(total, 5 * np.log(2), rtol=1e-6)
    assert number == 5


def test_the_true_reward_is_learned_up_to_a_constant(responses: np.ndarray) -> None:
    truth = true_rewards(responses)
    pairs = draw_preferences(jax.random.key(1), truth, num_pairs=4096, noise=0.5)
    before = np.broadcast_to(PROMPTS[:, None], (2, 64, 2))
    sequences = np.concatenate([before, responses], axis=-1).reshape(128, -1)
    model = reward_model()
    config = RewardTrainingConfig(num_steps=150, learning_rate=1e-2)
    fitted = train_reward_model(config, jax.random.key(2), model, pairs.of(sequences))
    assert fitted.losses[0] == pytest.approx(np.log(2), abs=1e-6)
    fresh = np.random.default_rng(9).integers(0, 5, size=(1, 200, 4))
    learned = rewards_of(model, np.concatenate([np.full((200, 1), BOS), fresh[0]], axis=1))
    truth = true_rewards(fresh)[0]
    assert np.corrcoef(learned, truth)[0, 1] > 0.9
    # In units of the noise: maximum likelihood is consistent for r*/τ.
    assert np.polyfit(truth, learned, 1)[0] == pytest.approx(2.0, rel=0.35)


def test_features_are_summed_over_the_response() -> None:
    """By a loop over the tokens, without padding and batches."""
    backbone = reward_model().backbone
    prompts = np.array([[PAD, BOS], [BOS, 3]])
    # Each prompt and response has four tokens: one program is compiled for the loop.
    responses = np.array([[[1, 2, EOS], [0, 0, 0]], [[4, EOS, PAD], [2, EOS, PAD]]])
    found = response_features(backbone, prompts, responses, batch_size=3)
    for row, prompt in enumerate(([BOS], [BOS, 3])):
        for column in range(2):
            response = [token for token in responses[row, column] if token != PAD]
            features = np.asarray(backbone.features(jnp.array([[*prompt, *response]])))[0]
            expected = sum(features[-t - 1] for t in range(len(response)))
            np.testing.assert_allclose(found[row, column], expected, atol=1e-5)


def test_a_linear_reward_is_where_the_likelihood_is_flat() -> None:
    """By mpmath: the gradient is zero there, and the loss larger on both sides."""
    generator = np.random.default_rng(3)
    chosen, rejected = generator.normal(size=(2, 30, 3))
    weights = fit_linear_reward(Preferences(chosen, rejected), ridge=0.7)

    def loss(w: np.ndarray) -> float:
        margins = [mpmath.fdot(w, gap) for gap in (chosen - rejected).tolist()]
        likelihood = mpmath.fsum(mpmath.log1p(mpmath.exp(-margin)) for margin in margins)
        return float(likelihood + 0.35 * mpmath.fdot(w, w))

    for direction in np.eye(3):
        up, here, down = (loss(weights + h * direction) for h in (1e-4, 0.0, -1e-4))
        assert abs(up - down) / 2e-4 < 1e-6
        assert up > here < down


def test_a_linear_reward_learns_what_is_linear() -> None:
    """Maximum likelihood is consistent for r*/τ; within five standard errors of 1/√(curvature)."""
    generator = np.random.default_rng(5)
    features = generator.normal(size=(4, 200, 2))
    truth = features @ [1.0, -2.0]
    pairs = draw_preferences(jax.random.key(3), truth, num_pairs=20_000, noise=2.0)
    weights = fit_linear_reward(pairs.of(features.reshape(-1, 2)), ridge=1e-3)
    np.testing.assert_allclose(weights, [0.5, -1.0], atol=0.08)


def test_bad_input_is_named(responses: np.ndarray) -> None:
    truth = true_rewards(responses)
    with pytest.raises(ValueError, match=r"noise must be positive"):
        draw_preferences(jax.random.key(0), truth, num_pairs=1, noise=0)
    with pytest.raises(ValueError, match=r"true_rewards has shape \(2, 1\)"):
        draw_preferences(jax.random.key(0), truth[:, :1], num_pairs=1, noise=1)
    with pytest.raises(ValueError, match=r"ridge must be positive"):
        fit_linear_reward(Preferences(truth, truth), ridge=0)
