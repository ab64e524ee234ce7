"""The part of the report on a paper: its claims, one row each."""

from __future__ import annotations

from collections.abc import Sequence

from paper_repro.papers.catalogue import Paper
from paper_repro.papers.ledger import Entry
from paper_repro.report.markup import Markup, element, escape, join, table
from paper_repro.report.wording import obtained, stated


def section(paper: Paper, entries: Sequence[Entry]) -> Markup:
    """Who wrote it, and a table of its claims."""
    link = element("a", escape(f"arXiv {paper.arxiv}"), href=f"https://arxiv.org/abs/{paper.arxiv}")
    rows = [_row(entry) for entry in entries]
    return join(
        [
            element("p", escape(f"{paper.authors}. ") + link, class_="muted"),
            table(["Verdict", "Claim", "Stated", "Computed", "Tolerance"], rows, class_="claims"),
        ]
    )


def badge(verdict: str) -> Markup:
    """A verdict in its colour."""
    return element("span", escape(verdict), class_=f"badge {verdict.replace(' ', '-')}")


def _row(entry: Entry) -> list[Markup]:
    return [
        badge(entry.verdict),
        _statement(entry),
        escape(stated(entry, 10)),
        _value(entry),
        _tolerance(entry),
    ]


def _statement(entry: Entry) -> Markup:
    """The statement, what makes it sharper or different, and what vouches for it."""
    notes = [
        (entry.sharper, "Sharper: "),
        (entry.known_difference, "Known difference: "),
        (entry.outside_scope, "Outside the paper's scope: "),
        (entry.consequence, "What follows: "),
        (entry.not_checkable, ""),
        (entry.error, "Raised "),
    ]
    parts = [
        element("div", escape(entry.statement)),
        *(
            element("div", element("b", escape(head)) + escape(text))
            for text, head in notes
            if text
        ),
        element(
            "small",
            escape(f"{entry.where}; {entry.provenance}; {entry.kind}; ")
            + element("code", escape(entry.id)),
        ),
    ]
    if entry.checked_by:
        by = join(element("li", escape(name)) for name in entry.checked_by)
        title = element("summary", escape("Monte Carlo checks"))
        parts.append(element("details", title + element("ul", by)))
    return join(parts)


def _value(entry: Entry) -> Markup:
    """The value, or the distance from what is stated with all entries to unfold."""
    words = escape("" if entry.error else obtained(entry, 10))
    if len(entry.computed) <= 1:
        return words
    return element("details", element("summary", words) + _entries(entry))


def _entries(entry: Entry) -> Markup:
    size = len(entry.computed)
    labels = entry.labels or tuple(str(i + 1) for i in range(size))
    columns = {"Stated": entry.expected, "Computed": entry.computed}
    if entry.sharp_value:
        columns["Sharper"] = entry.sharp_value
    rows = [
        [escape(label), *(escape(f"{column[i]:.10g}") for column in columns.values())]
        for i, label in enumerate(labels)
        if all(i < len(column) for column in columns.values())
    ]
    return table(["", *columns], rows, class_="entries", numbers=len(columns))


def _tolerance(entry: Entry) -> Markup:
    tolerance = entry.tolerance
    if tolerance is None:
        return escape("")
    parts = [
        text
        for amount, text in (
            (tolerance.absolute, f"{tolerance.absolute:.1e}"),
            (tolerance.relative, f"{tolerance.relative:.1e} relative"),
        )
        if amount
    ]
    amount = " + ".join(parts) or "0"
    return join([escape(amount), element("div", element("small", escape(tolerance.reason)))])
