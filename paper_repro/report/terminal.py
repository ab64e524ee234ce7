"""The summary in the terminal: a line per paper, then only what differs or failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from paper_repro.papers.claim import OUR_VERDICTS, PAPERS_VERDICTS, VERDICTS, Verdict
from paper_repro.papers.ledger import Entry, tally
from paper_repro.report.summary import Summary
from paper_repro.report.wording import each, obtained, stated

_SHORT: dict[Verdict, str] = {
    "outside the paper's scope": "outside\nits scope",
    "not checkable here": "not check-\nable here",
    "failed": "derived here,\nfailed",
    "confirmed": "derived here,\nconfirmed",
}
_SHOWN = 4  # entries of a vector written out, before only the worst is told


def show(console: Console, summary: Summary, page: Path) -> None:
    """Print the papers, what differs, the checks, the conclusion, and where the report lies."""
    if summary.papers:
        console.print(_papers(summary))
    unexpected = summary.ledger.unexpected
    _list(console, "Not as documented", unexpected, style="bold red")
    differing = [e for e in summary.ledger.entries if e.verdict == "differs" and not e.unexpected]
    _list(console, "What differs, and what follows", differing, style="bold")
    for line in (*_checks(summary), _conclusion(summary)):
        console.print(line, soft_wrap=True)
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _papers(summary: Summary) -> Table:
    """A line per paper: what it states, and what was derived here beside it."""
    heads = {verdict: verdict for verdict in VERDICTS} | _SHORT
    shown: list[Verdict] = [v for v in PAPERS_VERDICTS if summary.ledger.tally.papers[v]]
    ours: list[Verdict] = [v for v in OUR_VERDICTS if summary.ledger.tally.ours[v]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("statements of papers", no_wrap=True)
    for verdict in (*shown, *ours):
        table.add_column(heads[verdict], justify="right")
    for paper, entries in summary.papers:
        counts = tally(entries)
        numbers = (*map(counts.papers.__getitem__, shown), *map(counts.ours.__getitem__, ours))
        table.add_row(paper.short_title, *(str(number or "·") for number in numbers))
    return table


def _counts(counts: Counter[Verdict]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def _list(console: Console, title: str, entries: Sequence[Entry], *, style: str) -> None:
    """The claims under a title, each with its statement and its numbers."""
    if not entries:
        return
    console.print(Text(title, style=style))
    for entry in entries:
        console.print(Text(f"  {entry.where}  ({entry.id}, {entry.verdict})"), soft_wrap=True)
        console.print(Padding(Text(entry.statement), (0, 0, 0, 4)))
        console.print(Padding(_numbers(entry), (0, 0, 0, 4)))
        if entry.consequence:
            console.print(Padding(Text(f"→ {entry.consequence}"), (0, 0, 1, 4)))


def _numbers(entry: Entry) -> Text | Table:
    if entry.error or not 0 < len(entry.computed) <= _SHOWN:
        return Text(f"stated: {stated(entry, 6)}; computed: {obtained(entry, 6)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, expected, computed in each(entry, 6):
        table.add_row(name, f"stated {expected}", f"computed {computed}")
    return table


def _checks(summary: Summary) -> list[Text]:
    lines = []
    if (checks := summary.checks) is not None:
        lines.append(
            Text(
                f"Monte Carlo: {len(checks.checks)} checks on {checks.trials:,} selections, "
                f"{len(checks.rejected)} rejected; {len(checks.planted)} planted errors, "
                f"{len(checks.missed)} missed; false-alarm rate {checks.false_alarm:g}"
            )
        )
    for name, part in (
        ("Language model", summary.language_model),
        ("Real answers", summary.real_answers),
    ):
        if part is not None:
            found = part.evidence
            lines.append(
                Text(
                    f"{name}: {found.num_checks} checks, {len(found.rejected)} rejected; "
                    f"{found.planted_rejected} of {found.num_planted} checks reject n+1; "
                    f"false-alarm rate {found.false_alarm:g}"
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


def _conclusion(summary: Summary) -> Text:
    counts = summary.ledger.tally
    claims = (
        f"Of {counts.papers.total()} statements of papers: {_counts(counts.papers) or 'none'}. "
        f"Of {counts.ours.total()} derived here: {_counts(counts.ours) or 'none'}."
    )
    if summary.passed:
        return Text(f"{claims} Nothing unexpected.", style="bold green")
    return Text(f"{claims} Not as documented: {', '.join(summary.failures)}.", style="bold red")
