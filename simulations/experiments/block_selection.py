"""An additive reward, block by block: what n candidates of each block earn, and how far they go.

Whatever the length of a block, n candidates for each draw n tokens for every token of the answer;
short blocks go further from the model for them. Beside what is measured on a language model stands
the theory of additive rewards for independent tokens of the same reward law
(:mod:`bon_theory.sequence`): the difference is what a token says of those after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import sequence
from simulations.engine import checkpoint as files
from simulations.language_model.generate import generate
from simulations.language_model.rewards.tokens import of_tokens
from simulations.language_model.select import additive, kl_from_candidates, select_online
from simulations.language_model.transformer import Transformer, parameters_sha256
from simulations.selection.candidates import best_of_n
from simulations.statistics.estimate import Estimate


@dataclass(frozen=True)
class BlockSelectionConfig:
    """What is selected.

    Attributes:
        numbers: candidates n of a block.
        block_lengths: in tokens; the longest are whole responses.
        max_new_tokens: the longest response, its end counted.
        num_sequences: selected for each prompt, in every case.
        num_reference: responses to each prompt that give the reward law of a token.
    """

    numbers: tuple[int, ...] = (2, 4, 8)
    block_lengths: tuple[int, ...] = (1, 2, 4, 8, 16)
    max_new_tokens: int = 16
    num_sequences: int = 8
    num_reference: int = 64


@dataclass(frozen=True)
class Measured:
    """Means over sequences ``[Q, L]``: numbers by block lengths.

    Attributes:
        value: the mean.
        std_error: of it, over sequences.
    """

    value: NDArray[np.float64]
    std_error: NDArray[np.float64]


@dataclass(frozen=True)
class BlockSelectionResults:
    """Measured and predicted, ``[Q, L]``: numbers by block lengths.

    Attributes:
        config: what was asked for.
        reference_reward: of the model's own responses.
        mean_length: of the model's own responses, in tokens.
        reward: of the selected ones.
        kl_divergence: of their law from the model's, in nats, estimated from the candidates
            (:func:`~simulations.language_model.select.kl_from_candidates`).
        predicted_reference: of as many independent tokens as a response has on average.
        predicted_reward: for these, selected.
        predicted_kl: for independent tokens, in nats.
    """

    config: BlockSelectionConfig
    reference_reward: float
    mean_length: float
    reward: Measured
    kl_divergence: Measured
    predicted_reference: float
    predicted_reward: NDArray[np.float64]
    predicted_kl: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return json.loads(json.dumps(asdict(self), default=np.ndarray.tolist))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Undo ``to_json``."""
        config = BlockSelectionConfig(**fields["config"])
        return cls(
            config=replace(
                config,
                numbers=tuple(config.numbers),
                block_lengths=tuple(config.block_lengths),
            ),
            reference_reward=fields["reference_reward"],
            mean_length=fields["mean_length"],
            reward=Measured(*map(np.asarray, fields["reward"].values())),
            kl_divergence=Measured(*map(np.asarray, fields["kl_divergence"].values())),
            predicted_reference=fields["predicted_reference"],
            predicted_reward=np.asarray(fields["predicted_reward"]),
            predicted_kl=np.asarray(fields["predicted_kl"]),
        )


def run(
    config: BlockSelectionConfig,
    key: jax.Array,
    model: Transformer,
    prompts: NDArray[np.integer],
    token_rewards: NDArray[np.float64],
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BlockSelectionResults:
    """Select by best-of-n at every number and block length; consumes ``key``.

    Args:
        config: of the experiment.
        key: a typed key.
        model: draws the candidates.
        prompts: ``[B, P]``, PAD to the left.
        token_rewards: ``[V]``.
        checkpoint: directory in which what was drawn is kept, and each case as it is done.
        progress: called as ``progress(done, total)`` after each case.
    """
    drawn = generate(
        jax.random.fold_in(key, 0),
        model,
        prompts,
        num_candidates=config.num_reference,
        max_new_tokens=config.max_new_tokens,
        checkpoint=checkpoint,
    )
    rewards = of_tokens(token_rewards, drawn.tokens)
    shape = (len(config.numbers), len(config.block_lengths))
    reward, divergence = np.empty((2, *shape)), np.empty((2, *shape))
    predicted = np.empty((2, *shape))
    symbol = _token_law(rewards[drawn.tokens < token_rewards.size])
    length = round(float(drawn.lengths.mean()))
    for case, (i, j) in enumerate(np.ndindex(shape)):
        n, block_length = config.numbers[i], config.block_lengths[j]
        select = partial(
            _measure,
            jax.random.fold_in(key, case + 1),
            model,
            prompts,
            token_rewards,
            n=n,
            block_length=block_length,
            max_new_tokens=config.max_new_tokens,
            num_sequences=config.num_sequences,
            # As many for every n: one program.
            num_spare=4 * max(config.numbers) - n,
        )
        found = select() if checkpoint is None else _kept(checkpoint, select)
        reward[:, i, j], divergence[:, i, j] = found["reward"], found["kl_divergence"]
        predicted[:, i, j] = _prediction(symbol, length, block_length, n)
        if progress is not None:
            progress(case + 1, reward[0].size)
    return BlockSelectionResults(
        config=config,
        reference_reward=float(rewards.sum(axis=-1).mean()),
        mean_length=float(drawn.lengths.mean()),
        reward=Measured(*reward),
        kl_divergence=Measured(*divergence),
        predicted_reference=length * float(bt.expected_reward(symbol)),
        predicted_reward=predicted[0],
        predicted_kl=predicted[1],
    )


def _measure(
    key: jax.Array,
    model: Transformer,
    prompts: NDArray[np.integer],
    token_rewards: NDArray[np.float64],
    *,
    n: int,
    block_length: int,
    max_new_tokens: int,
    num_sequences: int,
    num_spare: int,
) -> dict[str, NDArray[np.float64]]:
    """Mean and standard error of reward and divergence in one case."""
    rule = best_of_n(n)
    selected = select_online(
        key,
        model,
        prompts,
        rule,
        value=additive(token_rewards),
        max_new_tokens=max_new_tokens,
        block_length=block_length,
        num_sequences=num_sequences,
        num_spare=num_spare,
    )
    return {
        "reward": _moments(Estimate.from_values(selected.values.reshape(-1))),
        "kl_divergence": _moments(kl_from_candidates(rule, selected).estimate),
    }


def _kept(
    directory: Path, select: partial[dict[str, NDArray[np.float64]]]
) -> dict[str, NDArray[np.float64]]:
    """A case as it is on disk, or done and put there."""
    key, model, prompts, token_rewards = select.args
    identity = {
        "key": jax.random.key_data(key).tolist(),
        "parameters": parameters_sha256(model),
        "prompts": files.describe(np.asarray(prompts)),
        "token_rewards": files.describe(token_rewards),
        **select.keywords,
    }
    path = directory / files.file_name("blocks", identity)
    if path.exists():
        return files.load(path, identity)[1]
    found = select()
    files.save(path, identity, found)
    return found


def _moments(estimate: Estimate) -> NDArray[np.float64]:
    return np.array([estimate.mean, estimate.std_error], np.float64)


def _token_law(rewards: NDArray[np.float64]) -> bt.Policy:
    """The law of one token's reward, over all tokens that were drawn."""
    levels, counts = np.unique(rewards, return_counts=True)
    return bt.Policy.from_probs(counts / counts.sum(), levels)


def _prediction(symbol: bt.Policy, length: int, block_length: int, n: int) -> tuple[float, float]:
    """Expected reward and divergence for ``length`` independent tokens."""
    reference = sequence.SequenceLaw.independent(
        symbol, length=length, block_length=min(block_length, length)
    )
    policy = reference.select(bt.best_of_n, n=n)
    return (
        float(sequence.expected_reward(policy)),
        float(sequence.kl_divergence(policy, reference)),
    )
