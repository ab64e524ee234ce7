"""A trained model's responses by an additive reward: block by block, and whole as they grow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import jax
import numpy as np
from numpy.typing import NDArray

from simulations.experiments import block_selection
from simulations.experiments.block_selection import BlockSelectionConfig, BlockSelectionResults
from simulations.experiments.whole_responses import CandidatesNeeded, candidates_needed
from simulations.language_model.rewards.tokens import of_tokens
from simulations.language_model.transformer import Transformer
from simulations.tools.files import write_atomically


@dataclass(frozen=True)
class ModelBlocksConfig:
    """What is selected, and for which gain candidates are counted.

    Attributes:
        selection: block by block.
        num_prompts: of those there are, in it.
        lengths: at which whole responses are cut.
        gain: for which whole responses need candidates, in standard deviations of a token's reward.
    """

    selection: BlockSelectionConfig
    num_prompts: int = 16
    lengths: tuple[int, ...] = (2, 4, 8, 12, 16, 20, 24)
    gain: float = 0.5


@dataclass(frozen=True)
class ModelBlocks:
    """What was found.

    Attributes:
        results: block by block.
        needed: candidates of whole responses.
        gain: for which they are needed, per token.
        trusted: largest number of candidates of which the pool's law says enough, a quarter of it.
    """

    results: BlockSelectionResults
    needed: CandidatesNeeded
    gain: float
    trusted: float

    def save(self, path: Path) -> None:
        """Write JSON, atomically."""
        fields = asdict(self) | {"results": self.results.to_json()}
        write_atomically(path, json.dumps(fields, indent=1, default=np.ndarray.tolist) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        fields = json.loads(path.read_text())
        fields["results"] = BlockSelectionResults.from_json(fields["results"])
        needed = {name: np.asarray(column) for name, column in fields["needed"].items()}
        return cls(**fields | {"needed": CandidatesNeeded(**needed)})


def run(
    config: ModelBlocksConfig,
    key: jax.Array,
    model: Transformer,
    prompts: NDArray[np.integer],
    responses: NDArray[np.integer],
    token_rewards: NDArray[np.float64],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> ModelBlocks:
    """Select and count; consumes ``key``.

    Args:
        config: of the experiment.
        key: a typed key.
        model: draws the candidates of blocks.
        prompts: ``[B, P]``, PAD to the left.
        responses: ``[B, N, T]`` of the model, PAD after the end.
        token_rewards: ``[V]``.
        progress: called as ``progress(done, total)`` after each case of blocks.
    """
    selected = block_selection.run(
        config.selection,
        key,
        model,
        prompts[: config.num_prompts],
        token_rewards,
        progress=progress,
    )
    rewards = of_tokens(token_rewards, responses)
    gain = config.gain * float(rewards.std())
    needed = candidates_needed(rewards, config.lengths, gain=gain)
    return ModelBlocks(selected, needed, gain, responses.shape[1] / 4)
