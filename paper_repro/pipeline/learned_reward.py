"""A reward learned from preferences between the trained model's responses, and hedged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax

from paper_repro.papers.claim import evaluate
from paper_repro.papers.inference_time_reward_hacking import learned
from paper_repro.pipeline import real_sequences
from paper_repro.pipeline.payloads import ComputedClaims
from simulations.experiments import learned_reward
from simulations.experiments.learned_reward import LearnedRewardConfig
from simulations.language_model.rewards.tokens import WantedNumber, lexicon


@dataclass(frozen=True)
class LearnedConfig:
    """The experiment, on the model of another stage.

    Attributes:
        sequences: of the model and its responses.
        experiment: of the preferences, of what is learned from them and of the choice.
        words: that are counted.
        wanted: how many of them a response is to have. Preferences are stated between responses
            that have no more: what is rare was never judged.
        seed: of everything.
    """

    sequences: real_sequences.RealSequencesConfig = real_sequences.QUICK
    experiment: LearnedRewardConfig = field(default_factory=LearnedRewardConfig)
    words: tuple[str, ...] = real_sequences.LITTLE_WORDS
    wanted: int = 4
    seed: int = 20261128


QUICK = LearnedConfig()
FULL = LearnedConfig(
    real_sequences.FULL, replace(QUICK.experiment, num_candidates=512, num_seeds=16)
)


def results_path(output: Path) -> Path:
    """Where the results lie."""
    return output / "learned_reward.npz"


def run(
    config: LearnedConfig, output: Path, progress: Callable[[str, int, int], None]
) -> ComputedClaims:
    """Learn, choose, judge, save, and evaluate the claims."""
    prepared, candidates = real_sequences.prepare(config.sequences, output)
    valences = lexicon(prepared.tokenizer, dict.fromkeys(config.words, 1.0))
    truth = WantedNumber(tuple(valences.nonzero()[0].tolist()), config.wanted)
    results = learned_reward.run(
        config.experiment,
        jax.random.key(config.seed),
        prepared.trained.model,
        prepared.prompts,
        candidates.tokens,
        truth,
        judged=truth.count(candidates.tokens) <= config.wanted,
        progress=lambda done, total: progress("learning", done, total),
    )
    results.save(results_path(output))
    return ComputedClaims(tuple(evaluate(claim, results) for claim in learned.CLAIMS))
