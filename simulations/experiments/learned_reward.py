"""A proxy that was learned from preferences, and how far to select by it for the true reward.

A language model draws responses; someone with a true reward states noisy preferences between some
of them; a reward model learns from these. Selecting by what it learned raises the true reward at
first, and then may lower it. On half of the prompts the curve is known, and one n and one
temperature are chosen for all prompts by hedging; on the other half it is seen what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import tuning
from simulations.language_model.generate import generate
from simulations.language_model.rewards.bradley_terry import (
    RewardModel,
    RewardTrainingConfig,
    draw_preferences,
    rewards_of,
    train_reward_model,
)
from simulations.language_model.transformer import Transformer

TrueReward = Callable[[NDArray[np.int32]], NDArray[np.float64]]
"""Responses ``[R, T]`` to what they are worth, ``[R]``."""


@dataclass(frozen=True)
class LearnedRewardConfig:
    """The preferences, the reward model, and the candidates.

    Attributes:
        num_pairs: preferences.
        noise: τ of the preferences, in standard deviations of the true reward.
        training: of the reward model.
        num_candidates: responses to each prompt.
        max_new_tokens: the longest response, its end counted.
        numbers: of candidates n, of the curve.
        hedged_n: candidates for which a temperature is chosen.
    """

    num_pairs: int = 512
    noise: float = 1.0
    training: RewardTrainingConfig = field(default_factory=RewardTrainingConfig)
    num_candidates: int = 256
    max_new_tokens: int = 16
    numbers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    hedged_n: int = 64


@dataclass(frozen=True)
class Choice:
    """A setting for all prompts, chosen on one half of them and judged on the other.

    Attributes:
        n: candidates.
        temperature: λ, in units of the proxy; 0 is best-of-n.
        expected: mean true reward that it promises on the prompts it was chosen on.
        achieved: on the other prompts.
        std_error: of ``achieved``, over prompts.
    """

    n: float
    temperature: float
    expected: float
    achieved: float
    std_error: float


@dataclass(frozen=True)
class LearnedRewardResults:
    """What selecting by the proxy does to both rewards, over the prompts that were held out.

    Attributes:
        correlation: of proxy and true reward, within prompts.
        accuracy: share of the held-out prompts' pairs that the proxy ranks as the true reward does.
        losses: of the reward model's training.
        numbers: ``[Q]``.
        proxy: mean of the proxy under best-of-n, in standard deviations within prompts, ``[Q]``.
        true: of the true reward, likewise.
        true_std_error: over prompts.
        choices: by name: hedged n, hedged temperature, and the largest n for comparison.
    """

    correlation: float
    accuracy: float
    losses: NDArray[np.float32]
    numbers: NDArray[np.int64]
    proxy: NDArray[np.float64]
    true: NDArray[np.float64]
    true_std_error: NDArray[np.float64]
    choices: dict[str, Choice]


def run(
    config: LearnedRewardConfig,
    key: jax.Array,
    backbone: Transformer,
    prompts: NDArray[np.integer],
    true_reward: TrueReward,
) -> LearnedRewardResults:
    """Draw, prefer, learn, choose and judge; consumes ``key``.

    Args:
        config: of the experiment.
        key: a typed key.
        backbone: the language model. A copy of it becomes the reward model.
        prompts: ``[B, P]``, an even number, PAD to the left; settings are chosen on the first half.
        true_reward: of whole responses.
    """
    draw_key, pair_key, step_key, extra_key = jax.random.split(key, 4)
    drawn = _draw(draw_key, config, backbone, prompts)
    truth = _by_prompt(true_reward, drawn)
    spread = _spread(truth)

    # Preferences are of responses that are not among the candidates.
    seen = _draw(extra_key, config, backbone, prompts)
    preferences = draw_preferences(
        pair_key,
        prompts,
        seen,
        _by_prompt(true_reward, seen),
        num_pairs=config.num_pairs,
        noise=config.noise * spread,
    )
    model = RewardModel(nnx.clone(backbone))
    fitted = train_reward_model(config.training, step_key, model, preferences)
    proxy = _proxy(model, prompts, drawn)

    half = len(prompts) // 2
    known, fresh = slice(half), slice(half, None)
    law = bt.Policy.from_samples(proxy[fresh] / _spread(proxy))
    curve = [bt.best_of_n(law, n) for n in config.numbers]
    values = np.stack([np.asarray(bt.expected_value(p, truth[fresh] / spread)) for p in curve])
    return LearnedRewardResults(
        correlation=float(np.corrcoef(_centred(proxy).ravel(), _centred(truth).ravel())[0, 1]),
        accuracy=_accuracy(proxy[fresh], truth[fresh]),
        losses=fitted.losses,
        numbers=np.asarray(config.numbers),
        proxy=np.stack([np.asarray(bt.expected_reward(p)).mean() for p in curve]),
        true=values.mean(axis=1),
        true_std_error=values.std(axis=1, ddof=1) / np.sqrt(half),
        choices=_choices(config, proxy / _spread(proxy), truth / spread, known, fresh),
    )


def _choices(
    config: LearnedRewardConfig,
    proxy: NDArray[np.float64],
    truth: NDArray[np.float64],
    known: slice,
    fresh: slice,
) -> dict[str, Choice]:
    """One setting for all prompts by each way of choosing, judged on the fresh ones."""
    law, other = bt.Policy.from_samples(proxy[known]), bt.Policy.from_samples(proxy[fresh])
    by_n = tuning.hedge_n(law, truth[known], across_prompts=True)
    by_temperature = tuning.hedge_temperature(
        law, truth[known], n=config.hedged_n, across_prompts=True
    )
    settings = {
        "hedged n": (float(by_n.parameter), 0.0),
        "hedged temperature": (config.hedged_n, float(by_temperature.parameter)),
        "largest n": (max(config.numbers), 0.0),
    }
    choices = {}
    for name, (n, temperature) in settings.items():
        promised, achieved = (
            np.asarray(bt.expected_value(bt.soft_best_of_n(p, n, temperature), values))
            for p, values in ((law, truth[known]), (other, truth[fresh]))
        )
        error = achieved.std(ddof=1) / np.sqrt(achieved.size)
        choices[name] = Choice(
            n, temperature, float(promised.mean()), float(achieved.mean()), float(error)
        )
    return choices


def _draw(
    key: jax.Array,
    config: LearnedRewardConfig,
    backbone: Transformer,
    prompts: NDArray[np.integer],
) -> NDArray[np.int32]:
    return generate(
        key,
        backbone,
        prompts,
        num_candidates=config.num_candidates,
        max_new_tokens=config.max_new_tokens,
    ).tokens


def _by_prompt(reward: TrueReward, responses: NDArray[np.int32]) -> NDArray[np.float64]:
    """Rewards ``[B, N]`` of ``responses [B, N, T]``."""
    return reward(responses.reshape(-1, responses.shape[-1])).reshape(responses.shape[:2])


def _proxy(
    model: RewardModel, prompts: NDArray[np.integer], responses: NDArray[np.int32]
) -> NDArray[np.float64]:
    """What the reward model says of each response, ``[B, N]``."""
    shape = responses.shape
    before = np.broadcast_to(prompts[:, None], (*shape[:2], prompts.shape[1]))
    tokens = np.concatenate([before, responses], axis=-1)
    return rewards_of(model, tokens.reshape(-1, tokens.shape[-1])).reshape(shape[:2])


def _centred(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    return rewards - rewards.mean(axis=1, keepdims=True)


def _spread(rewards: NDArray[np.float64]) -> float:
    """Standard deviation within prompts."""
    return float(np.sqrt(np.mean(np.square(_centred(rewards)))))


def _accuracy(proxy: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Share of pairs of neighbours, without a tie of the truth, that both order alike."""
    by_proxy, by_truth = np.diff(proxy, axis=1), np.diff(truth, axis=1)
    told = by_truth != 0
    return float(np.mean(np.sign(by_proxy[told]) == np.sign(by_truth[told])))
