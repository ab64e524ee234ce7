"""A proxy that was learned from preferences, and how far to select by it for the true reward.

A language model draws responses; someone with a true reward states noisy preferences between some
of them; a reward model learns from these. Selecting by what it learned raises the true reward at
first, and then may lower it. On half of the prompts the curve is known, and one n and one
temperature are chosen for all prompts by hedging; on the other half it is seen what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import tuning
from simulations.engine import checkpoint
from simulations.language_model.rewards.bradley_terry import (
    RewardModel,
    RewardTrainingConfig,
    draw_preferences,
    rewards_of,
    train_reward_model,
)
from simulations.language_model.transformer import Transformer
from simulations.tools.nested import flatten, unflatten

TrueReward = Callable[[NDArray[np.int32]], NDArray[np.float64]]
"""Responses ``[R, T]`` to what they are worth, ``[R]``."""


@dataclass(frozen=True)
class LearnedRewardConfig:
    """The preferences, the reward model, and the candidates.

    Attributes:
        num_pairs: preferences.
        noise: τ of the preferences, in standard deviations of the true reward.
        training: of the reward model.
        num_candidates: N responses to each prompt that are selected among; preferences are stated
            between others.
        numbers: of candidates n, of the curve.
        hedged_n: candidates for which a temperature is chosen.
        num_seeds: S, how often preferences are stated and a reward model is trained on them.
    """

    num_pairs: int = 512
    noise: float = 1.0
    training: RewardTrainingConfig = field(default_factory=RewardTrainingConfig)
    num_candidates: int = 256
    numbers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    hedged_n: int = 64
    num_seeds: int = 1


@dataclass(frozen=True)
class Choice:
    """A setting for all prompts, chosen on one half of them and judged on the other; all ``[S]``.

    Attributes:
        n: candidates.
        temperature: λ, in units of the proxy; 0 is best-of-n.
        expected: mean true reward that it promises on the prompts it was chosen on.
        achieved: on the other prompts.
        gain: of ``achieved`` over that of the largest n.
        std_error: of ``gain``, over prompts.
    """

    n: NDArray[np.float64]
    temperature: NDArray[np.float64]
    expected: NDArray[np.float64]
    achieved: NDArray[np.float64]
    gain: NDArray[np.float64]
    std_error: NDArray[np.float64]


@dataclass(frozen=True)
class LearnedRewardResults:
    """What selecting by the proxy does to both rewards, over the prompts that were held out.

    Attributes:
        identity: what was run on what.
        correlation: of proxy and true reward, within prompts, ``[S]``.
        accuracy: share of the held-out prompts' pairs that the proxy ranks as the true reward does,
            ``[S]``.
        losses: of the reward model's training, ``[S, steps]``.
        numbers: ``[Q]``.
        proxy: mean of the proxy under best-of-n, in standard deviations within prompts, ``[S, Q]``.
        true: of the true reward, likewise.
        true_std_error: over prompts.
        choices: by name: hedged n, hedged temperature, and the largest n for comparison.
    """

    identity: dict[str, Any]
    correlation: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    losses: NDArray[np.float32]
    numbers: NDArray[np.int64]
    proxy: NDArray[np.float64]
    true: NDArray[np.float64]
    true_std_error: NDArray[np.float64]
    choices: dict[str, Choice]

    def save(self, path: Path) -> None:
        """Write one ``.npz``, atomically."""
        fields = {name: value for name, value in asdict(self).items() if name != "identity"}
        checkpoint.save(path, self.identity, flatten(fields))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        identity, arrays = checkpoint.load(path)
        tree = unflatten(arrays)
        tree["choices"] = {name: Choice(**fields) for name, fields in tree["choices"].items()}
        return cls(identity=identity, **tree)


def run(
    config: LearnedRewardConfig,
    key: jax.Array,
    backbone: Transformer,
    prompts: NDArray[np.integer],
    responses: NDArray[np.int32],
    true_reward: TrueReward,
    *,
    judged: NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearnedRewardResults:
    """Prefer, learn, choose and judge; consumes ``key``.

    Args:
        config: of the experiment.
        key: a typed key.
        backbone: the language model. A copy of it becomes the reward model.
        prompts: ``[B, P]``, an even number, PAD to the left; settings are chosen on the first half.
        responses: ``[B, M, T]`` of the language model, M at least N + 2, PAD to the right.
        true_reward: of whole responses.
        judged: ``[B, M]``, between which preferences may be stated; all unless given. Where it
            leaves out what is rare, selection reaches responses that nobody has judged.
        progress: called as ``progress(done, total)`` after each seed.

    Raises:
        ValueError: an odd number of prompts, or too few responses.
    """
    if len(prompts) % 2 or responses.shape[1] < config.num_candidates + 2:
        raise ValueError(
            f"prompts has {len(prompts)} rows and responses has shape {responses.shape}: pass an "
            f"even number of prompts, and at least {config.num_candidates + 2} responses to each"
        )
    worth = true_reward(responses.reshape(-1, responses.shape[-1])).reshape(responses.shape[:2])
    worth = worth / _spread(worth)
    here = slice(config.num_candidates)
    judged = np.ones(worth.shape, bool) if judged is None else judged
    others = _others(judged[:, config.num_candidates :]) + config.num_candidates
    seeds = []
    for seed in range(config.num_seeds):
        pair_key, step_key = jax.random.split(jax.random.fold_in(key, seed))
        preferences = draw_preferences(
            pair_key,
            prompts,
            np.take_along_axis(responses, others[..., None], axis=1),
            np.take_along_axis(worth, others, axis=1),
            num_pairs=config.num_pairs,
            noise=config.noise,
        )
        model = RewardModel(_copy(backbone))
        fitted = train_reward_model(config.training, step_key, model, preferences)
        proxy = _proxy(model, prompts, responses[:, here])
        seeds.append(_judge(config, fitted.losses, proxy / _spread(proxy), worth[:, here]))
        if progress is not None:
            progress(seed + 1, config.num_seeds)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *seeds)
    choices = {name: Choice(**fields) for name, fields in stacked.pop("choices").items()}
    return LearnedRewardResults(
        identity={"config": asdict(config), "key": jax.random.key_data(key).tolist()},
        numbers=np.asarray(config.numbers),
        choices=choices,
        **stacked,
    )


def _others(judged: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Places ``[B, K]`` of the judged among ``judged [B, M]``, as many for every prompt.

    Raises:
        ValueError: a prompt has fewer than two.
    """
    fewest = int(judged.sum(axis=1).min())
    if fewest < 2:
        raise ValueError(f"judged leaves {fewest} responses to a prompt: a preference is of two")
    return np.argsort(~judged, axis=1, kind="stable")[:, :fewest]


def _copy(backbone: Transformer) -> Transformer:
    """The same parameters in memory of their own, since training gives up what it starts from."""
    graph, parameters = nnx.split(backbone)
    return nnx.merge(graph, jax.tree.map(jnp.copy, parameters))


def _judge(
    config: LearnedRewardConfig,
    losses: NDArray[np.float32],
    proxy: NDArray[np.float64],
    truth: NDArray[np.float64],
) -> dict[str, Any]:
    """Fields of the results of one seed, of ``proxy`` and ``truth [B, N]``."""
    half = len(proxy) // 2
    known, fresh = slice(half), slice(half, None)
    law = bt.Policy.from_samples(proxy[fresh])
    curve = [bt.best_of_n(law, float(n)) for n in config.numbers]
    values = np.stack([np.asarray(bt.expected_value(p, truth[fresh])) for p in curve])
    return {
        "correlation": np.corrcoef(_centred(proxy).ravel(), _centred(truth).ravel())[0, 1],
        "accuracy": _accuracy(proxy[fresh], truth[fresh]),
        "losses": losses,
        "proxy": np.stack([np.asarray(bt.expected_reward(p)).mean() for p in curve]),
        "true": values.mean(axis=1),
        "true_std_error": values.std(axis=1, ddof=1) / np.sqrt(half),
        "choices": _choices(config, proxy, truth, known, fresh),
    }


def _choices(
    config: LearnedRewardConfig,
    proxy: NDArray[np.float64],
    truth: NDArray[np.float64],
    known: slice,
    fresh: slice,
) -> dict[str, dict[str, float]]:
    """One setting for all prompts by each way of choosing, judged on the fresh ones."""
    law, other = bt.Policy.from_samples(proxy[known]), bt.Policy.from_samples(proxy[fresh])
    by_n = tuning.hedge_n(law, truth[known], max_n=max(config.numbers), across_prompts=True)
    by_temperature = tuning.hedge_temperature(
        law, truth[known], n=config.hedged_n, across_prompts=True
    )
    settings = {
        "largest n": (float(max(config.numbers)), 0.0),
        "hedged n": (float(by_n.parameter), 0.0),
        "hedged temperature": (float(config.hedged_n), float(by_temperature.parameter)),
    }
    choices, largest = {}, None
    for name, (n, temperature) in settings.items():
        promised, achieved = (
            np.asarray(bt.expected_value(bt.soft_best_of_n(p, n, temperature), values))
            for p, values in ((law, truth[known]), (other, truth[fresh]))
        )
        largest = achieved if largest is None else largest
        gains = achieved - largest
        choices[name] = {
            "n": n,
            "temperature": temperature,
            "expected": promised.mean(),
            "achieved": achieved.mean(),
            "gain": gains.mean(),
            "std_error": gains.std(ddof=1) / np.sqrt(gains.size),
        }
    return choices


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
