"""How a claim's numbers are put into few words, the same in the report and in the terminal."""

from __future__ import annotations

import numpy as np

from paper_repro.papers.claim import Claim, Computed

_RELATIONS = {"=": "", "<=": "≤ ", ">=": "≥ "}


def stated(claim: Claim, digits: int) -> str:
    """What is stated: a number where all entries are equal, else how many there are."""
    if claim.compute is None:
        return ""
    values = np.ravel(claim.expected)
    one = np.unique(values).size == 1
    return _RELATIONS[claim.relation] + (
        f"{values[0]:.{digits}g}" if one else f"{values.size} values"
    )


def obtained(claim: Claim, computed: Computed, digits: int) -> str:
    """What is computed: a number, or of a vector the entry that is the least convenient."""
    if computed.error:
        return computed.error
    if len(computed.computed) <= 1 or len(computed.computed) != len(computed.expected):
        return ", ".join(f"{value:.{digits}g}" for value in computed.computed)
    difference = np.subtract(computed.computed, computed.expected)
    if claim.relation == "=":
        if claim.tolerance and claim.tolerance.relative and not claim.tolerance.absolute:
            return f"within {np.max(np.abs(difference / computed.expected)):.1e} relative"
        return f"within {np.max(np.abs(difference)):.1e}"
    margin = difference if claim.relation == ">=" else -difference
    return f"smallest margin {np.min(margin):.2g}"
