"""All claims of the paper, in its order; what cannot be checked here says why."""

from __future__ import annotations

from functools import partial

from paper_repro.papers.bonbon_alignment import (
    contrastive,
    converged,
    discrete,
    equal_kl,
    published_results,
    rank_policies,
    real_model,
    small_model,
    trained,
)
from paper_repro.papers.claim import READ, Claim

_claim = partial(
    Claim,
    paper="bonbon_alignment",
    provenance=READ,
    kind="empirical",
    not_checkable=(
        "Needs the paper's models (Pythia 2.8b and a trained reward model) and data "
        "(Anthropic-HH, TL;DR), which cannot be had offline."
    ),
)

_TRAINING: tuple[Claim, ...] = (
    _claim(
        id="bonbon/figure-1",
        where="§1, Figure 1; §5.2–5.3",
        statement=(
            "BoNBoN reaches the win rate of its baselines with less change of the response length, "
            "an off-target attribute."
        ),
    ),
    _claim(
        id="bonbon/figure-3",
        where="§5.2–5.3, Figure 3",
        statement=(
            "On dialogue and summaries BoNBoN (α = 0.005, n = 2 … 8) has a higher win rate at its "
            "KL and length than SFT-BoN, IPO-BoN, DPO and IPO. (Its printed points stand on the "
            "exact frontier in bonbon/figure-3-gaps.)"
        ),
        figure="published_points",
    ),
    _claim(
        id="bonbon/no-hyper-parameter-search",
        where="§5, Figure 5; Appendix C",
        statement=(
            "β*_n spares the search for a regularisation strength that DPO and IPO need: training "
            "at β*_n/5 and 5β*_n shows it. (What the loss aims at there: "
            "bonbon/figure-5-minimisers.)"
        ),
        figure="published_points",
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *rank_policies.CLAIMS,
    *equal_kl.CLAIMS,
    *discrete.CLAIMS,
    *contrastive.CLAIMS,
    *converged.CLAIMS,
    *published_results.CLAIMS,
    *trained.CLAIMS,
    *small_model.CLAIMS,
    *real_model.CLAIMS,
    *_TRAINING,
)
