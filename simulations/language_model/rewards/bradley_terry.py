r"""A reward that is learned from preferences, by the model of Bradley and Terry (1952).

Someone who sees two responses to a prompt prefers the first with probability
:math:`\sigma((r^*(y) - r^*(y'))/\tau)`. A reward model on the language model's own features is
fitted to such preferences by maximum likelihood: a linear function of what the features sum to over
a response (:func:`fit_linear_reward`, a convex problem), or one of the features at its end, trained
together with them (:func:`train_reward_model`). It is a proxy: where it differs from the true
reward :math:`r^*`, which is known here, selection by it goes too far
(:mod:`bon_theory.tuning` hedges).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit

from simulations.engine.checkpoint import Identity
from simulations.language_model.fit import Fit, fit
from simulations.language_model.resume import Checkpoint
from simulations.language_model.transformer import Transformer
from simulations.tools.arguments import positive_float


class Preferences(NamedTuple):
    """P pairs: numbers ``[P]`` of responses, or what is known of them, ``[P, ...]``.

    Attributes:
        chosen: the preferred one.
        rejected: the other.
    """

    chosen: NDArray[Any]
    rejected: NDArray[Any]

    def of(self, values: NDArray[Any]) -> Preferences:
        """Of numbers to ``values [B N, ...]`` of the responses, as sequences or features."""
        return Preferences(values[self.chosen], values[self.rejected])


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
    key: jax.Array, true_rewards: NDArray[np.float64], *, num_pairs: int, noise: float
) -> Preferences:
    """What someone with the true reward prefers, in pairs of responses to one prompt.

    Prompt and both responses are drawn at random, the two different candidates; consumes ``key``.
    Response i to prompt b has the number b N + i.

    Args:
        key: a typed key.
        true_rewards: ``[B, N]``, N at least 2.
        num_pairs: P.
        noise: τ > 0, in units of the reward: a difference of τ is seen rightly in 73 % of cases.

    Raises:
        ValueError: fewer than two responses, or a noise that is not positive.
    """
    if true_rewards.ndim != 2 or true_rewards.shape[1] < 2:
        raise ValueError(
            f"true_rewards has shape {true_rewards.shape}: pass [B, N] with at least two responses "
            "to each prompt"
        )
    num_prompts, num_candidates = true_rewards.shape
    tau = positive_float("noise", noise)
    generator = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), jnp.uint32)))
    prompt = generator.integers(num_prompts, size=num_pairs)
    first = generator.integers(num_candidates, size=num_pairs)
    second = (first + generator.integers(1, num_candidates, size=num_pairs)) % num_candidates
    gap = true_rewards[prompt, first] - true_rewards[prompt, second]
    first_wins = generator.random(num_pairs) < expit(gap / tau)
    chosen, rejected = np.where(first_wins, (first, second), (second, first))
    start = prompt * num_candidates
    return Preferences(start + chosen, start + rejected)


def response_features(
    backbone: Transformer,
    prompts: NDArray[np.integer],
    responses: NDArray[np.integer],
    *,
    batch_size: int = 512,
) -> NDArray[np.float64]:
    """The sum ``[B, N, D]`` over a response's tokens of the model's features after each.

    A linear function of it is a reward that tokens earn one by one, by all that came before them.

    Args:
        backbone: of width D.
        prompts: ``[B, P]``, PAD to the left.
        responses: ``[B, N, T]``, PAD to the right.
        batch_size: sequences at a time.
    """
    shape, start = responses.shape, prompts.shape[1]
    before = np.broadcast_to(prompts[:, None], (*shape[:2], start))
    tokens = np.concatenate([before, responses], axis=-1).reshape(-1, start + shape[2])
    rows = _in_batches(partial(_summed_features, backbone, start), tokens, batch_size)
    return rows.reshape(*shape[:2], -1)


def fit_linear_reward(pairs: Preferences, *, ridge: float = 1.0) -> NDArray[np.float64]:
    r"""Weights ``[D]`` of the reward :math:`w \cdot f` that explains preferences best.

    .. math:: \min_w \; -\sum \log\sigma(w \cdot (f_w - f_l)) + \tfrac{\rho}{2} |w|^2,

    which has one minimiser: no order of the data and no start decides what is learned.

    Args:
        pairs: of features, ``[P, D]``.
        ridge: ρ > 0, the precision of a Gaussian prior.

    Example:
        >>> features = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        >>> pairs = Preferences(np.array([0, 0, 1]), np.array([1, 2, 2])).of(features)
        >>> fit_linear_reward(pairs).round(2).tolist()
        [0.68, -0.51]
    """
    gaps = np.asarray(pairs.chosen, np.float64) - pairs.rejected
    precision = positive_float("ridge", ridge)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = gaps @ weights
        value = np.logaddexp(0, -margins).sum() + precision / 2 * weights @ weights
        return value, precision * weights - gaps.T @ expit(-margins)

    def curvature(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        margins = gaps @ weights
        spread = expit(margins) * expit(-margins)
        return gaps.T @ (spread[:, None] * gaps) + precision * np.eye(weights.size)

    start = np.zeros(gaps.shape[1])
    found = optimize.minimize(
        loss, start, jac=True, hess=curvature, method="trust-ncg", options={"gtol": 1e-6}
    )
    return found.x


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
        preferences: P pairs of sequences ``[P, T]``, prompt and response, PAD at both ends.
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
    return _in_batches(partial(_rewards, model), tokens, batch_size)


def _in_batches(
    function: Callable[[jax.Array], jax.Array], tokens: NDArray[np.integer], batch_size: int
) -> NDArray[np.float64]:
    """``function`` of ``tokens [R, T]``, so many rows at a time."""
    batch_size = min(batch_size, len(tokens))
    values = []
    for start in range(0, len(tokens), batch_size):
        # The last batch repeats its last row, so that one compiled program serves all.
        rows = np.minimum(np.arange(start, start + batch_size), len(tokens) - 1)
        values.append(np.asarray(function(jnp.asarray(tokens[rows], jnp.int32))))
    return np.concatenate(values)[: len(tokens)].astype(np.float64)


@partial(nnx.jit, static_argnums=1)
def _summed_features(backbone: Transformer, start: int, tokens: jax.Array) -> jax.Array:
    features = backbone.features(tokens)[:, start:].astype(jnp.float32)
    present = tokens[:, start:] != backbone.config.vocabulary.pad_id
    return jnp.einsum("rtd,rt->rd", features, present.astype(jnp.float32))


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
