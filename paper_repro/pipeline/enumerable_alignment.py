"""A model whose every response is known, trained by every loss, and the claims on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from paper_repro.papers.bonbon_alignment import trained
from paper_repro.papers.claim import evaluate
from paper_repro.pipeline.payloads import ComputedClaims
from simulations.experiments import enumerable_alignment
from simulations.experiments.enumerable_alignment import EnumerableAlignmentConfig


@dataclass(frozen=True)
class PathsConfig:
    """The experiment and its seed."""

    experiment: EnumerableAlignmentConfig = trained.CONFIG
    seed: int = trained.SEED


QUICK = PathsConfig()


def results_path(output: Path) -> Path:
    """Where the results lie."""
    return output / "enumerable_alignment.json"


def run(
    config: PathsConfig, output: Path, progress: Callable[[str, int, int], None]
) -> ComputedClaims:
    """Train, save, and evaluate the claims."""
    with jax.enable_x64(True):
        found = enumerable_alignment.run(
            config.experiment, jax.random.key(config.seed), progress=progress
        )
        found.save(results_path(output))
        of_stage = (claim for claim in trained.CLAIMS if claim.stage)
        return ComputedClaims(tuple(evaluate(claim, found) for claim in of_stage))
