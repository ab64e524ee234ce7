"""Claims on alignment of the language model trained here, by the committed runs of three seeds.

``figures/data/text_alignment.json`` holds what ``simulations.experiments.text_alignment`` found;
``docs/alignment-training.md`` says with which sizes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from paper_repro.papers.bonbon_alignment.committed_paths import (
    BEST_OF_8_KL,
    BEST_OF_8_WIN_RATE,
    CommittedPaths,
    below_the_frontier,
    claim_on_runs,
)
from paper_repro.papers.claim import Claim, Tolerance

_FILE = Path(__file__).parents[3] / "figures" / "data" / "text_alignment.json"
LIKELIHOOD = CommittedPaths(_FILE, "trigram likelihood")
KNOWN_WORDS = CommittedPaths(_FILE, "known words")
TASKS = (LIKELIHOOD, KNOWN_WORDS)

_NAMES = tuple(paths.task for paths in TASKS)
_claim = partial(
    claim_on_runs,
    test="simulations/test_text_alignment.py::test_claims_on_the_small_model_are_read_off_the_runs",
)
_SETTING = (
    "a transformer of 665,000 parameters trained on English, n = 8, RMSprop, 160 updates of 32 "
    "pairs, held-out prompts, mean over three seeds; one reward without ties, one with many"
)
DPO, IPO_ORDINARY = "DPO-BoN, β = 0.1", "IPO, ordinary, β = 0.1"


def _further_and_below() -> tuple[float, float]:
    """Nats that BoNBoN ends beyond best-of-8, and the win rate that it stays below it."""
    end = LIKELIHOOD.end("BoNBoN")
    return end.kl.mean - BEST_OF_8_KL, BEST_OF_8_WIN_RATE - end.win_rate.mean


def _where_the_reward_is() -> tuple[float, float]:
    """Tokens by which DPO shortens answers under one reward and lengthens them under the other."""
    return -LIKELIHOOD.lengthened(DPO), KNOWN_WORDS.lengthened(DPO)


def _as_long_as_best_of_n() -> tuple[float, ...]:
    """Tokens between BoNBoN's mean length and best-of-8's, by task."""
    return tuple(
        abs(paths.end("BoNBoN").mean_length.mean - paths.reference().best_of_n_length)
        for paths in TASKS
    )


def _better_than_dpo() -> tuple[float, ...]:
    """BoNBoN's win rate at its end less DPO-BoN's at the same KL divergence, by task."""
    ends = ((paths, paths.end("BoNBoN")) for paths in TASKS)
    return tuple(end.win_rate.mean - paths.win_rate_at(end.kl.mean, DPO) for paths, end in ends)


def _better_where_ipo_ends() -> tuple[float, ...]:
    """BoNBoN's win rate at the KL divergence at which ordinary IPO ends, less IPO's, by task."""
    ends = ((paths, paths.end(IPO_ORDINARY)) for paths in TASKS)
    return tuple(
        paths.win_rate_at(end.kl.mean, "BoNBoN") - end.win_rate.mean for paths, end in ends
    )


def _more_often_than(other: str) -> tuple[float, ...]:
    """How much more often BoNBoN wins than another method, at the end, by task."""
    return tuple(paths.wins_more_than(other) for paths in TASKS)


def _apart_by_weight() -> tuple[float, ...]:
    """Largest less smallest win rate over α = 0, .005, .05, .5, by task."""
    names = ("IPO-BoN", "BoNBoN", "BoNBoN, α = 0.05", "BoNBoN, α = 0.5")
    rates = np.array([[paths.end(name).win_rate.mean for name in names] for paths in TASKS])
    return tuple(np.ptp(rates, axis=1).tolist())


def _smaller_beta() -> tuple[float, ...]:
    """Nats that BoNBoN ends further out with β*/5, by task."""
    return tuple(paths.end("BoNBoN, β*/5").kl.mean - paths.end("BoNBoN").kl.mean for paths in TASKS)


def _rises_with_n() -> tuple[float, ...]:
    """Win rates at n = 4 less n = 2, and at n = 8 less n = 4, by task."""
    names = ("BoNBoN, n = 2", "BoNBoN, n = 4", "BoNBoN")
    rates = np.array([[paths.end(name).win_rate.mean for name in names] for paths in TASKS])
    return tuple(np.diff(rates, axis=1).ravel().tolist())


def _own_targets() -> tuple[float, ...]:
    """Nats that each pair's own target ends nearer than IPO-BoN's one for all, by task."""
    return tuple(
        paths.end("IPO-BoN").kl.mean - paths.end("matched targets").kl.mean for paths in TASKS
    )


def _inefficient() -> tuple[float, ...]:
    """Win rate of BoNBoN after a quarter of the updates, less SFT-BoN's after all, by task."""
    return tuple(
        paths.path("BoNBoN")[40].win_rate.mean - paths.end("SFT-BoN").win_rate.mean
        for paths in TASKS
    )


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/small-model-below-the-frontier",
        where="beside Figure 3",
        statement=(
            "Trained policies lie below the frontier, as the paper's do: the largest win rate "
            f"at a policy's KL divergence is higher than its own (reward without ties); {_SETTING}."
        ),
        compute=lambda: below_the_frontier(map(LIKELIHOOD.end, ("SFT-BoN", "BoNBoN", DPO))),
        expected=(0.05, 0.1, 0.1),
        labels=("SFT-BoN", "BoNBoN", "DPO-BoN"),
    ),
    _claim(
        id="bonbon/small-model-past-best-of-n",
        where="beside Figure 3",
        statement=(
            "BoNBoN ends further from the reference than best-of-8 and wins less often than it, "
            "like the paper's points. Entries: nats more, win rate less (reward without ties); "
            f"{_SETTING}."
        ),
        compute=_further_and_below,
        expected=(1.5, 0.02),
        labels=("KL beyond", "win rate below"),
    ),
    _claim(
        id="bonbon/small-model-length",
        where="beside Figure 1",
        statement=(
            "Do contrastive losses lengthen answers? They go where the reward leads, and further "
            "than it asks: DPO on best-and-worst pairs shortens them under the likelihood and "
            "lengthens them under known words, to the limit of 24. Entries: by how many tokens of "
            f"18; {_SETTING}."
        ),
        compute=_where_the_reward_is,
        expected=(4.0, 4.0),
        labels=("likelihood, shorter", "known words, longer"),
    ),
    _claim(
        id="bonbon/small-model-off-target",
        where="beside Figure 1",
        statement=(
            "A high win rate with little off-target change: BoNBoN, which wins .84 and .85 of the "
            "time, changes the mean length as best-of-8 itself does, which is 4 tokens shorter "
            "than the reference under one reward and 5 longer under the other. Entry: tokens "
            f"between the two; {_SETTING}."
        ),
        compute=_as_long_as_best_of_n,
        expected=(2.0, 2.0),
        relation="<=",
        labels=_NAMES,
        tolerance=Tolerance("the .5 that were found, and three standard errors"),
    ),
    _claim(
        id="bonbon/small-model-beats-dpo-at-equal-kl",
        where="beside Figure 3",
        statement=(
            "Better than DPO at equal divergence: where BoNBoN ends, DPO on the same pairs wins "
            "less often as it passes there (interpolated in log KL). Entry: by how much; "
            f"{_SETTING}."
        ),
        compute=_better_than_dpo,
        expected=(0.0, 0.0),
        labels=_NAMES,
    ),
    _claim(
        id="bonbon/small-model-no-better-than-ipo-at-equal-kl",
        where="beside Figure 3",
        statement=(
            "Better than IPO at equal divergence? Not where ordinary IPO ends: there BoNBoN wins "
            f"more often by no more than this; {_SETTING}."
        ),
        compute=_better_where_ipo_ends,
        expected=(0.01, 0.01),
        relation="<=",
        labels=_NAMES,
        tolerance=Tolerance("two standard errors over seeds"),
    ),
    _claim(
        id="bonbon/small-model-combined-loss",
        where="beside eq. 4.4",
        statement=(
            "Does the combined loss beat both of its parts? It beats SFT-BoN. Entry: by how much; "
            f"{_SETTING}."
        ),
        compute=lambda: _more_often_than("SFT-BoN"),
        expected=(0.08, 0.08),
        labels=_NAMES,
    ),
    _claim(
        id="bonbon/small-model-weight-of-sft",
        figure="alignment_sweeps",
        where="beside eq. 4.4",
        statement=(
            "At α from 0 (IPO-BoN) to .5 the combined loss ends in one place. Entry: largest less "
            f"smallest win rate; {_SETTING}."
        ),
        compute=_apart_by_weight,
        expected=(0.03, 0.03),
        relation="<=",
        labels=_NAMES,
        tolerance=Tolerance("the .012 and .007 that were found, and two standard errors"),
    ),
    _claim(
        id="bonbon/small-model-beta-is-not-neutral",
        figure="alignment_sweeps",
        where="beside Figure 5",
        statement=(
            "β*_n spares a search for β: five times more wins less often. Entry: by how much; "
            f"{_SETTING}."
        ),
        compute=lambda: _more_often_than("BoNBoN, 5β*"),
        expected=(0.1, 0.08),
        labels=_NAMES,
    ),
    _claim(
        id="bonbon/small-model-small-beta-runs-away",
        figure="alignment_sweeps",
        where="beside Figure 5",
        statement=(
            "And a fifth of it runs away from the reference (under the likelihood its answers end "
            f"in repetition). Entry: nats further out than with β*_n; {_SETTING}."
        ),
        compute=_smaller_beta,
        expected=(10.0, 2.0),
        labels=_NAMES,
    ),
    _claim(
        id="bonbon/small-model-rises-with-n",
        figure="alignment_sweeps",
        where="beside Figure 3",
        statement=(
            "BoNBoN's win rate rises with n. Entries: from n = 2 to 4 and from 4 to 8, by task; "
            f"{_SETTING}."
        ),
        compute=_rises_with_n,
        expected=(0.1, 0.05, 0.1, 0.02),
        labels=tuple(f"{name}, {ns}" for name in _NAMES for ns in ("2 to 4", "4 to 8")),
    ),
    _claim(
        id="bonbon/small-model-own-targets",
        where="derived here",
        statement=(
            "A target for each pair in place of one for all (without SFT) ends nearer to "
            f"best-of-8, which both have passed. Entry: by how many nats; {_SETTING}."
        ),
        compute=_own_targets,
        expected=(0.3, 0.3),
        labels=_NAMES,
    ),
    _claim(
        id="bonbon/small-model-sft-inefficient",
        where="beside eq. 4.1",
        statement=(
            "SFT-BoN needs more data: after 5,120 pairs it wins less often than BoNBoN after "
            f"1,280. Entry: by how much; {_SETTING}."
        ),
        compute=_inefficient,
        expected=(0.015, 0.03),
        labels=_NAMES,
    ),
)
