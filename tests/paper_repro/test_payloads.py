"""What stages hand on: through JSON and back unchanged, and no other shape is taken for it."""

import json
import math
from typing import Any

import pytest

from paper_repro.papers.claim import Computed
from paper_repro.pipeline import monte_carlo
from paper_repro.pipeline.payloads import (
    BoundRow,
    BoundsResults,
    ComputedClaims,
    FigureResult,
    MonteCarloResults,
    Payload,
    PredictionTable,
    RealAnswersResults,
    SelectedTexts,
    SelectionEvidence,
    SequenceResults,
)
from simulations.statistics.checks import Check

CLAIMS = ComputedClaims((Computed("a/b", "differs", (1 / 3, math.inf), (0.1, 2.0), (), "E: λ"),))
CHECKS = MonteCarloResults(1e-6, 1e-8, (Check("law", 1.5, 0.25, 9),), ("law",), (), (), 9, 7)
TABLE = PredictionTable("words", "win rate", 0.0, (1, 2), (0.5, 0.6), (0.5, 0.7), (0.1, 0.1))
SELECTED = SelectedTexts("a", "b", "c", "d")
EVIDENCE = SelectionEvidence(6, 1e-6, 1e-8, 1, 0.5, (), 1, 1, (), (TABLE,))
MODEL = SequenceResults(*(9, 8, 7, 1.5, 3.0, 0.25), EVIDENCE, 16, 64, (SELECTED,))
ANSWERS = RealAnswersResults(2, 8, 0.9, 20.5, ("valence",), (0.25,), EVIDENCE, 16, 64, (SELECTED,))
BOUNDS = BoundsResults(9, 1, (BoundRow("a", "upper", "KL", "G", "theorem", "", (0.5,), 0),))
FIGURE = FigureResult("gap", "The gap.", "gap.png")
PAYLOADS = [CLAIMS, CHECKS, MODEL, ANSWERS, BOUNDS, FIGURE]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: type(p))
def test_a_payload_goes_through_json_unchanged(payload: Payload):
    assert type(payload).from_json(json.loads(json.dumps(payload.to_json()))) == payload


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},  # of another type
        {"size": 3},  # of another version
        {"caption": "", "png": ["gap.png"]},
    ],
)
def test_fields_of_another_shape_are_refused(change: dict[str, Any]):
    with pytest.raises(TypeError, match="must be"):
        FigureResult.from_json(FIGURE.to_json() | change)


def test_a_missing_field_is_refused():
    with pytest.raises(TypeError, match="png"):
        FigureResult.from_json({"name": "gap", "caption": "The gap."})


def test_what_is_planted_must_be_rejected_at_the_threshold_of_the_family():
    checks = [Check(f"law {i}", 1.0, 0.5, 1000) for i in range(10)]
    between = Check("plant", 5.0, 3e-7, 1000)  # of the rate 1e-6 each check has a tenth
    found = monte_carlo.judge(checks, [between], trials=1000, seed=1)
    assert found.threshold == pytest.approx(1e-7)
    assert found.missed == ("plant",)
    assert not found.passed
