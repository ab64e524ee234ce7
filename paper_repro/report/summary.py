"""What the records amount to: the material of the report and of the table in the terminal."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import jax

from paper_repro.papers.catalogue import PAPERS, Paper, claims
from paper_repro.papers.ledger import Entry, Ledger, entry
from paper_repro.pipeline import provenance
from paper_repro.pipeline.payloads import (
    BoundsResults,
    ComputedClaims,
    FigureResult,
    MonteCarloResults,
    Payload,
    RealAnswersResults,
    SelectionEvidence,
    SequenceResults,
)
from paper_repro.pipeline.records import Record
from paper_repro.pipeline.stages import Stage

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True)
class Summary:
    """Everything the report shows.

    Attributes:
        profile: "quick" or "full".
        ledger: the claims that have been computed, each beside its value.
        checks: payload of the Monte Carlo checks, or None if they have not been made.
        language_model: payload of the language model, or None.
        real_answers: payload of selection among a real model's answers, or None.
        bounds: payload of the sweep of inequalities, or None.
        figures: payload of each figure made.
        stages: title, seconds and time of finish of each stage, None where it has not been run.
        broken: title of each stage that failed, and what was raised.
        machine: in words.
    """

    profile: str
    ledger: Ledger
    checks: MonteCarloResults | None
    language_model: SequenceResults | None
    real_answers: RealAnswersResults | None
    bounds: BoundsResults | None
    figures: tuple[FigureResult, ...]
    stages: tuple[tuple[str, Record | None], ...]
    machine: str
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def papers(self) -> tuple[tuple[Paper, tuple[Entry, ...]], ...]:
        """Each paper whose claims have been computed, and those claims."""
        found = ((paper, self.ledger.of(paper.key)) for paper in PAPERS)
        return tuple((paper, entries) for paper, entries in found if entries)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is not as documented, by name."""
        failed = (name for name, part in self.evidence if not part.passed)
        return (*(entry.id for entry in self.ledger.unexpected), *failed, *self.broken)

    @property
    def seconds(self) -> float:
        """What the stages took, together, whenever they were run."""
        return sum(record.seconds for _, record in self.stages if record is not None)

    @property
    def false_alarm(self) -> float:
        """Chance, at most, that anything random in the report fails although all is right."""
        parts = (part for _, part in self.evidence)
        return sum(part.false_alarm for part in parts if not isinstance(part, BoundsResults))

    @property
    def passed(self) -> bool:
        """Whether nothing unexpected is among what has been run."""
        return not self.failures

    @property
    def evidence(
        self,
    ) -> tuple[tuple[str, BoundsResults | MonteCarloResults | SelectionEvidence], ...]:
        """What the statements were held against, by name, as far as it has been made."""
        model, answers = self.language_model, self.real_answers
        parts = (
            ("bounds", self.bounds),
            ("Monte Carlo checks", self.checks),
            ("language model", None if model is None else model.evidence),
            ("real answers", None if answers is None else answers.evidence),
        )
        return tuple((name, part) for name, part in parts if part is not None)


def summarise(
    profile: str,
    stages: Sequence[Stage],
    records: Mapping[str, Record],
    failures: Mapping[str, str] | None = None,
) -> Summary:
    """Gather what the records hold; a stage without a record is left out and named as not run.

    ``failures`` holds what was raised, by stage; of a traceback only the last line is kept.
    """
    raised = {name: trace.strip().splitlines()[-1] for name, trace in (failures or {}).items()}
    return Summary(
        profile=profile,
        ledger=Ledger(
            provenance.commit(),
            provenance.versions(),
            tuple(_entries(records)),
        ),
        checks=_payload(records, "checks", MonteCarloResults),
        language_model=_payload(records, "language-model", SequenceResults),
        real_answers=_payload(records, "real-answers", RealAnswersResults),
        bounds=_payload(records, "bounds", BoundsResults),
        figures=tuple(
            payload for stage in stages if (payload := _payload(records, stage.name, FigureResult))
        ),
        stages=tuple((stage.title, records.get(stage.name)) for stage in stages),
        machine=(
            f"{platform.system()} {platform.machine()}, {jax.device_count()} "
            f"{jax.default_backend()} device(s)"
        ),
        broken={stage.title: raised[stage.name] for stage in stages if stage.name in raised},
    )


def _payload(records: Mapping[str, Record], stage: str, kind: type[P]) -> P | None:
    """What the stage of that name handed on, if it has been run and is of that kind."""
    record = records.get(stage)
    return record.payload if record is not None and isinstance(record.payload, kind) else None


def _entries(records: Mapping[str, Record]) -> Iterator[Entry]:
    """Of every claim that has been computed, by whichever stage."""
    payloads = [record.payload for record in records.values()]
    computed = {
        found.claim_id: found
        for payload in payloads
        if isinstance(payload, ComputedClaims)
        for found in payload.computed
    }
    for claim in (claim for paper in PAPERS for claim in claims(paper)):
        if claim.id in computed:
            yield entry(claim, computed[claim.id])
