"""The part of the report on a paper: its claims, one row each."""

from __future__ import annotations

from paper_repro.papers.claim import Claim, Computed
from paper_repro.report.markup import Markup, element, escape, join, table
from paper_repro.report.summary import PaperResult
from paper_repro.report.wording import obtained, stated


def section(result: PaperResult) -> Markup:
    """Who wrote it, and a table of its claims."""
    paper = result.paper
    link = element("a", escape(f"arXiv {paper.arxiv}"), href=f"https://arxiv.org/abs/{paper.arxiv}")
    rows = [_row(claim, computed) for claim, computed in result.claims]
    return join(
        [
            element("p", escape(f"{paper.authors}. ") + link, class_="muted"),
            table(["Verdict", "Claim", "Stated", "Computed", "Tolerance"], rows, class_="claims"),
        ]
    )


def badge(verdict: str) -> Markup:
    """A verdict in its colour."""
    return element("span", escape(verdict), class_=f"badge {verdict.replace(' ', '-')}")


def _row(claim: Claim, computed: Computed) -> list[Markup]:
    return [
        badge(computed.verdict),
        _statement(claim, computed),
        escape(stated(claim, 10)),
        _value(claim, computed),
        _tolerance(claim),
    ]


def _statement(claim: Claim, computed: Computed) -> Markup:
    """The statement, what makes it sharper or different, and what vouches for it."""
    notes = [
        (claim.sharper, "Sharper: "),
        (claim.known_difference, "Known difference: "),
        (claim.not_checkable, ""),
        (computed.error, "Raised "),
    ]
    origin = "" if claim.source == "paper" else "derived here; "
    parts = [
        element("div", escape(claim.statement)),
        *(
            element("div", element("b", escape(head)) + escape(text))
            for text, head in notes
            if text
        ),
        element("small", escape(f"{claim.where}; {origin}") + element("code", escape(claim.id))),
    ]
    if claim.checked_by:
        by = join(element("li", escape(name)) for name in claim.checked_by)
        title = element("summary", escape("Monte Carlo checks"))
        parts.append(element("details", title + element("ul", by)))
    return join(parts)


def _value(claim: Claim, computed: Computed) -> Markup:
    """The value, or the distance from what is stated with all entries to unfold."""
    words = escape("" if computed.error else obtained(claim, computed, 10))
    if len(computed.computed) <= 1:
        return words
    return element("details", element("summary", words) + _entries(claim, computed))


def _entries(claim: Claim, computed: Computed) -> Markup:
    size = len(computed.computed)
    labels = claim.labels or tuple(str(i + 1) for i in range(size))
    columns = {"Stated": computed.expected, "Computed": computed.computed}
    if computed.sharp_value:
        columns["Sharper"] = computed.sharp_value
    rows = [
        [escape(label), *(escape(f"{column[i]:.10g}") for column in columns.values())]
        for i, label in enumerate(labels)
        if all(i < len(column) for column in columns.values())
    ]
    return table(["", *columns], rows, class_="entries", numbers=len(columns))


def _tolerance(claim: Claim) -> Markup:
    tolerance = claim.tolerance
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
