"""How a claim's numbers are put into few words, the same in the report and in the terminal."""

from __future__ import annotations

import numpy as np

from paper_repro.papers.ledger import Entry

_RELATIONS = {"=": "", "<=": "≤ ", ">=": "≥ "}
_BOUND = {"<=": "at most", ">=": "at least"}


def stated(entry: Entry, digits: int) -> str:
    """What is stated: a number, that there is no difference, or how many numbers there are.

    Where "=" is stated of zeros, the entries are differences between two sides of an equation.
    """
    if not entry.expected:
        return ""
    values = np.asarray(entry.expected)
    cases = f" in all {values.size} cases" if values.size > 1 else ""
    if entry.relation == "=" and not values.any():
        return f"no difference{cases}"
    if np.unique(values).size == 1:
        return f"{_RELATIONS[entry.relation]}{values[0]:.{digits}g}{cases}"
    if entry.relation == "=":
        return f"{values.size} values"
    return f"{_BOUND[entry.relation]} each of {values.size} values"


def obtained(entry: Entry, digits: int) -> str:
    """What is computed: a number, or how near a vector of them comes, and where it is nearest."""
    if entry.error:
        return entry.error
    values, expected = np.asarray(entry.computed), np.asarray(entry.expected)
    if values.shape != expected.shape or values.size == 0:
        return ", ".join(f"{value:.{digits}g}" for value in values)
    if entry.relation == "=":
        return _agreement(entry, digits)
    if values.size == 1:
        return f"{values[0]:.{digits}g}"
    if np.unique(values).size == 1:
        return f"{values[0]:.{digits}g} in all {values.size} cases"
    if np.unique(expected).size == 1:
        extreme = np.argmax(values) if entry.relation == "<=" else np.argmin(values)
        return f"{_BOUND[entry.relation]} {values[extreme]:.3g}{_at(entry, int(extreme))}"
    room = expected - values if entry.relation == "<=" else values - expected
    least = int(np.argmin(room))
    if room[least] < 0:
        return f"missed by {-room[least]:.2g}{_at(entry, least)}"
    return f"room of {room[least]:.2g} or more; least{_at(entry, least) or ' there'}"


def each(entry: Entry, digits: int) -> list[tuple[str, str, str]]:
    """Label, stated and computed value of every entry, as texts."""
    labels = entry.labels or ("",) * len(entry.computed)
    pairs = zip(labels, entry.expected, entry.computed, strict=False)
    sign = _RELATIONS[entry.relation]
    return [(name, f"{sign}{e:.{digits}g}", f"{c:.{digits}g}") for name, e, c in pairs]


def _agreement(entry: Entry, digits: int) -> str:
    """How far values are from those they should equal."""
    values, expected = np.asarray(entry.computed), np.asarray(entry.expected)
    if values.size == 1 and expected[0]:
        return f"{values[0]:.{digits}g}"
    with np.errstate(invalid="ignore"):  # inf − inf
        error = np.where(values == expected, 0.0, np.abs(values - expected))
    worst = int(np.argmax(error))
    if not error[worst]:
        return "none: equal to the last digit" if not expected.any() else "equal to the last digit"
    if not expected.any():
        return f"{error[worst]:.1e}{' at most' * (values.size > 1)}{_at(entry, worst)}"
    if entry.tolerance and entry.tolerance.relative and not entry.tolerance.absolute:
        relative = float(np.max(error / np.abs(expected)))
        return f"all within {relative:.1e} of the value stated"
    if entry.verdict in ("differs", "failed", "outside the paper's scope"):
        return f"off by up to {error[worst]:.2g}{_at(entry, worst)}"
    return f"all within {error[worst]:.1e}"


def _at(entry: Entry, index: int) -> str:
    return f" ({entry.labels[index]})" if entry.labels else ""
