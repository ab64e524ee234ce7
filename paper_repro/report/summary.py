"""What the records amount to: the material of the report and of the table in the terminal."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import jax

from paper_repro.papers.catalogue import PAPERS, Paper, claims
from paper_repro.papers.claim import Claim, Computed, Verdict
from paper_repro.pipeline import provenance
from paper_repro.pipeline.payloads import (
    BoundsResults,
    ComputedClaims,
    FigureResult,
    MonteCarloResults,
    Payload,
    SequenceResults,
)
from paper_repro.pipeline.records import Record
from paper_repro.pipeline.stages import Stage

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True)
class PaperResult:
    """A paper and what became of its claims."""

    paper: Paper
    claims: tuple[tuple[Claim, Computed], ...]


@dataclass(frozen=True)
class Summary:
    """Everything the report shows.

    Attributes:
        profile: "quick" or "full".
        papers: those whose claims have been computed.
        checks: payload of the Monte Carlo checks, or None if they have not been made.
        language_model: payload of the language model, or None.
        bounds: payload of the sweep of inequalities, or None.
        figures: payload of each figure made.
        stages: title, seconds and time of finish of each stage, None where it has not been run.
        versions: of Python and packages.
        machine: in words.
    """

    profile: str
    papers: tuple[PaperResult, ...]
    checks: MonteCarloResults | None
    language_model: SequenceResults | None
    bounds: BoundsResults | None
    figures: tuple[FigureResult, ...]
    stages: tuple[tuple[str, Record | None], ...]
    versions: dict[str, str]
    machine: str

    @property
    def verdicts(self) -> Counter[Verdict]:
        """How many claims of each verdict, over all papers."""
        return Counter(computed.verdict for _, computed in self._pairs())

    @property
    def unexpected(self) -> tuple[Computed, ...]:
        """Claims that differ without a documented reason, or no longer differ despite one."""
        return tuple(computed for _, computed in self._pairs() if computed.unexpected)

    @property
    def failures(self) -> tuple[str, ...]:
        """What is not as documented, by name."""
        parts = (
            ("Monte Carlo checks", self.checks),
            ("language model", self.language_model),
            ("bounds", self.bounds),
        )
        failed = (name for name, part in parts if part is not None and not part.passed)
        return (*(computed.claim_id for computed in self.unexpected), *failed)

    @property
    def seconds(self) -> float:
        """What the stages took, together, whenever they were run."""
        return sum(record.seconds for _, record in self.stages if record is not None)

    @property
    def false_alarm(self) -> float:
        """Chance, at most, that anything random in the report fails although all is right."""
        return sum(part.false_alarm for part in self._random_parts())

    @property
    def passed(self) -> bool:
        """Whether nothing unexpected is among what has been run."""
        return not self.failures

    def _pairs(self) -> list[tuple[Claim, Computed]]:
        return [pair for result in self.papers for pair in result.claims]

    def _random_parts(self) -> list[MonteCarloResults | SequenceResults]:
        return [part for part in (self.checks, self.language_model) if part is not None]


def summarise(profile: str, stages: Sequence[Stage], records: Mapping[str, Record]) -> Summary:
    """Gather what the records hold; a stage without a record is left out and named as not run."""
    return Summary(
        profile=profile,
        papers=tuple(
            _paper_result(paper, payload)
            for paper in PAPERS
            if (payload := _payload(records, f"claims/{paper.key}", ComputedClaims))
        ),
        checks=_payload(records, "checks", MonteCarloResults),
        language_model=_payload(records, "language-model", SequenceResults),
        bounds=_payload(records, "bounds", BoundsResults),
        figures=tuple(
            payload for stage in stages if (payload := _payload(records, stage.name, FigureResult))
        ),
        stages=tuple((stage.title, records.get(stage.name)) for stage in stages),
        versions=provenance.versions(),
        machine=(
            f"{platform.system()} {platform.machine()}, {jax.device_count()} "
            f"{jax.default_backend()} device(s)"
        ),
    )


def _payload(records: Mapping[str, Record], stage: str, kind: type[P]) -> P | None:
    """What the stage of that name handed on, if it has been run and is of that kind."""
    record = records.get(stage)
    return record.payload if record is not None and isinstance(record.payload, kind) else None


def _paper_result(paper: Paper, payload: ComputedClaims) -> PaperResult:
    computed = {entry.claim_id: entry for entry in payload.computed}
    return PaperResult(paper, tuple((claim, computed[claim.id]) for claim in claims(paper)))
