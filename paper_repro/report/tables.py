"""The tables of the report, as texts; their markup is the templates'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paper_repro.papers.ledger import Entry
from paper_repro.pipeline.payloads import BoundRow, FigureResult, PredictionTable
from paper_repro.report.summary import Summary
from simulations.statistics.checks import Check


@dataclass(frozen=True)
class PageTable:
    """A table whose first column names the row.

    Attributes:
        caption: what it shows; unlike that of any other table of the page.
        heads: of the columns.
        rows: as long as ``heads``; a line break in a cell is one on the page.
        numbers: how many of the last columns are numbers.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: int = 0


def values(entry: Entry) -> PageTable:
    """Every entry of a claim's vectors."""
    labels = entry.labels or tuple(str(i + 1) for i in range(len(entry.computed)))
    columns = {"Stated": entry.expected, "Computed": entry.computed}
    if entry.sharp_value:
        columns["Sharper"] = entry.sharp_value
    rows = zip(labels, *(_numbers(column) for column in columns.values()), strict=False)
    return PageTable(f"Values of {entry.id}", ("Case", *columns), tuple(rows), len(columns))


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:.10g}" for value in values]


def texts(figure: FigureResult) -> PageTable:
    """Those that go with a figure."""
    name = figure.name.replace("_", " ")
    return PageTable(f"Texts beside {name}", ("To", "By", "Text"), figure.texts)


def bounds(rows: Iterable[BoundRow]) -> PageTable:
    """Each inequality: of what, whose, where tightest, how tight."""
    cells = [
        (
            row.name,
            {"upper": "≥ ", "lower": "≤ "}[row.side] + row.quantity,
            row.source,
            row.tightest,
            " / ".join(f"{slack:.2g}" for slack in row.slack),
            f"{row.violations:,}",
        )
        for row in rows
    ]
    heads = ("Bound", "On", "Source", "Tightest at", "Median slack", "Violations")
    return PageTable("Bounds and their slack", heads, cells, numbers=2)


def checks(caption: str, checks: Iterable[Check], threshold: float) -> PageTable:
    """Each check and whether it is rejected."""
    rows = [
        (
            check.name,
            f"{check.num_trials:,}",
            f"{check.statistic:.4g}",
            f"{check.p_value:.3g}",
            "rejected" if check.p_value <= threshold else "not rejected",
        )
        for check in checks
    ]
    heads = ("Check", "Selections", "Statistic", "p-value", "Outcome")
    return PageTable(caption, heads, rows, numbers=4)


def predictions(tables: Iterable[PredictionTable], of: str) -> list[PageTable]:
    """Predicted, measured, standard error in a cell; a row per temperature, a column per n.

    ``of`` is what is selected, which tells the captions of a page apart.
    """
    groups: dict[str, list[PredictionTable]] = {}
    for table in tables:
        title = f"{table.quantity.capitalize()} when selecting {of} by {table.reward}"
        groups.setdefault(title, []).append(table)
    return [_prediction(title, rows) for title, rows in groups.items()]


def _prediction(title: str, rows: list[PredictionTable]) -> PageTable:
    cells = [
        (
            f"λ = {row.temperature:g}",
            *(
                f"{predicted:.4g}\n{measured:.4g}\n± {error:.2g}"
                for predicted, measured, error in zip(
                    row.predicted, row.measured, row.error, strict=True
                )
            ),
        )
        for row in rows
    ]
    heads = ("Temperature", *(f"n = {n}" for n in rows[0].numbers))
    return PageTable(title, heads, cells, numbers=len(heads) - 1)


def stages(summary: Summary) -> PageTable:
    """What was run, when, and how long it took."""
    rows = [
        (title, "not run", "")
        if record is None
        else (title, f"{record.seconds:.1f} s", record.finished)
        for title, record in summary.stages
    ]
    return PageTable("Stages", ("Stage", "Time", "Finished (UTC)"), rows)


def versions(found: Mapping[str, str]) -> PageTable:
    """What computed it."""
    return PageTable("Versions", ("Package", "Version"), tuple(found.items()))
