"""Alignment of the language model that is trained here: every loss, two rewards, several seeds.

The model draws candidates for prompts from its training text; pairs of them train policies, which
are judged on prompts that neither it nor they have seen, as training goes on. The setting is that
of [G], §5, made small: one reward ranks and judges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import bon_theory as bt
from simulations.alignment import losses
from simulations.alignment.candidates import CandidateTable, TextScore, draw_candidates
from simulations.alignment.evaluation import HeldOutPrompts, PolicyEvaluation
from simulations.alignment.training import AlignmentConfig, Objective, align
from simulations.engine import checkpoint
from simulations.experiments.language_model import trained_model
from simulations.language_model import train
from simulations.language_model.rewards.text import KnownWords, Reward, TrigramLikelihood
from simulations.language_model.text.corpus import Corpus, load_corpus, prompt_texts
from simulations.language_model.text.tokenizers import SubwordTokenizer, encode_prompts
from simulations.language_model.transformer import Transformer
from simulations.statistics.estimate import Estimate
from simulations.tools.files import write_atomically

Task = Literal["trigram likelihood", "known words"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TextMethod:
    """One way to train.

    Attributes:
        name: in words.
        objective: on pairs.
        n: candidates of a pair.
        ordinary: whether pairs are ordinary ones, of two candidates.
    """

    name: str
    objective: Objective
    n: int = 8
    ordinary: bool = False


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


@dataclass(frozen=True)
class AlignedAt:
    """What a policy was after some updates.

    Attributes:
        task: whose reward.
        seed: of the run.
        method: its name.
        step: updates.
        found: on the held-out prompts.
        texts: its first response to each of the first prompts.
    """

    task: str
    seed: int
    method: str
    step: int
    found: PolicyEvaluation
    texts: tuple[str, ...]


@dataclass(frozen=True)
class TaskReference:
    """What a task is before training, and what best-of-8 sampling gives.

    Attributes:
        task: whose reward.
        prompts: the first of those held out.
        texts: the reference's first response to each.
        best_texts: the best of its first eight.
        tied_prompts: how many training prompts have candidates of one reward only.
        tie_probability: that two responses of the reference to a held-out prompt tie.
        best_of_n_win_rate: of best-of-8, by the rewards of the judging responses.
        best_of_n_kl: log n − (n−1)/n, its divergence but for ties.
        best_of_n_length: its mean length, likewise.
        reference_length: the reference's.
    """

    task: str
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    best_texts: tuple[str, ...]
    tied_prompts: int
    tie_probability: float
    best_of_n_win_rate: float
    best_of_n_kl: float
    best_of_n_length: float
    reference_length: float


@dataclass(frozen=True)
class TextAlignmentResults:
    """All that was found, by task.

    Attributes:
        references: before training.
        policies: on the way, by task, seed, method and step.
    """

    references: tuple[TaskReference, ...]
    policies: tuple[AlignedAt, ...]

    def mean_path(self, task: str, method: str) -> list[tuple[int, PolicyEvaluation]]:
        """Updates and what was found there, averaged over seeds; errors are those over seeds.

        With one seed the errors are those over prompts.
        """
        own = [p for p in self.policies if (p.task, p.method) == (task, method)]
        steps = sorted({p.step for p in own})
        return [(step, _averaged([p.found for p in own if p.step == step])) for step in steps]

    def at_equal_win_rate(self, task: str, *, seed: int = 0) -> tuple[AlignedAt, ...]:
        """Of each method where its win rate is nearest to one that all reach, to read side by side.

        That is the least of the methods' highest win rates. [G], Table 1.
        """
        own = [p for p in self.policies if (p.task, p.seed) == (task, seed)]
        by_method = {p.method: [q for q in own if q.method == p.method] for p in own}
        reached = min(max(p.found.win_rate.mean for p in path) for path in by_method.values())
        return tuple(
            min(path, key=lambda p: abs(p.found.win_rate.mean - reached))
            for path in by_method.values()
        )

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_atomically(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> TextAlignmentResults:
        """Read what :meth:`save` wrote."""
        read = json.loads(path.read_text(encoding="utf-8"))
        names = "prompts", "texts", "best_texts"
        return cls(
            tuple(
                TaskReference(**(each | {name: tuple(each[name]) for name in names}))
                for each in read["references"]
            ),
            tuple(
                AlignedAt(
                    **{
                        **each,
                        "found": PolicyEvaluation.from_json(each["found"]),
                        "texts": tuple(each["texts"]),
                    }
                )
                for each in read["policies"]
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
        tied = 0
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
            policies += _aligned(
                config,
                run_key,
                trained.model,
                tokenizer,
                table,
                held_out,
                task,
                seed,
                where,
                progress,
            )
        references.append(_before(task, held_out, tokenizer, tied))
    return TextAlignmentResults(tuple(references), tuple(policies))


def _averaged(found: list[PolicyEvaluation]) -> PolicyEvaluation:
    if len(found) == 1:
        return found[0]
    names = PolicyEvaluation.__annotations__
    return PolicyEvaluation(
        **{
            name: Estimate.from_values([getattr(each, name).mean for each in found])
            for name in names
        }
    )


def _aligned(
    config: TextAlignmentConfig,
    key: jax.Array,
    reference: Transformer,
    tokenizer: SubwordTokenizer,
    table: CandidateTable,
    held_out: HeldOutPrompts,
    task: str,
    seed: int,
    folder: Path,
    progress: Progress | None,
) -> Iterator[AlignedAt]:
    """Every method on pairs of the same candidates."""

    def evaluate(policy: Transformer, step: int) -> Mapping[str, Any]:
        drawn = held_out.draw(policy)
        texts = [tokenizer.decode(tokens) for tokens in drawn.tokens[:_SHOWN, 0]]
        return {**held_out.compared(policy, drawn).to_json(), "texts": texts}

    for index, method in enumerate(config.methods):
        pair_key, training_key = jax.random.split(jax.random.fold_in(key, index))
        pairs = table.pairs(
            pair_key,
            n=2 if method.ordinary else method.n,
            ranks="further draws" if method.objective.matched else None,
        )

        def tell(stage: str, done: int, total: int, method: TextMethod = method) -> None:
            if progress is not None:
                progress(f"{task}, seed {seed}: {method.name}, {stage}", done, total)

        aligned = align(
            replace(config.alignment, objective=method.objective),
            training_key,
            reference,
            pairs,
            evaluate=evaluate,
            folder=folder / method.name.replace("/", " over "),
            progress=tell,
        )
        for found in aligned.trajectory:
            yield AlignedAt(
                task,
                seed,
                method.name,
                int(found["step"]),
                PolicyEvaluation.from_json(dict(found)),
                tuple(found["texts"]),
            )


_SHOWN = 4  # prompts whose responses are kept as texts


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


def _before(
    task: str, held_out: HeldOutPrompts, tokenizer: SubwordTokenizer, tied_prompts: int
) -> TaskReference:
    table, n = held_out.table, 8
    laws = bt.Policy.from_samples(table.rewards)
    best = bt.best_of_n(laws, n)
    lengths = np.sum(table.tokens != table.pad_id, axis=-1)
    equal = table.rewards[:, :, None] == table.rewards[:, None, :]
    number = table.rewards.shape[1]
    first = table.rewards[:_SHOWN, :n].argmax(axis=1)

    def texts(rows: np.ndarray) -> tuple[str, ...]:
        return tuple(tokenizer.decode(tokens) for tokens in rows)

    return TaskReference(
        task=task,
        prompts=texts(table.prompts[:_SHOWN]),
        texts=texts(table.tokens[:_SHOWN, 0]),
        best_texts=texts(table.tokens[np.arange(len(first)), first]),
        tied_prompts=tied_prompts,
        tie_probability=float((equal.mean() * number - 1) / (number - 1)),
        best_of_n_win_rate=float(np.mean(bt.win_rate(best, laws))),
        best_of_n_kl=float(np.log(n) - (n - 1) / n),
        best_of_n_length=float(np.mean(np.sum(np.asarray(best.probs) * lengths, axis=-1))),
        reference_length=float(lengths.mean()),
    )
