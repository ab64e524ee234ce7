r"""A reward that is learned from preferences, by the model of Bradley and Terry (1952).

Someone who sees two responses to a prompt prefers the first with probability
:math:`\sigma((r^*(y) - r^*(y'))/\tau)`. A reward model on the language model's own features is
fitted to such preferences by maximum likelihood. It is a proxy: where it differs from the true
reward :math:`r^*`, which is known here, selection by it goes too far
(:mod:`bon_theory.tuning` hedges).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray
from scipy.special import expit

from simulations.engine.checkpoint import Identity
from simulations.language_model.fit import Fit, fit
from simulations.language_model.resume import Checkpoint
from simulations.language_model.transformer import Transformer
from simulations.tools.arguments import positive_float


class Preferences(NamedTuple):
    """Pairs of sequences ``[P, T]``, prompt and response, PAD at both ends.

    Attributes:
        chosen: the preferred one.
        rejected: the other.
    """

    chosen: NDArray[np.int32]
    rejected: NDArray[np.int32]


class RewardModel(nnx.Module):
    """A linear function of a language model's features at the end of a response.

    Before any training every response has reward 0.

    Args:
        backbone: reads the sequences; it is trained with the head.
    """

    def __init__(self, backbone: Transformer) -> None:
        self.backbone = backbone
        self.head = nnx.Param(jnp.zeros(backbone.config.width, jnp.float32))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Rewards ``[R]`` of ``tokens [R, T]``, each of one prompt and response."""
        pad = self.backbone.config.vocabulary.pad_id
        last = tokens.shape[1] - 1 - jnp.argmax((tokens != pad)[:, ::-1], axis=1)
        features = self.backbone.features(tokens)
        at_end = jnp.take_along_axis(features, last[:, None, None], axis=1)[:, 0]
        return jnp.einsum("rd,d->r", at_end.astype(jnp.float32), self.head[...])


@dataclass(frozen=True)
class RewardTrainingConfig:
    """How a reward model is trained.

    Attributes:
        num_steps: updates by AdamW.
        batch_size: pairs in an update.
        learning_rate: its largest value, reached after a tenth of the steps; then it falls along a
            cosine.
        weight_decay: AdamW's.
    """

    num_steps: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.1


def draw_preferences(
    key: jax.Array,
    prompts: NDArray[np.integer],
    responses: NDArray[np.integer],
    true_rewards: NDArray[np.float64],
    *,
    num_pairs: int,
    noise: float,
) -> Preferences:
    """What someone with the true reward prefers, in pairs of responses to one prompt.

    Prompt and both responses are drawn at random, the two different candidates; consumes ``key``.

    Args:
        key: a typed key.
        prompts: ``[B, P]``, PAD to the left.
        responses: ``[B, N, T]``, PAD to the right, N at least 2.
        true_rewards: ``[B, N]``.
        num_pairs: P.
        noise: τ > 0, in units of the reward: a difference of τ is seen rightly in 73 % of cases.

    Raises:
        ValueError: shapes that do not fit, or a noise that is not positive.
    """
    num_prompts, num_candidates, _ = responses.shape
    if true_rewards.shape != (num_prompts, num_candidates) or len(prompts) != num_prompts:
        raise ValueError(
            f"prompts has {len(prompts)} rows, responses has shape {responses.shape} and "
            f"true_rewards {true_rewards.shape}: pass a reward for each response"
        )
    tau = positive_float("noise", noise)
    generator = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), jnp.uint32)))
    prompt = generator.integers(num_prompts, size=num_pairs)
    first = generator.integers(num_candidates, size=num_pairs)
    second = (first + generator.integers(1, num_candidates, size=num_pairs)) % num_candidates
    gap = true_rewards[prompt, first] - true_rewards[prompt, second]
    first_wins = generator.random(num_pairs) < expit(gap / tau)
    chosen, rejected = np.where(first_wins, (first, second), (second, first))

    def sequences(candidate: NDArray[np.integer]) -> NDArray[np.int32]:
        both = np.concatenate([prompts[prompt], responses[prompt, candidate]], axis=1)
        return both.astype(np.int32)

    return Preferences(sequences(chosen), sequences(rejected))


def train_reward_model(
    config: RewardTrainingConfig,
    key: jax.Array,
    model: RewardModel,
    preferences: Preferences,
    *,
    checkpoint: Path | None = None,
    identity: Identity | None = None,
) -> Fit:
    """Fit a reward model in place by maximum likelihood; consumes ``key``.

    The pairs of step i depend on (key, i) alone.

    Args:
        config: of the training.
        key: a typed key, which decides the pairs of each step.
        model: whose backbone and head are trained.
        preferences: P pairs.
        checkpoint: folder to which the state is written as training goes on.
        identity: what else decides the run: of the language model and of the preferences.
    """
    seed = np.asarray(jax.random.bits(key, (4,), jnp.uint32))

    def batch(step: int) -> Preferences:
        rows = np.random.default_rng([*seed, step]).integers(
            len(preferences.chosen), size=config.batch_size
        )
        return Preferences(preferences.chosen[rows], preferences.rejected[rows])

    kept = None if checkpoint is None else Checkpoint(checkpoint, identity or {})
    return fit(
        model,
        preference_loss,
        batch,
        _optimizer(config),
        num_steps=config.num_steps,
        checkpoint=kept,
    )


def preference_loss(model: RewardModel, pairs: Preferences) -> tuple[jax.Array, jax.Array]:
    r"""Sum of :math:`-\log\sigma(r(y_w) - r(y_l))` over pairs, and their number."""
    margin = model(jnp.asarray(pairs.chosen)) - model(jnp.asarray(pairs.rejected))
    number = jnp.asarray(margin.size, jnp.float32)
    return -jnp.sum(jax.nn.log_sigmoid(margin)), number


def rewards_of(
    model: RewardModel, tokens: NDArray[np.integer], *, batch_size: int = 512
) -> NDArray[np.float64]:
    """Rewards ``[R]`` of ``tokens [R, T]``, prompts and responses, a batch at a time."""
    batch_size = min(batch_size, len(tokens))
    rewards = []
    for start in range(0, len(tokens), batch_size):
        # The last batch repeats its last row, so that one compiled program serves all.
        rows = np.minimum(np.arange(start, start + batch_size), len(tokens) - 1)
        rewards.append(np.asarray(_rewards(model, jnp.asarray(tokens[rows], jnp.int32))))
    return np.concatenate(rewards)[: len(tokens)].astype(np.float64)


@nnx.jit
def _rewards(model: RewardModel, tokens: jax.Array) -> jax.Array:
    return model(tokens)


@cache  # the same object for the same configuration: a second run does not compile
def _optimizer(config: RewardTrainingConfig) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.num_steps // 10, config.num_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )
