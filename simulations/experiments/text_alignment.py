"""Alignment of the language model that is trained here: every loss, two rewards, several seeds.

The model draws candidates for prompts from its training text; pairs of them train policies, which
are judged on prompts that neither it nor they have seen, as training goes on. The setting is that
of [G], §5, made small: one reward ranks and judges.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from simulations.alignment import losses
from simulations.alignment.candidates import TextScore, draw_candidates
from simulations.alignment.evaluation import HeldOutPrompts
from simulations.alignment.training import AlignmentConfig, Objective
from simulations.engine import checkpoint
from simulations.experiments.language_model import trained_model
from simulations.experiments.text_policies import (
    SHOWN,
    Progress,
    TextAlignmentResults,
    TextMethod,
    TextTask,
)
from simulations.language_model import train
from simulations.language_model.rewards.text import KnownWords, Reward, TrigramLikelihood
from simulations.language_model.text.corpus import Corpus, load_corpus, prompt_texts
from simulations.language_model.text.tokenizers import SubwordTokenizer, encode_prompts
from simulations.language_model.transformer import Transformer

Task = Literal["trigram likelihood", "known words"]

_STAR = losses.papers_beta(8)
BASELINES = (
    TextMethod("SFT-BoN", Objective.sft_best_of_n()),
    TextMethod("BoNBoN", Objective.bonbon(n=8)),
    TextMethod("IPO-BoN", Objective.ipo(beta=_STAR)),
    TextMethod("DPO-BoN, β = 0.1", Objective.dpo(beta=0.1)),
    TextMethod("IPO, ordinary, β = 0.1", Objective.ipo(beta=0.1), ordinary=True),
)
"""One of each; the ordinary IPO's minimiser has about the divergence of best-of-8."""

SWEEPS = (
    TextMethod("matched targets", Objective.ipo_matched()),
    TextMethod("IPO-BoN, β = 0.1", Objective.ipo(beta=0.1)),
    TextMethod("DPO-BoN, β = 0.03", Objective.dpo(beta=0.03)),
    TextMethod("DPO, ordinary, β = 0.1", Objective.dpo(beta=0.1), ordinary=True),
    TextMethod("DPO, ordinary, β = 0.03", Objective.dpo(beta=0.03), ordinary=True),
    TextMethod("IPO, ordinary, β = 0.03", Objective.ipo(beta=0.03), ordinary=True),
    TextMethod("BoNBoN, β*/5", Objective.bonbon(n=8, beta=_STAR / 5)),
    TextMethod("BoNBoN, 5β*", Objective.bonbon(n=8, beta=5 * _STAR)),
    TextMethod("BoNBoN, α = 0.05", Objective.bonbon(n=8, sft_weight=0.05)),
    TextMethod("BoNBoN, α = 0.5", Objective.bonbon(n=8, sft_weight=0.5)),
    TextMethod("BoNBoN, n = 2", Objective.bonbon(n=2), n=2),
    TextMethod("BoNBoN, n = 4", Objective.bonbon(n=4), n=4),
)
"""Figure 5, the sweeps over α and n, further β, and targets for each pair."""


@dataclass(frozen=True)
class TextAlignmentConfig:
    """Sizes; the default is the quick one.

    Attributes:
        pretraining: of the reference.
        tasks: rewards, by name.
        methods: to train.
        num_seeds: of candidates, pairs and batches; the reference is the same.
        num_prompts: B, whose candidates make pairs.
        num_candidates: N of each; a multiple of every method's n.
        num_held_out: prompts that judge.
        num_judging: responses of the reference to each of these.
        num_responses: of a policy to each of these.
        prompt_bytes: the longest prompt.
        max_new_tokens: T.
        alignment: all but the objective.
    """

    pretraining: train.TrainingConfig = field(default_factory=train.TrainingConfig)
    tasks: tuple[Task, ...] = ("trigram likelihood",)
    methods: tuple[TextMethod, ...] = BASELINES
    num_seeds: int = 1
    num_prompts: int = 192
    num_candidates: int = 16
    num_held_out: int = 32
    num_judging: int = 32
    num_responses: int = 8
    prompt_bytes: int = 32
    max_new_tokens: int = 24
    alignment: AlignmentConfig = field(
        default_factory=lambda: AlignmentConfig(
            Objective(),
            num_steps=24,
            batch_size=32,
            learning_rate=1e-4,
            warmup_steps=10,
            evaluate_at=(6, 12, 24),
        )
    )


FULL = TextAlignmentConfig(
    tasks=("trigram likelihood", "known words"),
    methods=BASELINES + SWEEPS,
    num_seeds=3,
    num_prompts=1024,
    num_held_out=64,
    num_judging=64,
    num_responses=16,
    alignment=AlignmentConfig(
        Objective(),
        num_steps=160,
        batch_size=32,
        learning_rate=1e-4,
        warmup_steps=10,
        evaluate_at=(10, 20, 40, 80, 160),
    ),
)


def run(
    config: TextAlignmentConfig,
    key: jax.Array,
    training_key: jax.Array,
    *,
    checkpoint_dir: Path,
    progress: Progress | None = None,
) -> TextAlignmentResults:
    """Train the reference, or read it, and align it in every way; consumes both keys.

    Args:
        config: sizes.
        key: of everything but the reference.
        training_key: of the reference, so that one which is there already can be used.
        checkpoint_dir: keeps all of it: interrupted, the same call goes on with the same result.
        progress: called as ``progress(stage, done, total)``.
    """
    corpus = load_corpus()
    trained, tokenizer = trained_model(
        config.pretraining, training_key, corpus, checkpoint_dir=checkpoint_dir, progress=progress
    )
    identity = {"key": jax.random.key_data(key).tolist(), "config": asdict(config)}
    folder = checkpoint_dir / checkpoint.folder_name("alignment", identity)
    keys = jax.random.split(key, (len(config.tasks), config.num_seeds + 1))
    references, policies = [], []
    for t, task in enumerate(config.tasks):
        judge_key, *seed_keys = keys[t]
        score = TextScore(_reward(task, corpus), tokenizer)
        held_out = _held_out(
            config, judge_key, trained.model, tokenizer, corpus, score, folder / task
        )
        prompts = tuple(tokenizer.decode(row) for row in held_out.table.prompts[:SHOWN])
        doing, tied = TextTask(task, trained.model, tokenizer, held_out, prompts), 0
        for seed, seed_key in enumerate(seed_keys):
            where = folder / task / f"seed {seed}"
            candidate_key, run_key = jax.random.split(seed_key)
            table = draw_candidates(
                candidate_key,
                trained.model,
                _prompts(corpus.train, config.num_prompts, config.prompt_bytes, tokenizer),
                score,
                num_candidates=config.num_candidates,
                max_new_tokens=config.max_new_tokens,
                folder=where,
                reward_name=task,
                progress=None
                if progress is None
                else lambda done, total: progress("drawing candidates", done, total),
            )
            tied += int(table.all_tied.sum())
            found = doing.align(
                run_key,
                config.methods,
                config.alignment,
                table,
                seed=seed,
                folder=where,
                progress=progress,
            )
            policies += itertools.chain.from_iterable(found)
        references.append(doing.before(tied))
    return TextAlignmentResults(tuple(references), tuple(policies))


def _reward(task: Task, corpus: Corpus) -> Reward:
    if task == "known words":
        return KnownWords.fit(corpus.train)
    return TrigramLikelihood.fit(corpus.scoring)


def _prompts(
    texts: tuple[str, ...], num_prompts: int, num_bytes: int, tokenizer: SubwordTokenizer
) -> np.ndarray:
    return encode_prompts(
        prompt_texts(texts, num_prompts=num_prompts, num_bytes=num_bytes), tokenizer
    )


def _held_out(
    config: TextAlignmentConfig,
    key: jax.Array,
    reference: Transformer,
    tokenizer: SubwordTokenizer,
    corpus: Corpus,
    score: TextScore,
    folder: Path,
) -> HeldOutPrompts:
    table_key, policy_key = jax.random.split(key)
    prompts = _prompts(corpus.validation, config.num_held_out, config.prompt_bytes, tokenizer)
    table = draw_candidates(
        table_key,
        reference,
        prompts,
        score,
        num_candidates=config.num_judging,
        max_new_tokens=config.max_new_tokens,
        folder=folder / "held out",
        reward_name=str(folder.name),
    )
    return HeldOutPrompts(policy_key, reference, table, score, config.num_responses)
