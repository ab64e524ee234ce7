"""The claim on real sequences: a language model's samples are selected as exact theory predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import jax

from paper_repro.pipeline import provenance
from paper_repro.pipeline.evidence import evidence
from paper_repro.pipeline.payloads import SelectedTexts, SequenceResults
from simulations.experiments import language_model
from simulations.experiments.language_model import LanguageModelResults, Prepared
from simulations.language_model import train

SEED = 20250505
FALSE_ALARM = 1e-6
#: Each is one token after a space; other experiments on the model count them.
LITTLE_WORDS = ("the", "a", "of", "to", "in", "and", "is", "for", "that", "or")
REWARDS = {"known_words": "known words", "trigram_likelihood": "trigram likelihood"}


@dataclass(frozen=True)
class RealSequencesConfig:
    """The experiment and its seed."""

    experiment: language_model.LanguageModelConfig = field(
        default_factory=language_model.LanguageModelConfig
    )
    false_alarm: float = FALSE_ALARM
    seed: int = SEED


QUICK = RealSequencesConfig()
FULL = RealSequencesConfig(
    language_model.LanguageModelConfig(
        training=replace(train.TrainingConfig(), num_steps=2400),
        num_prompts=128,
        prediction_pool=2048,
        measurement_pool=2048,
        num_redrawn=16384,
    )
)


def results_path(output: Path) -> Path:
    """Where the results lie."""
    return output / "language_model.npz"


def run(
    config: RealSequencesConfig, output: Path, progress: Callable[[str, int, int], None]
) -> SequenceResults:
    """Train, sample, predict, measure, judge; the results are saved beside the report."""
    results = language_model.run(
        config.experiment,
        jax.random.key(config.seed),
        checkpoint_dir=checkpoints(output),
        progress=progress,
    )
    results.save(results_path(output))
    pools = {name: getattr(results, name).comparison for name in REWARDS}
    return SequenceResults(
        corpus_bytes=results.corpus_bytes,
        num_parameters=results.num_parameters,
        num_steps=len(results.losses),
        validation_loss=float(results.validation_loss),
        mean_length=float(results.lengths.mean()),
        tie_probability=float(results.known_words.tie_probability),
        evidence=evidence(
            partial(results.report, false_alarm=config.false_alarm), pools, REWARDS, config.seed
        ),
        shown=config.experiment.shown,
        shown_soft=config.experiment.shown_soft,
        samples=tuple(SelectedTexts(**asdict(texts)) for texts in results.samples),
    )


def prepare(config: RealSequencesConfig, output: Path) -> tuple[Prepared, LanguageModelResults]:
    """The trained model and its candidates, which ``run`` has put on the disk."""
    prepared = language_model.prepare(
        config.experiment, jax.random.key(config.seed), checkpoint_dir=checkpoints(output)
    )
    return prepared, LanguageModelResults.load(results_path(output))


def checkpoints(output: Path) -> Path:
    """Training goes on from a checkpoint only if the code that wrote it is the code that runs."""
    code = provenance.key(
        "training", "simulations.language_model.train", {}, (), provenance.Sources()
    )
    return output / "checkpoints" / code[:12]
