"""Claims on alignment of SmolLM2-135M-Instruct, by the committed runs on an accelerator.

All parameters in bfloat16, three seeds, and a change of rank 8 in float32, one seed;
``docs/alignment-training.md`` says how they were made.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from paper_repro.papers.bonbon_alignment.committed_paths import (
    BEST_OF_8_KL,
    BEST_OF_8_WIN_RATE,
    CommittedPaths,
    below_the_frontier,
    claim_on_runs,
)
from paper_repro.papers.claim import Claim, Tolerance
from simulations.alignment.evaluation import PolicyEvaluation
from simulations.experiments import text_policies

_DATA = Path(text_policies.__file__).with_name("data")
ALL_PARAMETERS = CommittedPaths(_DATA / "smollm2_all_parameters.json", "sentiment")
LOW_RANK = CommittedPaths(_DATA / "smollm2_low_rank.json", "sentiment")

_claim = partial(
    claim_on_runs,
    test="simulations/test_real_alignment.py::test_claims_on_the_real_model_are_read_off_the_runs",
)
_SETTING = (
    "SmolLM2-135M-Instruct, sentiment of one-sentence answers, best and worst of 8, RMSprop, 300 "
    "updates of 8 pairs, judged on instructions that no pair is of"
)
_BOTH = ("all parameters", "rank 8")
DPO = "DPO-BoN, β = 0.1"
CONTRASTIVE = (
    "BoNBoN",
    "IPO-BoN",
    "matched targets",
    DPO,
    "DPO, ordinary, β = 0.1",
    "IPO, ordinary, β = 0.1",
)


def _past_best_of_n() -> tuple[float, ...]:
    """Nats and win rate that BoNBoN ends beyond best-of-8, of both trainings."""
    ends = [paths.end("BoNBoN") for paths in (ALL_PARAMETERS, LOW_RANK)]
    beyond = [(end.kl.mean - BEST_OF_8_KL, end.win_rate.mean - BEST_OF_8_WIN_RATE) for end in ends]
    return (*beyond[0], *beyond[1])


def _early() -> PolicyEvaluation:
    """BoNBoN after 30 updates, when it has passed best-of-8's KL divergence."""
    return ALL_PARAMETERS.path("BoNBoN")[30]


def _longer(method: str) -> float:
    """Tokens that a method's answers are longer than best-of-8's in the end."""
    return ALL_PARAMETERS.end(method).mean_length.mean - ALL_PARAMETERS.reference().best_of_n_length


def _where_it_ends(method: str) -> float:
    """A method's win rate as it passes the KL divergence at which BoNBoN ends."""
    return ALL_PARAMETERS.win_rate_at(ALL_PARAMETERS.end("BoNBoN").kl.mean, method)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/real-model-past-best-of-n",
        where="beside Figure 3",
        statement=(
            "On a real model training runs past best-of-8 in both: BoNBoN ends this much further "
            "from the reference, as the paper's points lie, and wins this much more often, as "
            f"they do not; {_SETTING}."
        ),
        compute=_past_best_of_n,
        expected=(6.0, 0.03, 6.0, 0.03),
        labels=tuple(f"{what}, {how}" for how in _BOTH for what in ("KL", "win rate")),
    ),
    _claim(
        id="bonbon/real-model-below-the-frontier",
        where="beside Figure 3",
        statement=(
            "It lies below the frontier: the largest win rate at a policy's KL divergence is "
            "this much higher than its own, BoNBoN's after 30 updates and in the end, SFT-BoN's "
            f"in the end; {_SETTING}."
        ),
        compute=lambda: below_the_frontier(
            [_early(), ALL_PARAMETERS.end("BoNBoN"), ALL_PARAMETERS.end("SFT-BoN")]
        ),
        expected=(0.1, 0.01, 0.1),
        labels=("BoNBoN, 30", "BoNBoN, 300", "SFT-BoN, 300"),
    ),
    _claim(
        id="bonbon/real-model-passes-best-of-n-below-it",
        where="beside Figure 3",
        statement=(
            "It does not pass through best-of-8: where BoNBoN has passed its divergence, after 30 "
            f"updates, it wins less often than best-of-8. Entry: by how much; {_SETTING}."
        ),
        compute=lambda: BEST_OF_8_WIN_RATE - _early().win_rate.mean,
        expected=0.03,
    ),
    _claim(
        id="bonbon/real-model-length",
        where="beside Figure 1",
        statement=(
            "All contrastive losses lengthen answers, far more than best-of-8 itself, whose have "
            "41.0 tokens where the reference's have 35.6. Entries: tokens more than best-of-8; "
            f"{_SETTING}."
        ),
        compute=lambda: tuple(map(_longer, CONTRASTIVE)),
        expected=(8.0, 8.0, 8.0, 8.0, 8.0, 5.0),
        labels=CONTRASTIVE,
    ),
    _claim(
        id="bonbon/real-model-sft-length",
        where="beside Figure 1",
        statement=(
            f"SFT-BoN's answers are as long as best-of-8's, to this many tokens; {_SETTING}."
        ),
        compute=lambda: abs(_longer("SFT-BoN")),
        expected=3.0,
        relation="<=",
        tolerance=Tolerance("stated with room: .8 was found, of which .8 is a standard error"),
    ),
    _claim(
        id="bonbon/real-model-beats-dpo-at-equal-kl",
        where="beside Figure 3",
        statement=(
            "No worse than DPO at equal divergence: where BoNBoN ends, DPO on the same pairs wins "
            f"no more often as it passes there (interpolated in log KL). Entry: by how much; "
            f"{_SETTING}."
        ),
        compute=lambda: ALL_PARAMETERS.end("BoNBoN").win_rate.mean - _where_it_ends(DPO),
        expected=0.0,
    ),
    _claim(
        id="bonbon/real-model-on-one-way-with-dpo",
        where="beside Figure 3",
        statement=(
            "On the way out the two are on one curve: where BoNBoN ends, its win rate and DPO's "
            "on the same pairs differ by no more than this as they pass there (interpolated in "
            f"log KL between 30 and 100 updates); what BoNBoN gains, it gains later; {_SETTING}."
        ),
        compute=lambda: abs(_where_it_ends("BoNBoN") - _where_it_ends(DPO)),
        expected=0.03,
        relation="<=",
        tolerance=Tolerance("two standard errors; .0003 was found"),
    ),
    _claim(
        id="bonbon/real-model-combined-loss",
        where="beside eq. 4.4",
        statement=(
            "Does the combined loss beat both of its parts? It beats SFT-BoN. Entry: by how much; "
            f"{_SETTING}."
        ),
        compute=lambda: ALL_PARAMETERS.wins_more_than("SFT-BoN"),
        expected=0.2,
    ),
    _claim(
        id="bonbon/real-model-combined-loss-is-ipo",
        where="beside eq. 4.4",
        statement=(
            "At α = .005 three seeds do not tell the combined loss from IPO-BoN. Entry: the "
            f"difference of their win rates, with a standard error of .011; {_SETTING}."
        ),
        compute=lambda: abs(ALL_PARAMETERS.wins_more_than("IPO-BoN")),
        expected=0.03,
        relation="<=",
        tolerance=Tolerance("nearly three standard errors"),
    ),
    _claim(
        id="bonbon/real-model-own-targets",
        where="derived here",
        statement=(
            "Does a target for each pair end nearer to best-of-8? Not after so few updates: it "
            "runs as far past it as one target for all. Entry: nats further than best-of-8; "
            f"{_SETTING}."
        ),
        compute=lambda: ALL_PARAMETERS.end("matched targets").kl.mean - BEST_OF_8_KL,
        expected=6.0,
    ),
    _claim(
        id="bonbon/real-model-sft-inefficient",
        where="beside eq. 4.1",
        statement=(
            "SFT-BoN needs more data: after 2,400 pairs it wins less often than BoNBoN after 240. "
            f"Entry: by how much; {_SETTING}."
        ),
        compute=lambda: _early().win_rate.mean - ALL_PARAMETERS.end("SFT-BoN").win_rate.mean,
        expected=0.05,
    ),
)
