"""Selection among a real model's answers: predicted from half of them, measured on the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import jax

from paper_repro.pipeline.evidence import evidence
from paper_repro.pipeline.payloads import RealAnswersResults, SelectedTexts
from simulations.experiments import real_pool
from simulations.experiments.real_pool import RealPoolConfig

SEED = 20261126
FALSE_ALARM = 1e-6
REWARDS = {
    "lexicon": "the tokens' valences",
    "sentiment": "sentiment",
    "likelihood": "trigram likelihood",
}


@dataclass(frozen=True)
class RealAnswersConfig:
    """The experiment and its seed."""

    experiment: RealPoolConfig = field(default_factory=RealPoolConfig)
    false_alarm: float = FALSE_ALARM
    seed: int = SEED


QUICK = RealAnswersConfig()


def results_path(output: Path) -> Path:
    """Where the results lie."""
    return output / "real_answers.npz"


def run(
    config: RealAnswersConfig, output: Path, progress: Callable[[str, int, int], None]
) -> RealAnswersResults:
    """Predict, measure, judge; the results are saved beside the report."""
    pool = real_pool.load_pool()
    results = real_pool.run(config.experiment, jax.random.key(config.seed), pool, progress=progress)
    results.save(results_path(output))
    num_prompts, num_answers = results.rewards["lexicon"].shape
    return RealAnswersResults(
        num_prompts=num_prompts,
        num_answers=num_answers,
        finished=results.finished,
        mean_length=results.mean_length,
        rewards=tuple(REWARDS.values()),
        tie_probability=tuple(results.tie_probability[name] for name in REWARDS),
        evidence=evidence(
            partial(results.report, false_alarm=config.false_alarm),
            results.comparisons,
            REWARDS,
            config.seed,
        ),
        shown=config.experiment.shown,
        shown_soft=config.experiment.shown_soft,
        samples=tuple(SelectedTexts(**asdict(texts)) for texts in results.samples),
    )
