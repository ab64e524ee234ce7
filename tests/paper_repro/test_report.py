"""The report and the table in the terminal: everything there, risk stated, failures named."""

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import Computed
from paper_repro.pipeline import bounds, provenance
from paper_repro.pipeline.payloads import BoundsResults, Payload
from paper_repro.report import page as report
from paper_repro.report import terminal
from paper_repro.report.summary import Summary
from tests.examples import example, ledger
from tests.paper_repro.conftest import BOUND, CHECKS, MODEL, PNG

ALL_CLAIMS = tuple(claim for paper in PAPERS for claim in claims(paper))


class Page(HTMLParser):
    """Collects text, what the page would load, and whether tags are balanced."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.loads += [found[name] or "" for name in ("src", "srcset", "data") if name in found]
        if tag in ("link", "script", "iframe", "object", "base"):
            self.loads.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_holds_every_claim_and_loads_nothing(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    page = Page(html)
    assert page.open == []
    assert {claim.id for claim in ALL_CLAIMS} <= set(page.texts)
    assert page.loads == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    assert not re.search(r"@import|url\(", html)


def test_the_report_states_risk_power_versions_and_seeds(summary: Summary, tmp_path: Path):
    text = " ".join(Page(report.render(summary, tmp_path)).texts)
    assert "at most 1e-06" in text
    assert "at most 2e-06 in all" in text
    assert "1 of them were rejected" in text
    assert "seed 7" in text
    assert provenance.versions()["jax"] in text
    assert "not run" in text


def test_the_report_escapes_what_it_is_given(summary: Summary, tmp_path: Path):
    html = report.render(summary, tmp_path)
    assert "law <8>" in Page(html).texts
    assert "The <b>" in Page(html).texts
    assert "<b>The" not in html


def test_an_unexpected_claim_is_named_at_the_top(summary: Summary, tmp_path: Path):
    claim = example(id="bonbon/example", paper="bonbon_alignment")
    bad = Computed(claim.id, "differs", (3.0,), (2.0,), unexpected=True)
    broken = dataclasses.replace(summary, ledger=ledger((claim, bad)))
    assert not broken.passed
    html = report.render(broken, tmp_path)
    assert f"not as documented: {claim.id}" in html.split("</section>")[0]
    text = io.StringIO()
    terminal.show(Console(file=text, width=110), broken, tmp_path / "report.html")
    said = text.getvalue()
    assert f"Not as documented: {claim.id}" in said
    assert claim.statement in said
    assert re.search(r"stated 2 +computed 3", said)


@pytest.mark.parametrize(
    ("part", "failed"),
    [
        ("checks", dataclasses.replace(CHECKS, rejected=("law <8>",))),
        ("checks", dataclasses.replace(CHECKS, missed=("law for 9",))),
        ("language_model", dataclasses.replace(MODEL, rejected=("mean",))),
        ("language_model", dataclasses.replace(MODEL, unproved=("mean, n=2,",))),
        ("bounds", BoundsResults(9, 1, (dataclasses.replace(BOUND, violations=1),))),
    ],
)
def test_a_failed_check_is_not_passed_over(summary: Summary, part: str, failed: Payload):
    assert summary.passed
    assert not dataclasses.replace(summary, **{part: failed}).passed


def test_a_violated_theorem_fails_the_report(tmp_path: Path):
    def columns(names: list[str], violations: list[int]) -> dict[str, list[Any]]:
        texts = {c: ["x"] * len(names) for c in ("side", "quantity", "source", "tightest")}
        slack = {"slack_50": [0.5] * len(names), "status": ["theorem", "conjecture"][: len(names)]}
        return {"name": names, "violations": violations, **texts, **slack}

    def judged(coarse: list[int], fine: list[int]) -> BoundsResults:
        tables = {"coarse": columns(["a", "b"], coarse), "fine": columns(["a"], fine)}
        found = {"parameters": {"num_problems": 9, "seed": 1}, "tables": tables}
        (tmp_path / "figures").mkdir(exist_ok=True)
        (tmp_path / "figures" / "bounds.json").write_text(json.dumps(found))
        return bounds.run(tmp_path)

    assert judged([0, 3], [0]).passed  # a conjecture may fail; the table says so
    assert judged([0, 0], [2]).violated == judged([1, 0], [0]).violated == ("a",)
    assert [row.slack for row in judged([0, 0], [0]).rows] == [(0.5, 0.5), (0.5,)]


def test_the_terminal_has_a_line_per_paper_and_shows_only_what_differs(
    summary: Summary, tmp_path: Path
):
    text = io.StringIO()
    terminal.show(Console(file=text, width=110), summary, tmp_path / "report.html")
    said = text.getvalue()
    for paper in PAPERS:
        assert sum(line.lstrip().startswith(paper.short_title) for line in said.splitlines()) == 1
    shown = {claim.id for claim in ALL_CLAIMS if claim.id in said}
    assert shown == {claim.id for claim in ALL_CLAIMS if claim.known_difference}
    assert "Nothing unexpected" in said
