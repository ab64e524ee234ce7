"""What several test modules take as their example of a claim."""

from typing import Any

from paper_repro.papers.claim import Claim, Tolerance

EXACT = Tolerance("exact", absolute=1e-9)


def example(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "example/claim",
        "paper": "example",
        "where": "Theorem 1",
        "statement": "Two is 2.",
        "compute": lambda: 2.0,
        "expected": 2.0,
        "tolerance": EXACT,
    }
    return Claim(**(fields | changes))
