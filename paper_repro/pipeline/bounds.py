"""The inequalities beside the truth: what the sweep behind the figure of bounds found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paper_repro.pipeline.payloads import BoundRow, BoundsResults


def run(output: Path) -> BoundsResults:
    """Read the figure's data: a theorem that is violated anywhere is a failure of the report."""
    found = json.loads((output / "figures" / "bounds.json").read_text(encoding="utf-8"))
    sweeps = [_rows(found["tables"][name]) for name in ("coarse", "fine")]
    rows = []
    for name, row in sweeps[0].items():
        swept = [sweep[name] for sweep in sweeps if name in sweep]
        rows.append(
            BoundRow(
                name=name,
                side=row["side"],
                quantity=row["quantity"],
                source=row["source"],
                status=row["status"],
                tightest=row["tightest"],
                slack=tuple(other["slack_50"] for other in swept),
                violations=sum(other["violations"] for other in swept),
            )
        )
    parameters = found["parameters"]
    return BoundsResults(parameters["num_problems"], parameters["seed"], tuple(rows))


def _rows(table: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """The rows of a table of columns, by name."""
    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    return {row["name"]: row for row in rows}
