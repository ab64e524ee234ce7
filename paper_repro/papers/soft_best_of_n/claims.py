"""All claims of the paper, in its order; what cannot be checked here says why."""

from __future__ import annotations

from paper_repro.papers.claim import Claim
from paper_repro.papers.soft_best_of_n import (
    blocks,
    enumerated,
    frontier,
    model_blocks,
    particles,
    rates,
    reachable,
    selection_law,
    sequences,
)
from paper_repro.papers.soft_best_of_n.laws import claim

_UNAVAILABLE = "Statement not available to us: the paper's full text was not. "

_NOT_CHECKABLE: tuple[Claim, ...] = (
    claim(
        id="soft/theorem-2",
        where="Theorem 2",
        statement=(
            "The theorem on the relative reward gap, of which the abstract gives the rate O(1/n)."
        ),
        kind="asymptotic",
        not_checkable=(
            f"{_UNAVAILABLE}Its rate is checked, and its exact constant derived, in "
            "soft/reward-rate-sharp; a bound at every n is derived in soft/reward-rate."
        ),
    ),
    claim(
        id="soft/blockwise-theorem",
        where="theorem on blockwise sampling",
        statement=(
            "The theorem on sequences with additive reward, of which the abstract says that it "
            "reveals the fundamental limitations of blockwise sampling."
        ),
        kind="asymptotic",
        not_checkable=(
            f"{_UNAVAILABLE}What whole sequences, blocks and symbols cost is derived in "
            "soft/blockwise-exponential, soft/blocks-need, soft/cost-of-gain-exact and "
            "soft/phase-transition."
        ),
    ),
    claim(
        id="soft/figure-1-numbers",
        kind="empirical",
        where="Figure 1",
        statement="The curves of the paper's own discrete example.",
        not_checkable=(
            f"{_UNAVAILABLE}Reward against KL is computed on eight outcomes and on a uniform "
            "reward in soft/figure-1-below-frontier, -approach and -ends."
        ),
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *selection_law.CLAIMS,
    *frontier.CLAIMS,
    *rates.CLAIMS,
    *reachable.CLAIMS,
    *sequences.CLAIMS,
    *blocks.CLAIMS,
    *enumerated.CLAIMS,
    *model_blocks.CLAIMS,
    *particles.CLAIMS,
    *_NOT_CHECKABLE,
)
