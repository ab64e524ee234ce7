"""What the stages hand on: fields with names and types, the same after a journey through JSON."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from paper_repro.papers.claim import Computed
from simulations.statistics.checks import Check


@dataclass(frozen=True)
class Payload:
    """The result of a stage; a record of another shape is refused, and its stage done again."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON's types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Undo ``to_json``, also after the round trip through a file.

        Raises:
            TypeError: a field is missing, unknown, or of another type.
        """
        return _revived(cls, fields)


@dataclass(frozen=True)
class ComputedClaims(Payload):
    """What became of a paper's claims."""

    computed: tuple[Computed, ...]


@dataclass(frozen=True)
class MonteCarloResults(Payload):
    """The checks of all closed forms as one family, and the proof of their power.

    Attributes:
        false_alarm: chance, at most, that any check is rejected although everything is right.
        threshold: p-value at or below which a check is rejected.
        checks: of the theory as it is.
        rejected: names of those whose p-value is at or below the threshold.
        planted: checks of wrong theories, on the same samples.
        missed: names of planted errors that the threshold does not reject.
        trials: selections simulated.
        seed: of everything.
    """

    false_alarm: float
    threshold: float
    checks: tuple[Check, ...]
    rejected: tuple[str, ...]
    planted: tuple[Check, ...]
    missed: tuple[str, ...]
    trials: int
    seed: int

    @property
    def passed(self) -> bool:
        """Nothing right was rejected, and nothing wrong was not."""
        return not self.rejected and not self.missed


@dataclass(frozen=True)
class PredictionTable:
    """A quantity when selecting by one reward at one temperature, one entry per number of draws.

    Attributes:
        reward: selected by, in words.
        quantity: in words.
        temperature: of the selection.
        numbers: of draws.
        predicted: by the exact law, mean over prompts.
        measured: mean over prompts.
        error: standard error of the difference.
    """

    reward: str
    quantity: str
    temperature: float
    numbers: tuple[int, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    error: tuple[float, ...]


@dataclass(frozen=True)
class SelectionEvidence:
    """What selecting gave beside what the exact law predicts.

    Attributes:
        seed: of everything.
        false_alarm: chance, at most, that any check is rejected although everything is right.
        threshold: p-value at or below which a check is rejected.
        num_checks: of means, as one family.
        largest_z: largest distance of a mean from its prediction, in standard errors.
        rejected: names of checks.
        num_planted: checks of the prediction for n + 1 in place of n.
        planted_rejected: how many of them are rejected.
        unproved: planted errors not rejected at n ≤ 2, where they must be; at larger n the
            predictions for n and n + 1 hardly differ.
        tables: predicted beside measured.
    """

    seed: int
    false_alarm: float
    threshold: float
    num_checks: int
    largest_z: float
    rejected: tuple[str, ...]
    num_planted: int
    planted_rejected: int
    unproved: tuple[str, ...]
    tables: tuple[PredictionTable, ...]

    @property
    def passed(self) -> bool:
        """No prediction was rejected, and every error was that has to be."""
        return not self.rejected and not self.unproved


@dataclass(frozen=True)
class SelectedTexts:
    """A prompt, an answer, and what is selected at one divergence from the model."""

    prompt: str
    reference: str
    best_of_n: str
    soft: str


@dataclass(frozen=True)
class SequenceResults(Payload):
    """The claim on real sequences: what the language model is, and what selecting from it gave.

    Attributes:
        corpus_bytes: of the text trained on.
        num_parameters: of the model.
        num_steps: of training.
        validation_loss: nats per symbol on held-out text.
        mean_length: of the responses, in symbols.
        tie_probability: that two samples have the same number of known words.
        evidence: predicted and measured.
        shown: n of best-of-n in ``samples``.
        shown_soft: n of soft best-of-n in ``samples``.
        samples: a few texts.
    """

    corpus_bytes: int
    num_parameters: int
    num_steps: int
    validation_loss: float
    mean_length: float
    tie_probability: float
    evidence: SelectionEvidence
    shown: int
    shown_soft: int
    samples: tuple[SelectedTexts, ...]


@dataclass(frozen=True)
class RealAnswersResults(Payload):
    """Selection among a real model's answers.

    Attributes:
        num_prompts: instructions.
        num_answers: to each.
        finished: share of answers that ended by themselves.
        mean_length: of answers, in tokens.
        rewards: in words.
        tie_probability: that two answers to an instruction have the same reward, by reward.
        evidence: predicted and measured.
        shown: n of best-of-n in ``samples``.
        shown_soft: n of soft best-of-n in ``samples``.
        samples: a few texts.
    """

    num_prompts: int
    num_answers: int
    finished: float
    mean_length: float
    rewards: tuple[str, ...]
    tie_probability: tuple[float, ...]
    evidence: SelectionEvidence
    shown: int
    shown_soft: int
    samples: tuple[SelectedTexts, ...]


@dataclass(frozen=True)
class BoundRow:
    """An inequality beside the truth.

    Attributes:
        name: in ``bon_theory.bounds.REGISTRY``.
        side: "upper" or "lower".
        quantity: bounded.
        source: whose.
        status: "theorem" or "conjecture".
        tightest: the problem where it is, in words.
        slack: median of the relative slack, for each number of outcomes swept.
        violations: problems on which it does not hold.
    """

    name: str
    side: str
    quantity: str
    source: str
    status: str
    tightest: str
    slack: tuple[float, ...]
    violations: int


@dataclass(frozen=True)
class BoundsResults(Payload):
    """All inequalities on random problems."""

    num_problems: int
    seed: int
    rows: tuple[BoundRow, ...]

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of theorems with a violation; a conjecture may fail, and the table says so."""
        return tuple(r.name for r in self.rows if r.violations and r.status == "theorem")

    @property
    def passed(self) -> bool:
        """No theorem is violated."""
        return not self.violated


@dataclass(frozen=True)
class FigureResult(Payload):
    """A figure made: its name, its caption, its picture's file name, texts that go with it."""

    name: str
    caption: str
    png: str
    texts: tuple[tuple[str, ...], ...] = ()


def _revived(kind: Any, value: Any) -> Any:
    """A value of JSON as the type it had: dataclasses from objects, tuples from lists."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        _expect(isinstance(value, Mapping), kind, value)
        unknown = set(value) - {field.name for field in dataclasses.fields(kind)}
        _expect(not unknown, kind, value)
        return typing.cast(Any, kind)(**{k: _revived(hints[k], v) for k, v in value.items()})
    if typing.get_origin(kind) is tuple:
        (entry,) = (a for a in typing.get_args(kind) if a is not Ellipsis)
        _expect(isinstance(value, list | tuple), kind, value)
        return tuple(_revived(entry, v) for v in value)
    if typing.get_origin(kind) is typing.Literal:
        _expect(value in typing.get_args(kind), kind, value)
        return value
    _expect(isinstance(value, (int, float) if kind is float else kind), kind, value)
    return value


def _expect(holds: bool, kind: Any, value: Any) -> None:
    if not holds:
        raise TypeError(f"must be {kind}, got {str(value)[:80]}")
