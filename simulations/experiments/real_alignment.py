"""Alignment of SmolLM2-135M-Instruct with its best-of-8.

Pairs are made of the answers in the repository's pool
(:mod:`simulations.experiments.response_pool`), which have their log-probabilities; policies are
judged on instructions that no pair is of, beside the pool's answers to these. By a change of low
rank a step of 8 pairs takes a dozen seconds on two cores, the whole hours: everything is kept as it
is made. All parameters are trained on an accelerator, in bfloat16, in minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import polars as pl

from simulations.alignment import losses
from simulations.alignment.candidates import CandidateTable, TextScore
from simulations.alignment.evaluation import HeldOutPrompts
from simulations.alignment.training import AlignmentConfig, Objective
from simulations.engine import checkpoint
from simulations.experiments.text_policies import (
    AlignedAt,
    Progress,
    TextAlignmentResults,
    TextMethod,
    TextTask,
)
from simulations.language_model.rewards.text import Sentiment, score
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.transformer import Transformer

METHODS = (
    TextMethod("BoNBoN", Objective.bonbon(n=8)),
    TextMethod("SFT-BoN", Objective.sft_best_of_n()),
    TextMethod("DPO-BoN, β = 0.1", Objective.dpo(beta=0.1)),
)
FURTHER_METHODS = (
    TextMethod("IPO-BoN", Objective.ipo(beta=losses.papers_beta(8))),
    TextMethod("matched targets", Objective.ipo_matched()),
    TextMethod("DPO, ordinary, β = 0.1", Objective.dpo(beta=0.1), ordinary=True),
    TextMethod("IPO, ordinary, β = 0.1", Objective.ipo(beta=0.1), ordinary=True),
)


@dataclass(frozen=True)
class RealAlignmentConfig:
    """How policies are trained and judged.

    Attributes:
        methods: to train, one after another.
        num_held_out: instructions that judge, the last of the pool; pairs are of the others.
        num_responses: of a policy to each of these.
        batch_size: responses drawn at once.
        alignment: all but the objective.
        checkpoint_every: updates between two states that are kept.
    """

    methods: tuple[TextMethod, ...] = METHODS
    num_held_out: int = 24
    num_responses: int = 8
    batch_size: int = 192
    alignment: AlignmentConfig = field(
        default_factory=lambda: AlignmentConfig(
            Objective(),
            num_steps=300,
            batch_size=8,
            learning_rate=2e-4,
            warmup_steps=10,
            rank=8,
            rematerialise=True,
            evaluate_at=(10, 30, 100, 200, 300),
        )
    )
    checkpoint_every: int = 10


LOW_RANK = RealAlignmentConfig()
ALL_PARAMETERS = replace(
    LOW_RANK,
    alignment=replace(LOW_RANK.alignment, rank=0, learning_rate=1e-5),
    checkpoint_every=100,  # a gigabyte each
)


def run(
    config: RealAlignmentConfig,
    key: jax.Array,
    model: Transformer,
    tokenizer: CheckpointTokenizer,
    pool: pl.DataFrame,
    *,
    seed: int = 0,
    folder: Path,
    progress: Progress | None = None,
) -> Iterator[TextAlignmentResults]:
    """What has been found, after each method; consumes ``key``.

    Args:
        config: sizes.
        key: a typed key.
        model: that gave the pool's answers, in float32; the reference, in its own precision.
        tokenizer: with its chat template.
        pool: as :func:`~simulations.experiments.real_pool.load_pool` reads it; the sentiment of
            its texts is the reward.
        seed: a name for ``key``.
        folder: keeps all of it: interrupted, the same call goes on with the same result.
        progress: called as ``progress(stage, done, total)``.
    """
    table = candidates(pool, tokenizer)
    learning = _rows(table, slice(None, -config.num_held_out))
    if model.config.dtype != "float32":
        learning = learning.under(model)
    judge_key, run_key = jax.random.split(key)
    held_out = HeldOutPrompts(
        judge_key,
        model,
        _rows(table, slice(-config.num_held_out, None)),
        TextScore(Sentiment(), tokenizer),
        config.num_responses,
        config.batch_size,
    )
    prompts = tuple(_instructions(pool)[-config.num_held_out :])
    task = TextTask("sentiment", model, tokenizer, held_out, prompts)
    before = task.before(int(learning.all_tied.sum()))
    identity = {"key": jax.random.key_data(key).tolist(), "config": asdict(config)}
    policies: tuple[AlignedAt, ...] = ()
    for path in task.align(
        run_key,
        config.methods,
        config.alignment,
        learning,
        seed=seed,
        folder=folder / checkpoint.folder_name("alignment", identity),
        checkpoint_every=config.checkpoint_every,
        progress=progress,
    ):
        policies += path
        yield TextAlignmentResults((before,), policies)


def candidates(pool: pl.DataFrame, tokenizer: CheckpointTokenizer) -> CandidateTable:
    """The pool's answers, with the sentiment of their texts."""
    chats = [[{"role": "user", "content": text}] for text in _instructions(pool)]
    lengths, pad = pool["num_tokens"].to_numpy(), tokenizer.vocabulary.pad_id
    tokens = np.full((len(pool), lengths.max()), pad, np.int32)
    tokens[np.arange(lengths.max()) < lengths[:, None]] = pool["token_ids"].explode().to_numpy()
    shape = len(chats), -1
    return CandidateTable(
        chat_prompts(chats, tokenizer),
        tokens.reshape(*shape, tokens.shape[1]),
        score(Sentiment(), pool["text"].to_list()).reshape(shape),  # the column is in float32
        pool["log_prob"].to_numpy().astype(np.float64).reshape(shape),
        pad,
    )


def _instructions(pool: pl.DataFrame) -> list[str]:
    return pool.filter(pl.col("candidate") == 0)["prompt"].to_list()


def _rows(table: CandidateTable, rows: slice) -> CandidateTable:
    return CandidateTable(
        table.prompts[rows],
        table.tokens[rows],
        table.rewards[rows],
        table.log_probs[rows],
        table.pad_id,
    )
