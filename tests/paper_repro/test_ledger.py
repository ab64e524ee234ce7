"""claims.json: complete, the same after a journey through the disk, and each claim traceable."""

import ast
import json
import math
import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import figures
from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import (
    DERIVED,
    KINDS,
    KNOWN,
    OUR_VERDICTS,
    PAPERS_VERDICTS,
    VERDICTS,
    Claim,
    Computed,
    documented,
)
from paper_repro.papers.ledger import SCHEMA, Entry, load
from paper_repro.pipeline import provenance
from paper_repro.pipeline.stages import stages
from paper_repro.report.wording import each, obtained, stated
from tests.examples import example, ledger

ROOT = Path(__file__).parents[2]
ALL_CLAIMS = tuple(claim for paper in PAPERS for claim in claims(paper))
STAGES = stages("quick")
EVERY = pytest.mark.parametrize("claim", ALL_CLAIMS, ids=lambda claim: claim.id)


def as_documented(claim: Claim) -> Computed:
    value = tuple(np.ravel(claim.expected).tolist())
    return Computed(claim.id, documented(claim), value, value)


def shown(claim: Claim, *computed: float) -> Entry:
    expected = tuple(np.ravel(claim.expected).tolist())
    (found,) = ledger((claim, Computed(claim.id, "reproduced", computed, expected))).entries
    return found


# What every claim says of itself.


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@EVERY
def test_what_is_computed_is_covered_by_a_test_that_exists(claim: Claim):
    if claim.compute is None:
        assert not claim.test
        return
    file, _, name = claim.test.partition("::")
    assert name in names_in(file)


@EVERY
def test_the_stage_that_a_claim_is_of_is_run(claim: Claim):
    assert claim.stage in ("", *(stage.name for stage in STAGES))


@EVERY
def test_the_figure_that_shows_a_claim_is_made(claim: Claim):
    assert claim.figure in ("", *figures.ALL, *figures.OF_RESULTS)


@EVERY
def test_what_was_read_is_cited_by_section_theorem_equation_or_figure(claim: Claim):
    if claim.provenance.known == "read":
        assert re.search(r"§|Theorem|eq\.|Figure|Appendix", claim.where)
    if claim.ours:
        assert not re.fullmatch(r"(Theorem|Lemma|Figure|eq\.).*", claim.where)


def test_only_one_paper_was_read_in_full():
    assert {c.paper for c in ALL_CLAIMS if c.provenance.known == "read"} == {"bonbon_alignment"}
    quoted = [c for c in ALL_CLAIMS if c.provenance.known == "quoted"]
    assert {c.provenance.source for c in quoted} == {"arXiv 2506.04118, eq. 2"}


def test_what_differs_and_what_is_out_of_scope_is_known():
    differs = {c.id for c in ALL_CLAIMS if documented(c) == "differs"}
    outside = {c.id for c in ALL_CLAIMS if documented(c) == "outside the paper's scope"}
    assert differs == {"bonbon/ipo-bon-aims-at-best-of-n", "bonbon/bonbon-aims-at-best-of-n"}
    assert outside == {
        "hacking/one-peak-soft",
        "hacking/marginal-covariance",
        "overoptimization/form-heavy-tails",
    }


# The file.


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("ledger") / "claims.json"
    path.write_text(ledger(*((c, as_documented(c)) for c in ALL_CLAIMS)).to_json())
    return path, json.loads(path.read_text(), parse_constant=pytest.fail)


def test_the_file_has_its_schema(document: tuple[Path, dict[str, Any]]):
    _, found = document
    assert set(found) == {"schema", "commit", "versions", "claims"}
    assert found["schema"] == SCHEMA
    names = {field.name for field in fields(Entry)}
    required = ("id", "paper", "where", "statement", "kind", "verdict")
    for record in found["claims"]:
        assert set(record) == names
        assert all(isinstance(record[name], str) and record[name] for name in required)
        assert record["kind"] in KINDS
        assert record["provenance"]["known"] in KNOWN
        ours = record["provenance"]["known"] == "derived here"
        assert record["verdict"] in (OUR_VERDICTS if ours else PAPERS_VERDICTS)
        if record["tolerance"] is None:
            assert record["verdict"] == "not checkable here"
            assert record["not_checkable"]
        else:
            assert record["tolerance"]["reason"]
            assert len(record["computed"]) == len(record["expected"]) > 0
            assert record["test"]
        assert bool(record["consequence"]) == (
            record["verdict"] in ("differs", "outside the paper's scope")
        )


def test_the_file_is_read_back_unchanged(document: tuple[Path, dict[str, Any]]):
    path, _ = document
    assert load(path) == ledger(*((c, as_documented(c)) for c in ALL_CLAIMS))


def test_infinities_survive_and_are_json(tmp_path: Path):
    claim = example(expected=(math.inf, 1.0), labels=("far", "near"))
    before = ledger((claim, Computed(claim.id, "reproduced", (-math.inf, 0.5), (math.inf, 1.0))))
    path = tmp_path / "claims.json"
    path.write_text(before.to_json())
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert load(path) == before


def test_a_file_of_another_schema_is_refused(tmp_path: Path):
    path = tmp_path / "claims.json"
    path.write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema must be 1, got 0"):
        load(path)


def test_papers_statements_and_ours_are_counted_apart():
    ours = replace(example(), id="example/ours", provenance=DERIVED)
    counts = ledger(
        (example(), Computed("example/claim", "reproduced")),
        (ours, Computed("example/ours", "confirmed")),
        (ours, Computed("example/ours", "failed", unexpected=True)),
    ).tally
    assert counts.papers == {"reproduced": 1}
    assert counts.ours == {"confirmed": 1, "failed": 1}
    assert counts.known == {"read": 1, "derived here": 2}
    assert set(VERDICTS) == {*PAPERS_VERDICTS, *OUR_VERDICTS}


def test_the_commit_is_that_of_the_checkout_or_none(tmp_path: Path):
    assert re.fullmatch(r"[0-9a-f]{12}\+?|", provenance.commit())
    assert provenance.commit(tmp_path) == ""


# Numbers in words.


@pytest.mark.parametrize(
    ("changes", "computed", "says", "found"),
    [
        ({"expected": 0.02755}, (0.027548,), "0.02755", "0.027548"),
        ({"expected": 0.0}, (0.0,), "no difference", "none: equal to the last digit"),
        ({"expected": 0.0}, (3e-16,), "no difference", "3.0e-16"),
        (
            {"expected": (0.0, 0.0), "labels": ("a", "b")},
            (0.0, 2e-9),
            "no difference in all 2 cases",
            "2.0e-09 at most (b)",
        ),
        ({"expected": (1.0, 2.0)}, (1.0, 2.0), "2 values", "equal to the last digit"),
        ({"expected": (1.0, 2.0)}, (1.0, 2.5), "2 values", "all within 5.0e-01"),
        ({"expected": 0.01, "relation": "<="}, (0.0095,), "≤ 0.01", "0.0095"),
        (
            {"expected": (0.0, 0.0), "relation": "<="},
            (0.0, 0.0),
            "≤ 0 in all 2 cases",
            "0 in all 2 cases",
        ),
        (
            {"expected": (0.01, 0.01), "relation": "<=", "labels": ("n=2", "n=3")},
            (0.009, 0.004),
            "≤ 0.01 in all 2 cases",
            "at most 0.009 (n=2)",
        ),
        (
            {"expected": (1.0, 2.0), "relation": ">=", "labels": ("n=2", "n=3")},
            (1.5, 2.25),
            "at least each of 2 values",
            "room of 0.25 or more; least (n=3)",
        ),
        (
            {"expected": (1.0, 2.0), "relation": ">=", "labels": ("n=2", "n=3")},
            (1.5, 1.75),
            "at least each of 2 values",
            "missed by 0.25 (n=3)",
        ),
    ],
)
def test_numbers_are_put_into_words(
    changes: dict[str, Any], computed: tuple[float, ...], says: str, found: str
):
    kind = "inequality" if "relation" in changes else "identity"
    entry = shown(example(**changes, kind=kind), *computed)
    assert (stated(entry, 6), obtained(entry, 6)) == (says, found)


def test_each_entry_has_its_label_and_its_sign():
    claim = example(expected=(1.0, 2.0), labels=("a", "b"), kind="inequality", relation="<=")
    assert each(shown(claim, 0.5, 1.5), 3) == [("a", "≤ 1", "0.5"), ("b", "≤ 2", "1.5")]
