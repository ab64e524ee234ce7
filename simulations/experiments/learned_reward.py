"""A proxy that was learned from preferences, and how far to select by it for the true reward.

A language model draws responses; someone with a true reward states noisy preferences between some
of them; a reward, linear in the model's features, learns from these. Selecting by what it learned
raises the true reward at first, and then may lower it. On half of the prompts the true reward is
known, and one n and one temperature are chosen for all prompts by hedging; on the other half it is
seen what they are worth. Each half takes its turn, and preferences are stated several times over.

Shapes: S sets of preferences, B prompts, N candidates, Q numbers of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import tuning
from simulations.engine import checkpoint
from simulations.language_model.rewards.bradley_terry import (
    draw_preferences,
    fit_linear_reward,
    response_features,
)
from simulations.language_model.transformer import Transformer
from simulations.tools.nested import flatten, unflatten

TrueReward = Callable[[NDArray[np.int32]], NDArray[np.float64]]
"""Responses ``[R, T]`` to what they are worth, ``[R]``."""


@dataclass(frozen=True)
class LearnedRewardConfig:
    """The preferences, the reward that is learned from them, and the candidates.

    Attributes:
        num_pairs: preferences.
        noise: τ of the preferences, in standard deviations of the true reward.
        ridge: ρ of :func:`~simulations.language_model.rewards.bradley_terry.fit_linear_reward`.
        num_candidates: N responses to each prompt that are selected among.
        num_judged: others between which preferences are stated, at most.
        numbers: of candidates n, of the curve; the first is 1.
        hedged_n: candidates for which a temperature is chosen.
        num_seeds: S, how often preferences are stated and a reward is learned from them.
    """

    num_pairs: int = 4096
    noise: float = 0.5
    ridge: float = 1.0
    num_candidates: int = 128
    num_judged: int = 64
    numbers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    hedged_n: int = 128
    num_seeds: int = 4


@dataclass(frozen=True)
class Choice:
    """A setting for all prompts, chosen on one half of them and judged on the other.

    Attributes:
        n: candidates, ``[S, 2]``: chosen on the first half, and on the second.
        temperature: λ, in units of the proxy, ``[S, 2]``; 0 is best-of-n.
        promised: true reward of each prompt by what was chosen on its own half, ``[S, B]``: the
            best that there is in hindsight.
        achieved: by what was chosen on the other half, ``[S, B]``.
    """

    n: NDArray[np.float64]
    temperature: NDArray[np.float64]
    promised: NDArray[np.float64]
    achieved: NDArray[np.float64]


@dataclass(frozen=True)
class LearnedRewardResults:
    """What selecting by the proxy does to both rewards; both in standard deviations within prompts.

    Attributes:
        identity: what was run on what.
        correlation: of proxy and true reward, within prompts, ``[S]``.
        accuracy: share of pairs that the proxy ranks as the true reward does, ``[S]``.
        numbers: ``[Q]``.
        proxy: under best-of-n, ``[S, Q, B]``.
        true: likewise.
        choices: by name: hedged n, hedged temperature, and the largest n for comparison.
    """

    identity: dict[str, Any]
    correlation: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    numbers: NDArray[np.int64]
    proxy: NDArray[np.float64]
    true: NDArray[np.float64]
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
        backbone: the language model, whose features the reward is linear in.
        prompts: ``[B, P]``, an even number, PAD to the left.
        responses: ``[B, M, T]`` of the language model, M at least N + 2, PAD to the right.
        true_reward: of whole responses.
        judged: ``[B, M]``, between which preferences may be stated; all unless given. Where it
            leaves out what is rare, selection reaches responses that nobody has judged.
        progress: called as ``progress(done, total)`` after each set of preferences.

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
    judged = np.ones(worth.shape, bool) if judged is None else judged
    others = _others(judged[:, config.num_candidates :])[:, : config.num_judged]
    others = others + config.num_candidates
    shown = response_features(
        backbone, prompts, np.take_along_axis(responses, others[..., None], axis=1)
    )
    features = response_features(backbone, prompts, responses[:, : config.num_candidates])
    truth = worth[:, : config.num_candidates]
    seeds = []
    for seed in range(config.num_seeds):
        preferences = draw_preferences(
            jax.random.fold_in(key, seed),
            np.take_along_axis(worth, others, axis=1),
            num_pairs=config.num_pairs,
            noise=config.noise,
        )
        pairs = preferences.of(shown.reshape(-1, shown.shape[-1]))
        proxy = features @ fit_linear_reward(pairs, ridge=config.ridge)
        seeds.append(_judge(config, proxy / _spread(proxy), truth))
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


def _judge(
    config: LearnedRewardConfig, proxy: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, Any]:
    """Fields of the results of one set of preferences, of ``proxy`` and ``truth [B, N]``."""
    law = bt.Policy.from_samples(proxy)
    curve = [bt.best_of_n(law, float(n)) for n in config.numbers]
    return {
        "correlation": np.corrcoef(_centred(proxy).ravel(), _centred(truth).ravel())[0, 1],
        "accuracy": _accuracy(proxy, truth),
        "proxy": np.stack([np.asarray(bt.expected_reward(p)) for p in curve]),
        "true": np.stack([np.asarray(bt.expected_value(p, truth)) for p in curve]),
        "choices": _choices(config, proxy, truth),
    }


def _choices(
    config: LearnedRewardConfig, proxy: NDArray[np.float64], truth: NDArray[np.float64]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """One setting for all prompts by each way of choosing, both halves in turn."""
    first, second = (
        (bt.Policy.from_samples(proxy[half]), truth[half]) for half in _halves(len(proxy))
    )
    settings = [_settings(config, *half) for half in (first, second)]
    choices = {}
    for name in settings[0]:
        on_first, on_second = (found[name] for found in settings)
        promised = _worth(on_first, *first), _worth(on_second, *second)
        achieved = _worth(on_second, *first), _worth(on_first, *second)
        choices[name] = {
            "n": np.array([on_first.n, on_second.n]),
            "temperature": np.array([on_first.temperature, on_second.temperature]),
            "promised": np.concatenate(promised),
            "achieved": np.concatenate(achieved),
        }
    return choices


class _Setting(NamedTuple):
    """Soft best-of-n at one temperature; 0 is best-of-n."""

    n: float
    temperature: float


def _settings(
    config: LearnedRewardConfig, law: bt.Policy, truth: NDArray[np.float64]
) -> dict[str, _Setting]:
    """What each way of choosing chooses for all prompts, where the true reward is known."""
    largest = max(config.numbers)
    by_n = tuning.hedge_n(law, truth, max_n=largest, across_prompts=True)
    by_temperature = tuning.hedge_temperature(law, truth, n=config.hedged_n, across_prompts=True)
    return {
        "largest n": _Setting(float(largest), 0.0),
        "hedged n": _Setting(float(by_n.parameter), 0.0),
        "hedged temperature": _Setting(float(config.hedged_n), float(by_temperature.parameter)),
    }


def _worth(setting: _Setting, law: bt.Policy, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected true reward of each prompt."""
    return np.asarray(bt.expected_value(bt.soft_best_of_n(law, *setting), truth))


def _halves(num_prompts: int) -> tuple[slice, slice]:
    return slice(num_prompts // 2), slice(num_prompts // 2, None)


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
