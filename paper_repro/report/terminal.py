"""The table in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paper_repro.papers.claim import VERDICTS
from paper_repro.report.summary import PaperResult, Summary
from paper_repro.report.wording import obtained, stated

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
        table.add_row(name, stated(claim, 6), obtained(claim, computed, 6), verdict)
    return table


def _check_lines(summary: Summary) -> list[Text]:
    lines = []
    if (checks := summary.checks) is not None:
        lines.append(
            Text(
                f"Monte Carlo: {len(checks.checks)} checks on {checks.trials:,} selections, "
                f"{len(checks.rejected)} rejected; {len(checks.planted)} planted errors, "
                f"{len(checks.missed)} missed; false-alarm rate {checks.false_alarm:g}"
            )
        )
    if (model := summary.language_model) is not None:
        lines.append(
            Text(
                f"Language model: {model.num_checks} checks, {len(model.rejected)} rejected; "
                f"{model.planted_rejected} of {model.num_planted} checks reject n+1; "
                f"false-alarm rate {model.false_alarm:g}"
            )
        )
    if (bounds := summary.bounds) is not None:
        lines.append(
            Text(
                f"Bounds: {len(bounds.rows)} on {bounds.num_problems:,} random problems, "
                f"{len(bounds.violated)} violated"
            )
        )
    return lines


def _verdict_line(summary: Summary) -> Text:
    counts = ", ".join(
        f"{summary.verdicts[verdict]} {verdict}"
        for verdict in VERDICTS
        if summary.verdicts[verdict]
    )
    claims = f"Claims: {counts or 'none computed'}."
    if summary.passed:
        return Text(f"{claims} Nothing unexpected.", style="bold green")
    return Text(f"{claims} Not as documented: {', '.join(summary.failures)}.", style="bold red")
