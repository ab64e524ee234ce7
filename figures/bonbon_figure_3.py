"""The points of [G] Figure 3, as numbers: what trained policies and best-of-8 sampling reach."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import NamedTuple

__all__ = ["Marker", "points"]

_FILE = Path(__file__).with_name("data") / "bonbon_figure_3.csv"
# Results are redone when a source changes; with this, also when the numbers do.
_SHA256 = "2aedfe4d6530477336da1ca82e102283d052528ce343dbb627f93edb262f6a04"


class Marker(NamedTuple):
    """One marker of the figure.

    Attributes:
        task: "TL;DR" (summaries) or "HH" (dialogue).
        method: what was trained, or best-of-n sampling itself.
        kl: divergence from the reference in nats.
        win_rate: against the reference, ties counted as wins.
        mean_length: of the responses, in tokens.
    """

    task: str
    method: str
    kl: float
    win_rate: float
    mean_length: float


def points() -> tuple[Marker, ...]:
    """All of them, in the order of the file, whose first lines say where they come from.

    Raises:
        ValueError: the file is not the one that this module was written for.
    """
    content = _FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(f"{_FILE.name} was changed: put its new SHA-256 into {__name__}")
    lines = (line for line in content.decode().splitlines() if not line.startswith("#"))
    _, *rows = csv.reader(lines)
    return tuple(Marker(task, method, *map(float, numbers)) for task, method, *numbers in rows)
