"""What several test modules take as their example of a claim."""

from typing import Any

from paper_repro.papers.claim import READ, Claim, Computed, Tolerance
from paper_repro.papers.ledger import Ledger, entry

EXACT = Tolerance("exact", absolute=1e-9)


def example(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "example/claim",
        "paper": "example",
        "where": "Theorem 1, p. 2",
        "provenance": READ,
        "statement": "Two is 2.",
        "compute": lambda: 2.0,
        "expected": 2.0,
        "tolerance": EXACT,
    }
    return Claim(**(fields | changes))


def ledger(*pairs: tuple[Claim, Computed]) -> Ledger:
    return Ledger("0123456789ab", {"jax": "1.0"}, tuple(entry(*pair) for pair in pairs))
