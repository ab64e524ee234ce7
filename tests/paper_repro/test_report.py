"""The summary and the terminal: a line per paper, failures named."""

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import Computed
from paper_repro.pipeline import bounds
from paper_repro.pipeline.payloads import BoundsResults, Payload
from paper_repro.report import terminal
from paper_repro.report.summary import Summary
from tests.examples import example, ledger
from tests.paper_repro.conftest import ANSWERS, BOUND, CHECKS, EVIDENCE, MODEL

REJECTED = dataclasses.replace(EVIDENCE, rejected=("mean",))
UNPROVED = dataclasses.replace(EVIDENCE, unproved=("mean, n=2,",))

ALL_CLAIMS = tuple(claim for paper in PAPERS for claim in claims(paper))


def test_an_unexpected_claim_is_named_in_the_terminal(summary: Summary, tmp_path: Path):
    claim = example(id="bonbon/example", paper="bonbon_alignment")
    bad = Computed(claim.id, "differs", (3.0,), (2.0,), unexpected=True)
    broken = dataclasses.replace(summary, ledger=ledger((claim, bad)))
    assert not broken.passed
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
        ("language_model", dataclasses.replace(MODEL, evidence=REJECTED)),
        ("real_answers", dataclasses.replace(ANSWERS, evidence=UNPROVED)),
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
    shown = {claim.id for claim in ALL_CLAIMS if f"({claim.id}, " in said}
    assert shown == {claim.id for claim in ALL_CLAIMS if claim.known_difference}
    assert "Nothing unexpected" in said
