"""A claim of a paper as data, and the verdict on it.

A claim carries what the paper states (`expected`) apart from how this package computes the same
quantity (`compute`), so that the two can disagree.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Relation = Literal["=", "<=", ">="]
Verdict = Literal["reproduced", "sharpened", "differs", "not checkable here"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "sharpened", "differs", "not checkable here")


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
        """absolute + relative·|expected|, in the shape of `expected`; infinity allows no more."""
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

    The verdict on it is

    * *reproduced*: computed `relation` expected, within the tolerance, at every entry;
    * *sharpened*: so, and the exact value that `sharper` states is met within the tolerance as
      well: the paper's bound or rate holds, and more can be said;
    * *differs*: neither. With a `known_difference` this is documented and no failure;
    * *not checkable here*: there is no `compute`, for the reason that `not_checkable` gives.

    Attributes:
        id: unique over all papers, as "bonbon/win-rate-gap".
        paper: key of the paper, the name of its folder.
        where: section, theorem, equation, figure or table.
        statement: in one sentence, as the paper puts it (plain text, Unicode mathematics).
        compute: gives the value by this package, a number or a vector of them.
        expected: what is stated, same shape.
        relation: how the computed value is stated to relate to the expected one.
        tolerance: with its reason.
        labels: what each entry of a vector is, as "n=2".
        sharper: the sharper statement, if there is one.
        sharp_value: its value, same shape as `expected`; needed for the verdict *sharpened*.
        known_difference: why the computed value is known not to be what is stated.
        not_checkable: why there is no `compute`.
        source: "paper" if the expected value is printed there or follows from its formula,
            "derived" if it was derived for this project.
        checked_by: names of the Monte Carlo checks of the closed forms used.
    """

    id: str
    paper: str
    where: str
    statement: str
    compute: Callable[[], ArrayLike] | None = None
    expected: float | tuple[float, ...] = ()
    relation: Relation = "="
    tolerance: Tolerance | None = None
    labels: tuple[str, ...] = ()
    sharper: str = ""
    sharp_value: float | tuple[float, ...] = ()
    known_difference: str = ""
    not_checkable: str = ""
    source: Literal["paper", "derived"] = "paper"
    checked_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a claim whose parts do not fit: the verdict would be meaningless."""
        if (self.compute is None) != bool(self.not_checkable):
            raise ValueError(f"{self.id}: give either compute or the reason not_checkable")
        if self.compute is None:
            return
        size = np.size(self.expected)
        if size == 0 or self.tolerance is None:
            raise ValueError(f"{self.id}: compute needs expected and tolerance")
        if self.labels and len(self.labels) != size:
            raise ValueError(f"{self.id}: labels must name {size} entries, got {len(self.labels)}")
        if bool(self.sharper) != (np.size(self.sharp_value) > 0):
            raise ValueError(f"{self.id}: sharper and sharp_value go together")
        if self.sharper and np.size(self.sharp_value) != size:
            raise ValueError(f"{self.id}: sharp_value must have {size} entries")


@dataclass(frozen=True)
class Computed:
    """What became of a claim; plain data, so that it goes through JSON and back unchanged.

    Attributes:
        claim_id: whose.
        verdict: see `Claim`.
        computed: entries, empty if there is nothing to compute or it raised.
        expected: entries.
        sharp_value: entries, empty unless there is a sharper statement.
        error: what was raised instead of a value.
        seconds: it took.
        unexpected: the verdict is *differs* and no reason is documented, or a documented
            difference has gone: either way the report's reader is told something wrong.
    """

    claim_id: str
    verdict: Verdict
    computed: tuple[float, ...] = ()
    expected: tuple[float, ...] = ()
    sharp_value: tuple[float, ...] = ()
    error: str = ""
    seconds: float = 0.0
    unexpected: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON's types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Computed:
        """Undo `to_json`, also after the round trip through a file."""
        fields = dict(record)
        for name in ("computed", "expected", "sharp_value"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def evaluate(claim: Claim) -> Computed:
    """Compute the claim's value and judge it.

    Example:
        >>> half = Claim(
        ...     id="example/half",
        ...     paper="example",
        ...     where="Theorem 1",
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
    try:
        computed = _entries(claim.compute())
    except Exception as exception:  # one claim that raises must not hide the verdict on the others
        error, computed, verdict = f"{type(exception).__name__}: {exception}", (), "differs"
    else:
        error, verdict = "", judge(claim, computed)
    return Computed(
        claim_id=claim.id,
        verdict=verdict,
        computed=computed,
        expected=_entries(claim.expected),
        sharp_value=_entries(claim.sharp_value),
        error=error,
        seconds=time.perf_counter() - start,
        unexpected=bool(error) or (verdict == "differs") != bool(claim.known_difference),
    )


def judge(claim: Claim, computed: ArrayLike) -> Verdict:
    """The verdict on a computed value; see `Claim`. NaN, and a value of another size, differ."""
    value, expected = np.asarray(_entries(computed)), np.asarray(_entries(claim.expected))
    if claim.tolerance is None or value.shape != expected.shape:
        return "differs"
    if not _holds(claim.relation, value, expected, claim.tolerance):
        return "differs"
    if not claim.sharper:
        return "reproduced"
    sharp = np.asarray(_entries(claim.sharp_value))
    return "sharpened" if _holds("=", value, sharp, claim.tolerance) else "differs"


def _holds(relation: Relation, value: Any, expected: Any, tolerance: Tolerance) -> bool:
    """Whether value `relation` expected at every entry; false at NaN."""
    slack = tolerance.allowance(expected)
    with np.errstate(invalid="ignore"):  # inf − inf
        excess = np.where(value == expected, 0.0, value - expected)
    holds = {"=": np.abs(excess) <= slack, "<=": excess <= slack, ">=": -excess <= slack}
    return bool(np.all(holds[relation]))


def _entries(value: ArrayLike) -> tuple[float, ...]:
    return tuple(np.asarray(value, np.float64).ravel().tolist())
