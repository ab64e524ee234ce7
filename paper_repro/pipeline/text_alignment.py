"""Alignment of the language model that the main job trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax

from paper_repro.pipeline import real_sequences
from paper_repro.pipeline.payloads import ComputedClaims
from simulations.experiments import text_alignment
from simulations.experiments.text_alignment import FULL as ALL_METHODS
from simulations.experiments.text_alignment import TextAlignmentConfig

SEED = 20261126


@dataclass(frozen=True)
class ModelAlignmentConfig:
    """The experiment, its seed, and the seed of the language model's training."""

    experiment: TextAlignmentConfig = field(default_factory=TextAlignmentConfig)
    seed: int = SEED
    training_seed: int = real_sequences.SEED


QUICK = ModelAlignmentConfig()
FULL = ModelAlignmentConfig(
    replace(ALL_METHODS, pretraining=real_sequences.FULL.experiment.training)
)


def results_path(output: Path) -> Path:
    """Where the results lie."""
    return output / "text_alignment.json"


def run(
    config: ModelAlignmentConfig, output: Path, progress: Callable[[str, int, int], None]
) -> ComputedClaims:
    """Align the model that the language-model stage has trained, and save what is found.

    Claims are on the longer runs that the repository holds.
    """
    training_key, *_ = jax.random.split(jax.random.key(config.training_seed), 4)
    results = text_alignment.run(
        config.experiment,
        jax.random.key(config.seed),
        training_key,
        checkpoint_dir=real_sequences.checkpoints(output),
        progress=progress,
    )
    results.save(results_path(output))
    return ComputedClaims(())
