"""Claims: which verdict, and what comes out of those of the papers."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paper_repro.papers.bonbon_alignment import claims as bonbon
from paper_repro.papers.bonbon_alignment import small_model, trained
from paper_repro.papers.bonbon_alignment.rank_policies import NUMBERS, win_rates_and_kls
from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import (
    DERIVED,
    Claim,
    Computed,
    Provenance,
    Tolerance,
    evaluate,
    judge,
    printed,
)
from paper_repro.pipeline import enumerable_alignment, monte_carlo
from paper_repro.pipeline.payloads import MonteCarloResults
from tests.examples import example

AT_MOST = {"kind": "inequality", "relation": "<="}
AT_LEAST = {"kind": "inequality", "relation": ">="}
MISPRINT = {"known_difference": "a misprint", "consequence": "read 3"}
OUTSIDE = {"outside_scope": "n = 1 is not claimed", "consequence": "take n ≥ 2"}

ALL_CLAIMS = tuple(claim for paper in PAPERS for claim in claims(paper))
CHECKABLE = tuple(claim for claim in bonbon.CLAIMS if claim.compute is not None)


# Verdicts.


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "reproduced"),
        ({"compute": lambda: 2.0 + 1e-8}, "differs"),
        ({"compute": lambda: math.nan}, "differs"),
        ({"compute": lambda: [2.0, 2.0]}, "differs"),
        ({"expected": (2.0, 3.0), "compute": lambda: np.array([2.0, 3.0])}, "reproduced"),
        ({"expected": (2.0, 3.0), "compute": lambda: [2.0, 3.1]}, "differs"),
        ({"expected": math.inf, "compute": lambda: math.inf}, "reproduced"),
        ({"expected": math.inf}, "differs"),
        (AT_MOST | {"expected": 3.0}, "reproduced"),
        (AT_MOST | {"expected": 1.0}, "differs"),
        (AT_LEAST | {"expected": 1.0}, "reproduced"),
        (AT_LEAST | {"expected": 3.0}, "differs"),
        (AT_LEAST | {"expected": 1.0, "compute": lambda: math.nan}, "differs"),
        (AT_MOST | {"expected": 3.0, "sharper": "2", "sharp_value": 2.0}, "sharpened"),
        (AT_MOST | {"expected": 3.0, "sharper": "1", "sharp_value": 1.0}, "differs"),
        (AT_MOST | {"expected": 1.0, "sharper": "2", "sharp_value": 2.0}, "differs"),
        ({"expected": 3.0, **OUTSIDE}, "outside the paper's scope"),
        (OUTSIDE, "reproduced"),
        ({"provenance": DERIVED}, "confirmed"),
        ({"provenance": DERIVED, "expected": 3.0}, "failed"),
        ({"compute": None, "not_checkable": "no data"}, "not checkable here"),
    ],
)
def test_verdict(changes: dict[str, Any], verdict: str):
    assert evaluate(example(**changes)).verdict == verdict


@pytest.mark.parametrize(
    ("computed", "words", "unexpected"),
    [
        (2.0, {}, False),
        (3.0, {}, True),
        (3.0, MISPRINT, False),
        (2.0, MISPRINT, True),
        (3.0, OUTSIDE, False),
        (2.0, OUTSIDE, True),
        (math.nan, MISPRINT, True),
        (2.0, {"provenance": DERIVED}, False),
        (3.0, {"provenance": DERIVED}, True),
    ],
)
def test_only_an_undocumented_difference_or_a_stale_document_is_unexpected(
    computed: float, words: dict[str, Any], unexpected: bool
):
    claim = example(compute=lambda: computed, **words)
    assert evaluate(claim).unexpected is unexpected


def test_a_claim_that_raises_differs_and_says_what_was_raised():
    computed = evaluate(example(compute=lambda: 1 / 0, **MISPRINT))
    assert (computed.verdict, computed.unexpected) == ("differs", True)
    assert "ZeroDivisionError" in computed.error


def test_a_claim_on_what_a_stage_found_is_computed_from_that():
    claim = example(stage="checks", compute=lambda found: found["value"])
    assert evaluate(claim, {"value": 2.0}).verdict == "reproduced"
    assert evaluate(claim, {"value": 3.0}).verdict == "differs"
    assert "TypeError" in evaluate(claim).error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute": None}, "not_checkable"),
        ({"not_checkable": "no data"}, "not_checkable"),
        ({"tolerance": None}, "tolerance"),
        ({"expected": ()}, "expected"),
        ({"labels": ("a", "b")}, "labels"),
        ({"sharper": "more"}, "sharp_value"),
        ({"sharper": "more", "sharp_value": (1.0, 2.0)}, "sharp_value"),
        ({"relation": "<="}, "kind 'identity'"),
        ({"kind": "inequality"}, "kind 'inequality'"),
        ({"known_difference": "a misprint"}, "consequence"),
        ({"consequence": "none"}, "known_difference or outside_scope"),
        (MISPRINT | OUTSIDE, "known_difference or outside_scope"),
        (MISPRINT | {"provenance": DERIVED}, "derived here"),
        ({"provenance": DERIVED, "compute": None, "not_checkable": "no data"}, "derived here"),
    ],
)
def test_a_claim_whose_parts_do_not_fit_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        example(**changes)


@pytest.mark.parametrize("fields", [("",), ("why", -1.0), ("why", math.nan)])
def test_a_tolerance_needs_a_reason_and_a_size(fields: tuple[Any, ...]):
    with pytest.raises(ValueError, match="must"):
        Tolerance(*fields)


@pytest.mark.parametrize(("known", "source"), [("quoted", ""), ("inferred", ""), ("read", "x")])
def test_a_quotation_names_who_quotes_and_only_a_quotation_does(known: Any, source: str):
    with pytest.raises(ValueError, match="by whom a statement is quoted"):
        Provenance(known, source)


def test_a_printed_number_allows_half_a_unit_of_its_last_digit_or_less():
    claim = example(expected=9.24, tolerance=printed(3))
    assert judge(claim, 9.2449) == "reproduced"
    assert judge(example(expected=1.24, tolerance=printed(3)), 1.2501) == "differs"


# The claims.


@pytest.fixture(scope="module")
def bonbon_results() -> list[Computed]:
    trains = {claim.id for claim in (*trained.CLAIMS, *small_model.CLAIMS)}
    return [evaluate(claim) for claim in bonbon.CLAIMS if claim.id not in trains]


@pytest.mark.slow
def test_what_trained_models_show_comes_out_as_documented(tmp_path: Path):
    alone = [c for c in (*trained.CLAIMS, *small_model.CLAIMS) if not c.stage]
    stage = enumerable_alignment.run(enumerable_alignment.QUICK, tmp_path, lambda *_: None)
    computed = (*map(evaluate, alone), *stage.computed)
    assert len(computed) == len(trained.CLAIMS) + len(small_model.CLAIMS)
    assert [each for each in computed if each.unexpected] == []


def test_every_claim_of_bonbon_comes_out_as_documented(bonbon_results: list[Computed]):
    assert [computed for computed in bonbon_results if computed.unexpected] == []
    assert sum(computed.verdict == "sharpened" for computed in bonbon_results) >= 2


def test_a_wrong_theory_is_found():
    curves = {c.id: c for c in bonbon.CLAIMS}
    win_rate, kl = win_rates_and_kls(np.array(NUMBERS) + 1e-6)  # n, off by a millionth
    assert judge(curves["bonbon/best-of-n-win-rate"], win_rate) == "differs"
    assert judge(curves["bonbon/best-of-n-kl"], kl) == "differs"


@pytest.mark.parametrize("claim", CHECKABLE, ids=lambda claim: claim.id)
def test_an_error_of_one_percent_in_any_entry_differs(claim: Claim):
    right = np.ravel(claim.sharp_value if claim.sharper else claim.expected).astype(float)
    assert judge(claim, right) in ("reproduced", "sharpened", "confirmed")
    for entry in range(right.size):
        size = 0.01 * abs(right[entry]) or 1e-8
        for sign in {"=": (-1, 1), "<=": (1,), ">=": (-1,)}[claim.relation]:
            wrong = right.copy()
            wrong[entry] += sign * size
            assert judge(claim, wrong) in ("differs", "failed")


def test_ids_are_unique_over_all_papers():
    ids = [claim.id for claim in ALL_CLAIMS]
    assert len(ids) == len(set(ids)) > 40


def test_what_vouches_for_a_claim_is_simulated():
    named = {name for claim in ALL_CLAIMS for name in claim.checked_by}
    assert named
    assert named - monte_carlo.subjects(monte_carlo.QUICK) == set()


def test_the_margin_of_pairs_is_checked_with_power():
    config = dataclasses.replace(
        monte_carlo.QUICK,
        laws=dataclasses.replace(monte_carlo.QUICK.laws, cases=monte_carlo.QUICK.laws.cases[:1]),
        margin_trials=1_000_000,
    )
    found = monte_carlo.run(config, lambda *_: None)
    assert found.passed
    assert len(found.planted) == 5  # n+1 for the law; n+1 and 2 % for mean and variance
    assert MonteCarloResults.from_json(json.loads(json.dumps(found.to_json()))) == found
