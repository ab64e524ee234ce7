"""The report as a page: everything in it, every link with its target, failures named first."""

import base64
import dataclasses
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import Computed
from paper_repro.pipeline import provenance
from paper_repro.pipeline.payloads import BoundsResults
from paper_repro.report import page as report
from paper_repro.report.page import slug
from paper_repro.report.summary import Summary
from tests.drawings import MODULES
from tests.examples import example, ledger
from tests.paper_repro.conftest import BOUND, PNG

ALL_CLAIMS = tuple(claim for paper in PAPERS for claim in claims(paper))


class Page(HTMLParser):
    """Collects text, anchors, links, what the page would load, and whether tags are balanced."""

    VOID = ("meta", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, name: str, tag: str = "") -> list[str]:
        """Values of an attribute, of one kind of element or of all."""
        return [found[name] for t, found in self.elements if name in found and tag in ("", t)]


@pytest.fixture
def page(summary: Summary, tmp_path: Path) -> Page:
    return Page(report.render(summary, tmp_path))


def test_the_page_holds_every_claim_and_loads_nothing(page: Page, summary: Summary, tmp_path: Path):
    assert page.open == []
    assert {claim.id for claim in ALL_CLAIMS} <= set(page.values("id", "article"))
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert page.values("src") == [data, data]
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    assert not re.search(r"@import|url\(", report.render(summary, tmp_path))


def test_every_link_has_its_target_and_every_anchor_is_one(page: Page):
    anchors = page.values("id")
    assert [name for name, times in Counter(anchors).items() if times > 1] == []
    inside = {link[1:] for link in page.values("href") if link.startswith("#")}
    assert len(inside) > len(ALL_CLAIMS)
    assert inside <= set(anchors)
    labels = {name for names in page.values("aria-labelledby") for name in names.split()}
    assert labels <= set(anchors)


def test_every_number_of_the_tally_leads_to_so_many_statements(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    for paper, entries in summary.papers:
        for verdict, number in Counter(entry.verdict for entry in entries).items():
            anchor = f"{paper.key}-{slug(verdict)}"
            told = verdict.replace("'", "&#39;")
            assert f'href="#{anchor}" aria-label="{number} {told}">{number}</a>' in html
            group = html.split(f'id="{anchor}"')[1].split('class="group')[0].split("</section>")[0]
            assert group.count("<article") == number


def test_papers_and_ours_are_counted_apart(page: Page, summary: Summary):
    text = " ".join("".join(page.texts).split())
    ours = sum(claim.ours for claim in ALL_CLAIMS)
    assert f"Of {len(ALL_CLAIMS) - ours} statements of papers," in text
    assert f"Of {ours} statements derived here, {ours} are confirmed." in text
    known = summary.ledger.tally.known
    assert f"{known['read']} read in the paper" in text


def test_a_letter_in_brackets_leads_to_the_bibliography(page: Page):
    cited = {link for link in page.values("href") if link.startswith("#ref-")}
    assert cited
    assert {f"ref-{paper.letter}" for paper in PAPERS} <= set(page.values("id"))
    assert report.cite("n < 2 [Z] by [G]").count("<a ") == 1  # an unknown letter stays what it is


def test_texts_stand_below_their_figure(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    at = html.index('id="figure-other"')
    there = html[at : html.index("</figure>", at)]
    assert "Texts beside other" in there
    assert "&lt;i&gt;a policy&lt;/i&gt;" in there
    assert "Texts beside gap" not in html


def test_a_figure_stands_beside_the_first_claim_that_it_shows(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    at = html.index('id="figure-gap"')
    assert html.count("<article", 0, at) == 1 + html[:at].count("</article>")
    assert html.index('id="figure-other"') > html.rindex("</article>")
    assert html.count('href="#figure-gap"') == 1


def test_a_picture_is_told_by_what_it_shows(page: Page):
    assert page.values("alt", "img") == ["Two are close.", "Others are not.", ""]
    for name, module in MODULES.items():
        finding = report.first_sentence(module.CAPTION)
        assert 40 < len(finding) < 130, name
        assert not re.search(r"\([a-d]\)|\{", finding), name


def test_the_page_states_risk_power_versions_and_seeds(page: Page):
    text = " ".join("".join(page.texts).split())
    assert "at most 1e-06" in text
    assert "at most 3e-06 in all" in text
    assert "1 of them were rejected" in text
    assert "Monte Carlo checks: seed 7." in text
    assert provenance.versions()["jax"] in text
    assert "Not run: Language model." in text
    assert "2026-01-01 00:00 UTC, commit 0123456789ab, Linux" in text


def test_the_page_escapes_what_it_is_given(page: Page, summary: Summary, tmp_path: Path):
    assert "law <8>" in page.texts
    assert "The <b>" in "".join(page.texts)
    rendered = report.render(summary, tmp_path)
    assert "The <b>" not in rendered
    assert "<script>alert(1)" not in rendered


def test_what_is_unexpected_is_named_first(summary: Summary, tmp_path: Path):
    claim = example(id="bonbon/example", paper="bonbon_alignment")
    bad = Computed(claim.id, "differs", (3.0,), (2.0,), unexpected=True)
    broken = dataclasses.replace(
        summary,
        ledger=ledger((claim, bad)),
        bounds=BoundsResults(9, 1, (dataclasses.replace(BOUND, violations=1),)),
    )
    start = report.render(broken, tmp_path).split("</p>")[1]
    assert "not as documented" in start
    assert 'href="#bonbon/example"' in start
    assert 'href="#bounds"' in start


def test_a_page_of_nothing_says_so(summary: Summary, tmp_path: Path):
    nothing = dataclasses.replace(
        summary,
        ledger=ledger(),
        checks=None,
        language_model=None,
        real_answers=None,
        bounds=None,
        figures=(),
        stages=(),
    )
    text = " ".join("".join(Page(report.render(nothing, tmp_path)).texts).split())
    assert "Of 0 statements of papers, none is checked." in text
