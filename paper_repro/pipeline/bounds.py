"""The inequalities beside the truth: what the sweep behind the figure of bounds found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def run(output: Path) -> dict[str, Any]:
    """Read the figure's data; a theorem that is violated anywhere is a failure of the report.

    Returns:
        `num_problems`; `rows`, one per inequality, with the median `slack` for each number of
        outcomes swept; `violated`, the names of theorems with a violation; `passed`.
    """
    found = json.loads((output / "figures" / "bounds.json").read_text(encoding="utf-8"))
    coarse, fine = (_rows(found["tables"][name]) for name in ("coarse", "fine"))
    rows = [
        {
            "name": name,
            "side": row["side"],
            "quantity": row["quantity"],
            "source": row["source"],
            "status": row["status"],
            "tightest": row["tightest"],
            "slack": [sweep[name]["slack_50"] for sweep in (coarse, fine) if name in sweep],
            "violations": sum(
                sweep[name]["violations"] for sweep in (coarse, fine) if name in sweep
            ),
        }
        for name, row in coarse.items()
    ]
    violated = [r["name"] for r in rows if r["violations"] and r["status"] == "theorem"]
    num_problems = found["parameters"]["num_problems"]
    return {
        "num_problems": num_problems,
        "seed": found["parameters"]["seed"],
        "rows": rows,
        "violated": violated,
        "passed": not violated,
    }


def _rows(table: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """The rows of a table of columns, by name."""
    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    return {row["name"]: row for row in rows}
