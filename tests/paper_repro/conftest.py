"""A whole report's material, made up, for the tests of the page and of the terminal."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import Computed, documented
from paper_repro.papers.ledger import Ledger
from paper_repro.pipeline import provenance
from paper_repro.pipeline.payloads import (
    BoundRow,
    BoundsResults,
    FigureResult,
    MonteCarloResults,
    PredictionTable,
    RealAnswersResults,
    SelectedTexts,
    SelectionEvidence,
    SequenceResults,
)
from paper_repro.pipeline.records import Record
from paper_repro.report.summary import Summary
from simulations.statistics.checks import Check
from tests.examples import ledger

PNG = (Path(__file__).parents[2] / "figures" / "readme.png").read_bytes()
CHECK = Check("law <8>", 1.5, 0.25, 1_332_302)
PLANTED = Check("law for 9", 99.0, 1.23e-140, 1_332_302)
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
    numbers=(1, 2, 4, 8, 16, 32, 64),
    predicted=(-2.35, -2.089, -1.909, -1.759, -1.632, -1.519, -1.418),
    measured=(-2.350, -2.097, -1.921, -1.757, -1.629, -1.521, -1.424),
    error=(0.0061, 0.0055, 0.0051, 0.005, 0.0052, 0.0058, 0.0062),
)
EVIDENCE = SelectionEvidence(
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
)
MODEL = SequenceResults(
    corpus_bytes=100,
    num_parameters=10,
    num_steps=5,
    validation_loss=1.5,
    mean_length=3.0,
    tie_probability=0.25,
    evidence=EVIDENCE,
    shown=16,
    shown_soft=64,
    samples=(SelectedTexts("The <b>", " next", " word", " likely"),),
)
ANSWERS = RealAnswersResults(
    num_prompts=2,
    num_answers=8,
    finished=0.9,
    mean_length=20.5,
    rewards=("valence <1>", "letters"),
    tie_probability=(0.25, 0.0),
    evidence=EVIDENCE,
    shown=16,
    shown_soft=64,
    samples=(SelectedTexts("Say <i>", "first & last", "<script>alert(1)</script>", "soft"),),
)
BOUND = BoundRow(
    name="best_of_n_kl_from_selected_atom",
    side="upper",
    quantity="KL(best-of-n ‖ reference)",
    source="[G] <2>",
    status="theorem",
    tightest="n = 1.39e+03; 0.00043 at 0.4, 0.0013 at 0.83, 0.0035 at 0.64, 0.99 at 0.16",
    slack=(0.25, 0.5),
    violations=0,
)
BOUNDS = BoundsResults(num_problems=9, seed=1, rows=(BOUND,))
FIGURES = (
    FigureResult("gap", "Two are close. (a) The gap, by [G].", "gap.png"),
    FigureResult("other", "Others are not.", "gap.png", (("Hi", "<i>a policy</i>", "Yes."),)),
)


def made_up(output: Path) -> Summary:
    """Every claim with the value that it states, two of them shown by the figure ``gap``."""
    (output / "figures").mkdir()
    (output / "figures" / "gap.png").write_bytes(PNG)
    pairs = [
        (claim, Computed(claim.id, documented(claim), value, value))
        for paper in PAPERS
        for claim in claims(paper)
        for value in [tuple(np.ravel(claim.expected).tolist())]
    ]
    found = ledger(*pairs).entries
    shown = tuple(dataclasses.replace(e, figure="gap") for e in found[:2])
    record = Record("checks", "k", CHECKS, seconds=1.0, finished="2026-01-01T00:00:00+00:00")
    return Summary(
        profile="quick",
        ledger=Ledger("0123456789ab", provenance.versions(), shown + found[2:]),
        checks=CHECKS,
        language_model=MODEL,
        real_answers=ANSWERS,
        bounds=BOUNDS,
        figures=FIGURES,
        stages=(("Monte Carlo checks", record), ("Language model", None)),
        machine="Linux",
    )


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return made_up(tmp_path)
