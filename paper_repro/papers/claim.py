"""A claim as data: what is stated, how that is known, how it is computed, and the verdict.

A claim carries what is stated (``expected``) apart from how this package computes the same quantity
(``compute``), so that the two can disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

Relation = Literal["=", "<=", ">="]
Kind = Literal["identity", "inequality", "asymptotic", "empirical"]
Known = Literal["read", "quoted", "inferred", "derived here"]
Verdict = Literal[
    "reproduced",
    "sharpened",
    "differs",
    "outside the paper's scope",
    "not checkable here",
    "confirmed",
    "failed",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
KNOWN: tuple[Known, ...] = get_args(Known)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
#: Verdicts on what papers state, and on what was derived here.
PAPERS_VERDICTS: tuple[Verdict, ...] = VERDICTS[:5]
OUR_VERDICTS: tuple[Verdict, ...] = VERDICTS[5:]


@dataclass(frozen=True)
class Provenance:
    """How the statement of a claim is known.

    Attributes:
        known: *read* in the paper itself, where the claim says; *quoted* by another paper;
            *inferred* from the abstract and from what others restate; *derived here*, so that no
            paper is to blame.
        source: which paper quotes it, or what it is inferred from; empty for the other two.

    Example:
        >>> str(Provenance("quoted", "arXiv 2506.04118, eq. 2"))
        'quoted by arXiv 2506.04118, eq. 2'
    """

    known: Known
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse a quotation of nobody."""
        if bool(self.source) != (self.known in ("quoted", "inferred")):
            raise ValueError(
                f"source must say by whom a statement is quoted or what it is inferred from, and "
                f"nothing else, got {self.known!r}, {self.source!r}"
            )

    def __str__(self) -> str:
        """In words."""
        preposition = {"quoted": " by ", "inferred": " from "}.get(self.known, "")
        return f"{self.known}{preposition}{self.source}"


_RELATIONS: dict[Kind, tuple[Relation, ...]] = {"identity": ("=",), "inequality": ("<=", ">=")}

READ, DERIVED = Provenance("read"), Provenance("derived here")
ABSTRACT = Provenance("inferred", "the abstract, and what others restate")


@dataclass(frozen=True)
class Tolerance:
    """How far the computed value may lie from the expected one: |x − e| ≤ absolute + relative·|e|.

    Attributes:
        reason: why just so much; never empty.
        absolute: in the units of the value.
        relative: to the expected value.

    Example:
        >>> float(Tolerance("quadrature is good to rounding", relative=1e-12).allowance(2.0))
        2e-12
    """

    reason: str
    absolute: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a tolerance without a reason, and a negative one."""
        if not self.reason:
            raise ValueError("reason must say why the tolerance is what it is, got an empty text")
        if not (self.absolute >= 0 and self.relative >= 0):
            raise ValueError(
                f"absolute and relative must be >= 0, got {self.absolute}, {self.relative}"
            )

    def allowance(self, expected: ArrayLike) -> Any:
        """absolute + relative·|expected|, in the shape of ``expected``; infinity allows no more."""
        size = np.abs(np.asarray(expected, np.float64))
        return self.absolute + self.relative * np.where(np.isfinite(size), size, 0.0)


def printed(significant_digits: int) -> Tolerance:
    """Half a unit of the last digit of a number given to so many significant digits.

    Example:
        >>> float(printed(3).allowance(8.0))
        0.04
    """
    reason = f"stated to {significant_digits} significant digits"
    return Tolerance(reason, relative=0.5 * 10.0 ** (1 - significant_digits))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a paper, or of the theory that follows from it.

    The verdict on a statement of a paper is

    * *reproduced*: computed ``relation`` expected, within the tolerance, at every entry;
    * *sharpened*: so, and the exact value that ``sharper`` states is met within the tolerance as
      well: the paper's bound or rate holds, and more can be said;
    * *differs*: not so; with a ``known_difference`` this is documented and no failure;
    * *outside the paper's scope*: not so, in a case that the paper does not claim, as
      ``outside_scope`` explains: it contradicts nothing that is written there;
    * *not checkable here*: there is no ``compute``, for the reason that ``not_checkable`` gives.

    The verdict on a statement of ours is *confirmed* or *failed*.

    Attributes:
        id: unique over all papers, as "bonbon/win-rate-gap".
        paper: key of the paper, the name of its folder.
        where: page, section, theorem, equation, figure or table.
        provenance: how the statement is known.
        statement: in one sentence, as the paper puts it (plain text, Unicode mathematics).
        kind: *identity* or *inequality* between exact values, *asymptotic* (a limit or a rate, so
            that the tolerance covers what is left), *empirical* (of data or of a fit to them).
        compute: gives the value by this package, a number or a vector of them.
        stage: of the main job, whose results, if it has any, ``compute`` takes; none for what
            follows from theory alone.
        expected: what is stated, same shape.
        relation: how the computed value is stated to relate to the expected one.
        tolerance: with its reason.
        labels: what each entry of a vector is, as "n=2".
        sharper: the sharper statement, if there is one.
        sharp_value: its value, same shape as ``expected``; needed for the verdict *sharpened*.
        known_difference: why the computed value is known not to be what is stated.
        outside_scope: why the paper does not claim this case.
        consequence: what follows from the difference, for who uses the statement.
        not_checkable: why there is no ``compute``.
        figure: the script of ``figures/`` that shows it.
        test: the test that covers it with an oracle of its own, as "bon_theory/test_x.py::test_y"
            below ``tests/``.
        checked_by: names of the Monte Carlo checks of the closed forms used.
    """

    id: str
    paper: str
    where: str
    provenance: Provenance
    statement: str
    kind: Kind = "identity"
    compute: Callable[..., ArrayLike] | None = None
    stage: str = ""
    expected: float | tuple[float, ...] = ()
    relation: Relation = "="
    tolerance: Tolerance | None = None
    labels: tuple[str, ...] = ()
    sharper: str = ""
    sharp_value: float | tuple[float, ...] = ()
    known_difference: str = ""
    outside_scope: str = ""
    consequence: str = ""
    not_checkable: str = ""
    figure: str = ""
    test: str = ""
    checked_by: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it was derived here, and is no paper's statement."""
        return self.provenance == DERIVED

    def __post_init__(self) -> None:
        """Refuse a claim whose parts do not fit: the verdict would be meaningless."""
        self._require_reasons()
        if self.compute is None:
            return
        size = np.size(self.expected)
        if size == 0 or self.tolerance is None:
            raise ValueError(f"{self.id}: compute needs expected and tolerance")
        if self.kind in _RELATIONS and self.relation not in _RELATIONS[self.kind]:
            raise ValueError(f"{self.id}: kind {self.kind!r} does not go with {self.relation!r}")
        if self.labels and len(self.labels) != size:
            raise ValueError(f"{self.id}: labels must name {size} entries, got {len(self.labels)}")
        if bool(self.sharper) != (np.size(self.sharp_value) > 0):
            raise ValueError(f"{self.id}: sharper and sharp_value go together")
        if self.sharper and np.size(self.sharp_value) != size:
            raise ValueError(f"{self.id}: sharp_value must have {size} entries")

    def _require_reasons(self) -> None:
        if (self.compute is None) != bool(self.not_checkable):
            raise ValueError(f"{self.id}: give either compute or the reason not_checkable")
        differs = bool(self.known_difference) + bool(self.outside_scope)
        if differs > 1 or bool(differs) != bool(self.consequence):
            raise ValueError(
                f"{self.id}: give known_difference or outside_scope, and with it a consequence"
            )
        if self.ours and (differs or self.not_checkable or self.sharper):
            raise ValueError(
                f"{self.id}: a statement derived here is computed and holds; sharper, "
                "known_difference, outside_scope and not_checkable are for papers' statements"
            )


@dataclass(frozen=True)
class Computed:
    """What became of a claim, as plain data.

    Attributes:
        claim_id: whose.
        verdict: see ``Claim``.
        computed: entries, empty if there is nothing to compute or it raised.
        expected: entries.
        sharp_value: entries, empty unless there is a sharper statement.
        error: what was raised instead of a value, or that it is not a number.
        seconds: it took.
        unexpected: the verdict is not the one that the claim documents (a difference without a
            reason, a documented one that has gone, a statement of ours that fails): the report's
            reader is told something wrong.
    """

    claim_id: str
    verdict: Verdict
    computed: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()
    sharp_value: tuple[float, ...] = ()
    error: str = ""
    seconds: float = 0.0
    unexpected: bool = False


def evaluate(claim: Claim, *results: Any) -> Computed:
    """Compute the claim's value and judge it; ``results`` are those of its stage, if it has one.

    Example:
        >>> half = Claim(
        ...     id="example/half",
        ...     paper="example",
        ...     where="Theorem 1, p. 1",
        ...     provenance=READ,
        ...     statement="One half is 0.5.",
        ...     compute=lambda: 1 / 2,
        ...     expected=0.5,
        ...     tolerance=Tolerance("exact"),
        ... )
        >>> evaluate(half).verdict
        'reproduced'
    """
    if claim.compute is None:
        return Computed(claim.id, "not checkable here")
    start = time.perf_counter()
    computed: tuple[float, ...] = ()
    error = ""
    try:
        computed = _entries(claim.compute(*results))
        if np.isnan(computed).any():
            error = "a value is not a number"
    except Exception as exception:  # one claim that raises must not hide the verdict on the others
        error = f"{type(exception).__name__}: {exception}"
    verdict = _refuted(claim) if error else judge(claim, computed)
    return Computed(
        claim_id=claim.id,
        verdict=verdict,
        computed=computed,
        expected=_entries(claim.expected),
        sharp_value=_entries(claim.sharp_value),
        error=error,
        seconds=time.perf_counter() - start,
        unexpected=bool(error) or verdict != documented(claim),
    )


def documented(claim: Claim) -> Verdict:
    """The verdict that the claim's own words announce."""
    if claim.compute is None:
        return "not checkable here"
    if claim.known_difference or claim.outside_scope:
        return _refuted(claim)
    return _upheld(claim)


def judge(claim: Claim, computed: ArrayLike) -> Verdict:
    """The verdict on a computed value; see ``Claim``. NaN, and a value of another size, differ."""
    value, expected = np.asarray(_entries(computed)), np.asarray(_entries(claim.expected))
    if claim.tolerance is None or value.shape != expected.shape:
        return _refuted(claim)
    holds = _holds(claim.relation, value, expected, claim.tolerance)
    if holds and claim.sharper:
        sharp = np.asarray(_entries(claim.sharp_value))
        holds = _holds("=", value, sharp, claim.tolerance)
    return _upheld(claim) if holds else _refuted(claim)


def _upheld(claim: Claim) -> Verdict:
    if claim.ours:
        return "confirmed"
    return "sharpened" if claim.sharper else "reproduced"


def _refuted(claim: Claim) -> Verdict:
    if claim.ours:
        return "failed"
    return "outside the paper's scope" if claim.outside_scope else "differs"


def _holds(relation: Relation, value: Any, expected: Any, tolerance: Tolerance) -> bool:
    """Whether value ``relation`` expected at every entry; false at NaN."""
    slack = tolerance.allowance(expected)
    with np.errstate(invalid="ignore"):  # inf − inf
        excess = np.where(value == expected, 0.0, value - expected)
    holds = {"=": np.abs(excess) <= slack, "<=": excess <= slack, ">=": -excess <= slack}
    return bool(np.all(holds[relation]))


def _entries(value: ArrayLike) -> tuple[float, ...]:
    return tuple(np.asarray(value, np.float64).ravel().tolist())
