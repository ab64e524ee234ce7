"""All claims of the paper, in its order; what cannot be checked here says why."""

from __future__ import annotations

from functools import partial

from paper_repro.papers.bonbon_alignment import (
    contrastive,
    converged,
    discrete,
    equal_kl,
    rank_policies,
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
        where="Figure 1",
        statement=(
            "BoNBoN reaches the win rate of its baselines with less change of the response length, "
            "an off-target attribute."
        ),
    ),
    _claim(
        id="bonbon/figure-3",
        where="Figure 3",
        statement=(
            "On dialogue and summarisation BoNBoN (α = 0.005, n = 8) has a higher win rate at its "
            "KL and length than SFT-BoN, IPO-BoN, DPO and IPO, near that of best-of-8 itself."
        ),
    ),
    _claim(
        id="bonbon/no-hyper-parameter-search",
        where="experiments",
        statement="β*_n spares the search for a regularisation strength that DPO and IPO need.",
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *rank_policies.CLAIMS,
    *equal_kl.CLAIMS,
    *discrete.CLAIMS,
    *contrastive.CLAIMS,
    *converged.CLAIMS,
    *_TRAINING,
)
