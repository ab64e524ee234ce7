"""A whole report's material, made up, for the tests of the page and of the terminal."""

import base64
from pathlib import Path

import numpy as np
import pytest

from paper_repro.papers.catalogue import PAPERS, claims
from paper_repro.papers.claim import Computed
from paper_repro.pipeline import provenance
from paper_repro.pipeline.records import Record
from paper_repro.report.summary import PaperResult, Summary

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CHECK = {"name": "law <8>", "statistic": 1.5, "p_value": 0.25, "num_trials": 1000}
PLANTED = {"name": "law for 9", "statistic": 99.0, "p_value": 0.0, "num_trials": 1000}


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "gap.png").write_bytes(PNG)
    results = []
    for paper in PAPERS:
        pairs = [
            (claim, Computed(claim.id, "reproduced", value, value))
            for claim in claims(paper)
            for value in [tuple(np.ravel(claim.expected).tolist())]
        ]
        results.append(PaperResult(paper, tuple(pairs)))
    checks = {
        "false_alarm": 1e-6,
        "threshold": 1e-8,
        "checks": [CHECK],
        "rejected": [],
        "planted": [PLANTED],
        "missed": [],
        "trials": 1000,
        "seed": 7,
        "passed": True,
    }
    table = {
        "reward": "known words",
        "quantity": "win rate",
        "temperature": 0.0,
        "numbers": [1, 2],
        "predicted": [0.5, 0.6],
        "measured": [0.5, 0.61],
        "error": [0.01, 0.01],
    }
    model = {
        "corpus_bytes": 100,
        "num_parameters": 10,
        "num_steps": 5,
        "validation_loss": 1.5,
        "mean_length": 3.0,
        "seed": 8,
        "false_alarm": 1e-6,
        "threshold": 1e-8,
        "num_checks": 1,
        "largest_z": 1.0,
        "rejected": [],
        "num_planted": 1,
        "planted_rejected": 1,
        "unproved": [],
        "tables": [table],
        "samples": [{"prompt": "The <b>", "sample": " next"}],
        "passed": True,
    }
    bound = {
        "name": "best_of_n_kl",
        "side": "upper",
        "quantity": "KL",
        "source": "[G] <2>",
        "status": "theorem",
        "tightest": "n = 2",
        "slack": [0.25, 0.5],
        "violations": 0,
    }
    sweep = {"num_problems": 9, "seed": 1, "rows": [bound], "violated": [], "passed": True}
    figure = {"name": "gap", "caption": "The gap.", "png": "gap.png"}
    record = Record("checks", "k", checks, seconds=1.0, finished="2026-01-01T00:00:00+00:00")
    return Summary(
        profile="quick",
        papers=tuple(results),
        checks=checks,
        language_model=model,
        bounds=sweep,
        figures=(figure,),
        stages=(("Monte Carlo checks", record), ("Language model", None)),
        versions=provenance.versions(),
        machine="Linux",
    )
