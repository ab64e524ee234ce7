"""The report: one HTML file with everything inside, to be read offline and kept."""

from __future__ import annotations

from pathlib import Path

from paper_repro.papers.claim import VERDICTS
from paper_repro.report import claims as report_claims
from paper_repro.report import evidence as report_evidence
from paper_repro.report.markup import Markup, element, escape, join, table
from paper_repro.report.summary import Summary

_CSS = Path(__file__).with_name("report.css")
_TITLE = "Best-of-n and soft best-of-n: what the papers state, and what is computed"


def render(summary: Summary, output: Path) -> str:
    """The page; `output` is where the figures lie."""
    sections = [
        (f"paper-{paper.key}", paper.title, report_claims.section(paper, entries))
        for paper, entries in summary.papers
    ]
    if summary.figures:
        figures = report_evidence.figures(summary.figures, output / "figures")
        sections.append(("figures", "Figures", figures))
    if summary.bounds is not None:
        sections.append(("bounds", "Bounds", report_evidence.bounds(summary.bounds)))
    if summary.checks is not None:
        sections.append(
            ("checks", "Monte Carlo checks", report_evidence.monte_carlo(summary.checks))
        )
    if summary.language_model is not None:
        sections.append(
            (
                "language-model",
                "Real sequences",
                report_evidence.language_model(summary.language_model),
            )
        )
    sections.append(("provenance", "Provenance", _provenance(summary)))

    contents = join(
        element("li", element("a", escape(title), href=f"#{anchor}"))
        for anchor, title, _ in sections
    )
    body = join(
        [
            _header(summary),
            element("nav", element("ul", contents), aria_label="Contents"),
            *(
                element("section", element("h2", escape(title)) + content, id=anchor)
                for anchor, title, content in sections
            ),
        ]
    )
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        'initial-scale=1">'
        f"<title>{_TITLE}</title><style>{_CSS.read_text(encoding='utf-8')}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _header(summary: Summary) -> Markup:
    counts = summary.ledger.tally.papers + summary.ledger.tally.ours
    tally = [
        element(
            "li",
            element("b", str(counts[verdict])) + escape(verdict),
            class_=verdict.replace(" ", "-").replace("'", ""),
        )
        for verdict in VERDICTS
    ]
    for part, name in (
        (summary.checks, "Monte Carlo checks"),
        (summary.language_model, "language model"),
    ):
        if part is not None:
            word = "passed" if part.passed else "failed"
            tally.append(element("li", escape(f"{name}: {word}"), class_=word))
    sentence = (
        "Nothing unexpected."
        if summary.passed
        else f"Something is not as documented: {', '.join(summary.failures)}."
    )
    meaning = (
        "Reproduced: the value computed by this package is the one stated, within the tolerance "
        "given beside it. Sharpened: what is stated holds, and the exact value says more. "
        "Differs: it does not hold; where that is known, the reason is given."
    )
    return join(
        [
            element("h1", escape(_TITLE)),
            element("p", element("b", escape(sentence))),
            element("ul", join(tally), class_="tally"),
            element("p", escape(meaning), class_="muted"),
            element("p", escape(_randomness(summary)), class_="muted"),
        ]
    )


def _randomness(summary: Summary) -> str:
    if not summary.false_alarm:
        return "Nothing in this report is random."
    return (
        "The random parts of this report would fail by chance, although everything is right, with "
        f"probability at most {summary.false_alarm:.3g} in all; seeds are fixed and given below."
    )


def _provenance(summary: Summary) -> Markup:
    rows = [
        [
            escape(title),
            escape("not run" if record is None else f"{record.seconds:.1f} s"),
            escape("" if record is None else record.finished),
        ]
        for title, record in summary.stages
    ]
    seeds = [
        f"{name}: seed {part.seed}"
        for part, name in (
            (summary.checks, "Monte Carlo checks"),
            (summary.language_model, "language model"),
            (summary.bounds, "bounds"),
        )
        if part is not None
    ]
    versions = [
        [escape(name), escape(version)] for name, version in summary.ledger.versions.items()
    ]
    facts = (
        f"Profile {summary.profile}. {summary.machine}. Run time of all stages "
        f"{summary.seconds:.0f} s, including those whose results were on disk. " + "; ".join(seeds)
    )
    return join(
        [
            element("p", escape(facts)),
            table(["Stage", "Time", "Finished (UTC)"], rows),
            element("h3", escape("Versions")),
            table(["Package", "Version"], versions, class_="entries"),
        ]
    )
