"""All claims of the paper, in its order; what cannot be checked here says why."""

from __future__ import annotations

from paper_repro.papers.claim import Claim
from paper_repro.papers.soft_best_of_n import blocks, frontier, rates, selection_law, sequences
from paper_repro.papers.soft_best_of_n.laws import claim

_NOT_CHECKABLE: tuple[Claim, ...] = (
    claim(
        id="soft/figure-1-numbers",
        where="Figure 1",
        statement="The particular curves of the paper's own discrete example.",
        not_checkable=(
            "The example's probabilities and rewards are not known to this project; what the "
            "figure says is checked on eight outcomes and on a uniform reward instead."
        ),
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *selection_law.CLAIMS,
    *frontier.CLAIMS,
    *rates.CLAIMS,
    *sequences.CLAIMS,
    *blocks.CLAIMS,
    *_NOT_CHECKABLE,
)
