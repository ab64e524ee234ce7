"""A text model's policies, trained by several methods on one table of candidates, and their record.

Where they were on the way, beside the reference and best-of-n sampling; what experiments on
different models share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import bon_theory as bt
from simulations.alignment.candidates import CandidateTable
from simulations.alignment.evaluation import HeldOutPrompts, PolicyEvaluation
from simulations.alignment.training import AlignmentConfig, Objective, align
from simulations.language_model.text.tokenizers import Tokenizer
from simulations.language_model.transformer import Transformer
from simulations.statistics.estimate import Estimate
from simulations.tools.files import write_atomically

Progress = Callable[[str, int, int], None]

SHOWN = 4
"""Prompts of which texts are kept."""


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
        best_of_n_kl: its divergence, likewise; log n − (n−1)/n but for ties.
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


@dataclass(frozen=True)
class TextTask:
    """A model and what it is to do.

    Attributes:
        name: of the reward.
        reference: the model.
        tokenizer: writes its texts.
        held_out: judges its policies.
        prompts: texts of the first of its prompts.
    """

    name: str
    reference: Transformer
    tokenizer: Tokenizer
    held_out: HeldOutPrompts
    prompts: tuple[str, ...]

    def align(
        self,
        key: jax.Array,
        methods: tuple[TextMethod, ...],
        config: AlignmentConfig,
        table: CandidateTable,
        *,
        seed: int = 0,
        folder: Path,
        checkpoint_every: int = 50,
        progress: Progress | None = None,
    ) -> Iterator[tuple[AlignedAt, ...]]:
        """Where each method was, one after another, on pairs of the same candidates.

        Consumes ``key``.

        Args:
            key: a typed key.
            methods: to train.
            config: all but the objective.
            table: candidates.
            seed: a name for ``key``.
            folder: keeps all of it: interrupted, the same call goes on with the same result.
            checkpoint_every: updates between two states that are kept.
            progress: called as ``progress(stage, done, total)``.
        """

        def evaluate(policy: Transformer, step: int) -> Mapping[str, Any]:
            drawn = self.held_out.draw(policy)
            texts = [self.tokenizer.decode(tokens) for tokens in drawn.tokens[:SHOWN, 0]]
            return {**self.held_out.compared(policy, drawn).to_json(), "texts": texts}

        for index, method in enumerate(methods):
            pair_key, training_key = jax.random.split(jax.random.fold_in(key, index))
            pairs = table.pairs(
                pair_key,
                n=2 if method.ordinary else method.n,
                ranks="further draws" if method.objective.matched else None,
            )

            def tell(stage: str, done: int, total: int, method: TextMethod = method) -> None:
                if progress is not None:
                    progress(f"{self.name}, seed {seed}: {method.name}, {stage}", done, total)

            aligned = align(
                replace(config, objective=method.objective),
                training_key,
                self.reference,
                pairs,
                evaluate=evaluate,
                folder=folder / method.name.replace("/", " over "),
                checkpoint_every=checkpoint_every,
                progress=tell,
            )
            yield tuple(
                AlignedAt(
                    self.name,
                    seed,
                    method.name,
                    int(found["step"]),
                    PolicyEvaluation.from_json(dict(found)),
                    tuple(found["texts"]),
                )
                for found in aligned.trajectory
            )

    def before(self, tied_prompts: int) -> TaskReference:
        """The reference, and best-of-8 sampling, on the held-out prompts.

        Args:
            tied_prompts: how many training prompts have candidates of one reward only.
        """
        table, n = self.held_out.table, 8
        laws = bt.Policy.from_samples(table.rewards)
        best = bt.best_of_n(laws, n)
        lengths = np.sum(table.tokens != table.pad_id, axis=-1)
        equal = table.rewards[:, :, None] == table.rewards[:, None, :]
        number = table.rewards.shape[1]
        first = table.rewards[:SHOWN, :n].argmax(axis=1)

        def texts(rows: np.ndarray) -> tuple[str, ...]:
            return tuple(self.tokenizer.decode(tokens) for tokens in rows)

        return TaskReference(
            task=self.name,
            prompts=self.prompts[:SHOWN],
            texts=texts(table.tokens[:SHOWN, 0]),
            best_texts=texts(table.tokens[np.arange(len(first)), first]),
            tied_prompts=tied_prompts,
            tie_probability=float((equal.mean() * number - 1) / (number - 1)),
            best_of_n_win_rate=float(np.mean(bt.win_rate(best, laws))),
            best_of_n_kl=float(np.mean(bt.kl_divergence(best, laws))),
            best_of_n_length=float(np.mean(np.sum(np.asarray(best.probs) * lengths, axis=-1))),
            reference_length=float(lengths.mean()),
        )


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
