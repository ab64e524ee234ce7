"""Selection among a real model's answers: predicted from half a pool, measured on the other half.

The pool is SmolLM2's (:mod:`simulations.experiments.response_pool`), with its ties as they are.
Half of each instruction's answers give the empirical law from which ``bon_theory`` predicts; among
the others n are taken, one is selected and compared with one more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import NDArray

from simulations.engine import checkpoint
from simulations.experiments.equal_kl import Selected, texts_at_equal_kl
from simulations.experiments.reward_pools import (
    PoolComparison,
    compare_pools,
    judge,
    tie_probability,
)
from simulations.statistics.checks import Report
from simulations.tools.nested import flatten, unflatten

if TYPE_CHECKING:  # imported where a pool is read
    import polars as pl

POOL = Path(__file__).with_name("data") / "smollm2_pool.parquet"
_COLUMNS = ("prompt_id", "candidate", "prompt", "text")


@dataclass(frozen=True)
class RewardColumn:
    """A reward of the pool.

    Attributes:
        name: of its column.
        temperatures: λ, in its units; 0 is best-of-n.
    """

    name: str
    temperatures: tuple[float, ...]


@dataclass(frozen=True)
class RealPoolConfig:
    """What is predicted and measured.

    Attributes:
        rewards: columns and their temperatures.
        numbers: numbers of candidates n, each at most a quarter of half the pool: nearer to it the
            empirical law says too little of the model's.
        num_redrawn: answers drawn with replacement from the predicting half of an instruction's.
        num_samples: instructions whose selected texts are shown.
        shown: of best-of-n, whose divergence soft best-of-n is given too, among ``shown_soft``
            answers.
        shown_soft: numbers of answers of that soft best-of-n.
    """

    rewards: tuple[RewardColumn, ...] = (
        RewardColumn("lexicon", (0.0, 1.0, 3.0)),
        RewardColumn("sentiment", (0.0, 0.1, 0.3)),
        RewardColumn("likelihood", (0.0, 0.05, 0.15)),
    )
    numbers: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    num_redrawn: int = 4096
    num_samples: int = 6
    shown: int = 16
    shown_soft: int = 64


@dataclass(frozen=True)
class RealPoolResults:
    """What was predicted and measured.

    Attributes:
        identity: configuration, key and hash of the pool.
        rewards: ``[B, N]`` of all answers, by reward.
        comparisons: by reward.
        finished: share of answers that ended by themselves.
        mean_length: of answers, in tokens, the end counted.
        samples: selected texts.
    """

    identity: dict[str, Any]
    rewards: dict[str, NDArray[np.float64]]
    comparisons: dict[str, PoolComparison]
    finished: float
    mean_length: float
    samples: tuple[Selected, ...]

    @property
    def tie_probability(self) -> dict[str, float]:
        """Chance that two answers to an instruction have the same reward, by reward."""
        return {name: tie_probability(rewards) for name, rewards in self.rewards.items()}

    def report(self, *, false_alarm: float = 1e-3, planted: bool = False) -> Report:
        """All checks as one family; see :func:`~simulations.experiments.reward_pools.judge`."""
        return judge(self.comparisons, false_alarm=false_alarm, planted=planted)

    def save(self, path: Path) -> None:
        """Write one ``.npz``, atomically."""
        fields = {name: value for name, value in asdict(self).items() if name != "identity"}
        fields["samples"] = [list(asdict(texts).values()) for texts in self.samples]
        checkpoint.save(path, self.identity, flatten(fields))

    @classmethod
    def load(cls, path: Path) -> RealPoolResults:
        """Read what ``save`` wrote."""
        identity, arrays = checkpoint.load(path)
        tree = unflatten(arrays)
        return cls(
            identity=identity,
            rewards=tree["rewards"],
            comparisons={
                name: PoolComparison.from_tree(fields)
                for name, fields in tree["comparisons"].items()
            },
            finished=tree["finished"].item(),
            mean_length=tree["mean_length"].item(),
            samples=tuple(Selected(*map(str, texts)) for texts in tree["samples"]),
        )


def load_pool(path: Path = POOL) -> pl.DataFrame:
    """Rows of a pool, in the order of instructions and candidates.

    Raises:
        ValueError: the file is not a Parquet file of such a pool, or instructions have different
            numbers of answers.
    """
    import polars as pl

    try:
        pool = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{path} is no Parquet file of a pool ({error!s:.80})") from error
    missing = [name for name in _COLUMNS if name not in pool.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]}: make it by `python -m simulations pool`"
        )
    counts = pool.group_by("prompt_id").len()["len"]
    if counts.n_unique() != 1:
        raise ValueError(
            f"{path} has {counts.min()} to {counts.max()} answers to an instruction: all must have "
            "equally many"
        )
    return pool.sort("prompt_id", "candidate")


def run(
    config: RealPoolConfig,
    key: jax.Array,
    pool: pl.DataFrame,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> RealPoolResults:
    """Predict from the first half of each instruction's answers, measure on the second.

    Consumes ``key``.
    """
    comparisons, tables = {}, {}
    for index, reward in enumerate(config.rewards):
        rewards = tables[reward.name] = _table(pool, reward.name)
        half = rewards.shape[1] // 4 * 2  # even, since its halves show the bias
        comparisons[reward.name] = compare_pools(
            jax.random.fold_in(key, index),
            rewards[:, :half],
            rewards[:, half:],
            numbers=config.numbers,
            temperatures=reward.temperatures,
            num_redrawn=config.num_redrawn,
            progress=None
            if progress is None
            else lambda done, total, name=reward.name: progress(name, done, total),
        )
    samples_key = jax.random.fold_in(key, len(config.rewards))
    return RealPoolResults(
        _identity(config, key, tables),
        tables,
        comparisons,
        float(np.mean(pool["finished"].to_numpy())),
        float(np.mean(pool["num_tokens"].to_numpy())),
        _samples(config, samples_key, pool),
    )


def _identity(
    config: RealPoolConfig, key: jax.Array, tables: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    digest = hashlib.sha256(b"".join(table.tobytes() for table in tables.values())).hexdigest()
    return {
        "config": asdict(config),
        "key": jax.random.key_data(key).tolist(),
        "rewards_sha256": digest,
    }


def _table(pool: pl.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as ``[B, N]``."""
    return pool[column].to_numpy().astype(np.float64).reshape(pool["prompt_id"].n_unique(), -1)


def _samples(config: RealPoolConfig, key: jax.Array, pool: pl.DataFrame) -> tuple[Selected, ...]:
    """Texts selected by the first reward for the first few instructions."""
    texts = pool["text"].to_numpy().reshape(pool["prompt_id"].n_unique(), -1)
    prompts = pool["prompt"].to_numpy().reshape(texts.shape)[: config.num_samples, 0]
    rewards = _table(pool, config.rewards[0].name)
    return texts_at_equal_kl(
        key, prompts.tolist(), texts, rewards, n=config.shown, soft_n=config.shown_soft
    )
