"""The table in the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paper_repro.claim import VERDICTS, Claim, Computed
from paper_repro.summary import PaperResult, Summary

_STYLES = {
    "reproduced": "green",
    "sharpened": "blue",
    "differs": "red",
    "not checkable here": "dim",
}


def show(console: Console, summary: Summary, page: Path) -> None:
    """Print a table per paper, the checks, the verdict, and where the report lies."""
    for result in summary.papers:
        console.print(_paper_table(result))
    for line in (*_check_lines(summary), _verdict_line(summary)):
        console.print(line, soft_wrap=True)
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _paper_table(result: PaperResult) -> Table:
    title = f"{result.paper.title} (arXiv {result.paper.arxiv})"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("Claim", "Stated", "Computed", "Verdict"):
        table.add_column(head, overflow="fold")
    for claim, computed in result.claims:
        verdict = Text(computed.verdict, style=_STYLES[computed.verdict])
        if computed.unexpected:
            verdict.append(" (unexpected)", style="bold red")
        name = claim.id.partition("/")[2]
        table.add_row(name, _stated(claim), _computed(claim, computed), verdict)
    return table


def _stated(claim: Claim) -> str:
    if claim.compute is None:
        return ""
    values = np.ravel(claim.expected)
    relation = {"=": "", "<=": "≤ ", ">=": "≥ "}[claim.relation]
    one = np.unique(values).size == 1
    return relation + (f"{values[0]:.6g}" if one else f"{values.size} values")


def _computed(claim: Claim, computed: Computed) -> str:
    """The value; for a vector, the largest deviation or the smallest margin."""
    if computed.error:
        return computed.error
    if len(computed.computed) <= 1 or len(computed.computed) != len(computed.expected):
        return ", ".join(f"{value:.6g}" for value in computed.computed)
    difference = np.subtract(computed.computed, computed.expected)
    if claim.relation == "=":
        return f"within {np.max(np.abs(difference)):.1e}"
    margin = difference if claim.relation == ">=" else -difference
    return f"by at least {np.min(margin):.2g}"


def _check_lines(summary: Summary) -> list[Text]:
    lines = []
    if (checks := summary.checks) is not None:
        lines.append(
            Text(
                f"Monte Carlo: {len(checks['checks'])} checks on {checks['trials']:,} selections, "
                f"{len(checks['rejected'])} rejected; {len(checks['planted'])} planted errors, "
                f"{len(checks['missed'])} missed; false-alarm rate {checks['false_alarm']:g}"
            )
        )
    if (model := summary.language_model) is not None:
        lines.append(
            Text(
                f"Language model: {model['num_checks']} checks, {len(model['rejected'])} rejected; "
                f"{model['planted_rejected']} of {model['num_planted']} checks reject n+1; "
                f"false-alarm rate {model['false_alarm']:g}"
            )
        )
    return lines


def _verdict_line(summary: Summary) -> Text:
    counts = ", ".join(
        f"{summary.verdicts[verdict]} {verdict}"
        for verdict in VERDICTS
        if summary.verdicts[verdict]
    )
    if summary.passed:
        return Text(f"Claims: {counts or 'none computed'}. Nothing unexpected.", style="bold green")
    names = ", ".join(computed.claim_id for computed in summary.unexpected)
    return Text(f"Claims: {counts}. Not as documented: {names or 'see above'}.", style="bold red")
