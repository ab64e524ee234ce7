"""Claims on alignment of the language model trained here, by the committed runs of three seeds.

``figures/data/text_alignment.json`` holds what ``simulations.experiments.text_alignment`` found;
``docs/alignment-training.md`` says with which sizes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bon_theory as bt
from paper_repro.papers.bonbon_alignment.committed_paths import CommittedPaths
from paper_repro.papers.claim import DERIVED, Claim, Tolerance

RUNS = CommittedPaths(
    Path(__file__).parents[3] / "figures" / "data" / "text_alignment.json", "trigram likelihood"
)
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
_SETTING = (
    "a transformer of 670,000 parameters trained on English, reward without ties, n = 8, RMSprop, "
    "60 updates of 32 pairs, held-out prompts, mean over seeds"
)


def _below_the_frontier() -> list[float]:
    """The largest win rate at each policy's KL divergence, less its own, without ties."""
    found = [RUNS.end(name) for name in ("SFT-BoN", "BoNBoN", "DPO-BoN, β = 0.1")]
    budgets = jnp.asarray([min(end.kl.mean, 25.0) for end in found])
    highest = bt.frontier(bt.Policy.uniform_reward(), budgets, objective="win_rate").value
    return (np.asarray(highest) - [end.win_rate.mean for end in found]).tolist()


def _further_and_below() -> tuple[float, float]:
    end = RUNS.end("BoNBoN")
    return end.kl.mean - (np.log(8) - 7 / 8), 8 / 9 - end.win_rate.mean


def _better_than_dpo() -> float:
    """BoNBoN's win rate at its end less DPO-BoN's at the same KL divergence."""
    end = RUNS.end("BoNBoN")
    return end.win_rate.mean - RUNS.win_rate_at(end.kl.mean, "DPO-BoN, β = 0.1")


def _better_than_ipo() -> float:
    """BoNBoN's win rate at the KL divergence at which ordinary IPO ends, less IPO's."""
    end = RUNS.end("IPO, ordinary, β = 0.1")
    return RUNS.win_rate_at(end.kl.mean, "BoNBoN") - end.win_rate.mean


def _combined() -> list[float]:
    """What the combined loss wins more often than its parts, at the end."""
    parts = (RUNS.end(name).win_rate.mean for name in ("SFT-BoN", "IPO-BoN"))
    return [RUNS.end("BoNBoN").win_rate.mean - part for part in parts]


def _inefficient() -> float:
    """Win rate of BoNBoN after a third of the updates, less SFT-BoN's after all of them."""
    return RUNS.path("BoNBoN")[20].win_rate.mean - RUNS.end("SFT-BoN").win_rate.mean


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
        expected=(2.0, 0.02),
        labels=("KL beyond", "win rate below"),
    ),
    _claim(
        id="bonbon/small-model-length",
        where="beside Figure 1",
        statement=(
            "Do contrastive losses lengthen answers? DPO on best-and-worst pairs does. Entry: "
            "tokens more than the reference's 19.5, of which .8 is a standard error over seeds; "
            f"{_SETTING}."
        ),
        compute=lambda: RUNS.lengthened("DPO-BoN, β = 0.1"),
        expected=0.0,
    ),
    _claim(
        id="bonbon/small-model-off-target",
        where="beside Figure 1",
        statement=(
            "A high win rate with little off-target change: BoNBoN, which wins .83 of the time, "
            f"changes the mean length by at most this many tokens of 19.5; {_SETTING}."
        ),
        compute=lambda: abs(RUNS.lengthened("BoNBoN")),
        expected=3.0,
        relation="<=",
        tolerance=Tolerance("stated with room: .8 were found, of which .5 is a standard error"),
    ),
    _claim(
        id="bonbon/small-model-beats-dpo-at-equal-kl",
        where="beside Figure 3",
        statement=(
            "Better than DPO at equal divergence: where BoNBoN ends, at 4.8 nats, DPO on the same "
            "pairs wins less often as it passes there (interpolated in log KL). Entry: by how "
            f"much; {_SETTING}."
        ),
        compute=_better_than_dpo,
        expected=0.02,
    ),
    _claim(
        id="bonbon/small-model-no-better-than-ipo-at-equal-kl",
        where="beside Figure 3",
        statement=(
            "Better than IPO at equal divergence? Not where ordinary IPO ends, at 1.1 nats: there "
            f"BoNBoN wins more often by no more than this (it won less often); {_SETTING}."
        ),
        compute=_better_than_ipo,
        expected=0.01,
        relation="<=",
        tolerance=Tolerance("two standard errors beyond the −.013 that was found, rounded up"),
    ),
    _claim(
        id="bonbon/small-model-combined-loss",
        where="beside eq. 4.4",
        statement=(
            "Does the combined loss beat both of its parts? It beats SFT-BoN. Entry: by how much; "
            f"{_SETTING}."
        ),
        compute=lambda: _combined()[0],
        expected=0.1,
    ),
    _claim(
        id="bonbon/small-model-combined-loss-is-ipo",
        where="beside eq. 4.4",
        statement=(
            "At α = .005 the combined loss cannot be told from IPO-BoN. Entry: the difference of "
            f"their win rates, of which .013 is a standard error; {_SETTING}."
        ),
        compute=lambda: abs(_combined()[1]),
        expected=0.03,
        relation="<=",
        tolerance=Tolerance("two standard errors"),
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
