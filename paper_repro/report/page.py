"""The report: one HTML file with everything inside, to be read offline and kept."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from paper_repro.papers.catalogue import PAPERS, Paper
from paper_repro.papers.claim import VERDICTS, Tolerance, Verdict
from paper_repro.papers.ledger import Entry
from paper_repro.pipeline.payloads import FigureResult
from paper_repro.report import tables
from paper_repro.report.summary import Summary
from paper_repro.report.wording import obtained, stated

_TITLE = "Best-of-n sampling: what the papers state, and what is computed"
_TEMPLATES = Path(__file__).with_name("templates")
_DIGITS = 10

#: In this order within a paper: what a reader looks for first.
_ORDER: tuple[Verdict, ...] = (
    "failed",
    "differs",
    "outside the paper's scope",
    "sharpened",
    "reproduced",
    "not checkable here",
    "confirmed",
)
_PHRASES = {
    "reproduced": "are reproduced",
    "sharpened": "are sharpened",
    "differs": "differ",
    "outside the paper's scope": "fail where the paper does not claim them",
    "not checkable here": "cannot be checked here",
    "confirmed": "are confirmed",
    "failed": "fail",
}
_KNOWN = {
    "read": "read in the paper",
    "quoted": "quoted by another paper",
    "inferred": "inferred from abstracts and restatements",
    "derived here": "derived here",
}


@dataclass(frozen=True)
class PaperPart:
    """The part of the page on a paper: its entries by verdict."""

    paper: Paper
    groups: tuple[tuple[Verdict, tuple[Entry, ...]], ...]

    @property
    def counts(self) -> Counter[Verdict]:
        """How many entries of each verdict."""
        return Counter({verdict: len(entries) for verdict, entries in self.groups})


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
        name: of the figure.
        finding: the first sentence of its caption, which says what the figure shows; also what is
            read out in place of the picture.
        caption: the rest.
        png: file name.
        source: the picture as an address that holds it.
        width: in pixels.
        height: in pixels.
        texts: that go with it.
    """

    name: str
    finding: str
    caption: str
    png: str
    source: str
    width: int
    height: int
    texts: tables.PageTable


def render(summary: Summary, output: Path) -> str:
    """The page; ``output`` is where the figures lie."""
    parts = tuple(_part(paper, entries) for paper, entries in summary.papers)
    pictures = {figure.name: _picture(figure, output) for figure in summary.figures}
    shown_at = _first_claims(parts, pictures)
    own = {
        name: pictures[name]
        for name, part in (
            ("bounds", summary.bounds),
            ("language_model", summary.language_model),
            ("real_answers", summary.real_answers),
        )
        if part is not None and name in pictures and name not in shown_at
    }
    loose = [p for name, p in pictures.items() if name not in shown_at and name not in own]
    tally = summary.ledger.tally
    totals = tally.papers + tally.ours
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=_TITLE,
            contents=_contents(summary, loose),
            summary=summary,
            parts=parts,
            tally=tally,
            verdicts=[(verdict, totals[verdict]) for verdict in VERDICTS if totals[verdict]],
            verdict_groups=[
                (title, [verdict for verdict in VERDICTS if counts[verdict]])
                for title, counts in (
                    ("What the papers state", tally.papers),
                    ("Derived here", tally.ours),
                )
                if counts
            ],
            finished=_finished(summary),
            phrases=_PHRASES,
            known_words=_KNOWN,
            letters={paper.key: paper.letter for paper in PAPERS},
            references=PAPERS,
            pictures=pictures,
            shown_at=shown_at,
            own_pictures=own,
            loose_pictures=loose,
            tables=tables,
            zip=zip,
        )
    )


def _part(paper: Paper, entries: tuple[Entry, ...]) -> PaperPart:
    groups: list[tuple[Verdict, tuple[Entry, ...]]] = []
    for verdict in _ORDER:
        if found := tuple(entry for entry in entries if entry.verdict == verdict):
            groups.append((verdict, found))
    return PaperPart(paper, tuple(groups))


def _contents(summary: Summary, loose: list[Picture]) -> list[tuple[str, str]]:
    sections = (
        ("claims", "Statements", True),
        ("figures", "Figures", loose),
        ("bounds", "Bounds", summary.bounds),
        ("monte-carlo-checks", "Monte Carlo checks", summary.checks),
        ("language-model", "Real sequences", summary.language_model),
        ("real-answers", "Real answers", summary.real_answers),
        ("bibliography", "Bibliography", True),
        ("making", "How this page was made", True),
    )
    return [(anchor, name) for anchor, name, there in sections if there]


def _finished(summary: Summary) -> str:
    """When the last stage was done, to the minute."""
    times = [record.finished for _, record in summary.stages if record is not None]
    return f"{datetime.fromisoformat(max(times)):%Y-%m-%d %H:%M} UTC" if times else "not run"


def _first_claims(parts: Iterable[PaperPart], pictures: Mapping[str, Picture]) -> dict[str, str]:
    """Where each figure stands: figure -> id of the first entry on the page that names it."""
    shown: dict[str, str] = {}
    for entry in (e for part in parts for _, entries in part.groups for e in entries):
        if entry.figure in pictures:
            shown.setdefault(entry.figure, entry.id)
    return shown


def _picture(figure: FigureResult, output: Path) -> Picture:
    png = (output / "figures" / figure.png).read_bytes()
    # A PNG says its size in its first chunk; told to the browser, nothing moves while it loads.
    width, height = (int.from_bytes(png[i : i + 4]) for i in (16, 20))
    finding = first_sentence(figure.caption)
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return Picture(
        name=figure.name,
        finding=finding,
        caption=figure.caption.removeprefix(finding).lstrip(),
        png=figure.png,
        source=source,
        width=width,
        height=height,
        texts=tables.texts(figure),
    )


@cache
def _environment() -> jinja2.Environment:
    """Text is escaped on the way in, and a name that is not there is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "allowance": allowance,
        "cite": cite,
        "first_sentence": first_sentence,
        "obtained": lambda entry: obtained(entry, _DIGITS),
        "slug": slug,
        "stated": lambda entry: stated(entry, _DIGITS),
    }
    return environment


def slug(text: str) -> str:
    """A text as an anchor or a class.

    Example:
        >>> slug("outside the paper's scope")
        'outside-the-papers-scope'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("'", "")).strip("-")


def first_sentence(text: str) -> str:
    """A text up to its first full stop that ends a sentence.

    Example:
        >>> first_sentence("KL is at most 1.5 nats. At n = 2 it is less.")
        'KL is at most 1.5 nats.'
    """
    return re.split(r"(?<=\.) (?=[A-Z(])", text, maxsplit=1)[0]


def allowance(tolerance: Tolerance) -> str:
    """A tolerance in figures.

    Example:
        >>> allowance(Tolerance("rounding", absolute=1e-13, relative=2e-12))
        '1e-13 + 2e-12 relative'
    """
    amounts = ((tolerance.absolute, ""), (tolerance.relative, " relative"))
    return " + ".join(f"{amount:.2g}{what}" for amount, what in amounts if amount) or "0"


def cite(text: str) -> Markup:
    """A text whose letters in brackets lead to the bibliography.

    Example:
        >>> print(cite("n < 2, by [B]"))
        n &lt; 2, by <a href="#ref-B" title="Ahmad Beirami et al.">[B]</a>
    """
    authors = {paper.letter: paper.authors for paper in PAPERS} | {"D": "Derived here"}

    def link(match: re.Match[str]) -> str:
        return Markup('<a href="#ref-{0}" title="{1}">[{0}]</a>').format(
            match[1], authors[match[1]]
        )

    letters = "|".join(map(re.escape, authors))
    return Markup(re.sub(rf"\[({letters})\]", link, str(escape(text))))
