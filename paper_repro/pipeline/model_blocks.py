"""The trained model's responses selected block by block, by an additive reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax

from paper_repro.papers.claim import evaluate
from paper_repro.papers.soft_best_of_n import model_blocks as claims
from paper_repro.pipeline import real_sequences
from paper_repro.pipeline.payloads import ComputedClaims
from simulations.experiments import model_blocks
from simulations.experiments.block_selection import BlockSelectionConfig
from simulations.experiments.model_blocks import ModelBlocksConfig
from simulations.language_model.rewards.tokens import lexicon


@dataclass(frozen=True)
class BlocksConfig:
    """The experiment, on the model of another stage.

    Attributes:
        sequences: of the model and its responses.
        experiment: block by block, and whole.
        words: that are counted: the reward, to which every token adds 0 or 1.
        seed: of everything.
    """

    sequences: real_sequences.RealSequencesConfig = real_sequences.QUICK
    experiment: ModelBlocksConfig = field(
        default_factory=lambda: ModelBlocksConfig(
            BlockSelectionConfig(
                claims.NUMBERS, claims.BLOCK_LENGTHS, claims.LONGEST, num_sequences=5
            )
        )
    )
    words: tuple[str, ...] = real_sequences.LITTLE_WORDS
    seed: int = 20261127


QUICK = BlocksConfig()
FULL = BlocksConfig(real_sequences.FULL, replace(QUICK.experiment, num_prompts=128))


def results_path(output: Path) -> Path:
    """Where the results lie."""
    return output / "model_blocks.json"


def run(
    config: BlocksConfig, output: Path, progress: Callable[[str, int, int], None]
) -> ComputedClaims:
    """Select, save, and evaluate the claims."""
    prepared, candidates = real_sequences.prepare(config.sequences, output)
    found = model_blocks.run(
        config.experiment,
        jax.random.key(config.seed),
        prepared.trained.model,
        prepared.prompts,
        candidates.tokens,
        lexicon(prepared.tokenizer, dict.fromkeys(config.words, 1.0)),
        progress=lambda done, total: progress("selecting", done, total),
    )
    found.save(results_path(output))
    return ComputedClaims(tuple(evaluate(claim, found) for claim in claims.CLAIMS))
