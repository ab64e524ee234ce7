"""Every claim and what became of it, as one file: what the report is rendered from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.papers.claim import (
    Claim,
    Computed,
    Kind,
    Provenance,
    Relation,
    Tolerance,
    Verdict,
)

NAME = "claims.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A claim beside its value: the fields of ``Claim`` and ``Computed`` that are data.

    Attributes:
        id: of the claim; unique.
        paper: key of the paper.
        where: page, section, theorem, equation, figure or table.
        provenance: how the statement is known.
        kind: identity, inequality, asymptotic or empirical.
        statement: what is stated.
        relation: of the computed value to the expected one.
        tolerance: with its reason; None where nothing is computed.
        labels: what each entry of the vectors is; empty for a single number.
        expected: as stated.
        computed: by this package.
        sharper: the sharper statement, or empty.
        sharp_value: its value.
        verdict: on the claim.
        unexpected: whether the claim announces another one.
        error: what was raised instead of a value.
        known_difference: why the value is known not to be what is stated.
        outside_scope: why the paper does not claim this case.
        consequence: what follows from the difference.
        not_checkable: why nothing is computed.
        figure: the figure that shows it, or empty.
        test: the test that covers it, below ``tests/``.
        checked_by: Monte Carlo checks of the closed forms used.
        seconds: it took.
    """

    id: str
    paper: str
    where: str
    provenance: Provenance
    kind: Kind
    statement: str
    relation: Relation
    tolerance: Tolerance | None
    labels: tuple[str, ...]
    expected: tuple[float, ...]
    computed: tuple[float, ...]
    sharper: str
    sharp_value: tuple[float, ...]
    verdict: Verdict
    unexpected: bool
    error: str
    known_difference: str
    outside_scope: str
    consequence: str
    not_checkable: str
    figure: str
    test: str
    checked_by: tuple[str, ...]
    seconds: float

    @property
    def ours(self) -> bool:
        """Whether it was derived here, and is no paper's statement."""
        return self.provenance.known == "derived here"


_COMPUTED = ("expected", "computed", "sharp_value", "verdict", "unexpected", "error", "seconds")
_STATED = tuple(f.name for f in dataclasses.fields(Entry) if f.name not in _COMPUTED)
_TEXTS, _NUMBERS = ("labels", "checked_by"), ("expected", "computed", "sharp_value")


def entry(claim: Claim, computed: Computed) -> Entry:
    """The claim beside what became of it."""
    stated = {name: getattr(claim, name) for name in _STATED}
    return Entry(**stated, **{name: getattr(computed, name) for name in _COMPUTED})


@dataclass(frozen=True)
class VerdictCounts:
    """How many statements of papers, and of ours, have come to each verdict.

    Attributes:
        papers: of what papers state.
        ours: of what was derived here.
        known: how the statements are known.
    """

    papers: Counter[Verdict]
    ours: Counter[Verdict]
    known: Counter[str]


def tally(entries: Iterable[Entry]) -> VerdictCounts:
    """Count verdicts, papers' statements and our own apart."""
    entries = tuple(entries)
    return VerdictCounts(
        papers=Counter(e.verdict for e in entries if not e.ours),
        ours=Counter(e.verdict for e in entries if e.ours),
        known=Counter(e.provenance.known for e in entries),
    )


@dataclass(frozen=True)
class Ledger:
    """All claims of a run.

    Attributes:
        commit: of the checkout, with a "+" where files were changed since; empty outside of one.
        versions: of Python and of the packages that computed.
        entries: in the order of the papers, and of each paper's claims.
    """

    commit: str
    versions: Mapping[str, str]
    entries: tuple[Entry, ...]

    def of(self, paper: str) -> tuple[Entry, ...]:
        """The entries of the paper of that key."""
        return tuple(e for e in self.entries if e.paper == paper)

    @property
    def tally(self) -> VerdictCounts:
        """Over all papers."""
        return tally(self.entries)

    @property
    def unexpected(self) -> tuple[Entry, ...]:
        """Claims whose verdict is not the documented one."""
        return tuple(e for e in self.entries if e.unexpected)

    def to_json(self) -> str:
        """One claim after the other; JSON has no infinity, so that is written as a text."""
        fields = {"schema": SCHEMA, "commit": self.commit, "versions": dict(self.versions)}
        claims = [_finite(dataclasses.asdict(e)) for e in self.entries]
        document = fields | {"claims": claims}
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> Ledger:
    """Read what ``Ledger.to_json`` wrote.

    Raises:
        ValueError: the file has another schema.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema must be {SCHEMA}, got {found.get('schema')!r}")
    entries = tuple(_entry(record) for record in found["claims"])
    return Ledger(found["commit"], found["versions"], entries)


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    vectors = {
        name: [value if math.isfinite(value) else str(value) for value in fields[name]]
        for name in _NUMBERS
    }
    return fields | vectors


def _entry(record: dict[str, Any]) -> Entry:
    fields = dict(record)
    for name in _TEXTS:
        fields[name] = tuple(fields[name])
    for name in _NUMBERS:
        fields[name] = tuple(float(value) for value in fields[name])
    fields["provenance"] = Provenance(**fields["provenance"])
    if fields["tolerance"] is not None:
        fields["tolerance"] = Tolerance(**fields["tolerance"])
    return Entry(**fields)
