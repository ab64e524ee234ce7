"""A whole report's material, made up, for the tests of the page and of the terminal."""

import base64
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import Computed, documented
from paper_repro.pipeline import provenance
from paper_repro.pipeline.payloads import (
    BoundRow,
    BoundsResults,
    FigureResult,
    MonteCarloResults,
    PredictionTable,
    SampleTexts,
    SequenceResults,
)
from paper_repro.pipeline.records import Record
from paper_repro.report.summary import Summary
from simulations.statistics.checks import Check
from tests.examples import ledger

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CHECK = Check("law <8>", 1.5, 0.25, 1000)
PLANTED = Check("law for 9", 99.0, 0.0, 1000)
CHECKS = MonteCarloResults(
    false_alarm=1e-6,
    threshold=1e-8,
    checks=(CHECK,),
    rejected=(),
    planted=(PLANTED,),
    missed=(),
    trials=1000,
    seed=7,
)
TABLE = PredictionTable(
    reward="known words",
    quantity="win rate",
    temperature=0.0,
    numbers=(1, 2),
    predicted=(0.5, 0.6),
    measured=(0.5, 0.61),
    error=(0.01, 0.01),
)
MODEL = SequenceResults(
    corpus_bytes=100,
    num_parameters=10,
    num_steps=5,
    validation_loss=1.5,
    mean_length=3.0,
    tie_probability=0.25,
    seed=8,
    false_alarm=1e-6,
    threshold=1e-8,
    num_checks=1,
    largest_z=1.0,
    rejected=(),
    num_planted=1,
    planted_rejected=1,
    unproved=(),
    tables=(TABLE,),
    samples=(SampleTexts("The <b>", " next", " word", " likely"),),
)
BOUND = BoundRow(
    name="best_of_n_kl",
    side="upper",
    quantity="KL",
    source="[G] <2>",
    status="theorem",
    tightest="n = 2",
    slack=(0.25, 0.5),
    violations=0,
)
BOUNDS = BoundsResults(num_problems=9, seed=1, rows=(BOUND,))
FIGURE = FigureResult("gap", "The gap.", "gap.png")


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "gap.png").write_bytes(PNG)
    pairs = [
        (claim, Computed(claim.id, documented(claim), value, value))
        for paper in PAPERS
        for claim in claims(paper)
        for value in [tuple(np.ravel(claim.expected).tolist())]
    ]
    record = Record("checks", "k", CHECKS, seconds=1.0, finished="2026-01-01T00:00:00+00:00")
    return Summary(
        profile="quick",
        ledger=dataclasses.replace(ledger(*pairs), versions=provenance.versions()),
        checks=CHECKS,
        language_model=MODEL,
        bounds=BOUNDS,
        figures=(FIGURE,),
        stages=(("Monte Carlo checks", record), ("Language model", None)),
        machine="Linux",
    )
