"""Claims on alignment of the language model trained here, by the committed runs of three seeds.

``figures/data/text_alignment.json`` holds what ``simulations.experiments.text_alignment`` found;
``docs/alignment-training.md`` says with which sizes.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from simulations.alignment.evaluation import PolicyEvaluation
from simulations.experiments.text_policies import TextAlignmentResults

DATA = Path(__file__).parents[3] / "figures" / "data" / "text_alignment.json"
_TEST = "simulations/test_text_alignment.py::test_the_committed_runs_are_of_every_loss_and_seed"
_AT_LEAST = Tolerance("what is stated is that much at least")
_claim = partial(
    Claim,
    paper="bonbon_alignment",
    provenance=DERIVED,
    kind="empirical",
    relation=">=",
    tolerance=_AT_LEAST,
    figure="text_alignment",
    test=_TEST,
)
_TASK = "trigram likelihood"
_SETTING = (
    "a transformer of 670,000 parameters trained on English, reward without ties, n = 8, RMSprop, "
    "60 updates of 32 pairs, held-out prompts, mean over seeds"
)


@cache
def _path(method: str) -> dict[int, PolicyEvaluation]:
    return dict(TextAlignmentResults.load(DATA).mean_path(_TASK, method))


def _end(method: str) -> PolicyEvaluation:
    path = _path(method)
    return path[max(path)]


def _below_the_frontier() -> list[float]:
    """The largest win rate at each policy's KL divergence, less its own, without ties."""
    found = [_end(name) for name in ("SFT-BoN", "BoNBoN", "DPO-BoN, β = 0.1")]
    budgets = jnp.asarray([min(end.kl.mean, 25.0) for end in found])
    highest = bt.frontier(bt.Policy.uniform_reward(), budgets, objective="win_rate").value
    return (np.asarray(highest) - [end.win_rate.mean for end in found]).tolist()


def _further_and_below() -> tuple[float, float]:
    end = _end("BoNBoN")
    return end.kl.mean - (np.log(8) - 7 / 8), 8 / 9 - end.win_rate.mean


def _lengths() -> float:
    """How many tokens more DPO-BoN changes the mean length than BoNBoN does."""
    moved = [
        abs(end.mean_length.mean - end.reference_length.mean)
        for end in (_end("DPO-BoN, β = 0.1"), _end("BoNBoN"))
    ]
    return moved[0] - moved[1]


def _inefficient() -> float:
    """Win rate of BoNBoN after a third of the updates, less SFT-BoN's after all of them."""
    return _path("BoNBoN")[20].win_rate.mean - _end("SFT-BoN").win_rate.mean


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/small-model-below-the-frontier",
        where="beside Figure 3",
        statement=(
            "Trained policies lie below the frontier, as the paper's do: the largest win rate "
            f"at a policy's KL divergence is higher than its own; {_SETTING}."
        ),
        compute=_below_the_frontier,
        expected=(0.1, 0.1, 0.1),
        labels=("SFT-BoN", "BoNBoN", "DPO-BoN"),
    ),
    _claim(
        id="bonbon/small-model-past-best-of-n",
        where="beside Figure 3",
        statement=(
            "BoNBoN ends further from the reference than best-of-8 and wins less often than it, "
            f"like the paper's points. Entries: nats more, win rate less; {_SETTING}."
        ),
        compute=_further_and_below,
        expected=(2.0, 0.03),
        labels=("KL beyond", "win rate below"),
    ),
    _claim(
        id="bonbon/small-model-length",
        where="beside Figure 1",
        statement=(
            "At about equal win rates BoNBoN changes the length of answers, an off-target "
            f"attribute, by less than DPO on the same pairs does. Entry: tokens; {_SETTING}."
        ),
        compute=_lengths,
        expected=1.0,
    ),
    _claim(
        id="bonbon/small-model-sft-inefficient",
        where="beside eq. 4.1",
        statement=(
            "SFT-BoN needs more data: after 1,920 pairs it wins less often than BoNBoN after 640. "
            f"Entry: by how much; {_SETTING}."
        ),
        compute=_inefficient,
        expected=0.05,
    ),
)
